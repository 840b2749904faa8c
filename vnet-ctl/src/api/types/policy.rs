//! A policy on its way into force.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StageTime;

/// Body of `POST /v1/policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "version = 1\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.10.0.0/24\"]\n", "origin": "/etc/vnet/policy.toml"}))]
pub struct PolicyUpdate {
    /// The whole policy file.
    pub text: String,
    /// Where the text comes from; errors name it.
    #[schema(value_type = String)]
    pub origin: PathBuf,
    /// Roll it back after this many seconds, 1 to 86400, unless it is confirmed. Implies `install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_secs: Option<u64>,
    /// Put it in the policy file as well, whose lock the client must not hold.
    #[serde(default)]
    pub install: bool,
}

/// Answer to `POST /v1/policy` and `POST /v1/policy/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"generation": 2, "changes": ["create bridge vnet-web"], "warnings": []}))]
pub struct Applied {
    /// The generation now in force.
    pub generation: u32,
    /// What was done, one sentence each; empty when all of it held already.
    pub changes: Vec<String>,
    /// What the author of the policy may not have meant.
    pub warnings: Vec<String>,
    /// Within how many seconds it has to be confirmed, if it has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_secs: Option<u64>,
    /// How long each stage took, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
}

/// Answer to `GET /v1/policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyInForce {
    /// The text in force, as it was written.
    pub text: String,
    /// Where it comes from.
    #[schema(value_type = String)]
    pub origin: PathBuf,
    /// The generation in force.
    pub generation: u32,
    /// What the text and the ports of runtimes make together: defaults filled in, addresses assigned.
    #[schema(value_type = Object)]
    pub effective: serde_json::Value,
}

/// Answer to `POST /v1/policy/confirm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confirmed {
    /// The generation that stays in force.
    pub generation: u32,
}

/// Answer to `POST /v1/policy/diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDiff {
    /// Whether anything would change; a text that differs in comments alone changes nothing.
    pub different: bool,
    /// Whether the text is another than the one in force.
    pub text_differs: bool,
    /// What would change in the policy, one sentence each.
    pub changes: Vec<String>,
    /// What would be done on the host, one sentence each.
    pub devices: Vec<String>,
    /// What the author of the policy may not have meant.
    pub warnings: Vec<String>,
}
