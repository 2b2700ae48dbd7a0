//! What somebody on the underlay, or a node that is no member, may try against a sealed network: each attempt is a
//! named counter and has no effect. Needs root.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use weft_tests::net::{
    Fabric, Namespace, Result, SiteKind, Standing, Tap, counter, dissect, files, holds_for, ipv6_udp, scenario,
    udp_from, until,
};

const SOON: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
const DUAL: SiteKind = SiteKind::Dual;
/// LISP header: flags, then the SA index of the receiver, then the Instance-ID.
const HEADER: usize = 8;

/// Three sites that have IPv4 alone, so there is one address each to attack.
fn three(lab: &weft_tests::net::Lab) -> Result<Fabric<'_>> {
    Fabric::sealed(lab, &[SiteKind::V4; 3])
}

fn address(fabric: &Fabric<'_>, site: usize) -> Ipv4Addr {
    fabric.sites[site - 1].ipv4.unwrap()
}

/// Sends datagrams from `namespace` to `to`, from an ephemeral port, no faster than a packet socket takes them.
fn send(namespace: &Namespace, to: SocketAddr, datagrams: Vec<Vec<u8>>) -> Result<()> {
    namespace
        .within(move || -> std::io::Result<()> {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            for datagram in datagrams {
                socket.send_to(&datagram, to)?;
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        })?
        .expect("a socket");
    Ok(())
}

/// Payloads of the UDP datagrams in a capture that match `filter`.
fn payloads(file: &Path, filter: &str) -> Result<Vec<Vec<u8>>> {
    let packets = dissect(file, filter)?;
    let payloads = packets.iter().filter_map(|packet| packet.first("udp.payload"));
    Ok(payloads.map(|text| hex(&text)).collect())
}

/// The counter `word` of the packet path of a node.
fn drops(fabric: &Fabric<'_>, site: usize, word: &str) -> Result<u64> {
    Ok(counter(&fabric.nodes[site - 1].json(&["status"])?["drops"], word))
}

/// The counter `word` of the control of a node.
fn control(fabric: &Fabric<'_>, site: usize, word: &str) -> Result<u64> {
    Ok(counter(&fabric.nodes[site - 1].json(&["status"])?["xtr"], word))
}

fn until_grown(what: &str, before: u64, by: u64, count: impl Fn() -> Result<u64>) -> Result<()> {
    until(&format!("{what} has grown from {before} by {by}"), SOON, || {
        Ok((count()? >= before + by).then_some(()))
    })
    .map_err(|error| weft_tests::net::LabError::Unexpected(format!("{error}; it is {:?}", count())))
}

#[test]
fn replayed_guessed_altered_and_clear_data_packets_are_refused() {
    scenario(|lab| {
        let fabric = three(lab)?;
        fabric.until_connected(2, 1)?;
        let (victim, attacker) = (address(&fabric, 1), address(&fabric, 3));
        let (to, from) = (SocketAddr::from((victim, 4341)), &fabric.sites[2].namespace);
        let router = fabric.underlay.router();
        let tap = Tap::start(
            router,
            &fabric.sites[0].router_interface,
            &format!("udp dst port 4341 and dst host {victim}"),
        )?;
        let (eid_1, eid_2) = (fabric.eid(1).to_string(), fabric.eid(2).to_string());
        fabric.guest(2).ping(&eid_1, 20)?;
        let recorded = payloads(&tap.stop()?, "")?;
        assert!(recorded.len() >= 20, "{} data packets recorded", recorded.len());

        // From here on the guest hears one honest packet and nothing else, and nothing goes to the attacker.
        let heard = Tap::start(fabric.guest(1).namespace(), "eth0", "icmp6 and ip6[40]==128 or udp")?;
        let roamed = Tap::start(
            router,
            &fabric.sites[2].router_interface,
            &format!("src host {victim} and udp port 4341"),
        )?;

        let before = drops(&fabric, 1, "sealed-replayed")?;
        let count = recorded.len() as u64;
        send(from, to, recorded.clone())?;
        until_grown("sealed-replayed", before, count, || {
            drops(&fabric, 1, "sealed-replayed")
        })?;

        let before = drops(&fabric, 1, "sealed-unknown-sa")?;
        let guesses = (1..=1000u64).map(|number| {
            let mut guess = recorded[0].clone();
            let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            guess[1..4].copy_from_slice(&index[..3]);
            guess
        });
        send(from, to, guesses.collect())?;
        // One in four million of them may be right.
        until_grown("sealed-unknown-sa", before, 999, || {
            drops(&fabric, 1, "sealed-unknown-sa")
        })?;

        let before = drops(&fabric, 1, "clear-in-sealed-network")?;
        let inner = ipv6_udp(fabric.eid(2), fabric.eid(1), (7777, 7777), b"in clear");
        let clear = [&[0x08, 0, 0, 0, 0, 0, 7, 0][..], &inner[..]].concat();
        send(from, to, vec![clear])?;
        until_grown("clear-in-sealed-network", before, 1, || {
            drops(&fabric, 1, "clear-in-sealed-network")
        })?;

        // Packets that have not arrived yet: the way is cut, they are recorded before the cut.
        let tap = Tap::start(
            router,
            &fabric.sites[1].router_interface,
            &format!("udp dst port 4341 and dst host {victim}"),
        )?;
        router.run("nft add table ip cut")?;
        router.run("nft add chain ip cut forward { type filter hook forward priority 0 ; }")?;
        router.run(&format!(
            "nft add rule ip cut forward ip daddr {victim} udp dport 4341 drop"
        ))?;
        assert!(!fabric.guest(2).reaches(&eid_1)?, "the way is cut");
        // The first one recorded may have passed before the cut; the last one did not.
        let fresh = payloads(&tap.stop()?, "")?;
        let fresh = fresh.last().expect("a packet on its way");
        router.run("nft delete table ip cut")?;
        let before = drops(&fabric, 1, "sealed-bad-tag")?;
        let altered: Vec<Vec<u8>> = (HEADER + 12..fresh.len())
            .map(|place| {
                let mut altered = fresh.clone();
                altered[place] ^= 1 << (place % 8);
                altered
            })
            .collect();
        let count = altered.len() as u64;
        send(from, to, altered)?;
        until_grown("sealed-bad-tag", before, count, || drops(&fabric, 1, "sealed-bad-tag"))?;

        // None of that had an effect: the honest pass as before, the other way too.
        fabric.guest(2).ping(&eid_1, 1)?;
        fabric.guest(1).ping(&eid_2, 20)?;
        let echoes = until("the honest packet arrives", SOON, || {
            let seen = dissect(heard.file(), "icmpv6.type == 128")?;
            let seen: Vec<_> = seen
                .into_iter()
                .filter(|p| p.first("ipv6.dst").as_deref() == Some(&eid_1))
                .collect();
            Ok((!seen.is_empty()).then_some(seen))
        })?;
        assert_eq!(
            echoes.len(),
            1,
            "one honest echo request reached the guest, and no replayed one"
        );
        assert!(
            dissect(heard.file(), "udp.dstport == 7777")?.is_empty(),
            "nothing in clear reached the guest"
        );
        let associations = &fabric.nodes[0].json(&["status"])?["sealed"]["associations"];
        let roaming = |found: &serde_json::Value| !found["roamed_to"].is_null();
        let found = associations.as_array().cloned().unwrap_or_default();
        assert!(
            !found.is_empty() && !found.iter().any(roaming),
            "nobody has roamed: {associations}"
        );
        let file = roamed.stop()?;
        assert!(
            dissect(&file, "")?.is_empty(),
            "nothing goes to the attacker at {attacker}"
        );
        println!(
            "{} replays, 1000 guesses, {count} altered packets: counted, without effect",
            recorded.len()
        );
        Ok(())
    });
}

#[test]
fn replayed_control_messages_are_refused() {
    scenario(|lab| {
        let mut fabric = three(lab)?;
        let (victim, ms) = (address(&fabric, 1), fabric.map_server_site.ipv4.unwrap());
        let router = fabric.underlay.router().clone();
        let tap = Tap::start(&router, &fabric.sites[0].router_interface, "udp port 4342")?;
        fabric.until_connected(2, 1)?;
        let asked = Instant::now();
        // A further guest makes node 1 register at once.
        let further = files::guest_on_tap("guest-9", "plant", "tap9", "", &["10.7.1.99"]);
        fabric
            .node(1)
            .apply("further.yaml", &further.replace(", netns: , as: eth0", ""))?;
        let register = until("a Map-Register passes", PATIENCE, || {
            Ok(payloads(tap.file(), "lisp.type == 3")?.pop())
        })?;
        let requests = payloads(&tap.stop()?, &format!("lisp.type == 1 && ip.dst == {victim}"))?;
        assert!(!requests.is_empty(), "a signed Map-Request reached node 1");
        let replays = || Ok(counter(&fabric.map_server.json(&["status"])?, "replayed-nonce"));
        let before = replays()?;
        let from = &fabric.sites[2].namespace;
        udp_from(
            from,
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::from((ms, 4342)),
            &register,
        )?;
        until_grown("replayed-nonce of the Map-Server", before, 1, replays)?;

        // For ten seconds a copy is answered by a copy, for the answer may have been lost.
        holds_for(
            "the answer is kept",
            Duration::from_secs(11).saturating_sub(asked.elapsed()),
            || Ok(true),
        )?;
        let tap = Tap::start(&router, &fabric.sites[0].router_interface, "udp port 4342")?;
        let before = control(&fabric, 1, "sealed-replayed")?;
        let count = requests.len() as u64;
        send(from, SocketAddr::from((victim, 4342)), requests)?;
        until_grown("sealed-replayed of control", before, count, || {
            control(&fabric, 1, "sealed-replayed")
        })?;
        fabric.guest(2).ping(&fabric.eid(1).to_string(), 20)?;
        let answers = dissect(&tap.stop()?, &format!("lisp.type == 2 && ip.src == {victim}"))?;
        assert!(answers.is_empty(), "{} answers to replayed Map-Requests", answers.len());
        println!("a Map-Register and {count} Map-Requests replayed: counted, nothing answered");
        Ok(())
    });
}

#[test]
fn a_node_that_is_no_member_is_refused_by_name() {
    scenario(|lab| {
        let fabric = Fabric::sealed_of(
            lab,
            &[
                (DUAL, Standing::Member),
                (DUAL, Standing::Member),
                (DUAL, Standing::OwnAuthority),
                (DUAL, Standing::NoMembership),
            ],
        )?;
        fabric.until_connected(1, 2)?;
        let heard = Tap::start(fabric.guest(1).namespace(), "eth0", "icmp or icmp6")?;
        for stranger in [3, 4] {
            let (theirs, v4) = (fabric.eid(stranger), format!("10.7.{stranger}.10"));
            let before = control(&fabric, 1, "sealed-not-a-member")?;
            assert!(!fabric.guest(stranger).reaches(&fabric.eid(1).to_string())?);
            assert!(!fabric.guest(stranger).reaches("10.7.1.10")?);
            assert!(!fabric.guest(1).reaches(&theirs.to_string())?);
            assert!(!fabric.guest(1).reaches(&v4)?);
            let status = fabric.nodes[0].json(&["status"])?;
            let refused = counter(&status["xtr"], "sealed-not-a-member");
            assert!(refused > before, "the member says why: {status}");
            let refusals = status["sealed"]["refusals"].as_array().cloned().unwrap_or_default();
            let told = refusals.iter().any(|refusal| {
                let says = |field: &str, word: &str| refusal[field].as_str().is_some_and(|text| text.contains(word));
                says("reason", "no member") && (says("eid", &theirs.to_string()) || says("eid", &v4))
            });
            assert!(told, "whom it refuses: {}", status["sealed"]["refusals"]);
            println!("site {stranger}, no member: refused {} times", refused - before);
        }
        fabric.guest(1).ping(&fabric.eid(2).to_string(), 3)?;
        let strangers: Vec<String> = [3, 4]
            .into_iter()
            .flat_map(|n| [fabric.eid(n).to_string(), format!("10.7.{n}.10")])
            .collect();
        for packet in dissect(&heard.stop()?, "icmp || icmpv6")? {
            for source in [packet.all("ip.src"), packet.all("ipv6.src")].concat() {
                // An echo that the guest itself has sent quotes nobody.
                assert!(
                    !strangers.contains(&source),
                    "a stranger reached the guest: {}",
                    packet.layers
                );
            }
        }
        Ok(())
    });
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal digits");
    text.split(':').filter(|digits| !digits.is_empty()).map(byte).collect()
}
