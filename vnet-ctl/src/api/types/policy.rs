//! A policy on its way into force.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "version = 1\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.10.0.0/24\"]\n", "origin": "/etc/vnet/policy.toml"}))]
pub struct PolicyUpdate {
    /// The whole policy file.
    pub text: String,
    /// Where the text comes from; errors name it.
    #[schema(value_type = String)]
    pub origin: PathBuf,
}

/// Answer to `POST /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"generation": 2, "changes": ["create bridge vnet-web"], "warnings": []}))]
pub struct Applied {
    /// The generation now in force.
    pub generation: u32,
    /// What was done, one sentence each; empty when all of it held already.
    pub changes: Vec<String>,
    /// What the author of the policy may not have meant.
    pub warnings: Vec<String>,
}
