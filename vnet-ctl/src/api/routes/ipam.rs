//! The address pool.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};

use super::{Answer, Handle};
use crate::api::{
    Refusal,
    types::{ApiError, IpamFinding, Pool, PortRemoved},
};

/// The address pool: which addresses there are, and who has them
#[utoipa::path(get, path = "/v1/ipam", tag = "networks", responses((status = 200, description = "One entry for each subnet", body = [Pool])))]
pub(super) async fn show(State(daemon): Handle) -> Answer<Vec<Pool>> {
    Ok(Json(daemon.pools().await?))
}

/// Look for addresses that are not as they should be
///
/// Nothing is changed.
#[utoipa::path(post, path = "/v1/ipam/check", tag = "networks", responses((status = 200, description = "What was found, if anything", body = [IpamFinding])))]
pub(super) async fn check(State(daemon): Handle) -> Answer<Vec<IpamFinding>> {
    Ok(Json(daemon.check_addresses().await?))
}

/// Free an address whose workload is gone
///
/// The port of a runtime that had it is removed.
#[utoipa::path(delete, path = "/v1/ipam/{address}", tag = "networks", params(("address" = String, Path, description = "The address")),
    responses((status = 200, description = "It is free", body = PortRemoved),
    (status = 404, description = "No port has it", body = ApiError),
    (status = 409, description = "Its workload is there, or the policy file declares the port", body = ApiError)))]
pub(super) async fn release(State(daemon): Handle, Path(address): Path<String>) -> Answer<PortRemoved> {
    let not_an_address = |_| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("{address:?} is not an address"))
            .help("for example DELETE /v1/ipam/10.10.0.5")
    };
    let address: IpAddr = address.parse().map_err(not_an_address)?;
    Ok(Json(daemon.release(address).await?))
}
