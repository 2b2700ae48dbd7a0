//! The node's own host in each network: a small IP stack (smoltcp) with the network's host addresses. It answers
//! pings and sends them; packets come from and go to the engine, which treats them like a guest's.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::icmp,
    time::Instant as HostInstant,
    wire::{HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpCidr},
};

use crate::{
    buffer::{PacketBuf, Pool},
    control::{Answer, NetworkConfig, NetworkId},
};

/// Largest IP packet of a host, in bytes. What does not fit the mesh is answered with Packet Too Big.
const MTU: usize = 1500;
/// Pings under way in one network, at the most.
const PINGS: usize = 64;
/// Packets that wait for a host, at the most.
const WAITING: usize = 256;
/// Bytes in front of an ICMP echo's payload: IPv6 or the smaller IPv4 header, and ICMP's own.
const ECHO_HEADERS: usize = 40 + 8;
/// First identifier of our echo requests.
const FIRST_IDENTIFIER: u16 = 0x5745;

/// The hosts of all networks.
pub struct Hosts {
    start: Instant,
    seed: u64,
    hosts: BTreeMap<NetworkId, Host>,
    answers: Vec<(u64, Answer)>,
    identifier: u16,
}

struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    addresses: Vec<IpAddr>,
    pings: Vec<Ping>,
    deadline: Option<Instant>,
}

struct Ping {
    query: u64,
    socket: SocketHandle,
    destination: IpAddr,
    identifier: u16,
    sequence: u16,
    sent: Instant,
    until: Instant,
}

impl Hosts {
    /// No hosts yet. `seed` is for sequence numbers and the like.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            start: now,
            seed,
            hosts: BTreeMap::new(),
            answers: Vec::new(),
            identifier: FIRST_IDENTIFIER,
        }
    }

    /// The network exists; its host keeps what it has under way unless its addresses changed.
    pub fn put(&mut self, config: &NetworkConfig) {
        if self
            .hosts
            .get(&config.id)
            .is_some_and(|host| host.addresses == config.host_addresses)
        {
            return;
        }
        self.remove(config.id);
        if !config.host_addresses.is_empty() {
            self.hosts
                .insert(config.id, Host::new(&config.host_addresses, self.seed));
        }
    }

    /// Drops the hosts of networks that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(NetworkId) -> bool) {
        let gone: Vec<NetworkId> = self.hosts.keys().copied().filter(|&id| !keep(id)).collect();
        for id in gone {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: NetworkId) {
        let pings = self.hosts.remove(&id).map(|host| host.pings).unwrap_or_default();
        self.answers
            .extend(pings.into_iter().map(|ping| (ping.query, Answer::Ping(None))));
    }

    /// A packet for the host of `network`.
    pub fn receive(&mut self, network: NetworkId, packet: PacketBuf, pool: &mut Pool) {
        if let Some(host) = self.hosts.get_mut(&network)
            && host.wire.incoming.len() < WAITING
        {
            host.wire.incoming.push_back(packet.bytes().to_vec());
            host.deadline = Some(self.start);
        }
        pool.recycle_packet(packet);
    }

    /// Starts a ping; its answer comes from [`Hosts::take_answers`] under the number `query`.
    ///
    /// # Errors
    /// No such network, no address of the destination's family, too much at once; in words.
    #[expect(clippy::too_many_arguments, reason = "the fields of one query")]
    pub fn ping(
        &mut self,
        now: Instant,
        query: u64,
        network: NetworkId,
        destination: IpAddr,
        sequence: u16,
        size: u16,
        timeout: Duration,
    ) -> Result<(), String> {
        let Some(host) = self.hosts.get_mut(&network) else {
            return Err("the node has no address of its own in this network".into());
        };
        if !host
            .addresses
            .iter()
            .any(|address| address.is_ipv4() == destination.is_ipv4())
        {
            return Err(format!(
                "the node has no address of {destination}'s family in this network"
            ));
        }
        if host.pings.len() >= PINGS {
            return Err("too many pings are under way".into());
        }
        if usize::from(size) + ECHO_HEADERS > MTU {
            return Err(format!("a ping carries {} bytes at the most", MTU - ECHO_HEADERS));
        }
        self.identifier = self.identifier.wrapping_add(1);
        let ping = Ping {
            query,
            socket: SocketHandle::default(),
            destination,
            identifier: self.identifier,
            sequence,
            sent: now,
            until: now + timeout.min(Duration::from_secs(60)),
        };
        host.start_ping(ping, usize::from(size))?;
        host.deadline = Some(now);
        Ok(())
    }

    /// Nobody waits for the pings under way any more.
    pub fn forget_pings(&mut self) {
        for host in self.hosts.values_mut() {
            for ping in host.pings.drain(..) {
                host.sockets.remove(ping.socket);
            }
        }
        self.answers.clear();
    }

    /// Pings that ended.
    pub fn take_answers(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// When [`Hosts::poll`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|host| host.deadline).min()
    }

    /// Lets every host work that has something to do; what they send.
    pub fn poll(&mut self, now: Instant, pool: &mut Pool) -> Vec<(NetworkId, Vec<PacketBuf>)> {
        let clock = HostInstant::from_micros(
            i64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(i64::MAX),
        );
        let mut all = Vec::new();
        for (&id, host) in &mut self.hosts {
            if host.deadline.is_none_or(|due| due > now) {
                continue;
            }
            host.interface.poll(clock, &mut host.wire, &mut host.sockets);
            host.end_pings(now, &mut self.answers);
            let timer = host
                .interface
                .poll_delay(clock, &host.sockets)
                .map(|delay| now + Duration::from_micros(delay.total_micros()));
            host.deadline = timer.into_iter().chain(host.pings.iter().map(|ping| ping.until)).min();
            if !host.wire.outgoing.is_empty() {
                let packets = host
                    .wire
                    .outgoing
                    .drain(..)
                    .map(|bytes| fill(pool.packet(), &bytes))
                    .collect();
                all.push((id, packets));
            }
        }
        all
    }
}

fn fill(mut packet: PacketBuf, bytes: &[u8]) -> PacketBuf {
    if let Some(room) = packet.room_mut().get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
        packet.set_len(bytes.len());
    }
    packet
}

impl Host {
    fn new(addresses: &[IpAddr], seed: u64) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, HostInstant::ZERO);
        interface.update_ip_addrs(|list| {
            for &address in addresses {
                // Beyond the eighth address there is no room, and no use yet.
                let _ = list.push(IpCidr::new(address.into(), if address.is_ipv4() { 32 } else { 128 }));
            }
        });
        for &address in addresses {
            // Everything leaves by the one wire; the gateway's address only has to be of the family.
            let _ = match address {
                IpAddr::V4(address) => interface.routes_mut().add_default_ipv4_route(address).map(drop),
                IpAddr::V6(address) => interface.routes_mut().add_default_ipv6_route(address).map(drop),
            };
        }
        let sockets = SocketSet::new(Vec::new());
        Self {
            interface,
            sockets,
            wire,
            addresses: addresses.to_vec(),
            pings: Vec::new(),
            deadline: None,
        }
    }

    fn start_ping(&mut self, mut ping: Ping, size: usize) -> Result<(), String> {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 2], vec![0; 2 * MTU]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket
            .bind(icmp::Endpoint::Ident(ping.identifier))
            .map_err(|error| error.to_string())?;
        let data: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let checksums = ChecksumCapabilities::default();
        match ping.destination {
            IpAddr::V4(_) => {
                let echo = Icmpv4Repr::EchoRequest {
                    ident: ping.identifier,
                    seq_no: ping.sequence,
                    data: &data,
                };
                let room = socket
                    .send(echo.buffer_len(), ping.destination.into())
                    .map_err(|error| error.to_string())?;
                echo.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums);
            }
            IpAddr::V6(destination) => {
                let source = self.interface.get_source_address_ipv6(&destination);
                let echo = Icmpv6Repr::EchoRequest {
                    ident: ping.identifier,
                    seq_no: ping.sequence,
                    data: &data,
                };
                let room = socket
                    .send(echo.buffer_len(), ping.destination.into())
                    .map_err(|error| error.to_string())?;
                echo.emit(
                    &source,
                    &destination,
                    &mut Icmpv6Packet::new_unchecked(room),
                    &checksums,
                );
            }
        }
        ping.socket = self.sockets.add(socket);
        self.pings.push(ping);
        Ok(())
    }

    /// Looks for replies and for pings whose time is up.
    fn end_pings(&mut self, now: Instant, answers: &mut Vec<(u64, Answer)>) {
        let sockets = &mut self.sockets;
        self.pings.retain(|ping| {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(ping.socket);
            let mut answer = (now >= ping.until).then_some(None);
            while let Ok((bytes, from)) = socket.recv() {
                if IpAddr::from(from) == ping.destination && is_reply(ping, bytes) {
                    answer = Some(Some(now.saturating_duration_since(ping.sent)));
                }
            }
            let Some(answer) = answer else { return true };
            sockets.remove(ping.socket);
            answers.push((ping.query, Answer::Ping(answer)));
            false
        });
    }
}

/// Whether the ICMP message is the reply to this ping. (The stack has checked its checksum and our identifier.)
fn is_reply(ping: &Ping, bytes: &[u8]) -> bool {
    const REPLY_V4: u8 = 0;
    const REPLY_V6: u8 = 129;
    let kind = if ping.destination.is_ipv4() { REPLY_V4 } else { REPLY_V6 };
    bytes.first() == Some(&kind) && bytes.get(6..8) == Some(&ping.sequence.to_be_bytes())
}

/// The wire between a host and the engine.
#[derive(Debug, Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

struct Incoming(Vec<u8>);

struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let mut packet = vec![0; length];
        let result = work(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: HostInstant) -> Option<(Incoming, Outgoing<'_>)> {
        self.incoming
            .pop_front()
            .map(|packet| (Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: HostInstant) -> Option<Outgoing<'_>> {
        (self.outgoing.len() < WAITING).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId(1);

    fn hosts(now: Instant, addresses: &[&str]) -> Hosts {
        let mut hosts = Hosts::new(now, 42);
        hosts.put(&config(addresses));
        hosts
    }

    fn config(addresses: &[&str]) -> NetworkConfig {
        NetworkConfig {
            id: NETWORK,
            name: "net".into(),
            kind: crate::control::NetworkKind::Local {
                nat44: false,
                nat66: false,
            },
            names: Vec::new(),
            domain: String::new(),
            host_addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        }
    }

    /// Hands over what `from` sends; whether that was anything.
    fn carry(now: Instant, from: &mut Hosts, to: &mut Hosts) -> bool {
        let mut pool = Pool::default();
        let mut any = false;
        for (network, packets) in from.poll(now, &mut pool) {
            for packet in packets {
                any = true;
                to.receive(network, packet, &mut pool);
            }
        }
        any
    }

    #[test]
    fn a_ping_comes_back_in_both_families() {
        let start = Instant::now();
        let mut a = hosts(start, &["10.0.0.1", "fd00::1"]);
        let mut b = hosts(start, &["10.0.0.2", "fd00::2"]);
        for (query, destination) in [(1, "10.0.0.2"), (2, "fd00::2")] {
            let Ok(destination) = destination.parse() else {
                panic!("{destination}")
            };
            assert_eq!(
                a.ping(start, query, NETWORK, destination, 9, 100, Duration::from_secs(1)),
                Ok(())
            );
            assert!(carry(start, &mut a, &mut b));
            assert!(a.take_answers().is_empty());
            let later = start + Duration::from_millis(7);
            assert!(carry(later, &mut b, &mut a));
            carry(later, &mut a, &mut b);
            assert_eq!(
                a.take_answers(),
                [(query, Answer::Ping(Some(Duration::from_millis(7))))]
            );
        }
        assert_eq!(
            a.hosts.values().map(|host| host.sockets.iter().count()).sum::<usize>(),
            0
        );
    }

    #[test]
    fn a_ping_without_reply_ends_in_time() {
        let start = Instant::now();
        let mut a = hosts(start, &["10.0.0.1"]);
        let (Ok(there), Ok(other)) = ("10.0.0.2".parse(), "fd00::2".parse()) else {
            panic!()
        };
        let second = Duration::from_secs(1);
        assert_eq!(a.ping(start, 5, NETWORK, there, 1, 0, second), Ok(()));
        a.poll(start, &mut Pool::default());
        assert_eq!(a.deadline(), Some(start + second));
        a.poll(start + second / 2, &mut Pool::default());
        assert!(a.take_answers().is_empty());
        a.poll(start + second, &mut Pool::default());
        assert_eq!(a.take_answers(), [(5, Answer::Ping(None))]);
        assert!(
            a.ping(start, 6, NETWORK, other, 1, 0, second).is_err(),
            "no address of that family"
        );
        assert!(
            a.ping(start, 6, NetworkId(2), there, 1, 0, second).is_err(),
            "no such network"
        );
        assert!(a.ping(start, 6, NETWORK, there, 1, 1453, second).is_err(), "too large");
        assert_eq!(a.ping(start, 7, NETWORK, there, 1, 0, second), Ok(()));
        a.retain(|_| false);
        assert_eq!(
            a.take_answers(),
            [(7, Answer::Ping(None))],
            "an answer even when the network goes"
        );
    }

    #[test]
    fn equal_addresses_keep_the_host() {
        let start = Instant::now();
        let mut a = hosts(start, &["10.0.0.1"]);
        let Ok(there) = "10.0.0.2".parse() else { panic!() };
        assert_eq!(a.ping(start, 1, NETWORK, there, 1, 0, Duration::from_secs(1)), Ok(()));
        a.put(&config(&["10.0.0.1"]));
        assert!(a.take_answers().is_empty());
        a.put(&config(&["10.0.0.3"]));
        assert_eq!(a.take_answers(), [(1, Answer::Ping(None))]);
    }
}
