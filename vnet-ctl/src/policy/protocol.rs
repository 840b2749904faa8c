//! IP protocols and ranges of ports, as people write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Mistake, closest};

/// An IP protocol number, or 0 for any (as in the compiled rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Every protocol.
    pub const ANY: Self = Self(0);
    /// ICMP for IPv4, RFC 792.
    pub const ICMP: Self = Self(1);
    /// TCP, RFC 9293.
    pub const TCP: Self = Self(6);
    /// UDP, RFC 768.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, RFC 9260.
    pub const SCTP: Self = Self(132);

    const NAMES: [(&'static str, Self); 6] = [
        ("any", Self::ANY),
        ("tcp", Self::TCP),
        ("udp", Self::UDP),
        ("sctp", Self::SCTP),
        ("icmp", Self::ICMP),
        ("icmpv6", Self::ICMPV6),
    ];

    /// Whether its packets have ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Whether its packets have an ICMP type and code.
    #[must_use]
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// Whether packets to or from an IPv4 (else IPv6) address can carry it.
    #[must_use]
    pub const fn fits(self, is_ipv4: bool) -> bool {
        match self {
            Self::ICMP => is_ipv4,
            Self::ICMPV6 => !is_ipv4,
            _ => true,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => out.pad(name),
            None => fmt::Display::fmt(&self.0, out),
        }
    }
}

impl FromStr for Protocol {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        if let Some((_, protocol)) = Self::NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*protocol);
        }
        if let Ok(number) = text.parse::<i64>() {
            return Self::from_number(number);
        }
        let help = match closest(&text.to_ascii_lowercase(), Self::NAMES.iter().map(|(name, _)| *name)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "write tcp, udp, sctp, icmp, icmpv6, any, or a protocol number from 1 to 255".to_owned(),
        };
        Err(Mistake::new(format!("`{text}` is not a protocol that vnet knows")).help(help))
    }
}

impl Protocol {
    /// The protocol of a number that a person wrote.
    ///
    /// # Errors
    /// When it is not from 1 to 255.
    pub fn from_number(number: i64) -> Result<Self, Mistake> {
        match u8::try_from(number) {
            Ok(number @ 1..) => Ok(Self(number)),
            _ => Err(Mistake::new(format!("{number} is not a protocol number from 1 to 255"))
                .help("write \"any\" for every protocol")),
        }
    }
}

/// Ports from `first` to `last`, both included; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// The one port `number`, as a person wrote it.
    ///
    /// # Errors
    /// When it is not from 1 to 65535.
    pub fn from_number(number: i64) -> Result<Self, Mistake> {
        match u16::try_from(number) {
            Ok(port @ 1..) => Ok(Self { first: port, last: port }),
            _ => Err(Mistake::new(format!("{number} is not a port")).help("ports go from 1 to 65535")),
        }
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| {
            let part = part.trim();
            // A sign is no part of a port, and a number too long for the type is still a number.
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number {
                return Err(Mistake::new(format!("`{text}` is neither a port nor a range of ports"))
                    .help("write a port as 80 and a range as \"8000-8010\""));
            }
            Self::from_number(part.parse().unwrap_or(i64::MAX)).map(|range| range.first)
        };
        let range = Self { first: number(first)?, last: number(last)? };
        if range.first > range.last {
            return Err(Mistake::new(format!("the range {range} is upside down"))
                .help(format!("write \"{}-{}\"", range.last, range.first)));
        }
        Ok(range)
    }
}

macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}
serde_as_text!(Protocol, PortRange, super::Peer);
