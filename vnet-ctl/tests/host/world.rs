//! An isolated host, and a datapath that only takes notes.

use std::{collections::BTreeSet, fs, process::Command, thread};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use vnet_common::MacAddr;
use vnet_ctl::{
    host::{Attach as Datapath, Host},
    plan::{
        self, Addressing, Attach, Desired, Located, NetnsRef, Network, Observed, Obstacles, Plan, Port, Role,
        Step, Uplink,
    },
    state::State,
};

/// A host of its own with what vnet remembers about it.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) state: State,
    pub(crate) datapath: Notes,
}

/// A datapath without programs.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) attached: BTreeSet<u32>,
    pub(crate) outside: BTreeSet<(u32, Role)>,
    pub(crate) calls: Vec<Call>,
    pub(crate) fail_on: Option<String>,
    /// A device that somebody deletes as soon as it is attached.
    pub(crate) vanishes: Option<String>,
}

/// What the datapath was asked for.
#[derive(Debug)]
pub(crate) enum Call {
    Attached { was_up: bool, was_enslaved: bool },
    AttachedOutside { was_up: bool },
    Detached,
}

impl Notes {
    fn attach(&mut self, ifindex: u32, device: &str) -> Result<()> {
        ensure!(self.fail_on.as_deref() != Some(device), "the datapath refuses {device}");
        let link = ip(&format!("link show {device}"));
        let (was_up, was_enslaved) = (link.contains("UP"), link.contains("master"));
        self.attached.insert(ifindex);
        if self.vanishes.as_deref() == Some(device) {
            ip(&format!("link del {device}"));
        }
        self.calls.push(Call::Attached { was_up, was_enslaved });
        Ok(())
    }
}

impl Datapath for Notes {
    fn attach_port(&mut self, ifindex: u32, device: &str) -> Result<()> {
        self.attach(ifindex, device)
    }

    fn attach_bridge(&mut self, ifindex: u32, device: &str) -> Result<()> {
        self.attach(ifindex, device)
    }

    fn attach_outside(&mut self, ifindex: u32, device: &str, role: Role) -> Result<()> {
        let is_up = ip(&format!("link show {device}")).contains("UP");
        self.outside.insert((ifindex, role));
        self.calls.push(Call::AttachedOutside { was_up: is_up });
        Ok(())
    }

    fn detach_outside(&mut self, ifindex: u32, role: Role) -> Result<()> {
        self.outside.remove(&(ifindex, role));
        Ok(())
    }

    fn detach(&mut self, ifindex: u32) -> Result<()> {
        self.attached.remove(&ifindex);
        self.calls.push(Call::Detached);
        Ok(())
    }
}

impl World {
    async fn observe(&self, desired: &Desired) -> Observed {
        let mut observed = self.host.observe(desired, &self.state).await.expect("a look at the host");
        observed.attached = self.datapath.attached.clone();
        observed.outside = self.datapath.outside.clone();
        observed
    }

    pub(crate) async fn plan(&self, desired: &Desired) -> Result<Plan, Obstacles> {
        plan::plan(desired, &self.observe(desired).await, &self.state)
    }

    pub(crate) async fn located(&self, desired: &Desired) -> Located {
        plan::locate(desired, &self.observe(desired).await)
    }

    /// Does what the daemon does, but for the tables.
    pub(crate) async fn converge(&mut self, desired: &Desired) -> Plan {
        let plan = self.plan(desired).await.expect("no obstacle");
        self.state = plan.intended(&self.state);
        for steps in [&plan.prepare, &plan.finish] {
            let _done = self.host.apply(steps, &mut self.datapath).await.expect("every step");
        }
        let failures = self.host.remove(&plan.remove, &mut self.datapath).await;
        assert!(failures.is_empty(), "{failures:?}");
        self.state = plan.settled(&self.state);
        plan
    }

    /// The same, killed after `count` steps.
    pub(crate) async fn converge_until(&mut self, desired: &Desired, count: usize) {
        let plan = self.plan(desired).await.expect("no obstacle");
        self.state = plan.intended(&self.state);
        let steps: Vec<Step> = plan.prepare.into_iter().chain(plan.finish).take(count).collect();
        let _done = self.host.apply(&steps, &mut self.datapath).await.expect("every step");
    }

    pub(crate) async fn teardown(&mut self) {
        let plan = plan::teardown(&self.observe(&Desired::default()).await, &self.state);
        let failures = self.host.remove(&plan.remove, &mut self.datapath).await;
        assert!(failures.is_empty(), "{failures:?}");
        self.state = plan.settled(&self.state);
    }
}

/// Runs `test` on a thread whose network and mounts are its own.
pub(crate) fn isolated(test: impl AsyncFnOnce(&mut World) + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("mounts of our own");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /run");
        // So that `ip netns exec` shows the new namespace's own /sys.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("the namespace's /sys");
        fs::create_dir("/run/netns").expect("/run/netns");
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World {
                host: Host::open().expect("netlink"),
                state: State::default(),
                datapath: Notes::default(),
            };
            test(&mut world).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A network with two ports, each in a namespace to be made.
pub(crate) fn desired() -> Desired {
    let network = Network {
        bridge: "vnet-web".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
        gateways: vec![net("10.0.0.1/24"), net("fd00::1/64")],
        uplink: Uplink::None,
        groups: std::collections::BTreeSet::new(),
        segment: None,
        stations: std::collections::BTreeSet::new(),
    };
    Desired {
        spared: std::collections::BTreeMap::new(),
        networks: [("web".to_owned(), network)].into(),
        ports: [
            ("a".to_owned(), port_in(2, "one", "eth0", true)),
            ("b".to_owned(), port_in(3, "two", "eth0", true)),
        ]
        .into(),
    }
}

pub(crate) fn port(last: u8, attach: Attach) -> Port {
    Port {
        network: "web".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 1, last]),
        mtu: 1400,
        addresses: vec![net(&format!("10.0.0.{last}/24")), net(&format!("fd00::{last:x}/64"))],
        gateways: [net("10.0.0.1/24"), net("fd00::1/64")].iter().map(IpNet::addr).collect(),
        addressing: Addressing::Given,
        attach,
    }
}

pub(crate) fn port_in(last: u8, netns: &str, interface: &str, create: bool) -> Port {
    port(last, in_netns(netns, interface, create))
}

pub(crate) fn in_netns(netns: &str, interface: &str, create: bool) -> Attach {
    Attach::Netns { netns: NetnsRef::Name(netns.to_owned()), create, interface: interface.to_owned() }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("an address with a prefix length")
}

/// What `ip` prints; it must succeed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The same inside a namespace.
pub(crate) fn ip_in(netns: &str, arguments: &str) -> String {
    ip(&format!("-n {netns} {arguments}"))
}

/// Addresses of a link in a namespace (or, by the empty name, the host's), sorted as text.
pub(crate) fn addresses(netns: &str, device: &str) -> Vec<String> {
    let arguments = format!("-o addr show dev {device}");
    let text = if netns.is_empty() { ip(&arguments) } else { ip_in(netns, &arguments) };
    let words: Vec<_> = text.split_whitespace().collect();
    let mut found: Vec<_> =
        words.windows(2).filter(|pair| pair[0].starts_with("inet")).map(|pair| pair[1].to_owned()).collect();
    found.sort();
    found
}
