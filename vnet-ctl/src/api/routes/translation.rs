//! Forwards and elastic IPs as they are in force.

use axum::{Json, extract::State};

use super::{Answer, Handle};
use crate::api::types::{ElasticIpInfo, ForwardInfo};

/// The forwards in force
#[utoipa::path(get, path = "/v1/forwards", tag = "networks", responses((status = 200, description = "All of them", body = [ForwardInfo])))]
pub(super) async fn forwards(State(daemon): Handle) -> Answer<Vec<ForwardInfo>> {
    Ok(Json(daemon.forwards()))
}

/// The elastic IPs in force
#[utoipa::path(get, path = "/v1/elastic_ips", tag = "networks", responses((status = 200, description = "All of them", body = [ElasticIpInfo])))]
pub(super) async fn elastic_ips(State(daemon): Handle) -> Answer<Vec<ElasticIpInfo>> {
    Ok(Json(daemon.elastic_ips()))
}
