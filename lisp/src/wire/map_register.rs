//! Map-Register (RFC 9301 §5.6).

use super::{Authentication, EidRecord, WireError};
use crate::{Nonce, SiteId, XtrId};

/// A Map-Register. Encode, then [`super::sign`]; on receipt [`super::verify`] the raw bytes before acting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRegister {
    /// P: the Map-Server may answer for the site.
    pub proxy_reply: bool,
    /// S: LISP-SEC capable.
    pub security_capable: bool,
    /// E: EID-notify request of the mobility drafts (RFC 9301 §5.6 names it).
    pub eid_notify: bool,
    /// T: the registration lives for the Record TTL instead of 3 minutes.
    pub use_ttl: bool,
    /// a: merge the locator sets of the site's xTRs.
    pub merge: bool,
    /// R: mobile node.
    pub mobile_node: bool,
    /// M: a Map-Notify is wanted.
    pub want_map_notify: bool,
    /// Rising nonce.
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// The mappings.
    pub records: Vec<EidRecord>,
    /// I: xTR-ID and Site-ID.
    pub xtr: Option<(XtrId, SiteId)>,
}

impl MapRegister {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}
