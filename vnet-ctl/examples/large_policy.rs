//! Prints a policy with many rules, or with `--time` how long each step of compiling it takes:
//! `cargo run --release -p vnet-ctl --example large_policy -- 100000 [--time]`.

#[path = "../tests/bench/large.rs"]
mod large;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use vnet_common::{Delivery, MacAddr};
use vnet_ctl::{
    compile::{Bridge, Compiler, Devices, PortDevice, assign},
    policy::{Policy, parse},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let rules = args.next().ok_or("usage: large_policy RULES [--time]")?.parse()?;
    let text = large::policy(rules);
    if args.next().is_none() {
        print!("{text}");
        return Ok(());
    }
    println!("{rules} rules, {:.1} MB", text.len() as f64 / 1e6);
    let policy = timed("parse and validate", || parse(&text, Path::new("large.toml")))?.0;
    let assigned = timed("assign", || assign(&policy, &BTreeMap::new()))?;
    let devices = devices(&policy);
    let mut compiler = Compiler::default();
    timed("compile", || compiler.update(&policy, &assigned, &devices))?;
    let tables = compiler.tables();
    println!("  {} entries, {} prefixes", tables.policy.len(), tables.peers.len());
    timed("settle", || compiler.settle());
    let mut before = policy;
    for (what, from, to) in [
        ("nothing", "", ""),
        ("a port of a rule", "protocol = \"tcp\"", "protocol = \"udp\""),
        (
            "a new prefix",
            "{ protocol",
            "{ protocol = \"tcp\", ports = [7], from = [\"192.0.2.7\"] },\n  { protocol",
        ),
        (
            "a prefix around others",
            "{ protocol",
            "{ protocol = \"tcp\", ports = [8], from = [\"96.0.0.0/4\"] },\n  { protocol",
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        println!("change {what}:");
        // As a datapath keeps it until the new one is in force.
        let in_force = Arc::clone(compiler.tables());
        let policy = timed("  parse and validate", || parse(&changed, Path::new("large.toml")))?.0;
        let assigned = timed("  assign", || assign(&policy, &assigned))?;
        timed("  compile", || compiler.update(&policy, &assigned, &devices))?;
        let difference = timed("  difference", || compiler.difference());
        println!("    {} entries differ", difference.len());
        timed("  forget the old tables", || drop(in_force));
        timed("  compile the old and the new once more, nothing shared", || {
            compiler.update(&before, &assigned, &devices)?;
            compiler.update(&policy, &assigned, &devices)
        })?;
        compiler.settle();
        before = policy;
    }
    Ok(())
}

fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = step();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

fn devices(policy: &Policy) -> Devices {
    let bridge = |(name, ifindex): (&String, u32)| {
        let [.., low] = ifindex.to_be_bytes();
        (name.clone(), Bridge { ifindex, mac: MacAddr([2, 0xbb, 0, 0, 0, low]) })
    };
    let port =
        |(name, ifindex): (&String, u32)| (name.clone(), PortDevice { ifindex, delivery: Delivery::Peer });
    Devices {
        bridges: policy.networks.keys().zip(10..).map(bridge).collect(),
        ports: policy.ports.keys().zip(1000..).map(port).collect(),
        ..Devices::default()
    }
}
