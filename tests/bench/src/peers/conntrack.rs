//! The kernel's own table of flows, which iptables and nft look into.
//!
//! Each namespace counts its flows for itself, but how many there may be, and in how many buckets all of them are, holds
//! for the whole machine and is told in its first namespace only.

use std::fs;

use anyhow::{Context as _, Result};
use vnet_tests::Namespace;

use crate::{peers::Counter, shell::sh};

/// What the machine is told: buckets, and flows of each namespace.
const SETTINGS: [&str; 2] =
    ["/proc/sys/net/netfilter/nf_conntrack_buckets", "/proc/sys/net/netfilter/nf_conntrack_max"];

/// The machine's table has another size until this is dropped.
#[derive(Debug)]
pub(crate) struct Size {
    /// What [`SETTINGS`] said before.
    before: Vec<String>,
}

impl Size {
    /// Room for `flows` flows in each namespace, and a bucket for each.
    pub(crate) fn set(flows: u32) -> Result<Self> {
        let read = |path: &&str| {
            let text = fs::read_to_string(path);
            text.with_context(|| format!("read {path}, which `modprobe nf_conntrack` makes"))
        };
        // Before anything is written, so that whatever fails then, all is as it was.
        let size = Self { before: SETTINGS.iter().map(read).collect::<Result<_>>()? };
        SETTINGS.iter().try_for_each(|path| write(path, &flows.to_string()))?;
        Ok(size)
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        for (path, before) in SETTINGS.iter().zip(&self.before) {
            if let Err(error) = write(path, before.trim()) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn write(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("write {value} to {path}"))
}

/// Keeps flows over UDP in `namespace` for ten minutes, whether or not something passes on them.
pub(super) fn keep(namespace: &Namespace) -> Result<()> {
    let script = "for timeout in udp_timeout udp_timeout_stream; do
        echo 600 > /proc/sys/net/netfilter/nf_conntrack_$timeout; done";
    sh(namespace, script).map(drop)
}

/// How many flows `namespace` knows.
pub(super) fn counter(namespace: Namespace) -> Counter {
    const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
    Box::new(move || {
        let text = namespace.enter(|| fs::read_to_string(COUNT)).context(COUNT)?;
        text.trim().parse().context(COUNT)
    })
}
