//! The words of the API: what travels as JSON between the daemon and its clients, one file per concept.
//!
//! Field names are stable snake_case. A client of an older version ignores fields it does not know.

mod drops;
mod errors;
mod events;
mod flows;
mod ipam;
mod networks;
mod policy;
mod ports;
mod progress;
mod status;
mod translation;

pub use self::{
    drops::{DropCount, DropReport, PortDrops},
    errors::ApiError,
    events::{Event, EventKind, EventsQuery},
    flows::{FlowInfo, FlowsQuery, FlowsRemoved, Translated},
    ipam::{IpamFinding, Lease, LeaseState, Pool},
    networks::{NetworkInfo, SubnetInfo},
    policy::{Applied, Confirmed, PolicyDiff, PolicyInForce, PolicyUpdate},
    ports::{
        AttachInfo, POLICY_ORIGIN, PortCreated, PortInfo, PortRemoved, PortState, PortStats, PortVlan,
        RuntimeAttach, RuntimePort, Traffic,
    },
    progress::{ProgressInfo, StageTime},
    status::{FlowCounts, Memory, PendingInfo, ShutdownQuery, Status, TeardownReport, UplinkInfo},
    translation::{BackendInfo, ElasticIpInfo, ForwardInfo},
};
pub use crate::policy::Diagnostic;
