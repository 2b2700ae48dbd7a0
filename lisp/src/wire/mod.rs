//! Wire formats, a file per message. Every decoder is total: any byte string yields a value or a
//! [`WireError`], never a panic, and allocates no more than the input justifies.
//!
//! Every message encodes in two ways. `try_encode` says what of a value has no place on the wire; `encode` leaves it
//! out. Neither ever writes a count or a length that differs from what follows it.
//!
//! Every type serializes (`serde::Serialize`) for people: bytes as hex, nonces and IDs as hex digits, names as text.

mod address;
mod auth;
mod checksum;
mod data;
mod ecm;
mod error;
mod ids;
mod info;
mod lcaf;
mod map_notify;
mod map_referral;
mod map_register;
mod map_reply;
mod map_request;
mod message;
mod reader;
mod record;
mod security;
mod text;
mod writer;

pub use address::AfiAddress;
pub use auth::{AuthAlgorithm, AuthError, AuthScope, Authentication, Purpose, sign, verify, verify_scoped};
pub use data::{DataHeader, DataHeaderError, EncryptionKeyId};
pub use ecm::Ecm;
pub use error::{EncodeError, WireError};
pub use info::{InfoReply, InfoRequest};
pub use lcaf::{ElpHop, Lcaf};
pub use map_notify::{MapNotify, MapNotifyAck};
pub use map_referral::{MapReferral, ReferralAction, ReferralRecord, ReferralSignature};
pub use map_register::MapRegister;
pub use map_reply::MapReply;
pub use map_request::{MapRequest, RequestRecord, TrailingIds};
pub use message::{Message, MessageType};
pub use record::{EidRecord, RlocRecord};
pub use security::{EcmSecurity, EidAd, EidAdRecords, MapReplySecurity, PacketAd};
