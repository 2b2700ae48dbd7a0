//! How a packet ends: a counted word, never a string on the hot path.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident => $word:literal,)+) => {
        /// Why a packet was dropped. Each is a counter `drop.<word>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $name,)+
        }

        impl DropReason {
            /// Every reason, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The counter's word.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its own headers say, or lengths that contradict each other.
    Malformed => "malformed",
    /// An EtherType (VLAN tags included) that this port does not carry.
    UnknownEtherType => "unknown-ethertype",
    /// An IPv6 extension header chain that is too long or hides the transport header.
    ExtensionHeaders => "extension-headers",
    /// An IPv4 header with source routing.
    SourceRoute => "source-route",
    /// The virtio-net header contradicts the frame.
    BadOffload => "bad-offload",
    /// A later fragment whose first fragment was not seen.
    FragmentWithoutFirst => "fragment-without-first",
    /// A first fragment too short for its transport header, or one that would overwrite it.
    FragmentTricks => "fragment-tricks",
    /// Source MAC is not the guest's.
    SpoofedMac => "spoofed-mac",
    /// Source address is not the guest's.
    SpoofedSource => "spoofed-source",
    /// ARP sender is not the guest.
    SpoofedArp => "spoofed-arp",
    /// Neighbour Discovery speaks for somebody else, or plays the router.
    SpoofedNeighbour => "spoofed-neighbour",
    /// DHCP for another NIC.
    SpoofedDhcp => "spoofed-dhcp",
    /// Addressed to another MAC than the gateway's.
    ForeignMac => "foreign-mac",
    /// Group traffic that the gateway has no use for.
    Multicast => "multicast",
    /// For the gateway, which does not serve that.
    GatewayUnserved => "gateway-unserved",
    /// A request to the gateway that needs no answer.
    GatewayConsumed => "gateway-consumed",
    /// No rule of the policy allows it.
    PolicyDenied => "policy-denied",
    /// Too many connections on this guest port, or on this node.
    ConnectionTableFull => "connection-table-full",
    /// An ICMP error that belongs to no connection.
    IcmpUnrelated => "icmp-unrelated",
    /// Its hop limit ended here; the sender was told.
    TtlExceeded => "ttl-exceeded",
    /// Too big for the path; the sender was told.
    PacketTooBig => "packet-too-big",
    /// Destination lies outside of the network's EID-prefixes.
    NoRoute => "no-route",
    /// Negative mapping, ACT 0.
    NegativeNoAction => "negative-no-action",
    /// Negative mapping, ACT 1: not a LISP EID; never sent in clear.
    NegativeNativelyForward => "negative-natively-forward",
    /// Negative mapping, ACT 2.
    NegativeSendMapRequest => "negative-send-map-request",
    /// Negative mapping, ACT 3.
    NegativeDrop => "negative-drop",
    /// Negative mapping, ACT 4.
    NegativePolicyDenied => "negative-drop-policy-denied",
    /// Negative mapping, ACT 5.
    NegativeAuthFailure => "negative-drop-auth-failure",
    /// Negative mapping, ACT 6 or 7.
    NegativeUnassigned => "negative-unassigned",
    /// No mapping yet and no room to wait.
    PendingFull => "pending-full",
    /// No mapping in time.
    PendingExpired => "pending-expired",
    /// No locator that may be used, or none is up.
    NoLocator => "no-locator",
    /// No uplink with an address of the locator's family.
    NoUplink => "no-uplink",
    /// A sealed network without a security association to the remote node.
    NoMeshSa => "no-mesh-sa",
    /// Sent by a remote node, shorter than a data header, or than what a seal puts around a packet.
    LispTruncated => "lisp-truncated",
    /// P-bit: another protocol inside (RFC 9305).
    LispNextProtocol => "lisp-next-protocol",
    /// KK bits say sealed, but in no way that we know: no SA index, or another key-id than 1.
    LispSealed => "lisp-sealed-unknown",
    /// Sealed, for an SA index that is none of ours, or not any more.
    UnknownSa => "sealed-unknown-sa",
    /// Sealed under an SA whose time is up.
    SaExpired => "sealed-sa-expired",
    /// Sealed, with an IV that no sender writes.
    ForeignIv => "sealed-foreign-iv",
    /// Sealed, and it came before, or is too old to tell.
    Replayed => "sealed-replayed",
    /// Sealed, and not authentic.
    BadTag => "sealed-bad-tag",
    /// Sealed, authentic, from an inner source that is not bound to the node that sealed it.
    UnboundSource => "sealed-unbound-source",
    /// Sealed, for a network in clear: the two never mix.
    SealedInClear => "sealed-in-clear-network",
    /// Control inside an SA that says nothing we know, or too often.
    SealedControl => "sealed-control",
    /// In clear, for a network that demands sealing.
    ClearInSealed => "clear-in-sealed-network",
    /// Instance-ID of no network on this node.
    UnknownInstance => "unknown-instance",
    /// Neither IPv4 nor IPv6 inside.
    InnerFamily => "inner-family",
    /// Inner source may not be a source, or is one of our own guests.
    InnerSource => "inner-source",
    /// No guest of ours has the inner destination.
    UnservedEid => "unserved-eid",
    /// Congestion marked outside, not ECN-capable inside (RFC 6040 §4.2).
    EcnNotCapable => "ecn-not-capable",
    /// A control message in a data header; handed to control.
    ControlInData => "control-in-data",
    /// The network is not (or no longer) there.
    UnknownNetwork => "unknown-network",
    /// The guest port is not (or no longer) there.
    UnknownPort => "unknown-port",
    /// No exit to the host's network, or none of this address family.
    NoLocalExit => "no-local-exit",
    /// All translated ports are in use.
    NatExhausted => "nat-exhausted",
    /// From outside, for no translation that we made.
    NatNoState => "nat-no-state",
    /// A protocol that cannot be translated.
    NatProtocol => "nat-protocol",
    /// Headers grew beyond the buffer.
    NoHeadroom => "no-headroom",
    /// Neighbour Discovery, MLD or a redirect: such messages never leave their link.
    LinkScoped => "link-scoped",
}

/// How a packet ended that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Encapsulated towards another node.
    Encapsulated,
    /// Handed to a guest port.
    Delivered,
    /// Answered out of the port that it came from.
    Hairpin,
    /// It waits for a mapping.
    Waiting,
    /// Handed to the node's own host.
    Host,
    /// Translated, and handed to the host's network.
    LocalExit,
    /// Control inside an SA: answered, or handed to control.
    Control,
}

impl Passed {
    /// The word for capture and trace.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Encapsulated => "encapsulated",
            Self::Delivered => "delivered",
            Self::Hairpin => "hairpin",
            Self::Waiting => "waiting",
            Self::Host => "host",
            Self::LocalExit => "local-exit",
            Self::Control => "control",
        }
    }
}

/// How a packet ended.
pub type Outcome = Result<Passed, DropReason>;
