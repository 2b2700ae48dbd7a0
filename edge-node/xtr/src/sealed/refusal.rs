//! Why something of the sealed mesh was not believed. Each reason is a counter, and reaches the operator.

use std::fmt;

use serde::Serialize;

use crate::{Counters, outbox::Outbox};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $counter:ident, $words:literal;)*) => {
        /// Why a message or statement of a sealed network was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            pub(crate) fn counter(self, counters: &mut Counters) -> &mut u64 {
                match self {
                    $(Self::$name => &mut counters.$counter,)*
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $words,)*
                })
            }
        }
    };
}

refusals! {
    /// A message without an offer or answer: in clear, or stripped.
    Unsigned = sealed_unsigned, "it carries no signature of a node";
    /// Key material (LCAF 11) missing, twice, or not as the signed part says.
    NoKeyMaterial = sealed_no_key_material, "its key material (LCAF 11) is missing or not what was signed";
    /// A payload that cannot be read.
    Malformed = sealed_malformed, "its signed part cannot be read";
    /// This node has no clock yet.
    NoClock = sealed_no_clock, "this node does not know the time yet";
    /// Neither listed nor holding a valid membership.
    NotAMember = sealed_not_a_member, "the node is no member of the network: neither listed nor holding a valid membership";
    /// A binding past its end.
    BindingExpired = sealed_binding_expired, "the binding has expired";
    /// The EID is not the hash of the key that signed.
    NotTheHash = sealed_not_the_hash, "the EID is not the hash of the key that signed its binding";
    /// Only an authority could sign for this prefix.
    NoAuthority = sealed_no_authority, "the network has no authority key that could bind this prefix";
    /// The binding's signature.
    BadBinding = sealed_bad_binding, "the binding's signature does not verify";
    /// A newer binding is known.
    OldEpoch = sealed_old_epoch, "a binding of a higher epoch is known: the EID has moved";
    /// Another node has a binding of the same epoch.
    EpochConflict = sealed_epoch_conflict, "another node has a binding of the same epoch";
    /// It claims what this node serves.
    OwnPrefix = sealed_own_prefix, "it claims an EID that this node serves";
    /// The binding covers another EID, or is shorter than allowed.
    WrongPrefix = sealed_wrong_prefix, "the binding does not cover the EID, or covers too much";
    /// The signature over the message.
    BadSignature = sealed_bad_signature, "the node's signature over the message does not verify";
    /// A copy, or older than what was seen.
    Replayed = sealed_replayed, "it is a copy, or older than what was seen already";
    /// No suite in common, or one that was not offered.
    NoSuite = sealed_no_suite, "no cipher suite in common";
    /// A value of low order.
    LowOrder = sealed_low_order, "the X25519 value is of low order";
    /// Too many signatures to verify at the moment.
    OverBudget = sealed_over_budget, "too many signatures to verify at the moment";
    /// Something is kept of too many nodes.
    TooMany = sealed_too_many, "too many nodes or bindings are known already";
    /// This node has no binding for the EID.
    NoOwnBinding = sealed_no_own_binding, "this node has no valid binding to ask or answer with";
    /// Its own key answered.
    OurselvesRefused = sealed_ourselves, "it is signed with this node's own key";
}

impl Refusal {
    /// Counts it.
    pub(crate) fn count(self, out: &mut Outbox) {
        out.count(|counters| self.counter(counters));
    }
}

impl From<lisp::mesh::BindingError> for Refusal {
    fn from(error: lisp::mesh::BindingError) -> Self {
        use lisp::mesh::BindingError;
        match error {
            BindingError::Expired => Self::BindingExpired,
            BindingError::NotTheHash => Self::NotTheHash,
            BindingError::NoAuthority => Self::NoAuthority,
            BindingError::BadSignature => Self::BadBinding,
        }
    }
}
