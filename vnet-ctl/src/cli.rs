//! The command line: global flags and the tree of commands.
//!
//! Each command's own flags stand beside what it does, in `commands/`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::{
    commands::{
        acl, apply, completion, confirm, diff, drops, eip, export, flows, forward, ipam, man, monitor,
        network, port, rollback, run, schema, sg, status, teardown, validate, version,
    },
    output::{ColorWhen, Format},
};

/// Where the policy is when nobody says otherwise.
pub(crate) const DEFAULT_POLICY: &str = "/etc/vnet/policy.toml";
/// Where the daemon listens when nobody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/vnet/vnet.sock";
/// Where the daemon remembers what it assigned.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/vnet";
/// Where the kernel's BPF file system is mounted.
const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

const GLOBAL: &str = "Global options";

const EXAMPLES: &str = "\
Examples:
  vnet-ctl run --policy examples/quickstart.toml    start the daemon on a policy file
  vnet-ctl port list -o wide                        ports, their devices and addresses
  vnet-ctl sg add web ingress -p tcp --port 80 --from any
  vnet-ctl sg test --from client --to web-1 -p tcp --port 80
  vnet-ctl drops                                    what was dropped, and why

Exit codes:
  0 done   1 failed, or the answer is no   2 usage, or invalid policy
  3 daemon not reachable   4 not found   5 conflict";

/// vnet: networks, ports and security groups for containers and VMs, in eBPF.
///
/// One daemon (`vnet-ctl run`) puts a policy file in force; every other command asks it or edits that
/// file. Ingress and egress are always as seen from the workload.
#[derive(Debug, Parser)]
#[command(name = "vnet-ctl", version, propagate_version = false, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Debug)]
pub(crate) struct Globals {
    /// The policy file [default: the running daemon's, else /etc/vnet/policy.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) policy: Option<PathBuf>,
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", env = "VNET_SOCKET", default_value = DEFAULT_SOCKET)]
    #[arg(help_heading = GLOBAL)]
    pub(crate) socket: PathBuf,
    /// How to print answers: table, wide (more columns), json, yaml, or name (bare names)
    #[arg(short = 'o', long = "output", global = true, value_name = "FORMAT", value_enum)]
    #[arg(default_value_t, hide_possible_values = true, help_heading = GLOBAL)]
    pub(crate) format: Format,
    /// Print answers and errors only, no notes
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Show what would change, and change nothing
    #[arg(long, global = true, action = ArgAction::SetTrue, help_heading = GLOBAL)]
    pub(crate) dry_run: bool,
    /// When to use colors: auto (on a terminal, unless NO_COLOR is set), always, or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    #[arg(help_heading = GLOBAL)]
    pub(crate) color: ColorWhen,
}

/// Where the daemon keeps its things.
#[derive(Args, Clone, Debug)]
pub(crate) struct Places {
    /// Folder of what the daemon remembers: addresses it assigned, namespaces it created
    #[arg(long, value_name = "DIR", env = "VNET_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Mount point of the BPF file system; vnet's pins stand under vnet/ in it
    #[arg(long, value_name = "DIR", env = "VNET_BPFFS", default_value = DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::Command),
    Validate(validate::Command),
    Schema(schema::Command),
    Apply(apply::Command),
    Confirm(confirm::Command),
    Rollback(rollback::Command),
    Diff(diff::Command),
    Export(export::Command),
    Status(status::Command),
    /// Security groups and their rules
    #[command(subcommand, alias = "security-group")]
    Sg(sg::Command),
    /// Ordered allow and deny rules that come before the groups
    #[command(subcommand)]
    Acl(acl::Command),
    /// Ports: the workloads' network cards
    #[command(subcommand, alias = "ports")]
    Port(port::Command),
    /// Networks
    #[command(subcommand, alias = "networks")]
    Network(network::Command),
    /// Ports of the host that lead to workloads
    #[command(subcommand, alias = "forwards")]
    Forward(forward::Command),
    /// Elastic IPs: public addresses that stand for a port each
    #[command(subcommand, alias = "elastic-ip")]
    Eip(eip::Command),
    /// The pool of addresses
    #[command(subcommand)]
    Ipam(ipam::Command),
    Drops(drops::Command),
    Monitor(monitor::Command),
    /// Tracked connections
    #[command(subcommand, alias = "flow")]
    Flows(flows::Command),
    Teardown(teardown::Command),
    Completion(completion::Command),
    Man(man::Command),
    Version(version::Command),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command, at any depth, with its path.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() {
            found.push((path.clone(), command.clone()));
        }
        for sub in command.get_subcommands() {
            leaves(sub, &path, found);
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for (path, command) in found {
            assert!(command.get_about().is_some(), "{path} has no about");
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains("vnet-ctl "), "{path} shows no example");
        }
    }

    #[test]
    fn global_flags_work_after_the_command() {
        let cli =
            Cli::try_parse_from(["vnet-ctl", "port", "ls", "-o", "json", "--socket", "/s"]).expect("parses");
        assert_eq!((cli.globals.format, cli.globals.socket), (Format::Json, PathBuf::from("/s")));
    }
}
