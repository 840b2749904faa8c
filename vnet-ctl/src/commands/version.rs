//! `version`: this program's, its datapath's, and the running daemon's.

use serde::Serialize;
use vnet_ctl::api::types::Status;

use super::Context;
use crate::{
    failure::{Done, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl version
  vnet-ctl version -o json";

/// Show the versions of this program, of its datapath and of the running daemon.
///
/// Needs no daemon. A daemon of another version is worth restarting: traffic goes on meanwhile.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    abi: u32,
    daemon: Option<Daemon>,
}

#[derive(Serialize)]
struct Daemon {
    version: String,
    abi: u32,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let status: Option<Status> = context.client.get("/v1/status").await.ok();
        let daemon = status.map(|status| Daemon { version: status.version, abi: status.abi });
        let told = |daemon: &Daemon| format!("{} (layout ABI {})", daemon.version, daemon.abi);
        let versions = Versions { version: env!("CARGO_PKG_VERSION"), abi: vnet_common::ABI_VERSION, daemon };
        let view = View::of(versions.version).fields([
            ("vnet-ctl", format!("{} (layout ABI {})", versions.version, versions.abi)),
            ("daemon", versions.daemon.as_ref().map_or_else(|| "not running".to_owned(), told)),
        ]);
        context.output.show(&versions, &view)?;
        Ok(Done::Success)
    }
}
