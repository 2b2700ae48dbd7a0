//! Kind `Policy`, and the policies' own tests.

use dataplane::control::NetworkId;

use super::{Reader, exactly_one, sealed, text};
use crate::{
    document::Document,
    intent::{MemberId, Policy, PolicyTest, Rule, Selector},
    kind::{self, Action, KindName, PolicySpec},
    nearest, policy,
    tree::{Path, shorten},
};

pub(super) fn read<'a>(reader: &mut Reader<'a>, document: &'a Document) {
    let Some(object) = reader.object::<PolicySpec>(document) else {
        return;
    };
    let spec = object.spec;
    let path = Path::parse("spec");
    if reader
        .reference(document, &path.then("network"), KindName::Network, &spec.network)
        .is_none()
    {
        return;
    }
    let scope = Scope {
        document,
        network: &spec.network,
    };
    let mut rules = Vec::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let path = path.then("rules").then(index);
        rules.push(Rule {
            from: scope.selectors(reader, &path.then("from"), &rule.from),
            to: scope.selectors(reader, &path.then("to"), &rule.to),
            services: services(reader, document, &path.then("services"), &rule.services),
            allow: rule.action == Action::Allow,
        });
    }
    let mut tests = Vec::new();
    for (index, test) in spec.tests.iter().enumerate() {
        let path = path.then("tests").then(index);
        let from = scope.selector(reader, &path.then("from"), &test.from);
        let to = scope.selector(reader, &path.then("to"), &test.to);
        let service = match &test.service {
            Some(service) => reader.parse(document, &path.then("service"), service, text::service),
            None => None,
        };
        if let (Some(from), Some(to)) = (from, to) {
            tests.push(PolicyTest {
                from,
                to,
                service,
                allow: test.expect == Action::Allow,
            });
        }
    }
    let network = spec.network;
    reader
        .intent
        .policies
        .insert(document.name.clone(), Policy { network, rules, tests });
}

fn services(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    texts: &[String],
) -> Vec<crate::intent::Service> {
    let mut found = Vec::new();
    for (index, service) in texts.iter().enumerate() {
        found.extend(reader.parse(document, &path.then(index), service, text::service));
    }
    found
}

/// Where selectors stand.
struct Scope<'a> {
    document: &'a Document,
    network: &'a str,
}

impl Scope<'_> {
    fn selectors(&self, reader: &mut Reader<'_>, path: &Path, selectors: &[kind::Selector]) -> Vec<Selector> {
        let mut found = Vec::new();
        for (index, selector) in selectors.iter().enumerate() {
            found.extend(self.selector(reader, &path.then(index), selector));
        }
        found
    }

    fn selector(&self, reader: &mut Reader<'_>, path: &Path, selector: &kind::Selector) -> Option<Selector> {
        let kind::Selector {
            prefix,
            name,
            label,
            node,
        } = selector;
        let given = [
            ("prefix", prefix.is_some()),
            ("name", name.is_some()),
            ("label", label.is_some()),
            ("node", node.is_some()),
        ];
        let field = match exactly_one(&given) {
            Ok(field) => path.then(field),
            Err(message) => {
                reader.fail(
                    self.document,
                    path,
                    message,
                    "say who, once: {prefix: PREFIX}, {name: GUEST}, {label: KEY=VALUE} or {node: MEMBER}; several are \
                     several list items",
                );
                return None;
            }
        };
        if let Some(prefix) = prefix {
            return reader
                .parse(self.document, &field, prefix, text::prefix)
                .map(Selector::Prefix);
        }
        if let Some(label) = label {
            let label = reader.parse(self.document, &field, label, text::label);
            return label.map(|(key, value)| Selector::Label(key, value));
        }
        if let Some(node) = node {
            return self.node(reader, &field, node);
        }
        let selector = Selector::Name(name.clone()?);
        self.is_known(reader, &field, name.as_ref()?).then_some(selector)
    }

    /// A node is a member that is known by its node key, or such a key.
    fn node(&self, reader: &mut Reader<'_>, path: &Path, text: &str) -> Option<Selector> {
        if text.contains(':') {
            return reader.public_key(self.document, path, text).map(Selector::Node);
        }
        let members = reader
            .intent
            .networks
            .get(self.network)
            .and_then(crate::intent::Network::sealed)
            .map(|(_, sealed)| sealed.members.clone())
            .unwrap_or_default();
        let found = members.iter().find(|member| member.name.as_deref() == Some(text));
        let (message, help) = match found.map(|member| member.who) {
            Some(MemberId::Node(key)) => return Some(Selector::Node(key)),
            Some(MemberId::Eid(_)) => (
                format!("member `{}` is known by an EID, not by its node", shorten(text)),
                format!("write {{name: {}}}, or list it with its node key", shorten(text)),
            ),
            None if reader.is_broken(KindName::Network, self.network) => return None,
            None => {
                let nodes = members
                    .iter()
                    .filter(|member| matches!(member.who, MemberId::Node(_)))
                    .filter_map(|member| member.name.as_deref());
                let help = match nearest::nearest(text, nodes) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "name a node of `mesh.members` of Network {}, or write its key, `p256:…`",
                        self.network
                    ),
                };
                (
                    format!("Network {} has no member called `{}`", self.network, shorten(text)),
                    help,
                )
            }
        };
        reader.fail(self.document, path, message, help);
        None
    }

    /// A name must be that of a guest with a NIC in the network or of a member, or stand in the network's names.
    fn is_known(&self, reader: &mut Reader<'_>, path: &Path, name: &str) -> bool {
        let guests: Vec<String> = reader
            .intent
            .guests
            .iter()
            .filter(|(_, guest)| guest.nics.iter().any(|nic| nic.network == self.network))
            .map(|(name, _)| name.clone())
            .collect();
        let network = reader.intent.networks.get(self.network);
        let names = network.into_iter().flat_map(|network| network.names.keys().cloned());
        let members = network
            .and_then(crate::intent::Network::sealed)
            .into_iter()
            .flat_map(|(_, sealed)| sealed.members.iter().filter_map(|member| member.name.clone()));
        let known: Vec<String> = guests.into_iter().chain(names).chain(members).collect();
        if known.iter().any(|known| known == name) {
            return true;
        }
        // What is wrong there has had its message.
        if reader.is_broken(KindName::Guest, name) || reader.is_broken(KindName::Network, self.network) {
            return false;
        }
        let message = format!("Network {} knows nobody called `{}`", self.network, shorten(name));
        let help = match nearest::nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "name a guest of this node that is in the network; for one on another node add its addresses to \
                 `names` of Network {}",
                self.network
            ),
        };
        reader.fail(self.document, path, message, help);
        false
    }
}

/// Runs the tests of all policies, each against the whole policy of its network.
/// Whose addresses depend on keys that are not at hand here is given a stand-in: what the rules say of it by name holds
/// for the address that it will have.
pub(super) fn run_tests(reader: &mut Reader<'_>) {
    let intent = sealed::with_stand_ins(&reader.intent);
    for document in reader.of(KindName::Policy) {
        let Some(found) = reader.intent.policies.get(&document.name) else {
            continue;
        };
        let config = policy::config(&intent, &found.network, NetworkId(0), &sealed::stand_in_for_node);
        let failures: Vec<(usize, bool, policy::Failure)> = found
            .tests
            .iter()
            .enumerate()
            .filter_map(|(index, test)| {
                let asked = policy::run(&intent, &config, &found.network, test, &sealed::stand_in_for_node);
                let failure = asked.err()?;
                Some((index, test.allow, failure))
            })
            .collect();
        for (index, allow, failure) in failures {
            let path = Path::parse("spec.tests").then(index);
            let word = if allow { "allow" } else { "deny" };
            let help = match &failure {
                policy::Failure::Answer { rule: Some(rule), .. } => {
                    format!("change {rule}, or put a rule before it, or expect the opposite")
                }
                policy::Failure::Answer { rule: None, .. } => "add a rule that allows it, or expect deny".to_owned(),
                policy::Failure::Nobody => "name two that have IPv4, or two that have IPv6 addresses".to_owned(),
                policy::Failure::TooWide => "name smaller prefixes or a single service, in several tests".to_owned(),
            };
            reader.fail(
                document,
                &path.then("expect"),
                format!("the test expects {word}: {failure}"),
                help,
            );
        }
    }
}
