//! Open vSwitch with its userspace datapath, which needs no module of the kernel.

use std::path::Path;

use anyhow::{Context as _, Result};
use vnet_tests::{Namespace, Running};

use crate::{
    peers::{Group, Peer, Ready},
    place::Place,
    shell::sh,
};

/// Where Debian keeps the schema of the switch's database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A learning switch; segments stay large on their way, as with every other peer.
pub(super) fn userspace() -> Peer {
    let set_up = || {
        let place = Place::new("version = 1\n")?;
        let folder = place.world().folder().to_owned();
        let daemons = start(place.switch(), &folder)?;
        let ends = place.one_subnet()?;
        let switch = place.switch().clone();
        // Packets that its table of flows has decided.
        let counted = move || {
            let target = folder.join("switch.ctl");
            let shown = sh(&switch, &format!("ovs-appctl -t {} dpctl/show", target.display()))?;
            let hits = shown.split("hit:").nth(1).and_then(|rest| rest.split(' ').next());
            hits.context("no hits")?.parse().context("hits")
        };
        let ready = Ready::without_rules(place, ends);
        Ok(Ready { counted: Some(Box::new(counted)), place: Box::new((daemons, ready.place)), ..ready })
    };
    let what = "Open vSwitch, userspace datapath over AF_PACKET, segmentation offload on";
    let needs = &["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl"];
    Peer::new(Group::Paths, "open vswitch (userspace)", what, Box::new(set_up)).needs(needs)
}

/// Database and switch, which end with what this returns.
fn start(switch: &Namespace, folder: &Path) -> Result<[Running; 2]> {
    let shown = folder.display();
    sh(switch, &format!("ovsdb-tool create {shown}/conf.db {SCHEMA}"))?;
    let run = |program: &str, args: &[String]| {
        let mut command = switch.command(program);
        command.args(args).args(["--no-chdir", "-vconsole:info"]);
        for name in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(name, folder);
        }
        Running::start(command)
    };
    let database = run(
        "ovsdb-server",
        &[
            format!("{shown}/conf.db"),
            format!("--remote=punix:{shown}/db.sock"),
            format!("--unixctl={shown}/db.ctl"),
        ],
    );
    let vsctl = format!("ovs-vsctl --timeout=20 --db=unix:{shown}/db.sock --retry");
    let tso = "set Open_vSwitch . other_config:userspace-tso-enable=true";
    sh(switch, &format!("{vsctl} --no-wait init; {vsctl} --no-wait {tso}"))?;
    let daemon =
        run("ovs-vswitchd", &[format!("unix:{shown}/db.sock"), format!("--unixctl={shown}/switch.ctl")]);
    let bridge = "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 va -- add-port br0 vb";
    sh(switch, &format!("{vsctl} {bridge}"))?;
    Ok([daemon, database])
}
