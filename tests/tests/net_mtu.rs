//! Sizes: what does not fit is answered with the size that does, and TCP never gets there. Needs root.

use std::time::Duration;

use weft_tests::net::{Fabric, Heartbeat, SiteKind, Transport, scenario};

/// What fits into 1500 bytes with IPv4 (36) and with IPv6 (56) around it.
const UNDER_V4: u32 = 1464;
const UNDER_V6: u32 = 1444;

#[test]
fn too_big_packets_are_answered_with_the_size_that_fits() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::V4, SiteKind::V6])?;
        for (number, fits) in [(2, UNDER_V4), (3, UNDER_V6)] {
            fabric.until_connected(1, number)?;
            // Guests that believe in more than they were told.
            for each in [1, number] {
                let guest = fabric.guest(each).namespace();
                guest.ip("link set eth0 mtu 1500")?;
                guest.ip("-6 route flush cache")?;
                guest.sysctl(&["net.ipv6.conf.eth0.mtu=1500"])?;
            }
            let guest = fabric.guest(1).namespace();
            let ping = |target: &str, size: u32| {
                guest.attempt(
                    &format!("ping -n -c 2 -i 0.2 -W 1 -M do -s {size} {target}"),
                    Duration::from_secs(10),
                )
            };
            let v6 = format!("fd07::{number}");
            let v4 = format!("10.7.{number}.10");
            fabric.guest(1).until_reaches(&v4, Duration::from_secs(10))?;
            let output = ping(&v6, fits - 48)?;
            assert!(
                output.ok,
                "the largest IPv6 packet passes to site {number}: {}{}",
                output.stdout, output.stderr
            );
            assert!(
                ping(&v4, fits - 28)?.ok,
                "the largest IPv4 packet passes to site {number}"
            );
            for (target, header) in [(&v6, 48), (&v4, 28)] {
                let output = ping(target, 1500 - header)?;
                assert!(!output.ok, "1500 bytes cannot pass to {target}");
                let said = format!("{}{}", output.stdout, output.stderr);
                assert!(
                    said.contains(&format!("mtu = {fits}")) || said.contains(&format!("mtu={fits}")),
                    "{said}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn tcp_never_needs_to_be_told() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::V6])?;
        fabric.until_connected(1, 2)?;
        for number in [1, 2] {
            fabric.guest(number).namespace().ip("link set eth0 mtu 1500")?;
            fabric
                .guest(number)
                .namespace()
                .sysctl(&["net.ipv6.conf.eth0.mtu=1500"])?;
        }
        let tap = weft_tests::net::Tap::start(fabric.guest(2).namespace(), "eth0", "tcp")?;
        for address in ["fd07::2", "10.7.2.10"] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let beat = Heartbeat::start(
                Transport::Tcp,
                fabric.guest(1).namespace(),
                fabric.guest(2).namespace(),
                (address, 7000).into(),
                Duration::from_millis(5),
                Duration::from_secs(10),
            )?;
            beat.more(100, Duration::from_secs(10))?;
            beat.stop()?;
        }
        let opened = weft_tests::net::dissect(&tap.stop()?, "tcp.flags.syn == 1 && tcp.flags.ack == 0")?;
        assert_eq!(opened.len(), 2);
        for packet in opened {
            let mss: u32 = packet.first("tcp.options.mss_val").unwrap().parse().unwrap();
            let headers = if packet.protocols().contains("ipv6") { 60 } else { 40 };
            assert!(mss <= UNDER_V6 - headers, "clamped to what the path takes: {mss}");
        }
        Ok(())
    });
}
