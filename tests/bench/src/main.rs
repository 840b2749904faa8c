//! Measures what vnet and its peers do with real packets; `cargo xtask bench` builds it, runs it, and makes
//! tables and plots of what it prints.
//!
//! ```text
//!   A (client) eth0 ~~veth~~ va  S (the switch)  vb ~~veth~~ eth0 B (server)
//! ```
//!
//! Every peer has namespaces of its own that look like this; only what S does differs. For networks that go over
//! two hosts, S is two of them with a wire between them. In *direct*, the veth
//! leads from A straight to B: it is the limit, and what everything else is told as a part of. The machines on
//! which this runs are shared and drift, so the ratio is taken within a round, in which every peer is
//! measured once, in an order drawn anew, and *direct* at the beginning and at the end. Peers with very many flows have
//! rounds of their own. A flood is measured beside the time before it.
//!
//! Standard output gets one JSON object; progress goes to standard error.

mod flood;
mod load;
mod peers;
mod place;
mod progress;
mod rounds;
mod shell;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use self::peers::{Group, Peer};

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Extent {
    /// The peers that everybody has, in less than three minutes.
    Quick,
    /// All peers, all numbers of rules and flows, and floods.
    Full,
}

#[derive(Parser)]
#[command(about = "Measures vnet and its peers with real packets, and prints JSON")]
struct Cli {
    /// How much of everything
    #[arg(value_enum, default_value = "quick")]
    extent: Extent,
    /// Only peers whose name contains one of these, and whom they are held against; direct is there beside them
    #[arg(long)]
    only: Vec<String>,
    /// Only tell which peers there are
    #[arg(long)]
    list: bool,
    /// Rounds that have to count
    #[arg(long)]
    rounds: Option<usize>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    runs: Vec<rounds::Run>,
    floods: Vec<flood::Flooded>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runs = peers::all(cli.extent, &cli.only);
    if cli.list {
        let floods = flood::peers(cli.extent, &cli.only);
        let named = runs.into_iter().flatten().chain(floods.into_iter().map(|(peer, _)| peer));
        named.for_each(|peer| println!("{:<28}  {}", peer.name, peer.what));
        return Ok(());
    }
    let plan = rounds::Plan::of(cli.extent, cli.rounds);
    let run = |peers: &Vec<Peer>| {
        let has_flows = peers.iter().any(|peer| peer.group == Group::Flows);
        let _room = has_flows.then(peers::flows::room).transpose()?;
        rounds::run(&plan, peers)
    };
    let runs = runs.iter().map(run).collect::<Result<_>>()?;
    let report = Report { runs, floods: flood::run(&plan, cli.extent, &cli.only)? };
    println!("{}", serde_json::to_string(&report).context("write JSON")?);
    Ok(())
}
