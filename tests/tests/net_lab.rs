//! The lab itself: it carries packets, and nothing of it stays behind. Needs root.

use std::time::Duration;

use weft_tests::net::{Guest, Heartbeat, Lab, TOOLS, Transport, Underlay, scenario};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn lab_carries_packets_and_measures_a_cut() {
    scenario(|lab| {
        let underlay = Underlay::new(lab)?;
        let a = underlay.site("a", true, true)?;
        let b = underlay.site("b", true, true)?;
        let (v4, v6) = (b.ipv4.unwrap(), b.ipv6.unwrap());
        let host = Guest::new(a.namespace.clone());
        host.ping(&v4.to_string(), 3)?;
        host.ping(&v6.to_string(), 3)?;
        let every = Duration::from_millis(10);
        let udp = Heartbeat::start(
            Transport::Udp,
            &a.namespace,
            &b.namespace,
            (v4, 7000).into(),
            every,
            SOON,
        )?;
        let tcp = Heartbeat::start(
            Transport::Tcp,
            &a.namespace,
            &b.namespace,
            (v4, 7000).into(),
            every,
            SOON,
        )?;
        udp.more(20, SOON)?;
        underlay.cable_up(&b, false)?;
        weft_tests::net::holds_for("time passes", Duration::from_millis(300), || Ok(true))?;
        underlay.cable_up(&b, true)?;
        udp.more(20, SOON)?;
        tcp.more(20, SOON)?;
        let (udp, tcp) = (udp.stop()?, tcp.stop()?);
        assert!(
            udp.longest_gap >= Duration::from_millis(290),
            "a cut of 300 ms shows: {:?}",
            udp.longest_gap
        );
        assert!(udp.received < udp.sent);
        assert!(tcp.longest_gap >= Duration::from_millis(290));
        Ok(())
    });
}

#[test]
fn lab_ends_daemons_that_left_their_parent() {
    let lab = Lab::new(TOOLS).unwrap();
    let host = lab.namespace("host").unwrap();
    let daemon = host.spawn("daemon", "setsid --fork sleep 3600").unwrap();
    let prefix = lab.prefix().to_owned();
    let directory = lab.directory().to_owned();
    drop(daemon);
    lab.close().unwrap();
    assert_eq!(edge_node::lab::remains(&prefix), Vec::<String>::new());
    assert!(!directory.exists());
    assert_eq!(weft_tests::net::marked_processes(&prefix), Vec::<u32>::new());
}
