//! Texts with a meaning: addresses, prefixes, MACs, services, names of interfaces.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net};
use lisp::{CONTROL_PORT, EidPrefix, InstanceId};

use crate::{intent::Service, tree::shorten};

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        message: message.into(),
        help: help.into(),
    })
}

/// An address of one host.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    if let Some((start, length)) = text.split_once('/')
        && start.parse::<IpAddr>().is_ok()
    {
        return wrong(
            format!("`{}` is a prefix, an address is wanted", shorten(text)),
            format!("write {start} without /{}", shorten(length)),
        );
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        return wrong(
            format!("`{}` is no IP address", shorten(text)),
            "write an IPv4 address such as 10.7.1.10, or an IPv6 address such as \"fd07::a\"",
        );
    };
    if address.is_multicast() || address.is_unspecified() || address.is_loopback() || is_broadcast(address) {
        return wrong(
            format!("`{address}` is no address of one host"),
            "use a unicast address: no multicast, broadcast, loopback or unspecified one",
        );
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return wrong(
            format!("`{address}` is link-local: it is known on one link only"),
            "use an address that is the same everywhere, such as one inside fd00::/8",
        );
    }
    Ok(address)
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// An address with port 4342 unless another one is given: `192.0.2.1`, `192.0.2.1:4342`, `2001:db8::1`,
/// `[2001:db8::1]:4342`.
pub fn socket(text: &str) -> Result<SocketAddr, Wrong> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let socket = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => SocketAddr::new(address, CONTROL_PORT),
        (_, Ok(socket)) => socket,
        _ => {
            return wrong(
                format!("`{}` is no address with or without a port", shorten(text)),
                "write 192.0.2.1, 192.0.2.1:4342, \"2001:db8::1\" or \"[2001:db8::1]:4342\"; names are not looked up",
            );
        }
    };
    if socket.port() == 0 {
        return wrong(format!("port 0 in `{text}`"), "leave the port out: it is 4342 then");
    }
    if socket.ip().is_multicast() || is_broadcast(socket.ip()) {
        return wrong(
            format!("`{}` is no address of one host", socket.ip()),
            "use a unicast address",
        );
    }
    Ok(socket)
}

/// A block of addresses without host bits.
pub fn prefix(text: &str) -> Result<IpNet, Wrong> {
    let Ok(net) = text.parse::<IpNet>() else {
        if let Ok(address) = text.parse::<IpAddr>() {
            return wrong(
                format!("`{text}` has no length"),
                format!(
                    "write {} for this address alone, or the length of the block",
                    IpNet::from(address)
                ),
            );
        }
        let length = text
            .rsplit_once('/')
            .and_then(|(start, length)| Some((start.parse::<IpAddr>().ok()?, length)));
        return match length {
            Some((start, _)) => wrong(
                format!("`{}` has no good length", shorten(text)),
                format!(
                    "write a length from 0 to {} behind the `/`",
                    if start.is_ipv4() { 32 } else { 128 }
                ),
            ),
            None => wrong(
                format!("`{}` is no prefix", shorten(text)),
                "write an address and a length, such as 10.7.0.0/16 or \"fd07::/16\"",
            ),
        };
    };
    if net.addr() != net.network() {
        return wrong(
            format!("`{text}` has bits behind its length"),
            format!(
                "write {} for the block, or {} for the address",
                net.trunc(),
                IpNet::from(net.addr())
            ),
        );
    }
    Ok(net)
}

/// An IPv4 block.
pub fn prefix4(text: &str) -> Result<Ipv4Net, Wrong> {
    match prefix(text)? {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(_) => wrong(
            format!("`{text}` is IPv6, this is about IPv4"),
            "write one such as 10.7.0.0/16",
        ),
    }
}

/// A block of EIDs: `[7]fd07::/16`.
pub fn eid_prefix(text: &str) -> Result<EidPrefix, Wrong> {
    let (instance_id, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((number, rest)) => {
            let known = number
                .parse()
                .ok()
                .and_then(InstanceId::new)
                .filter(|id| *id != InstanceId::CONTROL);
            let Some(instance_id) = known else {
                return wrong(
                    format!("`{}` is no Instance-ID", shorten(number)),
                    "write a number from 0 to 16777214 between `[` and `]`",
                );
            };
            (instance_id, rest)
        }
        None => (InstanceId::DEFAULT, text),
    };
    prefix(rest)
        .map(|net| EidPrefix::new(instance_id, net))
        .map_err(|bad| Wrong {
            help: if text.starts_with('[') {
                bad.help
            } else {
                format!("{}; with an Instance-ID: \"[7]fd07::/16\"", bad.help)
            },
            ..bad
        })
}

/// A MAC address of one NIC.
pub fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    let mut mac = [0u8; 6];
    let mut parts = text.split([':', '-']);
    let complete = mac.iter_mut().all(|byte| {
        let part = parts.next().filter(|part| part.len() == 2);
        match part.and_then(|part| u8::from_str_radix(part, 16).ok()) {
            Some(value) => {
                *byte = value;
                true
            }
            None => false,
        }
    });
    if !complete || parts.next().is_some() {
        return wrong(
            format!("`{}` is no MAC address", shorten(text)),
            "write six bytes in hex, such as \"02:00:00:00:00:0a\"",
        );
    }
    let [first, rest @ ..] = mac;
    if first & 1 == 1 {
        let tail: String = rest.iter().map(|byte| format!(":{byte:02x}")).collect();
        return wrong(
            format!("`{text}` is a multicast MAC address (the first byte is odd)"),
            format!("use one that is a NIC's own: \"{:02x}{tail}\"", (first & !1) | 2),
        );
    }
    if mac == [0; 6] {
        return wrong(
            "a MAC address of zeros",
            "leave it out: one is derived from the names then",
        );
    }
    Ok(mac)
}

/// Name of a network interface, as the kernel takes it.
pub fn interface(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if text.is_empty() || text.len() > 15 || !text.chars().all(good) || text == "." || text == ".." {
        return wrong(
            format!("`{}` cannot be the name of an interface", shorten(text)),
            "use at most 15 letters, digits, `-`, `_` and `.`",
        );
    }
    Ok(text.to_owned())
}

/// Name of a network namespace, as `ip netns` takes it.
pub fn namespace(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 255 || text.contains(['/', '\0']) || text == "." || text == ".." {
        return wrong(
            format!("`{}` cannot be the name of a network namespace", shorten(text)),
            "write a name that `ip netns list` shows",
        );
    }
    Ok(text.to_owned())
}

/// A label of a domain name, or several with dots between.
pub fn domain(text: &str) -> Result<String, Wrong> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 200 || !text.split('.').all(label) {
        return wrong(
            format!("`{}` is no domain name", shorten(text)),
            "use lower case letters, digits and `-`, with dots between, such as plant.weft",
        );
    }
    Ok(text.to_owned())
}

/// `icmp`, `tcp`, `tcp/5201`, `udp/8000-8100`, `protocol/47`.
pub fn service(text: &str) -> Result<Service, Wrong> {
    let help = "write icmp, tcp/PORT, tcp/FIRST-LAST, udp/PORT or protocol/NUMBER";
    let (word, detail) = match text.split_once('/') {
        Some((word, detail)) => (word, Some(detail)),
        None => (text, None),
    };
    match (word, detail) {
        ("icmp", None) => Ok(Service::Icmp),
        ("tcp", None) => Ok(Service::Tcp(1..=u16::MAX)),
        ("udp", None) => Ok(Service::Udp(1..=u16::MAX)),
        ("tcp", Some(detail)) => ports(text, detail).map(Service::Tcp),
        ("udp", Some(detail)) => ports(text, detail).map(Service::Udp),
        ("protocol", Some(detail)) => match detail.parse() {
            Ok(number) => Ok(Service::Protocol(number)),
            Err(_) => wrong(
                format!("`{}` is no IP protocol", shorten(text)),
                "write its number, from 0 to 255, such as protocol/47",
            ),
        },
        _ => wrong(
            format!("`{}` is no service", shorten(text)),
            match crate::nearest::nearest(word, ["icmp", "tcp", "udp", "protocol"]) {
                Some(near) if near != word => format!("did you mean `{near}`? {help}"),
                _ => help.into(),
            },
        ),
    }
}

fn ports(text: &str, detail: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let (first, last) = detail.split_once('-').unwrap_or((detail, detail));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if (1..=last).contains(&first) => Ok(first..=last),
        (Ok(first), Ok(last)) if last > 0 && first > last => wrong(
            format!("the range of `{}` ends before it begins", shorten(text)),
            format!("write {last}-{first}"),
        ),
        _ => wrong(
            format!("`{}` has no good port", shorten(text)),
            "ports are numbers from 1 to 65535, such as tcp/5201 or tcp/8000-8100",
        ),
    }
}

/// `role=machine`.
pub fn label(text: &str) -> Result<(String, String), Wrong> {
    let word = |text: &str| !text.is_empty() && !text.contains(|c: char| c == '=' || c.is_whitespace());
    match text.split_once('=') {
        Some((key, value)) if word(key) && word(value) => Ok((key.to_owned(), value.to_owned())),
        _ => wrong(
            format!("`{}` is no label", shorten(text)),
            "write KEY=VALUE, such as role=machine",
        ),
    }
}

/// Name of an environment variable.
pub fn variable(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(good) {
        return wrong(
            "this is no name of an environment variable",
            "write a name such as WEFT_KEY",
        );
    }
    Ok(text.to_owned())
}

/// Name of a systemd credential.
pub fn credential(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 255 || text.contains('/') || text == "." || text == ".." {
        return wrong(
            "this is no name of a systemd credential",
            "write the name that stands in LoadCredential=",
        );
    }
    Ok(text.to_owned())
}

/// A path, from `base` when it is relative.
pub fn path(text: &str, base: &std::path::Path) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains(['\0', '\n']) {
        return wrong(
            "this is no path of a file",
            "write the path of the file that holds the credential",
        );
    }
    Ok(base.join(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_in_every_way_people_write_them() {
        for text in ["192.0.2.1", "192.0.2.1:4342"] {
            assert_eq!(
                socket(text).map(|s| s.to_string()).as_deref(),
                Ok("192.0.2.1:4342"),
                "{text}"
            );
        }
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4342"] {
            assert_eq!(
                socket(text).map(|s| s.to_string()).as_deref(),
                Ok("[2001:db8::1]:4342"),
                "{text}"
            );
        }
        for text in [
            "ms.example",
            "192.0.2.1:0",
            "192.0.2.1:99999",
            "224.0.0.1",
            "ff02::1",
            "",
        ] {
            assert!(socket(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_say_what_is_wrong_with_them() {
        assert_eq!(prefix("fd07::/16").map(|p| p.to_string()).as_deref(), Ok("fd07::/16"));
        assert!(prefix("10.7.1.0/16").unwrap_err().help.contains("10.7.0.0/16"));
        assert!(prefix("10.7.1.1").unwrap_err().help.contains("10.7.1.1/32"));
        assert!(prefix("10.7.1.0/33").unwrap_err().help.contains("32"));
        assert!(prefix("plant").unwrap_err().message.contains("no prefix"));
        assert_eq!(
            eid_prefix("[7]fd07::/16").map(|p| p.to_string()).as_deref(),
            Ok("[7]fd07::/16")
        );
        assert!(eid_prefix("[16777215]fd07::/16").is_err());
        assert!(eid_prefix("[x]fd07::/16").is_err());
    }

    #[test]
    fn macs_of_groups_are_refused_with_one_that_is_not() {
        assert_eq!(mac("02:00:00:00:00:0a"), Ok([2, 0, 0, 0, 0, 10]));
        assert_eq!(mac("02-00-00-00-00-0A"), Ok([2, 0, 0, 0, 0, 10]));
        assert!(mac("01:00:5e:00:00:01").unwrap_err().help.contains("02:00:5e:00:00:01"));
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:0a:0b",
            "2:0:0:0:0:a",
            "00:00:00:00:00:00",
            "02:00:00:00:00:0g",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn services() {
        assert_eq!(service("icmp"), Ok(Service::Icmp));
        assert_eq!(service("tcp/5201"), Ok(Service::Tcp(5201..=5201)));
        assert_eq!(service("udp/8000-8100"), Ok(Service::Udp(8000..=8100)));
        assert_eq!(service("protocol/47"), Ok(Service::Protocol(47)));
        assert_eq!(service("tcp"), Ok(Service::Tcp(1..=65535)));
        assert!(service("tcp/9-8").unwrap_err().help.contains("8-9"));
        assert!(service("tpc/80").unwrap_err().help.contains("`tcp`"));
        for text in ["tcp/0", "tcp/65536", "tcp/http", "protocol/256", "icmp/8", ""] {
            assert!(service(text).is_err(), "{text}");
        }
    }
}
