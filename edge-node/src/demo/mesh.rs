//! The mesh part: a Map-Server, three sites, two guests; then one of the guests moves while it is talking.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    mesh_files,
    report::{Notes, Report},
};
use crate::lab::{Eavesdropper, Guest, Heartbeat, Lab, LabError, Namespace, Node, Result, Transport, Underlay, until};

const TOOLS: &[&str] = &["ping", "iperf3", "dhclient"];
/// IPv4 address of the guest that moves.
const GUEST_B_V4: &str = "10.7.2.10";
/// What a ping carries, sixteen bytes at most, over and over.
const PATTERN: &[u8] = b"nobody reads me!";
const BEAT: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays the part and cleans up, whatever happens.
pub(super) fn run(weft: &Path, report: &mut Report) -> Result<()> {
    report.heading("Weft mesh: three sites, one Map-Server, two guests. Everything lives in network namespaces.");
    let lab = Lab::new(TOOLS)?;
    let played = play(&lab, weft, report);
    let cleaned = report.step("everything removed", |_| lab.close());
    played.and(cleaned)
}

fn play(lab: &Lab, weft: &Path, report: &mut Report) -> Result<()> {
    let mut mesh = report.step("Map-Server and three sites", |notes| Mesh::set_up(lab, weft, notes))?;
    report.step("guests get addresses by DHCP and hear the router", |notes| {
        mesh.address(notes)
    })?;
    report.step("ping by EID", |notes| mesh.ping(&mesh.eid_b.to_string(), notes))?;
    report.step("ping by name", |notes| mesh.ping("guest-b", notes))?;
    report.step("ping over IPv4", |notes| mesh.ping(GUEST_B_V4, notes))?;
    report.step("an eavesdropper on the underlay", |notes| {
        mesh.eavesdrop(&mesh.eid_b.to_string(), notes)
    })?;
    report.step("TCP throughput", |notes| mesh.throughput(notes))?;
    report.step("trace of one packet", |notes| mesh.trace(notes))?;
    report.step("map-cache", |notes| mesh.map_cache(notes))?;
    report.step("guest-b moves from site B to site C", |notes| mesh.move_guest(notes))
}

struct Mesh {
    eid_a: IpAddr,
    eid_b: IpAddr,
    router: Namespace,
    guest_a: Guest,
    guest_b: Guest,
    a: Node,
    b: Node,
    c: Node,
    _map_server: Node,
}

impl Mesh {
    fn set_up(lab: &Lab, weft: &Path, notes: &mut Notes) -> Result<Self> {
        let keys = mesh_files::Keys::new()?;
        let underlay = Underlay::new(lab)?;
        let ms = underlay.site("ms", true, true)?;
        let a = underlay.site("a", true, true)?;
        let b = underlay.site("b", false, true)?;
        let c = underlay.site("c", true, false)?;
        let guest_a = Guest::new(lab.namespace("guest-a")?);
        let guest_b = Guest::new(lab.namespace("guest-b")?);
        lab.cable((guest_b.namespace(), "eth0"), (&b.namespace, "cable-b"))?;
        guest_b
            .namespace()
            .ip(&format!("link set eth0 address {}", mesh_files::GUEST_B_MAC))?;

        let prepare = |site: &crate::lab::Site, files: Vec<(String, String)>| {
            let files: Vec<(&str, &str)> = files
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            Node::prepare(&site.namespace, weft, &files)
        };
        let mut map_server = prepare(&ms, mesh_files::map_server(&ms, &keys))?;
        let address = |ip: Option<IpAddr>| {
            ip.map(|ip| ip.to_string())
                .ok_or_else(|| LabError::unexpected("the Map-Server lacks an address"))
        };
        let (ms4, ms6) = (address(ms.ipv4.map(IpAddr::V4))?, address(ms.ipv6.map(IpAddr::V6))?);
        let mut node_a = prepare(&a, mesh_files::node("a", &ms4, &keys))?;
        let mut node_b = prepare(&b, mesh_files::node("b", &ms6, &keys))?;
        let mut node_c = prepare(&c, mesh_files::node("c", &ms4, &keys))?;

        map_server.map_server(&["mapserver.yaml"])?;
        for node in [&mut node_a, &mut node_b, &mut node_c] {
            node.up(&["node.yaml"])?;
        }
        node_a.apply("guest-a.yaml", &mesh_files::guest_a(guest_a.namespace().name()))?;
        node_b.apply("guest-b.yaml", &mesh_files::guest_b())?;
        notes.say("site A: IPv4 and IPv6 underlay; site B: IPv6 only; site C: IPv4 only");
        notes.say("(B and C share no address family, so they cannot talk to each other directly.)");
        notes.say("Sealed by default: EIDs are hashes of keys, the network's authority says who may join.");
        notes.figure("sites", 3);
        Ok(Self {
            eid_a: keys.eid_a,
            eid_b: keys.eid_b,
            router: underlay.router().clone(),
            guest_a,
            guest_b,
            a: node_a,
            b: node_b,
            c: node_c,
            _map_server: map_server,
        })
    }

    fn address(&self, notes: &mut Notes) -> Result<()> {
        for (name, guest, eid) in [
            ("guest-a", &self.guest_a, self.eid_a),
            ("guest-b", &self.guest_b, self.eid_b),
        ] {
            guest.power_on()?;
            guest.router_advertised()?;
            let (ipv4, ipv6) = (guest.dhcp4()?, guest.dhcp6()?);
            if IpAddr::V6(ipv6) != eid {
                return Err(LabError::unexpected(format!("{name} got {ipv6}, not its EID {eid}")));
            }
            notes.say(format!("{name}: {ipv6} and {ipv4}"));
            notes.figure(name, vec![ipv6.to_string(), ipv4.to_string()]);
        }
        Ok(())
    }

    fn ping(&self, target: &str, notes: &mut Notes) -> Result<()> {
        // The first packet waits for the map-cache; it is a look-up, not a loss.
        self.guest_a.until_reaches(target, PATIENCE)?;
        let average = self.guest_a.ping(target, 5)?;
        notes.say(format!(
            "guest-a → {target}: 5 of 5 replies, {average:.2} ms on average"
        ));
        notes.figure("target", target);
        notes.figure("replies", 5);
        notes.figure("rtt_ms", average);
        Ok(())
    }

    /// Reads the cable of site A while the guests talk over IPv6 and IPv4, and searches every data packet for what they
    /// say and for who they are.
    fn eavesdrop(&self, eid_b: &str, notes: &mut Notes) -> Result<()> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let v4: IpAddr = GUEST_B_V4
            .parse()
            .map_err(|_| LabError::unexpected("an address of the demo"))?;
        let needles = vec![
            ("what the guests say".to_owned(), PATTERN.to_vec()),
            ("the EID of guest-a".to_owned(), octets(self.eid_a)),
            ("the EID of guest-b".to_owned(), octets(self.eid_b)),
            ("the IPv4 address of guest-b".to_owned(), octets(v4)),
        ];
        let ear = Eavesdropper::start(&self.router, "to-a", needles)?;
        let pattern: String = PATTERN.iter().map(|byte| format!("{byte:02x}")).collect();
        for target in [eid_b, GUEST_B_V4] {
            let line = format!("ping -n -c 20 -i 0.01 -s 1000 -p {pattern} {target}");
            let output = self.guest_a.namespace().attempt(&line, PATIENCE)?;
            if !output.ok {
                return Err(LabError::unexpected(format!("{line}: {}", output.stdout)));
            }
        }
        let heard = ear.stop()?;
        if heard.data_packets < 80 || heard.sealed != heard.data_packets || !heard.found.is_empty() {
            return Err(LabError::unexpected(format!("the eavesdropper read: {heard:?}")));
        }
        notes.say(format!(
            "{} data packets, {} bytes, all sealed; searched for the guests' words and addresses: nothing found",
            heard.data_packets, heard.data_bytes
        ));
        let control: Vec<String> = heard
            .control
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let control = if control.is_empty() {
            "none".to_owned()
        } else {
            control.join(", ")
        };
        notes.say(format!("control messages in clear meanwhile: {control}"));
        notes.figure("data_packets", heard.data_packets);
        notes.figure("sealed", heard.sealed);
        notes.figure("found", heard.found.len());
        notes.figure("control", serde_json::json!(heard.control));
        Ok(())
    }

    fn throughput(&self, notes: &mut Notes) -> Result<()> {
        let guest_b = self.eid_b;
        let _server = self
            .guest_b
            .namespace()
            .spawn("iperf3", &format!("iperf3 -s -B {guest_b}"))?;
        let client = format!("iperf3 -c {guest_b} -t 3 -J");
        let text = until("iperf3 has measured", Duration::from_secs(30), || {
            // The server may not listen yet; iperf3 says so in its report, and ends well.
            let output = self.guest_a.namespace().attempt(&client, Duration::from_secs(20))?;
            if output.stdout.contains("refused") {
                return Ok(None);
            }
            if output.ok && !output.stdout.contains("\"error\"") {
                return Ok(Some(output.stdout));
            }
            Err(LabError::unexpected(format!(
                "{client}: {}{}",
                output.stdout, output.stderr
            )))
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|e| LabError::unexpected(format!("iperf3: {e}")))?;
        let bits = value
            .pointer("/end/sum_received/bits_per_second")
            .and_then(Value::as_f64);
        let Some(bits) = bits else {
            return Err(LabError::unexpected(format!("iperf3 measured nothing: {text}")));
        };
        let retransmits = value
            .pointer("/end/sum_sent/retransmits")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let gigabits = (bits / 1e7).round() / 100.0;
        notes.say(format!(
            "one TCP connection, guest-a → guest-b: {gigabits:.2} Gbit/s, {retransmits} retransmits"
        ));
        notes.figure("gbit_per_second", gigabits);
        notes.figure("retransmits", retransmits);
        Ok(())
    }

    fn trace(&self, notes: &mut Notes) -> Result<()> {
        let guest_b = self.eid_b.to_string();
        let arguments = ["trace", "guest-a", &guest_b, "--service", "tcp/5201"];
        let text = self.a.weft(&arguments)?;
        let steps = self.a.json(&arguments)?;
        notes.say(format!("weft {}", arguments.join(" ")));
        notes.quote(&text);
        notes.figure("steps", steps);
        Ok(())
    }

    fn map_cache(&self, notes: &mut Notes) -> Result<()> {
        let text = self.a.weft(&["status"])?;
        let status = self.a.json(&["status"])?;
        let guest_b = self.eid_b.to_string();
        if !status.to_string().contains(&guest_b) {
            return Err(LabError::unexpected(format!(
                "the map-cache does not hold {guest_b}: {status}"
            )));
        }
        notes.say("weft status, on site A");
        notes.quote(&text);
        notes.figure("status", status);
        Ok(())
    }

    fn move_guest(&mut self, notes: &mut Notes) -> Result<()> {
        let (target, moving) = (self.eid_a, self.eid_b);
        let (from, to) = (self.guest_b.namespace(), self.guest_a.namespace());
        let address = SocketAddr::from((target, 7000));
        let out = Heartbeat::start(Transport::Udp, from, to, address, BEAT, PATIENCE)?;
        let back = Heartbeat::start(Transport::Udp, to, from, (moving, 7000).into(), BEAT, PATIENCE)?;
        let tcp = Heartbeat::start(Transport::Tcp, from, to, address, BEAT, PATIENCE)?;
        for beat in [&out, &back, &tcp] {
            beat.more(50, PATIENCE)?;
        }

        let started = Instant::now();
        let site_c = self.c.namespace().name().to_owned();
        self.b.namespace().ip(&format!("link set cable-b netns {site_c}"))?;
        self.c.apply("guest-b.yaml", &mesh_files::guest_b())?;
        // The new home first: so the Map-Server knows at every moment where the guest is.
        self.b.weft(&["delete", "guest", "guest-b"])?;
        for beat in [&out, &back, &tcp] {
            beat.more(50, Duration::from_secs(20))?;
        }
        let moved = Instant::now();

        // The road back: guest-a reaches the guest at its new place, under the same EID.
        self.guest_a.until_reaches(&moving.to_string(), PATIENCE)?;
        let survived = tcp.alive();
        let (out, back, tcp) = (out.stop()?, back.stop()?, tcp.stop()?);
        if !survived {
            return Err(LabError::unexpected("the TCP connection broke"));
        }
        let eid = self.guest_b.namespace().ip("-6 address show dev eth0 scope global")?;
        if !eid.contains(&moving.to_string()) {
            return Err(LabError::unexpected(format!("guest-b lost its EID: {eid}")));
        }
        let gap = |beats: &crate::lab::Beats| {
            u64::try_from(beats.longest_gap_between(started, moved).as_millis()).unwrap_or(u64::MAX)
        };
        notes.say(format!(
            "same EID {moving}, same TCP connection to guest-a ({} blocks, all in order)",
            tcp.received
        ));
        notes.say(format!(
            "longest silence: {} ms from guest-b, {} ms to guest-b (datagrams every 10 ms), {} ms in TCP",
            gap(&out),
            gap(&back),
            gap(&tcp)
        ));
        notes.figure("eid", moving.to_string());
        notes.figure("tcp_survived", true);
        notes.figure("gap_ms", gap(&out).max(gap(&back)));
        notes.figure("gap_from_ms", gap(&out));
        notes.figure("gap_to_ms", gap(&back));
        notes.figure("tcp_gap_ms", gap(&tcp));
        notes.figure("tcp_bytes", tcp.received.saturating_mul(16 * 1024));
        Ok(())
    }
}
