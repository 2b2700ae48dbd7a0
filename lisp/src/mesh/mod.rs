//! What the sealed mesh adds to LISP's messages: keys, signed statements about EIDs and nodes, the parts of Map-Request,
//! Map-Reply and Map-Register that carry them, how a message is signed, and how two messages become traffic keys.
//! `docs/mesh-security.md` is the protocol; the machines that speak it are the xTR and the Map-Server.
//!
//! | file | what |
//! |---|---|
//! | `key.rs` | [`PublicKey`], [`KeyId`], [`Signature`], the [`Signer`] trait and its software form |
//! | `crypto_eid.rs` | an IPv6 EID that is the hash of its key |
//! | `binding.rs` | "this node speaks for this EID" |
//! | `membership.rs` | "this node may join this network" |
//! | `payload.rs` | [`Offer`], [`Answer`], [`Proof`], [`Seal`]: the Vendor LCAFs and where they stand |
//! | `signing.rs` | signatures over whole messages |
//! | `schedule.rs` | X25519 and the key derivation of RFC 8061 §4.3 |

mod binding;
mod bytes;
mod crypto_eid;
mod key;
mod membership;
mod payload;
mod schedule;
mod signing;

pub use binding::{Binding, BindingError, Issuer, Statement};
pub use crypto_eid::{CRYPTO_EID_PREFIX, crypto_eid, is_crypto_eid_of};
pub use key::{KeyError, KeyId, PublicKey, Signature, Signer, SoftwareKey};
pub use membership::{Membership, Permit};
pub use payload::{Answer, MAX_SUITES, Offer, Payload, PayloadError, Proof, Seal, VENDOR_OUI, vendor_payload};
pub use schedule::{
    Direction, KeyExchangeError, MAX_WORKERS, SaIndex, Suite, TrafficKey, X25519_LEN, traffic_keys, transcript, x25519,
    x25519_public,
};
pub use signing::{Label, PLACEHOLDER, SignError, digest, sign_message, verify_message};
