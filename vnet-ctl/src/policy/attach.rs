//! Where the workload of a port is: `attach` of `ports.NAME`.

use std::{net::IpAddr, ops::Range, path::PathBuf};

use super::{
    Attach, Mistake, NetnsRef, Segment,
    exits::is_no_networks,
    names::{check_interface, is_not_loopback},
    networks::parse_address,
    ports::{Reader, claim, try_claim},
    section::{Node, Report, Schema, Section, boolean, integer, string},
    tree::Kind,
};

pub(super) const ATTACH: Schema =
    Schema { keys: &["netns", "create", "name", "device", "tap", "owner", "remote"], later: &["container"] };

/// What a workload may be in, at or behind, and what messages call it.
const PLACES: [(&str, &str); 4] =
    [("netns", "a namespace"), ("device", "a device"), ("tap", "a tap"), ("remote", "another host")];

/// What most people want to write.
pub(super) const EXAMPLES: &str =
    "{ netns = \"NAME\", create = true }, { device = \"IF\" } or { tap = \"IF\", create = true }";

/// The interface in a namespace unless the file names it.
pub const DEFAULT_INTERFACE: &str = "eth0";

/// The port whose place is read.
pub(super) struct Whose<'a, 't> {
    /// Its name.
    pub(super) port: &'a str,
    /// Its network, if the file has one of that name.
    pub(super) network: Option<&'a str>,
    /// All that it says.
    pub(super) section: &'a Section<'t>,
}

impl Reader<'_, '_> {
    pub(super) fn attach(&mut self, whose: &Whose<'_, '_>, node: Node<'_>) -> Option<Attach> {
        let port = whose.port;
        let heading = (format!("ports.{port}.attach"), format!("`attach` of port `{port}`"));
        let before = self.report.errors.len();
        let section = Section::open((&heading.0, heading.1, node.span()), node, &ATTACH, self.report)?;
        let given: Vec<_> = PLACES.iter().filter(|(key, _)| section.get(key).is_some()).collect();
        match given[..] {
            [(key, _)] => self.place(whose, key, &section),
            [] if self.report.errors.len() > before => None,
            [] => {
                let mistake = Mistake::new(format!("`attach` of port `{port}` says nothing"));
                self.report.error(node.span(), mistake.help(format!("write {EXAMPLES}")));
                None
            }
            [(_, first), (key, second), ..] => {
                let mistake = Mistake::new(format!("port `{port}` is attached to {first} and to {second}"));
                let place = section.entry(key).map_or_else(|| node.span(), |(place, _)| place);
                self.report.error(place, mistake.help("choose one of them"));
                None
            }
        }
    }

    /// What is given under `key`, one of the [`PLACES`].
    fn place(&mut self, whose: &Whose<'_, '_>, key: &str, section: &Section<'_>) -> Option<Attach> {
        let node = section.get(key)?;
        let (goes_with, help): (&[&str], _) = match key {
            "netns" => (&["create", "name"], "`owner` is for a tap that vnet makes"),
            "tap" => (&["create", "owner"], "a tap has its name under `tap`; `name` is for `netns`"),
            "device" => (&[], "a device is used as it is; take it out"),
            _ => (&[], "the other host looks after its port; take it out"),
        };
        for other in ["create", "name", "owner"].into_iter().filter(|other| !goes_with.contains(other)) {
            if let Some((place, _)) = section.entry(other) {
                let mistake = Mistake::new(format!("`{other}` does not go with `{key}`"));
                self.report.error(place, mistake.help(help));
            }
        }
        match key {
            "netns" => self.netns(whose.port, section, node),
            "tap" => self.tap(whose.port, section, node),
            "device" => Some(Attach::Device { device: self.own_device(whose.port, node)? }),
            _ => self.remote(whose, node),
        }
    }

    fn netns(&mut self, port: &str, section: &Section<'_>, node: Node<'_>) -> Option<Attach> {
        let text = string(node, self.report)?;
        let netns = self.report.keep(node.span(), parse_netns(text));
        let create = create(section, self.report);
        let (name, place) = match section.get("name") {
            Some(node) => (string(node, self.report)?, node.span()),
            None => (DEFAULT_INTERFACE, node.span()),
        };
        self.report.keep(place.clone(), check_interface(name).and_then(|()| is_not_loopback(name)))?;
        let (netns, create) = (netns?, create?);
        if create && matches!(netns, NetnsRef::Path(_)) {
            let mistake = Mistake::new("vnet creates namespaces by name, not by path");
            let help = "give a name (it appears under /run/netns), or write create = false";
            self.report.error(node.span(), mistake.help(help));
            return None;
        }
        let interface = (netns.in_one_form().path(), name.to_owned());
        let what = format!("the interface `{name}` in namespace");
        if let Err(finding) =
            try_claim(&mut self.claims.interfaces, interface, (port, place), |_| format!("{what} `{netns}`"))
        {
            self.report.errors.push(finding);
            return None;
        }
        Some(Attach::Netns { netns, create, name: name.to_owned() })
    }

    fn tap(&mut self, port: &str, section: &Section<'_>, node: Node<'_>) -> Option<Attach> {
        let create = create(section, self.report);
        let owner = match section.entry("owner") {
            Some((place, node)) => self.owner((place, node), create).map(Some),
            None => Some(None),
        };
        let tap = self.own_device(port, node)?;
        Some(Attach::Tap { tap, create: create?, owner: owner? })
    }

    fn owner(&mut self, (place, node): (Range<usize>, Node<'_>), create: Option<bool>) -> Option<u32> {
        if create == Some(false) {
            let mistake = Mistake::new("`owner` goes with a tap that vnet makes");
            self.report.error(place, mistake.help("add create = true, or take `owner` out"));
            return None;
        }
        const HELP: &str = "write the user's number, as `id -u NAME` shows it";
        if let Kind::String(text) = node.kind() {
            let mistake = Mistake::new(format!("expected a number, found \"{text}\""));
            self.report.error(node.span(), mistake.help(HELP));
            return None;
        }
        let number = integer(node, self.report)?;
        // The kernel's `INVALID_UID`.
        let owner = u32::try_from(number).ok().filter(|owner| *owner != u32::MAX);
        if owner.is_none() {
            let mistake = Mistake::new(format!("no user has the number {number}"));
            self.report.error(node.span(), mistake.help(HELP));
        }
        owner
    }

    /// A device of the host that is this port's alone.
    fn own_device(&mut self, port: &str, node: Node<'_>) -> Option<String> {
        let device = string(node, self.report)?;
        self.report.keep(node.span(), check_interface(device).and_then(|()| is_not_loopback(device)))?;
        self.report.keep(node.span(), is_no_networks(device, self.names, self.networks))?;
        claim(&mut self.claims.devices, device.to_owned(), "the device", (port, node.span()), self.report)?;
        Some(device.to_owned())
    }

    fn remote(&mut self, whose: &Whose<'_, '_>, node: Node<'_>) -> Option<Attach> {
        let port = whose.port;
        let remote = match node.kind() {
            Kind::Boolean(true) => None,
            Kind::String(text) => Some(self.report.keep(node.span(), parse_address(text))?),
            _ => {
                let mistake = Mistake::new("`remote` is true, or the address of a peer");
                let help = "write remote = true, or say where on this host the workload is";
                self.report.error(node.span(), mistake.help(help));
                return None;
            }
        };
        let before = self.report.errors.len();
        if whose.section.get("addresses").is_none() {
            let mistake = Mistake::new(format!("port `{port}` is on another host, and has no `addresses`"));
            self.report.error(node.span(), mistake.help("name those that it has there"));
        }
        if let Some((place, _)) = whose.section.entry("vlans") {
            let mistake =
                Mistake::new(format!("`vlans` does not go with port `{port}`, which is on another host"));
            self.report
                .error(place, mistake.help("take it out, and give each of these networks a port of its own"));
        }
        // What is wrong with a network is told at its own place.
        if let Some((name, network)) = whose.network.and_then(|name| Some((name, self.networks.get(name)?))) {
            self.report.keep(node.span(), check_remote(remote, name, network.segment.as_ref()));
        }
        (self.report.errors.len() == before).then_some(Attach::Remote { remote })
    }
}

/// Whether a port of `network` may be on the host `remote`, or on whichever.
fn check_remote(remote: Option<IpAddr>, network: &str, segment: Option<&Segment>) -> Result<(), Mistake> {
    match (remote, segment) {
        (_, None) => Err(Mistake::new(format!("network `{network}` is on this host alone"))
            .help("give it a `vlan` or a `vni`, or say where on this host the workload is")),
        (None, Some(_)) => Ok(()),
        (Some(host), Some(Segment::Lan { .. })) => {
            Err(Mistake::new(format!("network `{network}` is no overlay, so it has no peer {host}"))
                .help("write remote = true"))
        }
        (Some(host), Some(Segment::Overlay { peers, .. })) if !peers.contains(&host) => {
            let peers: Vec<_> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
            Err(Mistake::new(format!("{host} is no peer of network `{network}`"))
                .help(format!("write remote = {}, or remote = true", peers.join(" or "))))
        }
        (Some(_), Some(Segment::Overlay { .. })) => Ok(()),
    }
}

fn create(section: &Section<'_>, report: &mut Report) -> Option<bool> {
    section.get("create").map_or(Some(false), |node| boolean(node, report))
}

fn parse_netns(text: &str) -> Result<NetnsRef, Mistake> {
    if text.starts_with('/') {
        return Ok(NetnsRef::Path(PathBuf::from(text)));
    }
    let is_wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text == "." || text == ".." || text.len() > 255 || text.contains(is_wrong) {
        return Err(Mistake::new(format!("`{}` cannot name a namespace", text.escape_default()))
            .help("give a name as `ip netns` shows it, or an absolute path"));
    }
    Ok(NetnsRef::Name(text.to_owned()))
}
