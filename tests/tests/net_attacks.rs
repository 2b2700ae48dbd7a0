//! What an attacker on the wire or in a guest may try: forged and replayed Map-Registers, overclaimed prefixes, forged
//! Map-Replies, spoofed guest addresses, amplification. Each is refused and counted. Needs root.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use lisp::{
    Eid, EidPrefix, InstanceId, Locator, Mapping, Nonce, Rloc, SiteId, Ttl, XtrId,
    wire::{
        AfiAddress, AuthAlgorithm, Authentication, Ecm, EidRecord, MapRegister, MapReply, MapRequest, Purpose,
        RequestRecord, sign,
    },
};
use weft_tests::net::{
    Fabric, LinkSocket, Node, Result, SiteKind, Tap, counter, dissect, ethernet, files, ipv6_udp, scenario, udp_from,
    until,
};

const SOON: Duration = Duration::from_secs(5);
const SEVEN: u32 = 7;

fn tenant() -> InstanceId {
    InstanceId::new(SEVEN).unwrap()
}

fn prefix(text: &str) -> EidPrefix {
    EidPrefix::new(tenant(), text.parse().unwrap())
}

/// A Map-Register for `text` at the locator `rloc`, signed with `secret` under the Key-ID `key_id`.
fn register(text: &str, rloc: Ipv4Addr, key_id: u8, secret: &str, algorithm: AuthAlgorithm, nonce: u64) -> Vec<u8> {
    let mapping = Mapping::new(
        prefix(text),
        Ttl::DAY,
        vec![Locator::new(Rloc::from(IpAddr::V4(rloc)), 1, 100)],
    );
    let mut bytes = MapRegister {
        proxy_reply: true,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: true,
        nonce: Nonce(nonce),
        authentication: Authentication::unsigned(key_id, algorithm),
        records: vec![EidRecord::from_mapping(&mapping)],
        xtr: Some((XtrId([9; 16]), SiteId(9))),
    }
    .encode();
    sign(&mut bytes, Purpose::MapRegister, secret.as_bytes()).unwrap();
    bytes
}

/// Sends and waits until the counter `word` of the Map-Server has grown.
fn refused(fabric: &Fabric<'_>, bytes: &[u8], word: &str) -> Result<()> {
    let count = || fabric.map_server.json(&["status"]).map(|status| counter(&status, word));
    let before = count()?;
    let to = SocketAddr::from((fabric.map_server_site.ipv4.unwrap(), 4342));
    udp_from(
        &fabric.sites[2].namespace,
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        to,
        bytes,
    )?;
    until(&format!("the Map-Server counts {word}"), SOON, || {
        Ok((count()? > before).then_some(()))
    })
}

const FAR_FUTURE: u64 = u64::MAX / 2;

#[test]
fn forged_registers_and_overclaimed_prefixes_are_refused() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let attacker = fabric.sites[2].ipv4.unwrap();
        let good = AuthAlgorithm::HmacSha256_128HkdfSha256;
        let theirs = files::key("site-2");
        let own = files::key("site-3");
        // A guessed secret.
        refused(
            &fabric,
            &register("fd07::2/128", attacker, 2, "guess", good, FAR_FUTURE),
            "bad-mac",
        )?;
        // A MAC that is cut short, or of no algorithm, or of one that the site does not accept.
        let mut none = register("fd07::2/128", attacker, 2, &theirs, good, FAR_FUTURE);
        none[13] = 0;
        refused(&fabric, &none, "algorithm-refused")?;
        refused(
            &fabric,
            &register("fd07::2/128", attacker, 2, &theirs, AuthAlgorithm::HmacSha1, FAR_FUTURE),
            "algorithm-refused",
        )?;
        refused(
            &fabric,
            &register("fd07::2/128", attacker, 200, &theirs, good, FAR_FUTURE),
            "unknown-key-id",
        )?;
        // One bit of a good message flipped on its way.
        let mut flipped = register("fd07::2/128", attacker, 2, &theirs, good, FAR_FUTURE);
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        refused(&fabric, &flipped, "bad-mac")?;
        // A site with a good key that registers what belongs to another, or more than its own.
        refused(
            &fabric,
            &register("fd07::2/128", attacker, 3, &own, good, FAR_FUTURE),
            "unknown-key-id",
        )
        .or_else(|_| {
            refused(
                &fabric,
                &register("fd07::2/128", attacker, 3, &own, good, FAR_FUTURE),
                "bad-mac",
            )
        })?;
        refused(
            &fabric,
            &register("fd07::/16", attacker, 3, &own, good, FAR_FUTURE),
            "prefix-not-owned",
        )?;
        // Garbage.
        refused(&fabric, &[0x30, 0, 0, 1, 2, 3], "malformed")?;
        // Nothing of all that took.
        let answer = fabric.nodes[0].weft(&["lig", "[7]fd07::2"])?;
        assert!(answer.contains(&fabric.sites[1].ipv4.unwrap().to_string()), "{answer}");
        assert!(!answer.contains(&attacker.to_string()), "{answer}");
        assert!(fabric.guest(1).reaches("fd07::2")?);
        Ok(())
    });
}

#[test]
fn forged_map_replies_are_ignored() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let attacker = fabric.sites[2].ipv4.unwrap();
        let victim = fabric.sites[0].ipv4.unwrap();
        let node = &fabric.nodes[0];
        let count = |node: &Node| {
            node.json(&["status"])
                .map(|status| counter(&status, "map-reply-unknown-nonce"))
        };
        let before = count(node)?;
        for text in ["fd07::2/128", "fd07::/16", "::/0"] {
            let mapping = Mapping::new(
                prefix(text),
                Ttl::DAY,
                vec![Locator::new(Rloc::from(IpAddr::V4(attacker)), 1, 100)],
            );
            let reply = MapReply {
                probe: false,
                echo_nonce: false,
                nonce: Nonce(0x0123_4567_89ab_cdef),
                records: vec![EidRecord::from_mapping(&mapping)],
                security: None,
            };
            udp_from(
                &fabric.sites[2].namespace,
                SocketAddr::from((attacker, 4341)),
                SocketAddr::from((victim, 4342)),
                &reply.encode(),
            )
            .or_else(|_| {
                udp_from(
                    &fabric.sites[2].namespace,
                    SocketAddr::from((attacker, 0)),
                    SocketAddr::from((victim, 4342)),
                    &reply.encode(),
                )
            })?;
        }
        until("the forged replies are counted", SOON, || {
            Ok((count(node)? >= before + 3).then_some(()))
        })?;
        let status = node.json(&["status"])?.to_string();
        assert!(!status.contains("\"::/0\"") && !status.contains("[7]::/0"), "{status}");
        fabric.guest(1).ping("fd07::2", 5).map(|_| ())
    });
}

#[test]
fn a_guest_speaks_only_for_itself() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let guest = fabric.guest(1).namespace();
        let gateway = mac(&guest.run("ip -6 neighbour show")?);
        let own = [2, 0, 0, 0, 0, 0x0e];
        let link = LinkSocket::open(guest, "eth0")?;
        let node = &fabric.nodes[0];
        let tap = Tap::start(fabric.guest(2).namespace(), "eth0", "udp port 7777")?;
        let eid = |last: u16| Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, last);
        let spoofs: [(&str, Vec<u8>); 3] = [
            (
                "spoofed-source",
                ethernet(gateway, own, &ipv6_udp(eid(3), eid(2), (7777, 7777), b"not me")),
            ),
            (
                "spoofed-source",
                ethernet(gateway, own, &ipv6_udp(eid(2), eid(2), (7777, 7777), b"you")),
            ),
            (
                "spoofed-mac",
                ethernet(
                    gateway,
                    [2, 0, 0, 0, 0, 0x66],
                    &ipv6_udp(eid(1), eid(2), (7777, 7777), b"mac"),
                ),
            ),
        ];
        for (word, frame) in &spoofs {
            let count = || node.json(&["status"]).map(|status| counter(&status, word));
            let before = count()?;
            link.send(frame)?;
            until(&format!("the node counts {word}"), SOON, || {
                Ok((count()? > before).then_some(()))
            })?;
        }
        // The honest one passes, so the way is open and only the lies were stopped.
        link.send(&ethernet(gateway, own, &ipv6_udp(eid(1), eid(2), (7777, 7777), b"me")))?;
        let seen = until("the honest packet arrives", SOON, || {
            let seen = dissect(tap.file(), "udp.dstport == 7777")?;
            Ok((!seen.is_empty()).then_some(seen))
        })?;
        assert_eq!(seen.len(), 1, "nothing but the honest one");
        assert_eq!(seen[0].first("ipv6.src").as_deref(), Some("fd07::1"));
        Ok(())
    });
}

/// The gateway's MAC in the output of `ip neighbour`.
fn mac(shown: &str) -> [u8; 6] {
    let text = shown
        .split("lladdr ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("a neighbour");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

#[test]
fn neither_map_server_nor_xtr_amplifies() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let attacker = &fabric.sites[2];
        let from = attacker.ipv4.unwrap();
        for target in [fabric.map_server_site.ipv4.unwrap(), fabric.sites[0].ipv4.unwrap()] {
            let tap = Tap::start(
                &attacker.namespace,
                "wan0",
                &format!("udp port 4342 and host {target} and host {from}"),
            )?;
            let sent = attacker
                .namespace
                .within(move || flood(from, target))?
                .expect("a socket");
            // What was going to come back has come when a fresh question is answered or a second of silence passed.
            let mut last = usize::MAX;
            until("the answers have ended", Duration::from_secs(20), || {
                // The capture reaches the file in blocks: none at all means that nothing was written yet.
                let now = dissect(tap.file(), "")?.len();
                let ended = now == last && now > 0;
                last = now;
                if !ended {
                    weft_tests::net::holds_for("time passes", Duration::from_millis(500), || Ok(true))?;
                }
                Ok(ended.then_some(()))
            })?;
            let bytes = |filter: String| -> Result<u64> {
                Ok(dissect(tap.file(), &filter)?
                    .iter()
                    .filter_map(|packet| packet.first("udp.length")?.parse::<u64>().ok())
                    .sum())
            };
            let (asked, answered) = (
                bytes(format!("ip.src == {from}"))?,
                bytes(format!("ip.src == {target}"))?,
            );
            println!("{target}: {sent} requests, {asked} bytes; {answered} bytes came back");
            assert!(
                asked > 0 && answered <= asked,
                "{target} amplifies: {asked} in, {answered} out"
            );
        }
        Ok(())
    });
}

/// Sends requests for everything that can be asked for, as fast as it goes; gives how many.
fn flood(from: Ipv4Addr, target: Ipv4Addr) -> std::io::Result<u32> {
    let socket = UdpSocket::bind((from, 0))?;
    let mut sent = 0;
    for number in 0..500u16 {
        for last in [1, 2, number.wrapping_add(1000)] {
            let eid = Eid::new(tenant(), IpAddr::V6(Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, last)));
            let request = MapRequest::new(
                Nonce(u64::from(number)),
                AfiAddress::None,
                vec![AfiAddress::from(IpAddr::V4(from))],
                RequestRecord::for_eid(&eid),
            )
            .encode();
            let ecm = Ecm {
                ddt: false,
                to_etr: false,
                to_ms: false,
                security: None,
                source: SocketAddr::from((from, 4342)),
                destination: SocketAddr::new(eid.address, 4342),
                payload: request.clone(),
            }
            .encode();
            for bytes in [ecm, request] {
                if socket.send_to(&bytes, (target, 4342)).is_ok() {
                    sent += 1;
                }
            }
        }
    }
    Ok(sent)
}
