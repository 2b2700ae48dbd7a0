//! `weft who-can`: what the policy of a network says of two, and whether their nodes may join where the network is
//! sealed. Answered from the intent alone, by the code that judges the packets.

use std::net::IpAddr;

use dataplane::control::NetworkId;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::Unknown;
use crate::{
    intent::{Intent, MemberId, Network, NetworkKind, PolicyTest, SealedMesh, Selector, Service},
    policy::{self, Failure},
    validate,
};

/// Who, to whom, what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the command line's arguments")]
pub struct WhoCanRequest {
    pub from: String,
    pub to: String,
    pub service: Option<String>,
    pub network: Option<String>,
}

/// What may pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoCanAnswer {
    /// Whether everything that was asked about is allowed in one of the networks.
    pub allow: bool,
    /// Each network that both are in.
    pub networks: Vec<WhoCanNetwork>,
}

/// What may pass in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoCanNetwork {
    /// Its name.
    pub network: String,
    /// Whether everything that was asked about is allowed.
    pub allow: bool,
    /// A packet that is allowed and one that is denied, as far as there are such, with what decides.
    pub answers: Vec<WhoCanPacket>,
    /// Whether the network is sealed.
    pub sealed: bool,
    /// The one that would send.
    pub from: WhoCanSide,
    /// The other one.
    pub to: WhoCanSide,
}

/// A packet and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "plain")]
pub struct WhoCanPacket {
    pub packet: String,
    pub from: IpAddr,
    pub to: IpAddr,
    pub allow: bool,
    /// The rule that decides; none: no rule fits, and what none allows is denied.
    pub rule: Option<String>,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoCanSide {
    /// As it was typed.
    pub name: String,
    /// Its addresses, as far as they are known here.
    pub addresses: Vec<IpNet>,
    /// Whether its node may join, where the network is sealed.
    pub joins: Option<Joins>,
}

/// Whether a node may join a sealed network, as far as the intent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joins {
    /// It is listed, by its key or by the EID.
    Listed,
    /// Only by a node that is listed, or with a membership that the authority signed.
    NeedsMembership,
    /// Only by a node that is listed: no membership helps, for the network has no authority.
    NeedsListedNode,
    /// Nothing lets it join.
    NotListed,
}

/// What the intent answers.
///
/// # Errors
/// A name that nothing bears, a service that is none, two that are in no network together.
pub fn answer(intent: &Intent, request: &WhoCanRequest) -> Result<WhoCanAnswer, Unknown> {
    let service = match &request.service {
        Some(text) => Some(validate::service(text)?),
        None => None,
    };
    if let Some(name) = &request.network
        && !intent.networks.contains_key(name)
    {
        let help = crate::nearest::suggestion(name, intent.networks.keys().map(String::as_str));
        return Err((format!("there is no network `{name}` on this node"), help));
    }
    // Who has no address yet for want of its key is asked about all the same.
    let intent = validate::with_stand_ins(intent);
    let mut networks = Vec::new();
    let (mut from_known, mut to_known) = (false, false);
    for (name, network) in &intent.networks {
        if request.network.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let from = selectors(&intent, name, network, &request.from)?;
        let to = selectors(&intent, name, network, &request.to)?;
        from_known |= !from.is_empty();
        to_known |= !to.is_empty();
        if let Some(found) = judge(&intent, name, network, request, (&from, &to), service.as_ref())? {
            networks.push(found);
        }
    }
    for (known, text) in [(from_known, &request.from), (to_known, &request.to)] {
        if !known {
            return Err((
                format!("nothing is called `{text}` here"),
                "give a guest, a member, a name, a network, an address or prefix, or label:KEY=VALUE".to_owned(),
            ));
        }
    }
    if networks.is_empty() {
        return Err((
            format!(
                "`{}` and `{}` have no addresses of one family in one network",
                request.from, request.to
            ),
            "name two that are in the same network: packets do not go from one network into another".to_owned(),
        ));
    }
    let allow = networks.iter().any(|network| network.allow);
    Ok(WhoCanAnswer { allow, networks })
}

/// What a text may mean in a network; nothing when it means nobody.
fn selectors(intent: &Intent, name: &str, network: &Network, text: &str) -> Result<Vec<Selector>, Unknown> {
    let prefixes: Vec<IpNet> = match &network.kind {
        NetworkKind::Mesh(mesh) => mesh.prefixes.clone(),
        NetworkKind::Local(_) => network.ipv4.iter().map(|ipv4| ipv4.prefix.into()).collect(),
    };
    if let Some(label) = text.strip_prefix("label:") {
        let Some((key, value)) = label.split_once('=') else {
            return Err((
                format!("`{text}` is no label"),
                "write label:KEY=VALUE, such as label:role=meter".to_owned(),
            ));
        };
        let selector = Selector::Label(key.to_owned(), value.to_owned());
        return Ok(somebody(intent, name, selector));
    }
    let net = text
        .parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse::<IpNet>().map(|net| net.trunc()));
    if let Ok(net) = net {
        let inside = prefixes
            .iter()
            .any(|prefix| prefix.contains(&net) || net.contains(prefix));
        return Ok(inside.then_some(Selector::Prefix(net)).into_iter().collect());
    }
    if text == name {
        return Ok(prefixes.into_iter().map(Selector::Prefix).collect());
    }
    if let Ok(key) = text.parse() {
        return Ok(if network.sealed().is_some() {
            vec![Selector::Node(key)]
        } else {
            Vec::new()
        });
    }
    let bare = text.strip_suffix(&format!(".{}", network.domain)).unwrap_or(text);
    let found = somebody(intent, name, Selector::Name(bare.to_owned()));
    if found.is_empty()
        && let (Some(node), Some(mesh)) = (&intent.node, network.mesh())
        && node.name == bare
    {
        let own = mesh
            .node_addresses
            .iter()
            .map(|address| Selector::Prefix((*address).into()));
        return Ok(own.collect());
    }
    Ok(found)
}

fn somebody(intent: &Intent, network: &str, selector: Selector) -> Vec<Selector> {
    if policy::resolve(intent, network, &selector, &validate::stand_in_for_node).is_empty() {
        Vec::new()
    } else {
        vec![selector]
    }
}

/// What the network's policy says of all pairs; none when there is no pair.
fn judge(
    intent: &Intent,
    name: &str,
    network: &Network,
    request: &WhoCanRequest,
    (from, to): (&[Selector], &[Selector]),
    service: Option<&Service>,
) -> Result<Option<WhoCanNetwork>, Unknown> {
    let bound: policy::Bound<'_> = &validate::stand_in_for_node;
    let config = policy::config(intent, name, NetworkId(0), bound);
    let mut answers: Vec<WhoCanPacket> = Vec::new();
    for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
        // The first packet that is not allowed, and the first that is: together they tell all, some or nothing.
        for expected in [true, false] {
            let test = PolicyTest {
                from: from.clone(),
                to: to.clone(),
                service: service.cloned(),
                allow: expected,
            };
            match policy::run(intent, &config, name, &test, bound) {
                Ok(()) | Err(Failure::Nobody) => {}
                Err(Failure::Answer {
                    from,
                    to,
                    packet,
                    allowed,
                    rule,
                }) => {
                    if !answers
                        .iter()
                        .any(|answer| answer.allow == allowed && answer.rule == rule)
                    {
                        answers.push(WhoCanPacket {
                            packet,
                            from,
                            to,
                            allow: allowed,
                            rule,
                        });
                    }
                }
                Err(wide @ Failure::TooWide) => {
                    return Err((wide.to_string(), "name smaller prefixes or a single service".to_owned()));
                }
            }
        }
    }
    if answers.is_empty() {
        return Ok(None);
    }
    answers.sort_by_key(|answer| !answer.allow);
    let sealed = network.sealed().map(|(_, sealed)| sealed);
    let side = |text: &str, selectors: &[Selector]| {
        let known = selectors
            .iter()
            .flat_map(|selector| policy::resolve(intent, name, selector, &policy::nothing_known));
        let addresses: Vec<IpNet> = known.collect();
        WhoCanSide {
            name: text.to_owned(),
            joins: sealed.map(|sealed| joins(sealed, selectors, text, &addresses)),
            addresses,
        }
    };
    Ok(Some(WhoCanNetwork {
        network: name.to_owned(),
        allow: answers.iter().all(|answer| answer.allow),
        answers,
        sealed: sealed.is_some(),
        from: side(&request.from, from),
        to: side(&request.to, to),
    }))
}

fn joins(sealed: &SealedMesh, selectors: &[Selector], text: &str, addresses: &[IpNet]) -> Joins {
    let hosts = addresses.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    let by_node = sealed.members.iter().any(|member| match member.who {
        MemberId::Node(key) => member.name.as_deref() == Some(text) || selectors.contains(&Selector::Node(key)),
        MemberId::Eid(_) => false,
    });
    let by_eid = |host: &IpNet| {
        let listed = |member: &crate::intent::Member| member.who == MemberId::Eid(host.addr());
        sealed.members.iter().any(listed)
    };
    let mut hosts = hosts.peekable();
    if by_node || (hosts.peek().is_some() && hosts.all(by_eid)) {
        return Joins::Listed;
    }
    if sealed.authority.is_some() {
        return Joins::NeedsMembership;
    }
    // Whose node is not known may be that of a listed one; a node that is asked about by its key is not.
    let asked_by_key = selectors.iter().any(|selector| matches!(selector, Selector::Node(_)));
    let nodes = sealed
        .members
        .iter()
        .any(|member| matches!(member.who, MemberId::Node(_)));
    if nodes && !asked_by_key {
        Joins::NeedsListedNode
    } else {
        Joins::NotListed
    }
}

#[cfg(test)]
mod tests {
    use lisp::mesh::{Signer as _, SoftwareKey};

    use super::*;
    use crate::read;

    fn intent() -> Intent {
        let site_b = SoftwareKey::from_bytes(&[2; 32]).expect("a key").public_key();
        let text = format!(
            r#"apiVersion: weft.dev/v1
kind: Node
metadata: {{name: site-a}}
spec: {{}}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {{name: plant}}
spec:
  mesh:
    instanceId: 7
    prefixes: ["fd00::/8"]
    members: [{{name: site-b, node: "{site_b}"}}, {{name: meter, eid: "fd12::5", labels: {{role: meter}}}}]
---
apiVersion: weft.dev/v1
kind: Network
metadata: {{name: office}}
spec:
  mesh: {{instanceId: 8, encryption: none, prefixes: ["10.8.0.0/16"]}}
  names: {{printer: ["10.8.0.5"], meter: ["10.8.0.6"]}}
---
apiVersion: weft.dev/v1
kind: Guest
metadata: {{name: guest-a}}
spec: {{nics: [{{name: eth0, network: plant, attach: {{veth: {{interface: va}}}}}}]}}
---
apiVersion: weft.dev/v1
kind: Policy
metadata: {{name: meters}}
spec:
  network: plant
  rules:
    - {{from: [{{name: guest-a}}], to: [{{label: role=meter}}], services: [tcp/502], action: allow}}
    - {{from: [{{node: site-b}}], to: [{{name: guest-a}}], action: allow}}
"#
        );
        let source = read::Source {
            name: "node.yaml".into(),
            base: "/".into(),
            text,
        };
        let documents = read::parse(&[source]).expect("YAML");
        validate::intent(&documents).unwrap_or_else(|errors| panic!("{}", crate::error::Report(errors)))
    }

    fn ask(from: &str, to: &str, service: Option<&str>) -> Result<WhoCanAnswer, Unknown> {
        let request = WhoCanRequest {
            from: from.into(),
            to: to.into(),
            service: service.map(Into::into),
            network: None,
        };
        answer(&intent(), &request)
    }

    #[test]
    fn the_rule_that_decides_is_named_and_who_may_join() {
        let allowed = ask("guest-a", "meter", Some("tcp/502")).expect("an answer");
        assert!(allowed.allow);
        let [plant] = allowed.networks.as_slice() else {
            panic!("{allowed:?}")
        };
        assert_eq!((plant.network.as_str(), plant.sealed), ("plant", true));
        assert_eq!(plant.answers.len(), 1);
        assert_eq!(plant.answers[0].rule.as_deref(), Some("meters/rule[0]"));
        assert_eq!(plant.to.joins, Some(Joins::Listed));
        assert_eq!(plant.from.joins, Some(Joins::NeedsListedNode));

        let denied = ask("guest-a", "label:role=meter", Some("tcp/80")).expect("an answer");
        assert!(!denied.allow && denied.networks[0].answers[0].rule.is_none());
    }

    #[test]
    fn what_is_allowed_in_part_is_not_allowed() {
        let some = ask("guest-a", "fd12::5", None).expect("an answer");
        assert!(!some.allow);
        let allowed: Vec<bool> = some.networks[0].answers.iter().map(|answer| answer.allow).collect();
        assert_eq!(allowed, [true, false]);
    }

    #[test]
    fn a_node_that_was_never_met_is_judged_by_the_rules_about_it() {
        let node = ask("site-b", "guest-a", Some("icmp")).expect("an answer");
        assert!(node.allow);
        assert_eq!(node.networks[0].from.joins, Some(Joins::Listed));
        assert!(node.networks[0].from.addresses.is_empty(), "nothing is known of it");
        let stranger = SoftwareKey::from_bytes(&[3; 32])
            .expect("a key")
            .public_key()
            .to_string();
        let stranger = ask(&stranger, "guest-a", Some("icmp")).expect("an answer");
        assert!(!stranger.allow);
        assert_eq!(stranger.networks[0].from.joins, Some(Joins::NotListed));
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        assert!(ask("nobody", "meter", None).is_err_and(|(message, _)| message.contains("`nobody`")));
        assert!(ask("guest-a", "printer", None).is_err_and(|(message, _)| message.contains("one network")));
        assert!(ask("guest-a", "meter", Some("imcp")).is_err_and(|(_, help)| help.contains("icmp")));
        assert!(ask("label:role", "meter", None).is_err_and(|(_, help)| help.contains("label:KEY=VALUE")));
        let clear = ask("office", "printer", Some("icmp")).expect("an answer");
        assert_eq!((clear.networks[0].sealed, clear.networks[0].to.joins), (false, None));
    }
}
