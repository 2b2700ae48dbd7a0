//! The stateful policy: who may open a connection to whom. Evaluated at the source's node on the way out and at
//! the destination's node on the way in; whatever belongs to an open connection passes.

use std::time::Instant;

use crate::{
    buffer::Offload,
    bytes::be8,
    connection::{ConnectionRef, Connections},
    parse::{FlowKey, Fragment, IpPacket, protocol},
    tables::Network,
    verdict::DropReason,
};

/// Why a packet may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It belongs to an open connection.
    Known {
        /// Which.
        connection: ConnectionRef,
        /// It goes the way of the first packet.
        forward: bool,
        /// The connection was opened under another policy, and the present one allows it too.
        renewed: bool,
    },
    /// The policy allows it to open one.
    Open,
    /// An ICMP error about a packet of an open connection, whose key this is (as that connection was opened).
    Related(FlowKey),
}

/// What the policy says, and the name of the rule (or another word) that said it.
pub type Evaluation<'a> = Result<(Admission, &'a str), (DropReason, &'a str)>;

/// Evaluates a packet. `exempt`: the node's own host may send, and may be pinged, without a rule.
pub fn evaluate<'a>(
    connections: &Connections,
    network: &'a Network,
    key: &FlowKey,
    ip: &IpPacket,
    bytes: &[u8],
    exempt: bool,
    now: Instant,
) -> Evaluation<'a> {
    let allows = |key: &FlowKey| match network.policy.first_match(key) {
        _ if exempt => Ok("the node itself"),
        Some(rule) if rule.allow => Ok(rule.name.as_str()),
        Some(rule) => Err((DropReason::PolicyDenied, rule.name.as_str())),
        None => Err((DropReason::PolicyDenied, "default deny")),
    };
    if ip.is_icmp_error() {
        let quoted = quoted_key(bytes, ip).map(|quoted| FlowKey {
            scope: key.scope,
            ..quoted
        });
        let about = quoted.and_then(|quoted| {
            let (connection, _) = connections.find(&quoted, now)?;
            Some(connections.get(connection)?.opening.key)
        });
        return match about {
            Some(about) => Ok((Admission::Related(about), "related to an open connection")),
            None => Err((DropReason::IcmpUnrelated, "about no open connection")),
        };
    }
    // A SYN against the direction of a connection is no reply: it must be allowed on its own.
    let known = connections
        .find(key, now)
        .filter(|(_, forward)| *forward || !ip.opens_tcp());
    let Some((connection, forward)) = known else {
        return allows(key).map(|rule| (Admission::Open, rule));
    };
    let opening = connections.get(connection).map(|connection| connection.opening);
    match opening {
        Some(opening) if opening.policy_version != network.policy.version && !exempt => {
            let rule = allows(&opening.key)?;
            Ok((
                Admission::Known {
                    connection,
                    forward,
                    renewed: true,
                },
                rule,
            ))
        }
        _ => Ok((
            Admission::Known {
                connection,
                forward,
                renewed: false,
            },
            "open connection",
        )),
    }
}

/// The five-tuple of the packet that an ICMP error quotes (RFC 792, RFC 4443 §3); the quote may be cut short.
pub fn quoted_key(bytes: &[u8], ip: &IpPacket) -> Option<FlowKey> {
    quoted(bytes, ip).map(|quoted| quoted.key)
}

/// The quoted packet, as far as it is there: offsets are those of `bytes`, `end` is where the quote ends.
pub fn quoted(bytes: &[u8], ip: &IpPacket) -> Option<IpPacket> {
    let start = ip.payload;
    let quote = bytes.get(start..ip.end)?;
    // The lengths in the quote speak of the whole packet: read a copy that has the quote's own.
    let mut copy = [0u8; 128];
    let length = quote.len().min(copy.len());
    copy.get_mut(..length)?.copy_from_slice(quote.get(..length)?);
    let (version, transport) = match be8(&copy, 0)? >> 4 {
        4 => (4, be8(&copy, 9)?),
        6 => (6, be8(&copy, 6)?),
        _ => return None,
    };
    let l4 = if version == 4 {
        usize::from(be8(&copy, 0)? & 15) * 4
    } else {
        40
    };
    // A TCP header that is cut after its ports reads as one without options; a UDP length likewise.
    let end = match transport {
        protocol::TCP => l4 + 20,
        _ => l4 + 8,
    };
    if l4 + 8 > length || end > copy.len() {
        return None;
    }
    if version == 4 {
        copy.get_mut(2..4)?
            .copy_from_slice(&u16::try_from(end).ok()?.to_be_bytes());
    } else {
        copy.get_mut(4..6)?
            .copy_from_slice(&u16::try_from(end - 40).ok()?.to_be_bytes());
    }
    if transport == protocol::TCP {
        *copy.get_mut(l4 + 12)? = 5 << 4;
    } else if transport == protocol::UDP {
        copy.get_mut(l4 + 4..l4 + 6)?.copy_from_slice(&8u16.to_be_bytes());
    }
    let inner = IpPacket::parse(copy.get(..end)?, 0, &Offload::default()).ok()?;
    if matches!(inner.fragment, Fragment::Rest { .. }) {
        return None;
    }
    Some(IpPacket {
        l3: start,
        l4: start + inner.l4,
        payload: ip.end.min(start + inner.payload),
        end: ip.end,
        ..inner
    })
}
