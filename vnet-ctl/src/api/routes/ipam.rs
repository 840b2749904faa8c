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
    types::{IpamFinding, Pool, PortRemoved},
};

/// `GET /v1/ipam`
pub(super) async fn show(State(daemon): Handle) -> Answer<Vec<Pool>> {
    Ok(Json(daemon.pools().await?))
}

/// `POST /v1/ipam/check`
pub(super) async fn check(State(daemon): Handle) -> Answer<Vec<IpamFinding>> {
    Ok(Json(daemon.check_addresses().await?))
}

/// `DELETE /v1/ipam/{address}`
pub(super) async fn release(State(daemon): Handle, Path(address): Path<String>) -> Answer<PortRemoved> {
    let not_an_address = |_| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("{address:?} is not an address"))
            .help("for example DELETE /v1/ipam/10.10.0.5")
    };
    let address: IpAddr = address.parse().map_err(not_an_address)?;
    Ok(Json(daemon.release(address).await?))
}
