//! Who may talk to whom, ready to be evaluated: default deny, first rule that fits decides.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    control::{PolicyConfig, PolicyRule, Service},
    parse::{Family, FlowKey, protocol},
};

/// The policy of one network.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<PolicyRule>,
    /// Distinguishes this policy from every other that the node ever had; connections remember it.
    pub version: u64,
}

impl Policy {
    /// From control's words.
    pub fn new(config: &PolicyConfig, version: u64) -> Self {
        Self {
            rules: config.rules.clone(),
            version,
        }
    }

    /// The first rule that fits a packet which would open a connection.
    pub fn first_match(&self, key: &FlowKey) -> Option<&PolicyRule> {
        let (source, destination) = (key.source_address(), key.destination_address());
        self.rules
            .iter()
            .find(|rule| covers(&rule.service, key) && within(&rule.from, source) && within(&rule.to, destination))
    }
}

fn within(nets: &[IpNet], address: IpAddr) -> bool {
    nets.is_empty() || nets.iter().any(|net| net.contains(&address))
}

fn covers(service: &Service, key: &FlowKey) -> bool {
    let ports = |ranges: &[std::ops::RangeInclusive<u16>]| {
        ranges.is_empty() || ranges.iter().any(|range| range.contains(&key.destination_port))
    };
    match service {
        Service::Any => true,
        Service::Icmp => match key.family {
            Family::V4 => key.protocol == protocol::ICMP,
            Family::V6 => key.protocol == protocol::ICMPV6,
        },
        Service::Tcp(ranges) => key.protocol == protocol::TCP && ports(ranges),
        Service::Udp(ranges) => key.protocol == protocol::UDP && ports(ranges),
        Service::Protocol(number) => key.protocol == *number,
    }
}
