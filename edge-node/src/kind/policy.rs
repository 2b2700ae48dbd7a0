//! Kind `Policy`: who may talk to whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may talk to whom in a network. What no rule of any policy of the network allows is denied; replies of an allowed
/// connection pass. Policies are read in the order of their names, the first rule that fits decides.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Name of the `Network` object.
    pub network: String,
    /// Rules in order.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What the whole policy of the network must answer; an intent that fails one is refused.
    #[serde(default)]
    pub tests: Vec<Test>,
}

/// A rule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Sources; anybody when empty.
    #[serde(default)]
    pub from: Vec<Selector>,
    /// Destinations; anybody when empty.
    #[serde(default)]
    pub to: Vec<Selector>,
    /// What: `icmp`, `tcp/5201`, `udp/53`, `tcp/8000-8100`, `tcp`, `protocol/47`; everything when empty.
    #[serde(default)]
    pub services: Vec<String>,
    /// Whether it may.
    pub action: Action,
}

/// Whether something may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Who: exactly one of its fields.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Addresses, such as `fd07::/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A guest of this node, one of the network's names, or a member of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Guests of this node and members of the network with this label: `role=machine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Every EID that is bound to a node: a member's name, or a node key `p256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A test.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    /// Who would send.
    pub from: Selector,
    /// To whom.
    pub to: Selector,
    /// What; anything when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What must come out.
    pub expect: Action,
}
