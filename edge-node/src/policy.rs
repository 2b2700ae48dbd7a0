//! From the words of policies to what the packet path evaluates: selectors become prefixes. And the policies' own
//! tests, answered by the very code that will judge the packets.

use std::{collections::BTreeSet, fmt, net::IpAddr, ops::RangeInclusive};

use dataplane::{
    control::{self, NetworkId, PolicyConfig, PolicyRule},
    parse::{Family, FlowKey, bits, protocol},
    tables::Policy,
};
use ipnet::IpNet;
use lisp::mesh::PublicKey;

use crate::intent::{Intent, Member, MemberId, Network, PolicyTest, Rule, Selector, Service};

/// What is bound to a node in the network at hand, as far as it is known: by its node key. Nothing is known of a node
/// before it has been met, and rules about it match nobody until then.
pub type Bound<'a> = &'a dyn Fn(&PublicKey) -> Vec<IpNet>;

/// Of no node anything is known.
#[must_use]
pub fn nothing_known(_node: &PublicKey) -> Vec<IpNet> {
    Vec::new()
}

/// The whole policy of a network: its policies in the order of their names, the rules of each in order. `bound` says
/// what selectors by node stand for.
#[must_use]
pub fn config(intent: &Intent, network: &str, id: NetworkId, bound: Bound<'_>) -> PolicyConfig {
    let policies = intent.policies.iter().filter(|(_, policy)| policy.network == network);
    let rules = policies.flat_map(|(name, policy)| {
        policy
            .rules
            .iter()
            .enumerate()
            .flat_map(move |(index, rule)| rules(intent, network, &format!("{name}/rule[{index}]"), rule, bound))
    });
    PolicyConfig {
        network: id,
        rules: rules.collect(),
    }
}

/// A rule of the packet path has one kind of service; a rule of the intent may have several.
fn rules(intent: &Intent, network: &str, name: &str, rule: &Rule, bound: Bound<'_>) -> Vec<PolicyRule> {
    // An empty list means anybody to the packet path. Selectors that find nobody must not come to mean that.
    let (Some(from), Some(to)) = (
        nets(intent, network, &rule.from, bound),
        nets(intent, network, &rule.to, bound),
    ) else {
        return Vec::new();
    };
    services(&rule.services)
        .into_iter()
        .map(|service| PolicyRule {
            name: name.to_owned(),
            from: from.clone(),
            to: to.clone(),
            service,
            allow: rule.allow,
        })
        .collect()
}

/// Prefixes of all selectors; `None` when there are selectors and none of them finds anybody.
fn nets(intent: &Intent, network: &str, selectors: &[Selector], bound: Bound<'_>) -> Option<Vec<IpNet>> {
    let found: BTreeSet<IpNet> = selectors
        .iter()
        .flat_map(|selector| resolve(intent, network, selector, bound))
        .collect();
    (selectors.is_empty() || !found.is_empty()).then(|| found.into_iter().collect())
}

fn services(services: &[Service]) -> Vec<control::Service> {
    let mut found = Vec::new();
    let (mut tcp, mut udp): (Vec<RangeInclusive<u16>>, Vec<RangeInclusive<u16>>) = (Vec::new(), Vec::new());
    for service in services {
        match service {
            Service::Icmp => found.push(control::Service::Icmp),
            Service::Protocol(number) => found.push(control::Service::Protocol(*number)),
            Service::Tcp(range) => tcp.push(range.clone()),
            Service::Udp(range) => udp.push(range.clone()),
        }
    }
    if !tcp.is_empty() {
        found.push(control::Service::Tcp(tcp));
    }
    if !udp.is_empty() {
        found.push(control::Service::Udp(udp));
    }
    if services.is_empty() {
        found.push(control::Service::Any);
    }
    found
}

/// Who is meant, in a network: addresses of guests with the prefixes behind them, of members, or of a name.
#[must_use]
pub fn resolve(intent: &Intent, network: &str, selector: &Selector, bound: Bound<'_>) -> Vec<IpNet> {
    let nics = |wanted: &dyn Fn(&str, &crate::intent::Guest) -> bool| -> Vec<IpNet> {
        let guests = intent.guests.iter().filter(|(name, guest)| wanted(name, guest));
        let nics = guests
            .flat_map(|(_, guest)| &guest.nics)
            .filter(|nic| nic.network == network);
        nics.flat_map(|nic| {
            nic.addresses
                .iter()
                .copied()
                .map(IpNet::from)
                .chain(nic.routed.iter().copied())
        })
        .collect()
    };
    match selector {
        Selector::Prefix(net) => vec![*net],
        Selector::Node(node) => bound(node),
        Selector::Label(key, value) => {
            let mut found = nics(&|_, guest| guest.labels.get(key) == Some(value));
            found.extend(members(intent, network, bound, &|member| {
                member.labels.get(key) == Some(value)
            }));
            found
        }
        Selector::Name(name) => {
            let guest = nics(&|guest, _| guest == name);
            if !guest.is_empty() {
                return guest;
            }
            let named = intent.networks.get(network).and_then(|network| network.names.get(name));
            let mut found: Vec<IpNet> = named.into_iter().flatten().copied().map(IpNet::from).collect();
            found.extend(members(intent, network, bound, &|member| {
                member.name.as_ref() == Some(name)
            }));
            found
        }
    }
}

/// What is known of some members of a network.
fn members(intent: &Intent, network: &str, bound: Bound<'_>, wanted: &dyn Fn(&Member) -> bool) -> Vec<IpNet> {
    let sealed = intent.networks.get(network).and_then(Network::sealed);
    let members = sealed.into_iter().flat_map(|(_, sealed)| &sealed.members);
    members
        .filter(|member| wanted(member))
        .flat_map(|member| match &member.who {
            MemberId::Node(node) => bound(node),
            MemberId::Eid(eid) => vec![IpNet::from(*eid)],
        })
        .collect()
}

/// Why a test of a policy fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A packet got another answer than expected.
    Answer {
        /// From whom.
        from: IpAddr,
        /// To whom.
        to: IpAddr,
        /// What kind of packet.
        packet: String,
        /// Whether it may pass.
        allowed: bool,
        /// The rule that said so; none: no rule fits.
        rule: Option<String>,
    },
    /// No two addresses of one family: nothing was asked.
    Nobody,
    /// More combinations than are tried.
    TooWide,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer {
                from,
                to,
                packet,
                allowed,
                rule,
            } => {
                let word = if *allowed { "allowed" } else { "denied" };
                write!(f, "{packet} from {from} to {to} is {word}, ")?;
                match rule {
                    Some(rule) => write!(f, "by {rule}"),
                    None => f.write_str("because no rule fits (default deny)"),
                }
            }
            Self::Nobody => f.write_str("the two have no addresses of one family in this network"),
            Self::TooWide => f.write_str("the test covers more combinations than are tried"),
        }
    }
}

/// Combinations that are tried at most.
const MOST: usize = 1_000_000;

/// Runs a test against the whole policy of its network. Exact: among all packets that the test speaks of, one of each
/// kind that the rules can tell apart is tried.
///
/// # Errors
/// The first packet whose answer is not the expected one.
pub fn run(
    intent: &Intent,
    config: &PolicyConfig,
    network: &str,
    test: &PolicyTest,
    bound: Bound<'_>,
) -> Result<(), Failure> {
    let from = probes(
        &resolve(intent, network, &test.from, bound),
        config.rules.iter().flat_map(|rule| &rule.from),
    );
    let to = probes(
        &resolve(intent, network, &test.to, bound),
        config.rules.iter().flat_map(|rule| &rule.to),
    );
    let packets = packets(config, test.service.as_ref());
    if from.len().saturating_mul(to.len()).saturating_mul(packets.len()) > MOST {
        return Err(Failure::TooWide);
    }
    let policy = Policy::new(config, 0);
    let mut asked = false;
    for (source, destination) in from.iter().flat_map(|source| to.iter().map(move |to| (*source, *to))) {
        if source.is_ipv4() != destination.is_ipv4() {
            continue;
        }
        for packet in &packets {
            asked = true;
            let rule = policy.first_match(&packet.key(source, destination));
            let allowed = rule.is_some_and(|rule| rule.allow);
            if allowed != test.allow {
                return Err(Failure::Answer {
                    from: source,
                    to: destination,
                    packet: packet.to_string(),
                    allowed,
                    rule: rule.map(|rule| rule.name.clone()),
                });
            }
        }
    }
    if asked { Ok(()) } else { Err(Failure::Nobody) }
}

/// Every address at which the answer of the rules can change within the prefixes that are asked about: where a
/// prefix begins, and behind the end of one.
fn probes<'a>(asked: &[IpNet], rules: impl Iterator<Item = &'a IpNet> + Clone) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for net in asked {
        found.insert(net.network());
        for rule in rules.clone().filter(|rule| net.contains(*rule)) {
            found.insert(rule.network());
            found.extend(after(rule.broadcast()).filter(|address| net.contains(address)));
        }
    }
    found
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// A packet that would open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Icmp,
    Tcp(u16),
    Udp(u16),
    Other(u8),
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => f.write_str("icmp"),
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Other(number) => write!(f, "protocol/{number}"),
        }
    }
}

impl Packet {
    fn key(self, source: IpAddr, destination: IpAddr) -> FlowKey {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let (protocol, source_port, destination_port) = match (self, family) {
            (Self::Icmp, Family::V4) => (protocol::ICMP, 1, 0),
            (Self::Icmp, Family::V6) => (protocol::ICMPV6, 1, 0),
            (Self::Tcp(port), _) => (protocol::TCP, 49_152, port),
            (Self::Udp(port), _) => (protocol::UDP, 49_152, port),
            (Self::Other(number), _) => (number, 0, 0),
        };
        FlowKey {
            source: bits(source),
            destination: bits(destination),
            scope: 0,
            source_port,
            destination_port,
            protocol,
            family,
        }
    }
}

/// One packet of each kind that the rules can tell apart, of those that a test speaks of.
fn packets(config: &PolicyConfig, service: Option<&Service>) -> BTreeSet<Packet> {
    let ranges = |tcp: bool| {
        let rules = config.rules.iter().map(|rule| &rule.service);
        rules.flat_map(move |service| match service {
            control::Service::Tcp(ranges) if tcp => ranges.as_slice(),
            control::Service::Udp(ranges) if !tcp => ranges.as_slice(),
            _ => &[],
        })
    };
    let ports = |asked: &RangeInclusive<u16>, tcp: bool| {
        let edges = ranges(tcp).flat_map(|range| [Some(*range.start()), range.end().checked_add(1)]);
        let mut found: BTreeSet<u16> = edges.flatten().filter(|port| asked.contains(port)).collect();
        found.insert(*asked.start());
        found
    };
    let tcp = |asked: &RangeInclusive<u16>| ports(asked, true).into_iter().map(Packet::Tcp);
    let udp = |asked: &RangeInclusive<u16>| ports(asked, false).into_iter().map(Packet::Udp);
    match service {
        Some(Service::Icmp) => BTreeSet::from([Packet::Icmp]),
        Some(Service::Protocol(number)) => BTreeSet::from([Packet::Other(*number)]),
        Some(Service::Tcp(range)) => tcp(range).collect(),
        Some(Service::Udp(range)) => udp(range).collect(),
        None => {
            let all = 1..=u16::MAX;
            let mut found: BTreeSet<Packet> = tcp(&all).chain(udp(&all)).collect();
            found.insert(Packet::Icmp);
            let named = config.rules.iter().filter_map(|rule| match rule.service {
                control::Service::Protocol(number) => Some(number),
                _ => None,
            });
            let named: BTreeSet<u8> = named.collect();
            // One that no rule names stands for all such.
            let known = [protocol::ICMP, protocol::ICMPV6, protocol::TCP, protocol::UDP];
            let other = (0..=u8::MAX)
                .rev()
                .find(|number| !named.contains(number) && !known.contains(number));
            found.extend(named.into_iter().chain(other).map(Packet::Other));
            found
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{self, Attach, Guest, Nic};

    fn intent(rules: Vec<Rule>) -> Intent {
        let guest = |role: &str, address: &str| Guest {
            labels: [("role".to_owned(), role.to_owned())].into(),
            nics: vec![Nic {
                name: "eth0".into(),
                network: "plant".into(),
                attach: Attach::Veth { interface: "v".into() },
                mac: [2; 6],
                key: None,
                addresses: vec![address.parse().expect("an address")],
                routed: Vec::new(),
            }],
        };
        let mut intent = Intent::default();
        intent.guests.insert("guest-a".into(), guest("machine", "fd07::a"));
        intent.guests.insert("guest-b".into(), guest("screen", "fd07::b"));
        let policy = intent::Policy {
            network: "plant".into(),
            rules,
            tests: Vec::new(),
        };
        intent.policies.insert("machines".into(), policy);
        intent
    }

    fn rule(from: Vec<Selector>, to: Vec<Selector>, services: Vec<Service>, allow: bool) -> Rule {
        Rule {
            from,
            to,
            services,
            allow,
        }
    }

    fn prefix(text: &str) -> Selector {
        Selector::Prefix(text.parse().expect("a prefix"))
    }

    fn ask(
        intent: &Intent,
        from: Selector,
        to: Selector,
        service: Option<Service>,
        allow: bool,
    ) -> Result<(), Failure> {
        let config = config(intent, "plant", NetworkId(1), &nothing_known);
        let test = PolicyTest {
            from,
            to,
            service,
            allow,
        };
        run(intent, &config, "plant", &test, &nothing_known)
    }

    #[test]
    fn selectors_that_find_nobody_do_not_mean_everybody() {
        let nobody = vec![Selector::Label("role".into(), "ghost".into())];
        let intent = intent(vec![
            rule(nobody.clone(), vec![], vec![], true),
            rule(vec![], nobody, vec![], true),
        ]);
        assert_eq!(config(&intent, "plant", NetworkId(1), &nothing_known).rules, Vec::new());
    }

    #[test]
    fn a_rule_with_several_services_keeps_its_name_and_place() {
        let services = vec![
            Service::Tcp(80..=80),
            Service::Icmp,
            Service::Tcp(443..=443),
            Service::Udp(53..=53),
        ];
        let intent = intent(vec![
            rule(vec![], vec![], services, true),
            rule(vec![], vec![], vec![], false),
        ]);
        let config = config(&intent, "plant", NetworkId(1), &nothing_known);
        let short: Vec<_> = config
            .rules
            .iter()
            .map(|rule| (rule.name.as_str(), &rule.service))
            .collect();
        assert_eq!(
            short,
            [
                ("machines/rule[0]", &control::Service::Icmp),
                ("machines/rule[0]", &control::Service::Tcp(vec![80..=80, 443..=443])),
                ("machines/rule[0]", &control::Service::Udp(vec![53..=53])),
                ("machines/rule[1]", &control::Service::Any),
            ]
        );
    }

    #[test]
    fn a_test_says_which_rule_decided() {
        let machines = vec![Selector::Label("role".into(), "machine".into())];
        let intent = intent(vec![rule(
            machines,
            vec![prefix("fd07::/16")],
            vec![Service::Icmp],
            true,
        )]);
        let (a, b) = (Selector::Name("guest-a".into()), Selector::Name("guest-b".into()));
        assert_eq!(ask(&intent, a.clone(), b.clone(), Some(Service::Icmp), true), Ok(()));
        assert_eq!(ask(&intent, b.clone(), a.clone(), Some(Service::Icmp), false), Ok(()));
        let failure = ask(&intent, a.clone(), b.clone(), Some(Service::Icmp), false).unwrap_err();
        assert!(
            failure.to_string().contains("is allowed, by machines/rule[0]"),
            "{failure}"
        );
        let failure = ask(&intent, b, a, None, true).unwrap_err();
        assert!(failure.to_string().contains("no rule fits"), "{failure}");
    }

    #[test]
    fn a_hole_in_a_prefix_or_a_port_range_is_found() {
        let intent = intent(vec![
            rule(
                vec![],
                vec![prefix("fd07:5::/32")],
                vec![Service::Tcp(8050..=8050)],
                false,
            ),
            rule(vec![], vec![prefix("fd07::/16")], vec![Service::Tcp(8000..=8100)], true),
        ]);
        let everybody = || prefix("fd07::/16");
        let failure = ask(&intent, everybody(), everybody(), Some(Service::Tcp(8000..=8100)), true).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "tcp/8050 from fd07:: to fd07:5:: is denied, by machines/rule[0]"
        );
        assert_eq!(
            ask(
                &intent,
                everybody(),
                prefix("fd07:6::/32"),
                Some(Service::Tcp(8000..=8100)),
                true
            ),
            Ok(())
        );
        assert_eq!(
            ask(
                &intent,
                everybody(),
                everybody(),
                Some(Service::Tcp(8101..=9000)),
                false
            ),
            Ok(())
        );
        let failure = ask(
            &intent,
            everybody(),
            everybody(),
            Some(Service::Tcp(7000..=8001)),
            false,
        )
        .unwrap_err();
        assert!(failure.to_string().starts_with("tcp/8000 "), "{failure}");
    }

    #[test]
    fn a_test_without_a_common_family_asks_nothing_and_fails() {
        let intent = intent(vec![rule(vec![], vec![], vec![], true)]);
        let result = ask(
            &intent,
            Selector::Name("guest-a".into()),
            prefix("10.0.0.0/8"),
            None,
            true,
        );
        assert_eq!(result, Err(Failure::Nobody));
    }
}
