//! Keeps what is in force in force: somebody else's changes are noticed and put right.
//!
//! Decides when to look. Netlink and inotify tell where something changed ([`crate::host::monitor`]); if it is a
//! place of vnet's, the host is looked at a moment later, since changes come in groups. What the datapath runs
//! tells nobody when it changes, so it is asked every half second, which on a host with a thousand ports takes
//! a few milliseconds.
//!
//! What is missing or altered comes back, what somebody added stays ([`crate::plan::Plan::restoring`]). Meanwhile
//! everything stays closed: a device without its program has others around it that drop what it lets through,
//! and one whose program cannot be attached again is brought down. vnet's own changes are heard as well; the
//! look that follows finds nothing to do, and says nothing. Looking takes at most a tenth of the time,
//! whatever others do to the host.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tokio::time::{Instant as Deadline, sleep_until};

use super::{Daemon, desired::bridge, error::ApplyError, view::View, ways_out::news};
use crate::{
    api::types::EventKind,
    datapath::{Mended, Preflight, Unmended, names::Hook},
    host::monitor::{BUFFER, Dirt, Monitor, is_watchable},
    plan::{Action, NETNS_DIR, NetnsRef},
    policy::Attach,
};

/// Changes come in groups; how long to wait for the rest.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often the datapath is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Looking at the datapath takes at most this part of the time.
const LOOK_SHARE: u32 = 100;
/// Looking at the host takes at most this part of the time.
const RESTORE_SHARE: u32 = 10;
/// However long a look takes, the next one is not further away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After a repair that failed, the first and the longest time until it is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Repairs told one by one; of more, the number is told.
const TOLD: usize = 50;
/// An overrun goes on for as long as its cause does. It is told once in this time.
const OVERRUN_PERIOD: Duration = Duration::from_secs(60);

/// Keeps what is in force in force, until the daemon ends.
pub(super) async fn keep(daemon: Arc<Daemon>) {
    let monitor = match Monitor::open(BUFFER) {
        Ok(monitor) => {
            // What was seen before anybody listened may have changed since.
            daemon.host.forget_insides();
            let hears_all = Preflight::new(&daemon.options.bpffs).hears_namespaces();
            daemon.host.set_watched(hears_all);
            if !hears_all {
                let message =
                    "changes in the namespaces of workloads are not noticed: give vnet CAP_NET_BROADCAST";
                daemon.events.tell(EventKind::Problem, message);
            }
            Some(monitor)
        }
        Err(error) => {
            let message =
                format!("changes of the host are not noticed, only those of the datapath: {error:#}");
            daemon.events.tell(EventKind::Problem, message);
            None
        }
    };
    Keeper::new(daemon, monitor).run().await;
}

/// The task's memory.
struct Keeper {
    daemon: Arc<Daemon>,
    places: Places,
    monitor: Option<Monitor>,
    /// When to look at the datapath.
    look_at: Deadline,
    /// When to look at the host, if there is a reason.
    restore_at: Option<Deadline>,
    /// Not before this.
    rested_at: Deadline,
    retry: Duration,
    /// What keeps the host from being put right, as it was told.
    problem: Option<String>,
    /// Programs that could not be put right, as they were told.
    unmended: BTreeSet<String>,
    overrun: Option<Instant>,
}

impl Keeper {
    fn new(daemon: Arc<Daemon>, monitor: Option<Monitor>) -> Self {
        let now = Deadline::now();
        Self {
            daemon,
            places: Places::default(),
            monitor,
            look_at: now + LOOK_PERIOD,
            // What changed before anybody listened.
            restore_at: Some(now + DEBOUNCE),
            rested_at: now,
            retry: RETRY.0,
            problem: None,
            unmended: BTreeSet::new(),
            overrun: None,
        }
    }

    async fn run(mut self) {
        loop {
            self.watch();
            let restore_at = self.restore_at.map(|at| at.max(self.rested_at));
            tokio::select! {
                dirt = next(&mut self.monitor) => self.note(dirt),
                () = self.daemon.in_doubt.notified() => {
                    self.restore_at.get_or_insert_with(|| Deadline::now() + DEBOUNCE);
                }
                () = sleep_until(self.look_at) => self.look().await,
                () = sleep_until(restore_at.unwrap_or(self.look_at)), if restore_at.is_some() => {
                    self.restore().await;
                }
            }
        }
    }

    /// Watches the folders in which the ports' namespaces are, or will be.
    fn watch(&mut self) {
        let view = self.daemon.view();
        if !Arc::ptr_eq(&view, &self.places.view) {
            self.places = Places::of(view);
        }
        if let Some(monitor) = &mut self.monitor {
            monitor.watch(&self.places.folders);
        }
    }

    fn note(&mut self, dirt: Result<Dirt>) {
        let dirt = match dirt {
            Ok(dirt) => dirt,
            Err(error) => {
                let message = format!("changes of the host are not noticed any more: {error:#}");
                self.daemon.events.tell(EventKind::Problem, message);
                self.monitor = None;
                self.daemon.host.set_watched(false);
                return;
            }
        };
        if dirt.overrun && self.overrun.is_none_or(|told| told.elapsed() > OVERRUN_PERIOD) {
            self.overrun = Some(Instant::now());
            let message = "the host changes faster than the kernel can tell: everything is looked at again";
            self.daemon.events.tell(EventKind::Problem, message);
        }
        for nsid in &dirt.namespaces {
            self.daemon.host.forget_inside(*nsid);
        }
        if dirt.overrun || !dirt.files.is_empty() {
            self.daemon.host.forget_insides();
        }
        if self.places.concern(&dirt) {
            self.restore_at.get_or_insert_with(|| Deadline::now() + DEBOUNCE);
        }
    }

    /// Looks at the datapath, and puts it right.
    async fn look(&mut self) {
        let begun = Instant::now();
        if let Some((mended, unmended)) = look_after(&self.daemon).await {
            let view = self.daemon.view();
            let name = |ifindex, device: &str| view.place(ifindex, device);
            self.tell_repairs(mended.iter().map(|mended| mended.describe(&name)).collect());
            self.close(unmended, &view).await;
        }
        let pause = (begun.elapsed() * LOOK_SHARE).clamp(LOOK_PERIOD, LONGEST_PAUSE);
        self.look_at = Deadline::now() + pause;
    }

    /// Brings ports down whose programs cannot be attached: what they send is dropped further on, but what
    /// reaches them is not judged. They come up with their programs.
    async fn close(&mut self, unmended: Vec<Unmended>, view: &View) {
        let name = |ifindex, device: &str| view.place(ifindex, device);
        let problems: BTreeSet<String> = unmended.iter().map(|unmended| unmended.describe(&name)).collect();
        for problem in problems.difference(&self.unmended) {
            self.daemon.events.tell(EventKind::Problem, problem.as_str());
        }
        self.unmended = problems;
        let places = unmended.iter().filter_map(Unmended::place);
        let open = places.filter(|(.., hook)| matches!(hook, Hook::FromPort | Hook::ToPort));
        let down: Vec<_> = open.map(|(_, device, _)| Action::Down { device: device.clone() }).collect();
        if !down.is_empty() {
            let mut datapath = self.daemon.datapath.clone();
            for failure in self.daemon.host.remove(&down, &mut datapath).await {
                tracing::warn!("{failure}");
            }
        }
        if !self.unmended.is_empty() {
            self.restore_at.get_or_insert_with(|| Deadline::now() + RETRY.0);
        }
    }

    /// Looks at the host, and puts it right.
    async fn restore(&mut self) {
        let begun = Instant::now();
        // What comes from here on is another reason.
        self.restore_at = None;
        match self.daemon.restore().await {
            Ok(Restored { repairs, look_again }) => {
                self.tell_repairs(repairs);
                let look_again = look_again.map(Deadline::from_std);
                self.restore_at = self.restore_at.into_iter().chain(look_again).min();
                if self.problem.take().is_some() {
                    self.daemon.events.tell(EventKind::Repaired, "the host is as it should be again");
                }
                self.retry = RETRY.0;
                let pause = (begun.elapsed() * RESTORE_SHARE).min(LONGEST_PAUSE);
                self.rested_at = Deadline::now() + pause;
            }
            Err(ApplyError::Stopping) => self.rested_at = Deadline::now() + RETRY.1,
            Err(error) => {
                let problem = error.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    let message = format!("the host cannot be put right, and is tried again: {problem}");
                    self.daemon.events.tell(EventKind::Problem, message);
                }
                self.problem = Some(problem);
                self.rested_at = Deadline::now() + self.retry;
                self.restore_at = Some(self.rested_at);
                self.retry = (self.retry * 2).min(RETRY.1);
            }
        }
    }

    fn tell_repairs(&self, repairs: Vec<String>) {
        let untold = repairs.len().saturating_sub(TOLD);
        for repair in repairs.into_iter().take(TOLD) {
            self.daemon.events.tell(EventKind::Repaired, repair);
        }
        if untold > 0 {
            self.daemon.events.tell(EventKind::Repaired, format!("and {untold} more"));
        }
    }
}

impl Daemon {
    /// Puts right what somebody else changed on the host.
    async fn restore(&self) -> Result<Restored, ApplyError> {
        let mut engine = self.engine.lock().await;
        let engine = engine.as_mut().ok_or(ApplyError::Stopping)?;
        let outcome = engine.restore().await;
        let (told, look_again) = engine.take_grace_news();
        let tell = |(kind, message)| self.events.tell(kind, message);
        told.into_iter().for_each(tell);
        let Some(outcome) = outcome? else { return Ok(Restored { repairs: Vec::new(), look_again }) };
        let followed = news(&self.view(), &outcome.view);
        self.publish(&outcome);
        followed.into_iter().for_each(tell);
        Ok(Restored { repairs: outcome.repairs, look_again })
    }
}

/// What came of a look at the host.
struct Restored {
    /// What was put right.
    repairs: Vec<String>,
    /// When to look again, whatever happens.
    look_again: Option<Instant>,
}

async fn next(monitor: &mut Option<Monitor>) -> Result<Dirt> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}

/// Looks after the datapath; `None` while a change is under way, which does so itself.
async fn look_after(daemon: &Arc<Daemon>) -> Option<(Vec<Mended>, Vec<Unmended>)> {
    let engine = daemon.engine.try_lock().ok()?;
    engine.as_ref()?;
    let datapath = daemon.datapath.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut datapath = datapath.lock();
        let unmended = datapath.look_after();
        (datapath.take_mended(), unmended)
    });
    let looked = looked.await.map_err(|error| anyhow!("look at the datapath: {error}"));
    let (mended, unmended) = match looked {
        Ok((mended, Ok(unmended))) => (mended, unmended),
        Ok((mended, Err(error))) => {
            tracing::warn!("look at the datapath: {error:#}");
            (mended, Vec::new())
        }
        Err(error) => {
            tracing::warn!("{error:#}");
            return None;
        }
    };
    Some((mended, unmended))
}

/// What is of vnet's, or of its ports, in the words of the monitor.
#[derive(Default)]
struct Places {
    view: Arc<View>,
    /// Names of devices, whether they are there or not.
    names: BTreeSet<String>,
    /// The files of the ports' namespaces, and their folders.
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    /// Whether it matters which addresses the host has.
    follows_addresses: bool,
    /// Whether it matters where the host's default route leads.
    follows_default_route: bool,
    /// Whether any network leads outside, or to other hosts over IP.
    leads_outside: bool,
}

impl Places {
    fn of(view: Arc<View>) -> Self {
        let mut places = Self { folders: [PathBuf::from(NETNS_DIR)].into(), ..Self::default() };
        let policy = &view.policy;
        for network in policy.networks.iter().map(|(name, network)| bridge(name, network)) {
            places.names.extend(network.devices().map(str::to_owned));
            places.leads_outside |= network.leads_outside();
            places.follows_default_route |= network.follows_default_route() || network.shares_lan();
            // Nobody on the LAN may have an address that is the host's.
            places.follows_addresses |= network.shares_lan();
        }
        places.follows_addresses |= !(policy.forwards.is_empty() && policy.elastic_ips.is_empty())
            || policy.networks.values().any(|network| !network.snat.is_empty());
        for port in view.policy.ports.values() {
            match &port.attach {
                Attach::Device { device } | Attach::Tap { tap: device, .. } => {
                    places.names.insert(device.clone());
                }
                Attach::Remote { .. } => {}
                Attach::Netns { netns, .. } => {
                    let file = NetnsRef::parse(&netns.to_string()).path();
                    places
                        .folders
                        .extend(file.parent().filter(|folder| is_watchable(folder)).map(Path::to_owned));
                    places.files.insert(file);
                }
            }
        }
        places.view = view;
        places
    }

    /// Whether something that changed is one of them.
    fn concern(&self, dirt: &Dirt) -> bool {
        let is_file = |changed: &PathBuf| {
            self.files.contains(changed) || self.folders.iter().any(|folder| folder.starts_with(changed))
        };
        dirt.overrun
            || dirt.links.iter().any(|ifindex| self.view.device_names.contains_key(ifindex))
            || !dirt.names.is_disjoint(&self.names)
            || !dirt.namespaces.is_disjoint(&self.view.namespaces)
            || (dirt.addresses && self.follows_addresses)
            || (dirt.default_routes && self.follows_default_route)
            || (dirt.rules && self.leads_outside)
            || dirt.files.iter().any(is_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    const POLICY: &str = r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]
[ports.web-1]
network = "web"
attach = { netns = "one" }
[ports.web-2]
network = "web"
attach = { device = "tap0" }
"#;

    #[test]
    fn only_what_is_of_vnet_is_a_reason_to_look() {
        let (policy, _) = policy::parse(POLICY, Path::new("policy.toml")).unwrap();
        let view = View {
            policy: policy.into(),
            device_names: [(7, "vnet-web".to_owned())].into(),
            namespaces: [3].into(),
            ..View::default()
        };
        let places = Places::of(view.into());
        let name = |name: &str| Dirt { names: [name.to_owned()].into(), ..Dirt::default() };
        let file = |file: &str| Dirt { files: [PathBuf::from(file)].into(), ..Dirt::default() };
        let link = |ifindex| Dirt { links: [ifindex].into(), ..Dirt::default() };
        let namespace = |nsid| Dirt { namespaces: [nsid].into(), ..Dirt::default() };
        let overrun = Dirt { overrun: true, ..Dirt::default() };
        let reasons = [
            link(7),
            namespace(3),
            name("tap0"),
            name("vnet-web"),
            file("/run/netns/one"),
            file("/run/netns"),
            overrun,
        ];
        for dirt in reasons {
            assert!(places.concern(&dirt), "{dirt:?}");
        }
        let [addresses, default_routes] = host_wide();
        for dirt in [
            link(8),
            namespace(4),
            name("tap1"),
            file("/run/netns/two"),
            addresses,
            default_routes,
            Dirt::default(),
        ] {
            assert!(!places.concern(&dirt), "{dirt:?}");
        }
    }

    /// A change of addresses, and one of default routes.
    fn host_wide() -> [Dirt; 2] {
        let addresses = Dirt { addresses: true, ..Dirt::default() };
        [addresses, Dirt { default_routes: true, ..Dirt::default() }]
    }

    #[test]
    fn a_way_out_is_of_vnet_as_well() {
        let (mut policy, _) =
            policy::parse(&POLICY.replace("private", "nat"), Path::new("policy.toml")).unwrap();
        let [addresses, default_routes] = host_wide();
        let concern = |policy: &policy::Policy, dirt: &Dirt| {
            let policy = Arc::new(policy.clone());
            Places::of(View { policy, ..View::default() }.into()).concern(dirt)
        };
        assert!(concern(&policy, &default_routes) && !concern(&policy, &addresses));
        policy.networks.get_mut("web").unwrap().uplink = Some("eth9".to_owned());
        assert!(!concern(&policy, &default_routes));
        assert!(concern(&policy, &Dirt { rules: true, ..Dirt::default() }));
        assert!(concern(&policy, &Dirt { names: ["eth9".to_owned()].into(), ..Dirt::default() }));
        let name = |name: &str| Dirt { names: [name.to_owned()].into(), ..Dirt::default() };
        assert!(!concern(&policy, &name("eth1")) && !concern(&policy, &name("vnet-vxlan")));
        let mut beyond = policy.clone();
        let segment = &mut beyond.networks.get_mut("web").unwrap().segment;
        *segment = Some(policy::Segment::Lan { trunk: "eth1".to_owned(), vlan: vec![10], priority: None });
        assert!(concern(&beyond, &name("eth1")));
        let segment = &mut beyond.networks.get_mut("web").unwrap().segment;
        *segment =
            Some(policy::Segment::Overlay { vni: 7, peers: Vec::new(), uplink: Some("eth2".to_owned()) });
        assert!(concern(&beyond, &name("eth2")) && concern(&beyond, &name("vnet-vxlan")));
        policy.forwards.push(policy::Forward {
            listen: [0, 0, 0, 0].into(),
            ports: (80, 80),
            protocol: policy::Protocol::TCP,
            to: vec![policy::Backend { port: "web-1".to_owned(), to_port: 80, weight: 1 }],
            affinity: policy::Affinity::Flow,
        });
        assert!(concern(&policy, &addresses));
    }
}
