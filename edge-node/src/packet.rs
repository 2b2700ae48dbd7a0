//! Packets that `weft trace` asks about, built as a guest would send them.

use std::{fmt, net::IpAddr};

use etherparse::PacketBuilder;

use crate::{intent::Service, validate};

/// Bytes of payload unless told otherwise.
const PAYLOAD: usize = 56;
/// Source port of TCP and UDP.
const SOURCE_PORT: u16 = 49_152;

/// A packet that somebody asks about.
#[derive(Clone, Debug)]
pub struct Probe {
    source: IpAddr,
    destination: IpAddr,
    service: Service,
    payload: usize,
}

impl Probe {
    /// A first packet of `service`, such as `icmp` or `tcp/443`. `size` is bytes of IP packet.
    ///
    /// # Errors
    /// The service is not understood, or the families differ: what is wrong, and what to do.
    pub fn new(
        source: IpAddr,
        destination: IpAddr,
        service: &str,
        size: Option<u16>,
    ) -> Result<Self, (String, String)> {
        let service = validate::service(service)?;
        if source.is_ipv4() != destination.is_ipv4() {
            let message = format!("{source} and {destination} are of different families");
            return Err((message, "ask about addresses of one family".to_owned()));
        }
        let mut probe = Self {
            source,
            destination,
            service,
            payload: PAYLOAD,
        };
        if let Some(size) = size {
            probe.payload = 0;
            probe.payload = usize::from(size).saturating_sub(probe.packet().len());
        }
        Ok(probe)
    }

    /// As an Ethernet frame.
    pub fn frame(&self, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
        let packet = self.packet();
        let ether_type: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        [&to[..], &from[..], &ether_type.to_be_bytes()[..], &packet[..]].concat()
    }

    /// As an IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
            }
            // The constructor saw to it.
            _ => return Vec::new(),
        };
        let payload = vec![0; self.payload];
        let mut bytes = Vec::new();
        let written = match (&self.service, self.source.is_ipv4()) {
            (Service::Icmp, true) => ip.icmpv4_echo_request(1, 1).write(&mut bytes, &payload),
            (Service::Icmp, false) => ip.icmpv6_echo_request(1, 1).write(&mut bytes, &payload),
            (Service::Tcp(ports), _) => ip
                .tcp(SOURCE_PORT, *ports.start(), 1, 65_535)
                .syn()
                .write(&mut bytes, &[]),
            (Service::Udp(ports), _) => ip.udp(SOURCE_PORT, *ports.start()).write(&mut bytes, &payload),
            (Service::Protocol(number), _) => ip.write(&mut bytes, etherparse::IpNumber(*number), &payload),
        };
        // Writing to memory fails only for sizes that no packet has.
        if written.is_err() { Vec::new() } else { bytes }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.service {
            Service::Icmp => "ICMP echo request".to_owned(),
            Service::Tcp(ports) => format!("TCP SYN to port {}", ports.start()),
            Service::Udp(ports) => format!("UDP to port {}", ports.start()),
            Service::Protocol(number) => format!("IP protocol {number}"),
        };
        write!(
            f,
            "{what}, {} → {}, {} bytes",
            self.source,
            self.destination,
            self.packet().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{LaxSlicedPacket, TransportSlice};

    use super::*;

    fn probe(source: &str, destination: &str, service: &str, size: Option<u16>) -> Result<Probe, (String, String)> {
        let address = |text: &str| text.parse().expect("an address");
        Probe::new(address(source), address(destination), service, size)
    }

    #[test]
    fn frames_are_what_a_guest_would_send() {
        for (source, destination) in [("10.7.1.10", "10.7.2.10"), ("fd07::a", "fd07::b")] {
            for service in ["icmp", "tcp/443", "udp/53", "protocol/47"] {
                let probe = probe(source, destination, service, None).expect("a probe");
                let frame = probe.frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
                assert_eq!(&frame[..6], &[2, 0, 0, 0, 0, 2]);
                let sliced = LaxSlicedPacket::from_ethernet(&frame).expect("a frame");
                assert!(sliced.stop_err.is_none(), "{service}: {:?}", sliced.stop_err);
                match (service, sliced.transport) {
                    ("tcp/443", Some(TransportSlice::Tcp(tcp))) => assert!(tcp.syn() && tcp.destination_port() == 443),
                    ("udp/53", Some(TransportSlice::Udp(udp))) => assert_eq!(udp.destination_port(), 53),
                    ("icmp", Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_))) | ("protocol/47", None) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn the_size_is_that_of_the_ip_packet() {
        for service in ["icmp", "udp/53", "protocol/47"] {
            assert_eq!(
                probe("fd07::a", "fd07::b", service, Some(1400))
                    .expect("a probe")
                    .packet()
                    .len(),
                1400
            );
        }
    }

    #[test]
    fn families_and_services_are_checked() {
        assert!(probe("10.7.1.10", "fd07::b", "icmp", None).is_err());
        assert!(probe("fd07::a", "fd07::b", "sctp/1", None).is_err());
    }
}
