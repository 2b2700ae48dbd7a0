//! Mappings: which locators an EID-prefix is reached by, or why it is reached by none.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{EidPrefix, Rloc};

/// Time to live of a record, in minutes on the wire (RFC 9301 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ttl(pub u32);

impl Ttl {
    /// Remove now (in a Map-Register: deregister).
    pub const ZERO: Self = Self(0);
    /// 24 hours, the value RFC 9301 §8 calls typical.
    pub const DAY: Self = Self(1440);
    /// The receiver decides.
    pub const RECEIVERS_CHOICE: Self = Self(u32::MAX);

    /// The life time, with `choice` for [`Ttl::RECEIVERS_CHOICE`].
    pub fn duration_or(self, choice: Duration) -> Duration {
        if self == Self::RECEIVERS_CHOICE {
            choice
        } else {
            Duration::from_secs(u64::from(self.0) * 60)
        }
    }
}

/// A locator: an RLOC with priority and weight (RFC 9301 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locator {
    /// Where.
    pub rloc: Rloc,
    /// Lower is preferred; 255 means never for unicast.
    pub priority: u8,
    /// Share of the flows among locators of one priority; all 0 means the sender chooses.
    pub weight: u8,
    /// R-bit: the owner says it can be reached. Unset means MUST NOT encapsulate to it.
    pub reachable: bool,
    /// L-bit: it belongs to the ETR that wrote the record.
    pub local: bool,
    /// p-bit: the locator that an RLOC-probe reply answers for.
    pub probed: bool,
}

impl Locator {
    /// Priority that forbids unicast use (RFC 9301 §5.4).
    pub const NEVER: u8 = 255;

    /// A reachable locator.
    pub const fn new(rloc: Rloc, priority: u8, weight: u8) -> Self {
        Self {
            rloc,
            priority,
            weight,
            reachable: true,
            local: false,
            probed: false,
        }
    }

    /// Whether an ITR may encapsulate to it by what the record says.
    pub const fn is_usable(&self) -> bool {
        self.reachable && self.priority != Self::NEVER
    }
}

/// What to do with packets to an EID-prefix that has no locators (RFC 9301 §5.4, ACT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeAction {
    /// ACT 0.
    #[default]
    NoAction,
    /// ACT 1: "not a LISP EID". Never obeyed as "send in clear" by a mesh network.
    NativelyForward,
    /// ACT 2.
    SendMapRequest,
    /// ACT 3.
    Drop,
    /// ACT 4.
    DropPolicyDenied,
    /// ACT 5.
    DropAuthFailure,
    /// ACT 6 and 7, not assigned.
    Unassigned(u8),
}

impl NegativeAction {
    /// The three bits on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::NoAction => 0,
            Self::NativelyForward => 1,
            Self::SendMapRequest => 2,
            Self::Drop => 3,
            Self::DropPolicyDenied => 4,
            Self::DropAuthFailure => 5,
            Self::Unassigned(code) => code & 7,
        }
    }

    /// From the three bits on the wire.
    pub const fn from_code(code: u8) -> Self {
        match code & 7 {
            0 => Self::NoAction,
            1 => Self::NativelyForward,
            2 => Self::SendMapRequest,
            3 => Self::Drop,
            4 => Self::DropPolicyDenied,
            5 => Self::DropAuthFailure,
            other => Self::Unassigned(other),
        }
    }
}

impl fmt::Display for NegativeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAction => f.write_str("no-action"),
            Self::NativelyForward => f.write_str("natively-forward"),
            Self::SendMapRequest => f.write_str("send-map-request"),
            Self::Drop => f.write_str("drop"),
            Self::DropPolicyDenied => f.write_str("drop-policy-denied"),
            Self::DropAuthFailure => f.write_str("drop-auth-failure"),
            Self::Unassigned(code) => write!(f, "unassigned-{code}"),
        }
    }
}

/// An EID-prefix and its locator set. No locators: a negative mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Who.
    pub prefix: EidPrefix,
    /// For how long.
    pub ttl: Ttl,
    /// Where, in ascending RLOC order (RFC 9301 §5.4). Empty: negative.
    pub locators: Vec<Locator>,
    /// What a sender does while there are no locators.
    pub action: NegativeAction,
    /// A-bit: an ETR said so itself.
    pub authoritative: bool,
    /// Map-Version (RFC 9302), 12 bits; 0 is the null version.
    pub version: u16,
}

impl Mapping {
    /// A positive mapping; the locators are sorted.
    pub fn new(prefix: EidPrefix, ttl: Ttl, mut locators: Vec<Locator>) -> Self {
        locators.sort();
        Self {
            prefix,
            ttl,
            locators,
            action: NegativeAction::NoAction,
            authoritative: false,
            version: 0,
        }
    }

    /// A negative mapping.
    pub fn negative(prefix: EidPrefix, ttl: Ttl, action: NegativeAction) -> Self {
        Self {
            prefix,
            ttl,
            locators: Vec::new(),
            action,
            authoritative: false,
            version: 0,
        }
    }

    /// Whether the prefix has no locators.
    pub fn is_negative(&self) -> bool {
        self.locators.is_empty()
    }
}
