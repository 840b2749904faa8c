//! What the daemon answers to those who only ask.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use vnet_common::ABI_VERSION;

use super::{Daemon, at_length, view::drops_at};
use crate::{
    api::types::{
        DropReport, ElasticIpInfo, Event, FlowInfo, ForwardInfo, Memory, NetworkInfo, PortInfo, PortState,
        PortStats, Status, Traffic, UplinkInfo,
    },
    datapath::{Datapath, Early, FlowFilter, memory_of_process, names::XdpMode},
    plan::Desired,
    state::State,
};

/// A client that asked for the next event and is gone is noticed by then.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What does not work on this host, and why.
pub(super) fn troubles(datapath: &Datapath) -> Vec<String> {
    let sockets = datapath.sockets_trouble().map(|reason| {
        format!("the host's own processes do not reach its forwards and elastic IPs: {reason}")
    });
    let earlies =
        datapath.earlies().filter(|early| early.is_trouble).map(|Early { device, reason, .. }| {
            format!("uplink {device} does without XDP: {}", reason.as_deref().unwrap_or("nobody says why"))
        });
    sockets.into_iter().chain(earlies).collect()
}

/// An uplink, as people see it.
fn uplink(Early { device, mode, reason, .. }: &Early) -> UplinkInfo {
    let xdp = mode.map_or("off", XdpMode::label).to_owned();
    UplinkInfo { device: device.clone(), xdp, reason: reason.clone() }
}

impl Daemon {
    /// How things stand.
    pub(crate) fn status(&self) -> Result<Status> {
        let view = self.view();
        let pending = self.history.pending_info()?;
        let datapath = self.datapath.lock();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            pid: std::process::id(),
            policy_path: self.options.policy.clone(),
            state_dir: self.options.state_dir.clone(),
            generation: datapath.generation(),
            networks: view.policy.networks.len(),
            ports: view.policy.ports.len(),
            rules: view.policy.rule_count(),
            flows: datapath.flow_counts()?,
            memory: Memory { tables: datapath.memory()?, daemon: memory_of_process()? },
            uptime_secs: self.started.elapsed().as_secs(),
            pending,
            uplinks: datapath.earlies().map(uplink).collect(),
            problems: troubles(&datapath),
        })
    }

    /// The networks in force.
    pub(crate) fn networks(&self) -> Vec<NetworkInfo> {
        self.view().networks()
    }

    /// The forwards in force.
    pub(crate) fn forwards(&self) -> Vec<ForwardInfo> {
        self.view().forwards()
    }

    /// The elastic IPs in force.
    pub(crate) fn elastic_ips(&self) -> Vec<ElasticIpInfo> {
        self.view().elastic_ips()
    }

    /// The ports in force, with the state of their devices now.
    pub(crate) async fn ports(&self) -> Result<Vec<PortInfo>> {
        let observed = self.host.observe_again(&Desired::default(), &State::default()).await?;
        Ok(self.view().ports(|ifindex| match observed.links.get(&ifindex) {
            Some(link) if link.up => PortState::Up,
            Some(_) => PortState::Down,
            None => PortState::Missing,
        }))
    }

    /// Traffic and drops of the port called `name`; `None` if the policy has no such port.
    pub(crate) async fn port_stats(&self, name: &str) -> Result<Option<PortStats>> {
        let view = self.view();
        let Some((ifindex, device)) = view.port_device(name) else { return Ok(None) };
        // A device that is gone has carried nothing.
        let counters = self.host.counters(&device).await.unwrap_or_default().seen_by_workload();
        let filter = FlowFilter { port: Some(name.to_owned()), ..FlowFilter::default() };
        let flows = self.flows(&filter)?.len() as u64;
        let drops = self.datapath.lock().drops_by_device()?;
        Ok(Some(PortStats {
            name: name.to_owned(),
            flows,
            ingress: Traffic { packets: counters.rx_packets, bytes: counters.rx_bytes },
            egress: Traffic { packets: counters.tx_packets, bytes: counters.tx_bytes },
            drops: drops_at(ifindex, &drops),
            device,
            ifindex,
        }))
    }

    /// The events after the one numbered `id`; with `wait`, as soon as there are any, or none after a while.
    pub(crate) async fn events(&self, id: u64, wait: bool) -> Vec<Event> {
        if wait {
            let mut stopping = self.stopping.subscribe();
            tokio::select! {
                () = self.events.wait_after(id) => {}
                _ = stopping.wait_for(|&stop| stop) => {}
                () = sleep(LONGEST_WAIT) => {}
            }
        }
        self.events.after(id)
    }

    /// What was dropped, and why.
    pub(crate) fn drops(&self) -> Result<DropReport> {
        let datapath = self.datapath.lock();
        Ok(self.view().drops(&datapath.drops()?, &datapath.drops_by_device()?))
    }

    /// The tracked flows that `filter` means.
    pub(crate) fn flows(&self, filter: &FlowFilter) -> Result<Vec<FlowInfo>> {
        let view = self.view();
        let datapath = self.datapath.lock();
        at_length(|| datapath.flows(&|ifindex| view.party(ifindex), &|flow| filter.matches(flow)))
    }

    /// Forgets the flows that `filter` means.
    pub(crate) fn flush_flows(&self, filter: &FlowFilter) -> Result<u64> {
        let view = self.view();
        self.datapath.lock().flush_flows(&|ifindex| view.party(ifindex), &|flow| filter.matches(flow))
    }
}
