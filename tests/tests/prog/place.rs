//! Where the tests work: a network namespace with devices that carry the world's names, and a bpf filesystem
//! of its own.

use std::{path::Path, process::Command};

use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use vnet_tests::cases::world::Devices;

/// Moves the calling thread into namespaces of its own, with a bpf filesystem at `bpffs`.
pub(crate) fn leave_the_host(bpffs: &Path) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare: the suite needs root");
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .expect("keep mounts to ourselves");
    mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), nothing).expect("mount a bpf filesystem");
}

/// Creates the world's devices: bridges for networks, veths for ports, a tap for T. The uplink is up, as devices that run
/// XDP programs have to be.
pub(crate) fn create_devices() -> Devices {
    const DEVICES: [(&str, &[&str]); 9] = [
        ("w", &["type", "bridge"]),
        ("x", &["type", "bridge"]),
        ("a", &["type", "veth", "peer", "name", "a-inside"]),
        ("b", &["type", "veth", "peer", "name", "b-inside"]),
        ("t", &[]),
        ("c", &["type", "veth", "peer", "name", "c-inside"]),
        ("u", &["type", "veth", "peer", "name", "u-outside"]),
        ("stranger", &["type", "veth", "peer", "name", "s-inside"]),
        ("k", &["type", "veth", "peer", "name", "k-outside"]),
    ];
    let devices = Devices(DEVICES.map(|(name, kind)| {
        match kind {
            [] => ip(&["tuntap", "add", "dev", name, "mode", "tap"]),
            kind => ip(&[&["link", "add", "name", name], kind].concat()),
        }
        if_nametoindex(name).expect("the device that was just made")
    }));
    ip(&["link", "set", "u", "up"]);
    devices
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status().expect("run ip");
    assert!(status.success(), "ip {}", args.join(" "));
}
