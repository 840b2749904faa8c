//! The whole state of a world, for the reader of a failed test.

use std::{fmt::Write as _, fs};

use super::World;
use crate::snapshot::namespaces;

/// What the daemon knows, and what the kernel knows of the host.
const CLIENT: &[&[&str]] = &[
    &["status"],
    &["drops"],
    &["port", "list"],
    &["sg", "list"],
    &["forward", "list"],
    &["eip", "list"],
    &["flows", "list"],
];
const HOST: &[&[&str]] = &[
    &["ip", "-details", "link"],
    &["ip", "address"],
    &["ip", "route"],
    &["ip", "-6", "route"],
    &["ip", "neigh"],
    &["tc", "qdisc"],
    &["bpftool", "net"],
    &["nft", "list", "ruleset"],
];
const WORKLOAD: &[&[&str]] =
    &[&["ip", "address"], &["ip", "route"], &["ip", "-6", "route"], &["ip", "neigh"]];

/// Everything, as text.
pub(super) fn describe(world: &World) -> String {
    let mut text = format!("==== the world {} when its test failed\n", world.prefix);
    section(&mut text, "policy", &fs::read_to_string(world.policy_path()).unwrap_or_default());
    section(&mut text, "daemon's log", &fs::read_to_string(world.log_path()).unwrap_or_default());
    if world.socket().exists() {
        for args in CLIENT {
            section(&mut text, "client", &world.ctl(args).to_string());
        }
    }
    for argv in HOST {
        section(&mut text, "host", &world.host_exec(argv).to_string());
    }
    for name in namespaces(&world.prefix) {
        let namespace = crate::Namespace::named(&name);
        for argv in WORKLOAD {
            section(&mut text, &name, &namespace.exec(argv).to_string());
        }
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    let _ = writeln!(text, "==== {title}\n{body}");
}
