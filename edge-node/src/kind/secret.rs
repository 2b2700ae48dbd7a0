//! Kind `Secret`: where a credential is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a credential is. The credential itself never stands in an object. Exactly one of its fields.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSpec {
    /// A file, readable by its owner only; one newline at its end is cut. A relative path starts from the folder of the
    /// document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An environment variable of `weft up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A systemd credential (`LoadCredential=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_credential: Option<String>,
}
