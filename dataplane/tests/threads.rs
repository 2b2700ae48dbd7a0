//! Two packet paths on threads of this process, guests in memory, the underlay over loopback addresses: the whole of
//! the burst loop without root.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait, start processes and look into files"
)]

mod common;
mod exchange;

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use common::{Guest, Spec, ip, mapping, mesh, port, rule};
use dataplane::{
    buffer::{PacketBuf, Pool},
    control::{
        Answer, Change, Down, Event, Generation, MappingTarget, NetworkId, PolicyConfig, PortId, Protection, Query,
        Service, Up, UplinkConfig, UplinkId,
    },
    link::{Link, Local},
    port::{GuestPort, memory, memory::MemoryPort, uplink_sockets::open_uplink},
    worker::Ending,
};
use rustix::event::{PollFd, PollFlags, Timespec};

const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    local: Local,
    link: Link,
    guest: MemoryPort,
    sequence: u64,
    events: Vec<Event>,
}

impl Node {
    fn new(rloc: &str, eids: &[&str], other: (&str, &str)) -> Self {
        let (guest, ours) = memory::pair().unwrap();
        let (local, link) = Local::start(vec![(PortId(1), Box::new(ours))]).unwrap();
        let mut node = Self {
            local,
            link,
            guest,
            sequence: 0,
            events: Vec::new(),
        };
        let Up::Hello(hello) = node.hear() else {
            panic!("Hello comes first")
        };
        assert_eq!(
            (hello.pid, hello.sequence, hello.ports.len()),
            (std::process::id(), 0, 0)
        );
        let allow = vec![rule("all", &[], &[], Service::Any, true)];
        let uplink = UplinkConfig {
            id: UplinkId(1),
            name: "lo".into(),
            addresses: vec![ip(rloc)],
            source_ports: 2,
            mtu: 1500,
        };
        let sockets = open_uplink(&uplink.addresses, 2, None).unwrap();
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let mut port = port(1, 1, eids);
        port.attachment = dataplane::control::Attachment::Memory;
        node.change(Change::PutNetwork(mesh(1, 7, Protection::Clear)), &[])
            .unwrap();
        node.change(
            Change::PutPolicy(PolicyConfig {
                network: NetworkId(1),
                rules: allow,
            }),
            &[],
        )
        .unwrap();
        node.change(Change::PutUplink(uplink), &sockets).unwrap();
        node.change(Change::PutPort(port), &[]).unwrap();
        let target = MappingTarget::Locators(vec![common::locator(other.1, 1, 100)]);
        node.change(Change::PutMapping(mapping(other.0, target)), &[]).unwrap();
        node.change(Change::Commit(Generation(3)), &[]).unwrap();
        node
    }

    fn hear(&mut self) -> Up {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.link.receive().unwrap() {
                Some((Up::Event(event), _)) => self.events.push(event),
                Some((up, _)) => return up,
                None => wait_for(&self.link, deadline),
            }
        }
    }

    fn change(&mut self, change: Change, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), String> {
        self.sequence += 1;
        self.link
            .send(&Down::Change(self.sequence, change), descriptors)
            .unwrap();
        let Up::Ack(sequence, result) = self.hear() else {
            panic!("an acknowledgement")
        };
        assert_eq!(sequence, self.sequence);
        result
    }

    fn ask(&mut self, query: Query) -> Answer {
        self.link.send(&Down::Query(9, query), &[]).unwrap();
        let Up::Answer(9, answer) = self.hear() else {
            panic!("an answer")
        };
        answer
    }

    fn counter(&mut self, name: &str) -> u64 {
        let Answer::Counters(all) = self.ask(Query::Counters) else {
            panic!()
        };
        all.iter()
            .find(|(found, _)| found == name)
            .map_or(0, |(_, value)| *value)
    }

    fn send(&mut self, frame: &[u8]) {
        let mut frames = vec![PacketBuf::from_frame(frame)];
        assert_eq!(self.guest.tx_burst(&mut Pool::default(), &mut frames).unwrap(), 1);
    }

    /// The next frame for the guest of this EtherType.
    fn frame(&mut self, ether_type: [u8; 2]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut frames = Vec::new();
            self.guest.rx_burst(&mut Pool::default(), &mut frames, 1).unwrap();
            match frames.pop() {
                Some(frame) if frame.bytes()[12..14] == ether_type => return frame.bytes().to_vec(),
                Some(_) => {}
                None => wait_for(&self.guest.descriptor().unwrap(), deadline),
            }
        }
    }
}

fn wait_for(descriptor: &impl AsFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    assert!(!left.is_zero(), "in vain waited");
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    rustix::event::poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout)).unwrap();
}

fn two(net: u8) -> [Node; 2] {
    let rlocs = [1, 2].map(|host| format!("127.78.{net}.{host}"));
    [
        Node::new(&rlocs[0], &["10.7.0.1"], ("[7]10.7.0.2/32", &rlocs[1])),
        Node::new(&rlocs[1], &["10.7.0.2"], ("[7]10.7.0.1/32", &rlocs[0])),
    ]
}

fn echo(from: &str, to: &str, request: bool) -> Vec<u8> {
    let guest = Guest {
        port: PortId(1),
        mac: port(1, 1, &[from]).mac,
    };
    Spec::new(&guest, from, to).echo(request, 77)
}

#[test]
fn an_echo_crosses_both_ways() {
    let [mut a, mut b] = two(1);
    a.send(&echo("10.7.0.1", "10.7.0.2", true));
    let request = b.frame([8, 0]);
    assert_eq!(&request[26..34], &[10, 7, 0, 1, 10, 7, 0, 2]);
    b.send(&echo("10.7.0.2", "10.7.0.1", false));
    let reply = a.frame([8, 0]);
    assert_eq!(&reply[26..34], &[10, 7, 0, 2, 10, 7, 0, 1]);
    for node in [&mut a, &mut b] {
        assert_eq!(
            (
                node.counter("uplink.lo.tx_packets"),
                node.counter("uplink.lo.rx_packets")
            ),
            (1, 1)
        );
        assert_eq!(node.counter("uplink.lo.failed"), 0);
        assert_eq!(node.counter("doors.closed"), 0);
    }
    assert_eq!(a.local.stop().unwrap(), Ending::Told);
}

#[test]
fn a_sealed_echo_and_what_is_said_inside_the_sa() {
    let [mut a, mut b] = two(5);
    let (ours, theirs) = exchange::exchange(lisp::mesh::Suite::ChaCha20Poly1305, 2);
    let sides = [
        (&mut a, "[7]10.7.0.2/32", "127.78.5.2", ours),
        (&mut b, "[7]10.7.0.1/32", "127.78.5.1", theirs),
    ];
    for (node, eid, rloc, sa) in sides {
        let target = MappingTarget::Locators(vec![common::locator(rloc, 1, 100)]);
        let mapping = dataplane::control::MappingConfig {
            node: Some(sa.node),
            ..mapping(eid, target)
        };
        let binding = dataplane::control::BindingConfig {
            prefix: eid.parse().unwrap(),
            node: sa.node,
        };
        for change in [
            Change::PutNetwork(mesh(1, 7, Protection::Sealed)),
            Change::PutMapping(mapping),
            Change::PutBinding(binding),
            Change::PutSa(sa),
        ] {
            node.change(change, &[]).unwrap();
        }
    }
    a.send(&echo("10.7.0.1", "10.7.0.2", true));
    b.frame([8, 0]);
    b.send(&echo("10.7.0.2", "10.7.0.1", false));
    a.frame([8, 0]);
    // The probe leaves from port 4341, where its answer comes to.
    let probe = Query::SealedProbe {
        node: exchange::B,
        rloc: None,
        nonce: 5,
    };
    assert_eq!(a.ask(probe), Answer::Ok);
    let message = Query::SealedSend {
        node: exchange::A,
        payload: b"word".to_vec(),
    };
    assert_eq!(b.ask(message), Answer::Ok);
    let answered = Event::SealedProbeAnswered {
        node: exchange::B,
        nonce: 5,
    };
    let heard = Event::SealedMessage {
        node: exchange::B,
        from: lisp::Rloc::new(ip("127.78.5.2")),
        payload: b"word".to_vec(),
    };
    let deadline = Instant::now() + PATIENCE;
    while !(a.events.contains(&answered) && a.events.contains(&heard)) {
        assert!(Instant::now() < deadline, "{:?}", a.events);
        a.ask(Query::Sas);
    }
    let Answer::Sas(sas) = a.ask(Query::Sas) else { panic!() };
    assert_eq!((sas[0].sealed, sas[0].opened, sas[0].confirmed), (2, 3, true));
    assert_eq!(a.counter("drop.sealed-bad-tag") + b.counter("drop.sealed-bad-tag"), 0);
}

#[test]
fn changes_that_lack_something_are_refused_in_words_and_change_nothing() {
    let [mut a, mut b] = two(2);
    let Err(why) = a.change(Change::PutPort(port(2, 1, &["10.7.0.3"])), &[]) else {
        panic!()
    };
    assert!(why.contains("guest2") || why.contains("descriptor"), "{why}");
    let mut elsewhere = port(1, 1, &["10.7.0.1"]);
    elsewhere.attachment = dataplane::control::Attachment::Tap {
        interface: "tap0".into(),
        vnet_header: dataplane::port::vnet::HEADER,
    };
    assert!(
        a.change(Change::PutPort(elsewhere), &[]).is_err(),
        "another attachment needs its descriptor"
    );
    let uplink = UplinkConfig {
        id: UplinkId(1),
        name: "lo".into(),
        addresses: vec![ip("127.78.2.9")],
        source_ports: 2,
        mtu: 1500,
    };
    let Err(why) = a.change(Change::PutUplink(uplink), &[]) else {
        panic!()
    };
    assert!(why.contains("needs 3 sockets, 0 came"), "{why}");
    a.send(&echo("10.7.0.1", "10.7.0.2", true));
    b.frame([8, 0]);
}

#[test]
fn a_removed_port_is_closed() {
    let [mut a, _b] = two(3);
    a.change(Change::RemovePort(PortId(1)), &[]).unwrap();
    // Its wire is cut: the packet path has dropped its end.
    let mut frames = vec![PacketBuf::from_frame(&[0; 60])];
    let _ = a.guest.tx_burst(&mut Pool::default(), &mut frames);
    assert_eq!(a.counter("guest_port.guest1/eth0.rx_packets"), 0);
    let mut memory = port(1, 1, &["10.7.0.1"]);
    memory.attachment = dataplane::control::Attachment::Memory;
    assert!(
        a.change(Change::PutPort(memory), &[]).is_err(),
        "a memory port is handed over once"
    );
}

#[test]
fn it_ends_with_its_only_connection_and_when_told() {
    let [a, mut b] = two(4);
    let Node { local, link, .. } = a;
    drop(link);
    until_ended(&local);
    assert_eq!(local.stop().unwrap(), Ending::ControlGone);
    assert_eq!(b.ask(Query::Quit), Answer::Ok);
    until_ended(&b.local);
    assert_eq!(b.local.stop().unwrap(), Ending::Told);
    assert_eq!(
        b.link.receive().err().map(|error| error.kind()),
        Some(io::ErrorKind::UnexpectedEof)
    );
}

fn until_ended(local: &Local) {
    let deadline = Instant::now() + PATIENCE;
    while !local.has_ended() {
        assert!(Instant::now() < deadline, "it goes on");
    }
}
