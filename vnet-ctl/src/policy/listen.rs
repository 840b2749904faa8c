//! What is listened on and where it leads, as people write it: `0.0.0.0:8080`, `web-1:80`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};

use super::{
    Affinity, Backend, Forward, Metadata, Mistake, PortRange, USUAL_WEIGHT,
    special::{Special, check_plain},
};

/// An address, and the ports of it that are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// The address; unspecified means all of its version.
    pub addr: IpAddr,
    /// The ports.
    pub ports: PortRange,
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(out, "{addr}:{}", self.ports),
            IpAddr::V6(addr) => write!(out, "[{addr}]:{}", self.ports),
        }
    }
}

const LISTEN_HELP: &str = "write an address and a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"";

impl FromStr for Listen {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let (addr, ports) = split(text)?;
        let Ok(addr) = addr.parse() else { return Err(not_an_address(text, addr, ports)) };
        let allowed = [Special::Unspecified, Special::Loopback];
        let addr = match addr {
            IpAddr::V4(_) => {
                check_plain(addr, "listened on", &[&allowed[..], &[Special::LinkLocal]].concat())
            }
            IpAddr::V6(_) => check_plain(addr, "listened on", &allowed),
        };
        Ok(Self { addr: addr?, ports: ports.parse()? })
    }
}

/// The address, without brackets, and the ports.
fn split(text: &str) -> Result<(&str, &str), Mistake> {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some(parts) => Ok(parts),
            None => Err(no_port(text, text)),
        };
    }
    match text.bytes().filter(|byte| *byte == b':').count() {
        0 if text.parse::<IpAddr>().is_ok() => Err(no_port(text, text)),
        0 => Err(no_address(text, text)),
        1 => Ok(text.split_once(':').unwrap_or_default()),
        _ if text.parse::<IpAddr>().is_ok() => Err(no_port(text, &format!("[{text}]"))),
        _ => Err(Mistake::new(format!("`{text}` has an IPv6 address without brackets"))
            .help("write brackets around it, such as \"[::]:8080\"")),
    }
}

fn no_port(text: &str, addr: &str) -> Mistake {
    Mistake::new(format!("`{text}` has no port"))
        .help(format!("write a port behind it, such as \"{addr}:8080\""))
}

fn no_address(text: &str, ports: &str) -> Mistake {
    let mistake = Mistake::new(format!("`{text}` has no address to listen on"));
    mistake.help(match ports.parse::<PortRange>() {
        Ok(ports) => format!("write \"0.0.0.0:{ports}\" for IPv4, \"[::]:{ports}\" for IPv6"),
        Err(_) => LISTEN_HELP.to_owned(),
    })
}

fn not_an_address(text: &str, addr: &str, ports: &str) -> Mistake {
    match addr {
        "" | "*" => no_address(text, ports),
        "localhost" => Mistake::new("`localhost` is a name, not an address")
            .help(format!("write \"127.0.0.1:{ports}\" or \"[::1]:{ports}\"")),
        _ => Mistake::new(format!("`{addr}` is not an address")).help(LISTEN_HELP),
    }
}

/// A port of the policy, and a port number of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The port, by name.
    pub port: String,
    /// The number; none: what was listened on.
    pub number: Option<u16>,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.port)?;
        self.number.iter().try_for_each(|number| write!(out, ":{number}"))
    }
}

impl FromStr for Target {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let (port, number) = match text.rsplit_once(':') {
            Some((port, number)) => (port, Some(number)),
            None => (text, None),
        };
        if port.is_empty() {
            let mistake = Mistake::new(format!("`{text}` names no port of the policy"));
            return Err(mistake.help("write one of [ports] and a port number, such as \"web-1:80\""));
        }
        let number = number.map(|number| single(number, &format!("{port}:"))).transpose()?;
        Ok(Self { port: port.to_owned(), number })
    }
}

/// The one port number that `text` must be; `before` stands before it in the file.
pub(super) fn single(text: &str, before: &str) -> Result<u16, Mistake> {
    let range: PortRange = text.parse()?;
    if range.first != range.last {
        let mistake = Mistake::new(format!("`{text}` is a range of ports"));
        return Err(mistake.help(format!("write \"{before}{}\"; those after it follow", range.first)));
    }
    Ok(range.first)
}

impl Forward {
    /// What is listened on.
    #[must_use]
    pub const fn listens(&self) -> Listen {
        Listen { addr: self.listen, ports: PortRange { first: self.ports.0, last: self.ports.1 } }
    }

    /// What it is called: no two of a policy have the same.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.protocol, self.listens())
    }
}

impl Serialize for Forward {
    /// As the file writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum To<'a> {
            One(&'a Backend),
            Several(&'a [Backend]),
        }
        #[derive(Serialize)]
        struct Shown<'a> {
            listen: String,
            protocol: super::Protocol,
            to: To<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            affinity: Option<Affinity>,
        }
        let to = match &self.to[..] {
            [one] if one.weight == USUAL_WEIGHT => To::One(one),
            all => To::Several(all),
        };
        let affinity = Some(self.affinity).filter(|affinity| *affinity != Affinity::default());
        Shown { listen: self.listens().to_string(), protocol: self.protocol, to, affinity }
            .serialize(serializer)
    }
}

impl Serialize for Metadata {
    /// As the file writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            network: &'a str,
            listen: String,
            to: String,
        }
        let to = format!("host:{}", self.to_port);
        Shown { network: &self.network, listen: self.listen.to_string(), to }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_printing_and_reading() {
        for text in
            ["0.0.0.0:8080", "[::]:53", "192.0.2.1:8000-8010", "[2001:db8::1]:1-65535", "127.0.0.1:80"]
        {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["web-1:80", "web.1", "a_b:65535"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_is_told_with_what_to_write() {
        let listen = |text: &str| text.parse::<Listen>().unwrap_err().to_string();
        for (text, words) in [
            ("8080", "write \"0.0.0.0:8080\" for IPv4, \"[::]:8080\" for IPv6"),
            (":80-90", "\"[::]:80-90\" for IPv6"),
            ("*:80", "has no address"),
            ("localhost:80", "write \"127.0.0.1:80\""),
            ("web:80", "`web` is not an address"),
            ("nonsense", "write an address and a port"),
            ("192.0.2.1", "write a port behind it, such as \"192.0.2.1:8080\""),
            ("2001:db8::1", "such as \"[2001:db8::1]:8080\""),
            ("[::]", "has no port"),
            ("::1:99999", "without brackets"),
            ("192.0.2.1:0", "0 is not a port"),
            ("192.0.2.1:90-80", "write \"80-90\""),
            ("192.0.2.1:http", "neither a port nor a range"),
            ("224.0.0.1:80", "a multicast address"),
            ("255.255.255.255:67", "the broadcast address"),
            ("[fe80::1]:80", "link-local"),
            ("[::ffff:192.0.2.1]:80", "write 192.0.2.1"),
        ] {
            assert!(listen(text).contains(words), "{text}: {}", listen(text));
        }
        let target = |text: &str| text.parse::<Target>().unwrap_err().to_string();
        assert!(target(":80").contains("names no port of the policy"));
        assert!(target("web-1:80-90").contains("write \"web-1:80\""), "{}", target("web-1:80-90"));
        assert!(target("web-1:0").contains("0 is not a port"));
    }
}
