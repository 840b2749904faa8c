//! The program that drops at once what comes from outside and would be dropped later: XDP on uplinks.
//!
//! It decides nothing that `from_uplink` would not decide alike. So a device that does without it is slower under a
//! flood, and no less safe: that it cannot be attached is told, and no error. Its links are pinned and held as those of
//! other programs are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::Ebpf;

use super::{
    links::{detach, device_name, files, lacks, pin, put_right, remove, remove_pin, take_over},
    mend::{Mended, Unmended, What},
    names::{Pins, XdpMode, parse_xdp_link_name},
    programs::uplink_xdp,
    sys,
};
use crate::policy::Xdp;

/// Drivers of devices that a hypervisor makes. To run an XDP program, they give up having segments put together before
/// the kernel sees them, which costs every TCP stream more than the program saves.
const HARMED: [&str; 4] = ["virtio_net", "vmxnet3", "hv_netvsc", "vif"];

/// How an uplink is to run the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedEarly {
    /// The uplink's name.
    pub device: String,
    /// As the policy has it.
    pub xdp: Xdp,
    /// Whether VLANs of vnet's own go over it.
    pub is_trunk: bool,
    /// Whether it is a veth.
    pub is_veth: bool,
}

/// How an uplink runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Early {
    /// The uplink's name.
    pub device: String,
    /// By whom it is run, if it is.
    pub mode: Option<XdpMode>,
    /// Why it is not.
    pub reason: Option<String>,
    /// Whether that is not as the policy has it.
    pub is_trouble: bool,
}

/// What is pinned under a folder of links: path, device and mode.
pub(super) fn pinned(folder: &Path) -> Result<Vec<(PathBuf, u32, XdpMode)>> {
    let place = |path: PathBuf| {
        let (ifindex, mode) = parse_xdp_link_name(path.file_name()?.to_str()?)?;
        Some((path, ifindex, mode))
    };
    Ok(files(folder)?.into_iter().filter_map(place).collect())
}

/// Where the program is attached.
#[derive(Debug)]
pub(super) struct Earlies {
    pins: Pins,
    links: BTreeMap<(u32, XdpMode), OwnedFd>,
    uplinks: BTreeMap<u32, Early>,
}

impl Earlies {
    /// Gives the links that are pinned the program of `object`, each in one step.
    pub(super) fn adopt(pins: &Pins, object: &mut Ebpf) -> Result<Self> {
        let mut earlies = Self { pins: pins.clone(), links: BTreeMap::new(), uplinks: BTreeMap::new() };
        for (path, ifindex, mode) in pinned(&pins.links())? {
            match take_over(&path, program(object)?)? {
                Some(link) => _ = earlies.links.insert((ifindex, mode), link),
                None => remove_pin(&path)?,
            }
        }
        Ok(earlies)
    }

    /// Attaches the program to the uplinks in `wanted` as the policy says, and detaches it from others; what was done.
    ///
    /// # Errors
    /// When it cannot be detached.
    pub(super) fn settle(
        &mut self,
        object: &mut Ebpf,
        wanted: &BTreeMap<u32, WantedEarly>,
    ) -> Result<Vec<String>> {
        let before: BTreeSet<_> = self.links.keys().copied().collect();
        let choices: BTreeMap<_, _> =
            wanted.iter().map(|(ifindex, uplink)| (*ifindex, choose(uplink))).collect();
        let kept: BTreeSet<_> =
            choices.iter().filter_map(|(ifindex, choice)| Some((*ifindex, *choice.as_ref().ok()?))).collect();
        // First: a device has one of them at a time.
        let unwanted: Vec<_> = self.links.keys().filter(|place| !kept.contains(place)).copied().collect();
        unwanted.into_iter().try_for_each(|place| self.detach(place))?;
        self.uplinks.clear();
        for (ifindex, choice) in choices {
            let WantedEarly { device, xdp, .. } = wanted[&ifindex].clone();
            let attached = choice.and_then(|mode| {
                let attached = self.attach(object, (ifindex, mode));
                attached.map(|()| mode).map_err(|error| format!("{error:#}"))
            });
            let is_trouble = attached.is_err() && matches!(xdp, Xdp::Native | Xdp::Generic);
            let (mode, reason) = (attached.as_ref().ok().copied(), attached.err());
            self.uplinks.insert(ifindex, Early { device, mode, reason, is_trouble });
        }
        let after: BTreeSet<_> = self.links.keys().copied().collect();
        let tell = |what: &str, (ifindex, mode): &(u32, XdpMode)| {
            let uplink = self.uplinks.get(ifindex).map(|uplink| uplink.device.clone());
            let device = uplink.or_else(|| device_name(*ifindex)).unwrap_or_else(|| ifindex.to_string());
            format!("{what} {device}, {}", mode.label())
        };
        let detached = before.difference(&after).map(|place| tell("no more XDP on", place));
        Ok(detached.chain(after.difference(&before).map(|place| tell("XDP on", place))).collect())
    }

    /// Attaches it and pins its link, if it is not attached.
    fn attach(&mut self, object: &mut Ebpf, (ifindex, mode): (u32, XdpMode)) -> Result<()> {
        if self.links.contains_key(&(ifindex, mode)) {
            return Ok(());
        }
        let path = self.pins.xdp_link(ifindex, mode);
        let link = sys::attach_xdp(program(object)?, ifindex, mode)
            .with_context(|| format!("the kernel does not attach a {} XDP program", mode.label()))?;
        self.links.insert((ifindex, mode), pin(link, &path)?);
        Ok(())
    }

    fn detach(&mut self, place: (u32, XdpMode)) -> Result<()> {
        let path = self.pins.xdp_link(place.0, place.1);
        if let Some(link) = self.links.get(&place) {
            detach(link, &path)?;
        }
        remove(&path)?;
        self.links.remove(&place);
        Ok(())
    }

    /// How the uplinks run it.
    pub(super) fn uplinks(&self) -> impl Iterator<Item = &Early> {
        self.uplinks.values()
    }

    /// Puts right what somebody changed; what was, and what could not be.
    pub(super) fn look_after(&mut self, object: &mut Ebpf) -> Result<(Vec<Mended>, Vec<Unmended>)> {
        let (mut mended, mut unmended) = (Vec::new(), Vec::new());
        for place in self.links.keys().copied().collect::<Vec<_>>() {
            // With its device, it goes for good.
            let Some(device) = device_name(place.0) else {
                self.detach(place)?;
                continue;
            };
            let Some(what) = self.lacks(place, object)? else { continue };
            match self.mend(place, what, object) {
                Ok(()) => mended.push(Mended::Early { device, what }),
                Err(error) => unmended.push(Unmended::Early { device, error: format!("{error:#}") }),
            }
        }
        Ok((mended, unmended))
    }

    /// What is wrong with it.
    fn lacks(&self, place: (u32, XdpMode), object: &mut Ebpf) -> Result<Option<What>> {
        let Some(link) = self.links.get(&place) else { return Ok(Some(What::Detached)) };
        let info = sys::xdp_info(link.as_fd()).context("look at the link of an XDP program")?;
        let runs = (info.ifindex == place.0).then_some(info.program);
        Ok(lacks(runs, uplink_xdp(object)?.info()?.id(), &self.pins.xdp_link(place.0, place.1)))
    }

    fn mend(&mut self, place: (u32, XdpMode), what: What, object: &mut Ebpf) -> Result<()> {
        let path = self.pins.xdp_link(place.0, place.1);
        let link = self.links.get(&place).filter(|_| what != What::Detached);
        let Some(link) = link else {
            self.links.remove(&place);
            return self.attach(object, place);
        };
        put_right(link, what, program(object)?, &path)
    }

    /// Holds nothing any more: only pins keep the program attached from now on.
    pub(super) fn let_go(&mut self) {
        self.links.clear();
    }
}

/// How an uplink is to run the program, or why not.
fn choose(WantedEarly { device, xdp, is_trunk, is_veth }: &WantedEarly) -> Result<XdpMode, String> {
    match xdp {
        Xdp::Off => Err("the policy says so".to_owned()),
        // `veth_xdp_xmit` drops what the other end does not poll for.
        Xdp::Native if *is_veth => {
            Err("a veth may lose what the program answers; \"generic\" does not".to_owned())
        }
        Xdp::Native => Ok(XdpMode::Native),
        Xdp::Generic => Ok(XdpMode::Generic),
        Xdp::Auto => suits(driver(device).as_deref(), *is_trunk || carries_vlans(device)),
    }
}

/// Whether the program does a device good that has this driver.
fn suits(driver: Option<&str>, carries_vlans: bool) -> Result<XdpMode, String> {
    match driver {
        None => Err("it is no network card".to_owned()),
        Some(driver) if HARMED.contains(&driver) => {
            Err(format!("its driver, {driver}, gives up segmentation offload for XDP"))
        }
        // A tag that the card takes off is seen by no such program.
        Some(_) if carries_vlans => Err("VLANs go over it".to_owned()),
        Some(_) => Ok(XdpMode::Native),
    }
}

/// The driver of a network card; none for devices that are made of software.
fn driver(device: &str) -> Option<String> {
    // What has no bus says so in several ways.
    let is_card = |driver: &sys::Driver| !matches!(driver.bus.as_str(), "" | "N/A" | "tap" | "tun");
    sys::driver(device).ok().filter(is_card).map(|driver| driver.name)
}

/// Whether the host has VLAN devices on top of it.
fn carries_vlans(device: &str) -> bool {
    let config = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
    below_vlans(&config).any(|below| below == device)
}

/// The devices below VLAN devices, as the kernel lists them: name, number and device, with bars in between.
fn below_vlans(config: &str) -> impl Iterator<Item = &str> {
    config.lines().filter_map(|line| line.split('|').nth(2)).map(str::trim)
}

fn program(object: &mut Ebpf) -> Result<BorrowedFd<'_>> {
    Ok(uplink_xdp(object)?.fd()?.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_runs_it_where_that_does_good() {
        assert_eq!(suits(Some("ice"), false), Ok(XdpMode::Native));
        assert!(suits(Some("ice"), true).unwrap_err().contains("VLANs"));
        assert!(suits(Some("virtio_net"), false).unwrap_err().contains("virtio_net"));
        assert!(suits(None, false).unwrap_err().contains("no network card"));
    }

    #[test]
    fn vlan_devices_are_found_by_what_is_below_them() {
        let config = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                      eth0.5         | 5  | eth0\nguests         | 12  | eth1\n";
        assert_eq!(below_vlans(config).collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert!(!carries_vlans("lo") && driver("lo").is_none());
    }

    #[test]
    fn the_policy_may_say_how() {
        let uplink = |xdp| WantedEarly { device: "lo".to_owned(), xdp, is_trunk: true, is_veth: false };
        let choose = |xdp| choose(&uplink(xdp));
        assert_eq!(choose(Xdp::Native), Ok(XdpMode::Native));
        assert_eq!(choose(Xdp::Generic), Ok(XdpMode::Generic));
        assert_eq!(choose(Xdp::Off), Err("the policy says so".to_owned()));
        assert_eq!(choose(Xdp::Auto), Err("it is no network card".to_owned()));
        let veth = WantedEarly { is_veth: true, ..uplink(Xdp::Native) };
        assert!(super::choose(&veth).unwrap_err().contains("generic"));
    }
}
