//! What happened.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One entry of the answer to `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"id": 7, "kind": "repaired", "message": "the bridge vnet-web is there again"}))]
pub struct Event {
    /// Its number; the daemon counts from 1.
    pub id: u64,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// What happened, in a sentence.
    pub message: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Another policy is in force, or ports came or went.
    Applied,
    /// What somebody else changed on the host was put right.
    Repaired,
    /// What vnet follows changed on the host: the addresses of an uplink, or the default route.
    Followed,
    /// Something is not as it should be.
    Problem,
}

/// Query of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only events after the one with this number.
    #[serde(default)]
    pub after: u64,
    /// Wait until there are any.
    #[serde(default)]
    pub wait: bool,
}
