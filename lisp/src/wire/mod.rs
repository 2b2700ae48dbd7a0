//! Wire formats, a file per message. Every decoder is total: any byte string yields a value or a
//! [`WireError`], never a panic, and allocates no more than the input justifies.

mod auth;
mod data;
mod ecm;
mod error;
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

pub use auth::{AuthAlgorithm, AuthError, Authentication, Purpose, sign, verify};
pub use data::{DataHeader, DataHeaderError, EncryptionKeyId};
pub use ecm::Ecm;
pub use error::WireError;
pub use info::{InfoReply, InfoRequest};
pub use lcaf::{AfiAddress, ElpHop, Lcaf};
pub use map_notify::{MapNotify, MapNotifyAck};
pub use map_referral::{MapReferral, ReferralAction, ReferralRecord, ReferralSignature};
pub use map_register::MapRegister;
pub use map_reply::MapReply;
pub use map_request::{MapRequest, RequestRecord};
pub use message::{Message, MessageType};
pub use record::{EidRecord, RlocRecord};
pub use security::{EcmSecurity, EidAd, EidAdRecords, MapReplySecurity, PacketAd};
