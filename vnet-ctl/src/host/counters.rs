//! Packet counters of a port's device.

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::{
    Host,
    links::{self, kernel},
};

/// What a device counts, as it sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
}

/// The counters of both ends of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// The host side. What `bpf_redirect_peer` sends to the workload does not pass it.
    pub host: Counters,
    /// The workload's interface, where it is the other end of a veth in another namespace.
    pub workload: Option<Counters>,
}

impl PortCounters {
    /// What the workload received and sent: its own count, else that of the host side turned round.
    #[must_use]
    pub fn seen_by_workload(&self) -> Counters {
        self.workload.unwrap_or(Counters {
            rx_packets: self.host.tx_packets,
            rx_bytes: self.host.tx_bytes,
            tx_packets: self.host.rx_packets,
            tx_bytes: self.host.rx_bytes,
        })
    }
}

impl Host {
    /// The counters of the port behind `device`.
    ///
    /// # Errors
    /// When the device is gone or the kernel does not answer.
    pub async fn counters(&self, device: &str) -> Result<PortCounters> {
        let link = links::by_name(&self.netlink, device).await?;
        let link = link.with_context(|| format!("there is no device {device}"))?;
        let (mut peer, mut nsid) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Link(ifindex) => peer = Some(*ifindex),
                LinkAttribute::LinkNetNsId(id) => nsid = Some(*id),
                _ => {}
            }
        }
        let workload = match (peer, nsid) {
            (Some(peer), Some(nsid)) => self.inside(peer, nsid).await?,
            _ => None,
        };
        Ok(PortCounters { host: counters(&link), workload })
    }

    /// The counters of a link in another namespace, known by the host's id of that.
    async fn inside(&self, ifindex: u32, nsid: i32) -> Result<Option<Counters>> {
        let mut request = self.netlink.link().get().match_index(ifindex);
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(nsid));
        let link =
            request.execute().try_next().await.map_err(kernel).context("count inside the namespace")?;
        Ok(link.as_ref().map(counters))
    }
}

fn counters(link: &LinkMessage) -> Counters {
    let stats = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(stats),
        _ => None,
    });
    stats.map_or_else(Counters::default, |stats| Counters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
    })
}
