//! Carries out the steps of a plan, and takes them back.

use std::fmt;

use anyhow::{Context as _, Result};

use super::{
    Host, addresses, links,
    namespace::{self, Netns},
    receptions,
    taps::Tap,
    workload::{self, Ipv6},
};
use crate::plan::{Action, Owner, Role, Step, Target};

/// The datapath's part in a plan. Each call may be repeated for what it has done already.
pub trait Attach {
    /// Attaches the programs of a port to its device.
    ///
    /// # Errors
    /// Whatever keeps them from being attached.
    fn attach_port(&mut self, ifindex: u32, device: &str) -> Result<()>;

    /// Attaches the program of a network to its bridge.
    ///
    /// # Errors
    /// Whatever keeps it from being attached.
    fn attach_bridge(&mut self, ifindex: u32, device: &str) -> Result<()>;

    /// Attaches the program for what a device leads to.
    ///
    /// # Errors
    /// Whatever keeps it from being attached.
    fn attach_outside(&mut self, ifindex: u32, device: &str, role: Role) -> Result<()>;

    /// Detaches the programs of a port or a network from a device, which may be gone.
    ///
    /// # Errors
    /// Whatever keeps them from being detached.
    fn detach(&mut self, ifindex: u32) -> Result<()>;

    /// Detaches the program for what a device leads to from it; the device may be gone.
    ///
    /// # Errors
    /// Whatever keeps it from being detached.
    fn detach_outside(&mut self, ifindex: u32, role: Role) -> Result<()>;

    /// Is told of each step that was carried out, whether the datapath had a part in it or not.
    fn carried_out(&mut self) {}
}

/// Steps that were carried out, with what takes them back.
#[derive(Debug, Default)]
#[must_use = "it takes the steps back when what follows fails"]
pub struct Done(Vec<Action>);

/// An action that failed.
#[derive(Debug)]
pub struct Failure {
    /// The action.
    pub action: Action,
    /// Why.
    pub cause: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {}: {:#}", self.action, self.cause)
    }
}

/// A step failed, and those before it were taken back.
#[derive(Debug)]
pub struct ApplyError {
    /// What failed.
    pub failure: Failure,
    /// What could not be taken back.
    pub not_undone: Vec<Failure>,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(out)?;
        for failure in &self.not_undone {
            write!(out, "; and taking it back, {failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

impl Host {
    /// Carries out `steps` in order. When one fails, takes back those before it.
    ///
    /// # Errors
    /// [`ApplyError`] names the step, and what could not be taken back.
    pub async fn apply(&self, steps: &[Step], attach: &mut (impl Attach + Send)) -> Result<Done, ApplyError> {
        let mut done = Done::default();
        for step in steps {
            if let Err(cause) = self.carry_out(&step.action, attach).await {
                // The step itself may be half done; but what could not be made is not there to remove.
                done.0.extend(step.undo.clone().filter(|_| !step.action.creates()));
                let not_undone = self.undo(done, attach).await;
                return Err(ApplyError {
                    failure: Failure { action: step.action.clone(), cause },
                    not_undone,
                });
            }
            done.0.extend(step.undo.clone());
            attach.carried_out();
        }
        Ok(done)
    }

    /// Takes steps back in reverse, each whatever becomes of the others. Returns what failed.
    pub async fn undo(&self, done: Done, attach: &mut (impl Attach + Send)) -> Vec<Failure> {
        let reversed: Vec<_> = done.0.into_iter().rev().collect();
        let mut failures = self.remove(&reversed, attach).await;
        // A device that is gone has taken with it what was done to it.
        failures.retain(|failure| failure.cause.downcast_ref::<links::Gone>().is_none());
        failures
    }

    /// Carries out `actions`, each whatever becomes of the others. Returns what failed.
    pub async fn remove(&self, actions: &[Action], attach: &mut (impl Attach + Send)) -> Vec<Failure> {
        let mut failures = Vec::new();
        for action in actions {
            if let Err(cause) = self.carry_out(action, attach).await {
                failures.push(Failure { action: action.clone(), cause });
            }
            attach.carried_out();
        }
        failures
    }

    async fn carry_out(&self, action: &Action, attach: &mut (impl Attach + Send)) -> Result<()> {
        let netlink = &self.netlink;
        match action {
            Action::CreateNamespace(netns) => namespace::create(netns).await,
            Action::DeleteNamespace(netns) => namespace::delete(netns),
            Action::CreateBridge { network, device, mac, mtu } => {
                links::create_bridge(netlink, device, *mac, *mtu).await?;
                self.complete(device, &Owner::Network(network.clone()), Some(*mtu)).await
            }
            Action::CreateVeth { port, device, workload } => {
                self.insides.forget(&workload.netns);
                let netns = Netns::require(&workload.netns)?;
                links::create_veth(netlink, device, netns.raw_fd(), workload).await?;
                self.complete(device, &Owner::Port(port.clone()), None).await
            }
            Action::CreateTap { port, device, user, mtu } => {
                let tap = Tap::make(device)?;
                links::check_index(netlink, device).await?;
                self.dress(device, &Owner::Port(port.clone()), Some(*mtu)).await?;
                tap.give_to(*user)?;
                tap.persist()
            }
            Action::SetTapUser { device, user } => Tap::open(device)?.give_to(*user),
            Action::CreateOverlay { device, mtu } => {
                links::create_overlay(netlink, device, *mtu).await?;
                self.complete(device, &Owner::Overlay, None).await
            }
            Action::DeleteLink { device, owner } => {
                if let Some(ifindex) = links::delete(netlink, device, owner.as_ref()).await? {
                    self.insides.forget_behind(ifindex);
                }
                Ok(())
            }
            Action::SetOwner { device, owner } => links::set_owner(netlink, device, owner).await,
            Action::SimplifyBridge { device } => links::simplify_bridge(netlink, device).await,
            Action::SetQuiet { device } => links::set_quiet(netlink, device).await,
            Action::Mute { device } => self.set_stack(device, Ipv6::Off).await,
            Action::Unmute { device } => self.set_stack(device, Ipv6::On).await,
            Action::SetMac { device, mac } => {
                links::change(netlink, device, |link| link.address(mac.0.to_vec())).await
            }
            Action::SetMtu { device, mtu } => links::change(netlink, device, |link| link.mtu(*mtu)).await,
            Action::SetAddresses { device, addresses } => self.set_addresses(device, addresses).await,
            Action::Enslave { device, bridge } => {
                let bridge = links::index(netlink, bridge).await?;
                links::change(netlink, device, |link| link.controller(bridge)).await
            }
            Action::Release { device } => links::change(netlink, device, |link| link.nocontroller()).await,
            Action::AttachPort { device } => attach.attach_port(links::index(netlink, device).await?, device),
            Action::AttachBridge { device } => {
                attach.attach_bridge(links::index(netlink, device).await?, device)
            }
            Action::Detach(Target::Device(device)) => attach.detach(links::index(netlink, device).await?),
            Action::Detach(Target::Ifindex(ifindex)) => attach.detach(*ifindex),
            Action::AttachOutside { device, role } => {
                attach.attach_outside(links::index(netlink, device).await?, device, *role)
            }
            Action::DetachOutside(Target::Device(device), role) => {
                attach.detach_outside(links::index(netlink, device).await?, *role)
            }
            Action::DetachOutside(Target::Ifindex(ifindex), role) => attach.detach_outside(*ifindex, *role),
            Action::Accept { device, frames } => receptions::accept(netlink, device, *frames).await,
            Action::Decline { device, frames } => receptions::decline(netlink, device, *frames).await,
            Action::Up { device } => links::up(netlink, device).await,
            Action::Down { device } => links::change(netlink, device, |link| link.down()).await,
            Action::Configure(workload) => {
                self.insides.forget(&workload.netns);
                workload::configure(workload).await
            }
        }
    }

    /// Completes a new device, or deletes it again.
    async fn complete(&self, device: &str, owner: &Owner, mtu: Option<u32>) -> Result<()> {
        let result = self.dress(device, owner, mtu).await;
        if result.is_err() {
            links::delete(&self.netlink, device, Some(owner)).await.context("delete it again")?;
        }
        result
    }

    /// Gives a new device what the kernel does not take when it makes one.
    async fn dress(&self, device: &str, owner: &Owner, mtu: Option<u32>) -> Result<()> {
        links::set_owner(&self.netlink, device, owner).await.context("mark it")?;
        if let Some(mtu) = mtu {
            links::change(&self.netlink, device, |link| link.mtu(mtu)).await.context("set its MTU")?;
        }
        links::set_quiet(&self.netlink, device).await.context("turn off its link-local addresses")
    }

    /// Turns ARP on or off on a bridge, and IPv6 if the kernel has it.
    async fn set_stack(&self, device: &str, ipv6: Ipv6) -> Result<()> {
        links::change(&self.netlink, device, |link| link.arp(ipv6 == Ipv6::On)).await?;
        if ipv6 == Ipv6::Off && !workload::has_ipv6(&self.own).await? {
            return Ok(());
        }
        workload::set_ipv6(&self.own, device, ipv6).await
    }

    async fn set_addresses(&self, device: &str, wanted: &[ipnet::IpNet]) -> Result<()> {
        if wanted.iter().any(|net| net.addr().is_ipv6()) {
            workload::set_ipv6(&self.own, device, Ipv6::On).await?;
        }
        let ifindex = links::index(&self.netlink, device).await?;
        addresses::set(&self.netlink, ifindex, wanted, |_| false).await
    }
}
