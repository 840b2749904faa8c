//! Names that people give, and what is derived from them.

use std::net::IpAddr;

use vnet_common::MacAddr;

use super::Mistake;

/// The group of a port that names none.
pub const DEFAULT_GROUP: &str = "default";

/// A kernel interface name has at most 15 characters (IFNAMSIZ, linux/if.h, counts a final NUL).
const MAX_INTERFACE: usize = 15;
/// What is left of them for a network's name after `vnet-`.
const MAX_NETWORK: usize = MAX_INTERFACE - "vnet-".len();
/// Characters of any other name.
const MAX_NAME: usize = 63;

/// The bridge of `network`.
#[must_use]
pub fn bridge_name(network: &str) -> String {
    format!("vnet-{network}")
}

/// The device of all overlays on this host.
pub const OVERLAY_DEVICE: &str = "vnet-vxlan";

/// 64-bit FNV-1a (draft-eastlake-fnv): stable across versions of vnet and of Rust.
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The MAC of a port that names none: locally administered, unicast, the same for the same name.
#[must_use]
pub fn port_mac(port: &str) -> MacAddr {
    let [a, b, c, d, e, ..] = fnv1a(port.bytes()).to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

/// A MAC that a person wrote, `02:00:00:00:00:0a` or with dashes; unicast and not zero.
///
/// # Errors
/// When it is none, or one that no interface can have.
pub fn parse_mac(text: &str) -> Result<MacAddr, Mistake> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut octets = [0; 6];
    let mut parts = text.split(separator);
    let complete = octets.iter_mut().all(|octet| {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        part.and_then(|part| u8::from_str_radix(part, 16).ok()).map(|value| *octet = value).is_some()
    });
    if !complete || parts.next().is_some() {
        return Err(Mistake::new(format!("`{text}` is not a MAC address"))
            .help("write six pairs of hexadecimal digits: \"02:00:00:00:00:0a\""));
    }
    let mac = MacAddr(octets);
    if mac.is_multicast() || mac == MacAddr::default() {
        return Err(Mistake::new(format!("no interface can have the MAC address {mac}"))
            .help("the first pair must be even, for instance 02, and not all may be zero"));
    }
    Ok(mac)
}

/// What is wrong with a network's name, if anything.
pub(super) fn check_network(name: &str) -> Result<(), Mistake> {
    check_characters("network", name, "-", |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())?;
    if name.len() > MAX_NETWORK {
        let message =
            format!("the network name `{name}` has {} characters, at most {MAX_NETWORK} fit", name.len());
        let help =
            format!("its bridge is called `vnet-NAME`, and the kernel takes {MAX_INTERFACE} characters");
        return Err(Mistake::new(message).help(help));
    }
    if bridge_name(name) == OVERLAY_DEVICE {
        return Err(Mistake::new(format!("a network cannot be called `{name}`")).help(format!(
            "its bridge would be called `{OVERLAY_DEVICE}`, as vnet's own device for overlays is"
        )));
    }
    Ok(())
}

/// What is wrong with the name of a port, a group or a list, if anything.
pub(super) fn check_name(kind: &str, name: &str) -> Result<(), Mistake> {
    check_characters(kind, name, "._-", |byte| byte.is_ascii_alphanumeric())?;
    if name.len() > MAX_NAME {
        let message = format!("the {kind} name has {} characters, at most {MAX_NAME} fit", name.len());
        return Err(Mistake::new(message).help("choose a shorter name"));
    }
    Ok(())
}

/// What is wrong with a port's name, if anything: where a port or an address may stand, both are told apart.
pub(super) fn check_port(name: &str) -> Result<(), Mistake> {
    check_name("port", name)?;
    if name == "host" || name.parse::<IpAddr>().is_ok() {
        return Err(Mistake::new(format!("a port cannot be called `{name}`"))
            .help("commands would take it for the host or for an address; choose another name"));
    }
    Ok(())
}

fn check_characters(kind: &str, name: &str, also: &str, allowed: fn(&u8) -> bool) -> Result<(), Mistake> {
    if name.is_empty() {
        return Err(Mistake::new(format!("the {kind} name is empty")).help("give it a name"));
    }
    let is_wrong = |c: &char| !(c.is_ascii() && (allowed(&(*c as u8)) || also.contains(*c)));
    let Some(wrong) = name.chars().find(is_wrong) else { return Ok(()) };
    let letters = if kind == "network" { "lower-case letters" } else { "letters" };
    let also = also.chars().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    Err(Mistake::new(format!("the {kind} name `{name}` contains `{}`", wrong.escape_debug()))
        .help(format!("use ASCII {letters}, digits and {also}")))
}

/// What is wrong with an interface's name, if anything; the kernel's own rule (`dev_valid_name`).
pub(super) fn check_interface(name: &str) -> Result<(), Mistake> {
    let wrong =
        |why: &str| Err(Mistake::new(format!("`{}` cannot name an interface: {why}", name.escape_default())));
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > MAX_INTERFACE {
        return Err(Mistake::new(format!("the interface name `{name}` has {} characters", name.len()))
            .help(format!("the kernel takes at most {MAX_INTERFACE}")));
    }
    if name == "." || name == ".." {
        return wrong("the kernel refuses it");
    }
    let is_wrong = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.contains(is_wrong) {
        return wrong("`/`, `:`, `%` and blanks are not allowed");
    }
    Ok(())
}

/// Whether it is another interface than the loopback one.
pub(super) fn is_not_loopback(name: &str) -> Result<(), Mistake> {
    if name == "lo" {
        return Err(
            Mistake::new("`lo` is the loopback interface").help("choose another name, such as \"eth0\"")
        );
    }
    Ok(())
}

/// What of `known` a person probably meant by `word`.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
