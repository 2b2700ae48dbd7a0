//! The difference between two intents as a list of actions: pure, printable, and what the reconciler carries out.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    intent::{Intent, Name},
    kind::KindName,
};

/// What is to be done with one object. What the object should be stands in the desired intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What to do.
    pub verb: Verb,
    /// Kind of object.
    pub kind: KindName,
    /// Its name.
    pub name: Name,
    /// What changes in it; empty unless the verb is [`Verb::Change`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It was not there.
    Create,
    /// It is there and differs.
    Change,
    /// It should not be there any more.
    Remove,
}

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Which, such as `nics[0].addresses[1]`, in the words of [`crate::intent`].
    pub path: String,
    /// What it was; null when it was not there.
    pub from: Value,
    /// What it is to be; null when it goes.
    pub to: Value,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        })
    }
}

/// `+ Guest guest-a`, or `~ Guest guest-a` with a line for each change.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verb {
            Verb::Create => '+',
            Verb::Change => '~',
            Verb::Remove => '-',
        };
        write!(f, "{sign} {} {}", self.kind, self.name)?;
        for change in &self.changes {
            write!(f, "\n    {change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from.is_null(), self.to.is_null()) {
            (true, _) => write!(f, "+ {}: {}", self.path, shown(&self.to)),
            (_, true) => write!(f, "- {}: {}", self.path, shown(&self.from)),
            _ => write!(f, "{}: {} → {}", self.path, shown(&self.from), shown(&self.to)),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What leads from `current` to `desired`, in the order in which it is to be done: what goes, dependents first; then
/// what comes or changes, dependents last. Equal intents need nothing.
#[must_use]
pub fn diff(current: &Intent, desired: &Intent) -> Vec<Action> {
    let (before, after) = (objects(current), objects(desired));
    let gone = before
        .keys()
        .filter(|key| !after.contains_key(key))
        .rev()
        .map(|key| Action {
            verb: Verb::Remove,
            kind: key.kind,
            name: key.name.clone(),
            changes: Vec::new(),
        });
    let come = after.iter().filter_map(|(key, value)| {
        let (verb, changes) = match before.get(key) {
            None => (Verb::Create, Vec::new()),
            Some(old) if old == value => return None,
            Some(old) => {
                let mut changes = Vec::new();
                compare(String::new(), old, value, &mut changes);
                (Verb::Change, changes)
            }
        };
        Some(Action {
            verb,
            kind: key.kind,
            name: key.name.clone(),
            changes,
        })
    });
    gone.chain(come).collect()
}

/// An object's identity, sorted so that what others refer to comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: u8,
    kind: KindName,
    name: Name,
}

impl Key {
    fn new(kind: KindName, name: &str) -> Self {
        let rank = match kind {
            KindName::Secret => 0,
            KindName::MapServer => 1,
            KindName::Node => 2,
            KindName::Network => 3,
            KindName::Guest => 4,
            KindName::Policy => 5,
        };
        Self {
            rank,
            kind,
            name: name.to_owned(),
        }
    }
}

fn objects(intent: &Intent) -> BTreeMap<Key, Value> {
    let mut all = BTreeMap::new();
    let mut put = |kind, name: &str, value: Value| {
        all.insert(Key::new(kind, name), value);
    };
    if let Some(node) = &intent.node {
        put(KindName::Node, &node.name, plain(node));
    }
    for (name, object) in &intent.map_servers {
        put(KindName::MapServer, name, plain(object));
    }
    for (name, object) in &intent.networks {
        put(KindName::Network, name, plain(object));
    }
    for (name, object) in &intent.guests {
        put(KindName::Guest, name, plain(object));
    }
    for (name, object) in &intent.policies {
        put(KindName::Policy, name, plain(object));
    }
    for (name, object) in &intent.secrets {
        put(KindName::Secret, name, plain(object));
    }
    all
}

/// Intent types have neither maps with keys that are no text nor anything else that JSON cannot say.
fn plain(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

fn compare(path: String, from: &Value, to: &Value, changes: &mut Vec<FieldChange>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let null = Value::Null;
                compare(
                    inner,
                    before.get(name).unwrap_or(&null),
                    after.get(name).unwrap_or(&null),
                    changes,
                );
            }
        }
        (Value::Array(before), Value::Array(after)) if before.iter().chain(after).all(|v| !v.is_object()) => {
            for value in before.iter().filter(|value| !after.contains(value)) {
                changes.push(change(&path, value, &Value::Null));
            }
            for value in after.iter().filter(|value| !before.contains(value)) {
                changes.push(change(&path, &Value::Null, value));
            }
            if before.len() == after.len() && before.iter().all(|value| after.contains(value)) {
                changes.push(change(&path, from, to));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for index in 0..before.len().max(after.len()) {
                let null = Value::Null;
                compare(
                    format!("{path}[{index}]"),
                    before.get(index).unwrap_or(&null),
                    after.get(index).unwrap_or(&null),
                    changes,
                );
            }
        }
        _ => changes.push(change(&path, from, to)),
    }
}

fn change(path: &str, from: &Value, to: &Value) -> FieldChange {
    FieldChange {
        path: path.to_owned(),
        from: from.clone(),
        to: to.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{self, Source};

    const GOOD: &str = include_str!("validate/testdata/good.yaml");

    fn intent(text: &str) -> Intent {
        let source = Source {
            name: "good.yaml".into(),
            base: "/etc/weft".into(),
            text: text.into(),
        };
        let documents = read::parse(&[source]).expect("good YAML");
        crate::validate::intent(&documents).expect("a good intent")
    }

    fn shown(current: &Intent, desired: &Intent) -> Vec<String> {
        diff(current, desired).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_intents_need_nothing() {
        assert_eq!(diff(&intent(GOOD), &intent(GOOD)), []);
        assert_eq!(diff(&Intent::default(), &Intent::default()), []);
    }

    #[test]
    fn what_others_refer_to_comes_first_and_goes_last() {
        let all = [
            "Secret site-a-key",
            "Secret site-b-key",
            "MapServer ms",
            "Node site-a",
            "Network lan",
            "Network plant",
            "Guest guest-a",
            "Guest guest-c",
            "Policy machines",
        ];
        let created: Vec<String> = all.iter().map(|object| format!("+ {object}")).collect();
        assert_eq!(shown(&Intent::default(), &intent(GOOD)), created);
        let removed: Vec<String> = all.iter().rev().map(|object| format!("- {object}")).collect();
        assert_eq!(shown(&intent(GOOD), &Intent::default()), removed);
    }

    #[test]
    fn a_change_names_each_value() {
        let changed = GOOD
            .replace("mtu: 1420", "mtu: 1400")
            .replace(
                "addresses: [\"fd07::a\", \"10.7.1.10\"]",
                "addresses: [\"fd07::a\", \"10.7.1.11\"]",
            )
            .replace("labels: {region: north}", "labels: {region: north, floor: two}");
        assert_eq!(
            shown(&intent(GOOD), &intent(&changed)),
            [
                "~ Node site-a\n    + labels.floor: two",
                "~ Network plant\n    mtu: 1420 → 1400",
                "~ Guest guest-a\n    - nics[0].addresses: 10.7.1.10\n    + nics[0].addresses: 10.7.1.11",
            ]
        );
    }

    #[test]
    fn removals_come_before_creations_so_that_an_address_can_move() {
        let moved = GOOD.replace("{name: guest-c}", "{name: guest-d}");
        assert_eq!(
            shown(&intent(GOOD), &intent(&moved)),
            ["- Guest guest-c", "+ Guest guest-d"]
        );
    }

    #[test]
    fn a_change_of_order_alone_is_a_change() {
        let mut desired = intent(GOOD);
        if let Some(policy) = desired.policies.get_mut("machines") {
            policy.rules[0].services.reverse();
        }
        let actions = diff(&intent(GOOD), &desired);
        assert_eq!(actions.len(), 1);
        assert!(!actions[0].changes.is_empty(), "{actions:?}");
    }
}
