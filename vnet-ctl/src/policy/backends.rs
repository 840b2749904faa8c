//! Whom a forward leads to: ports with weights, as the policy file and the command line write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::{Forward, Mistake, PortRange, Target};

/// The most backends of one forward: each then still has three slots of those that a forward has (251).
pub const MAX_BACKENDS: usize = 64;
/// The highest weight.
pub const MAX_WEIGHT: u8 = 100;
/// The weight of a backend that is given none.
pub const USUAL_WEIGHT: u8 = 1;

/// A workload that a forward leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The port of the workload.
    pub port: String,
    /// What the first port listened on becomes; the others follow. SCTP keeps its ports.
    pub to_port: u16,
    /// Its part of new flows, in proportion to the weights of the others, 0 to [`MAX_WEIGHT`]. With 0 it drains: it
    /// keeps the flows that it has.
    pub weight: u8,
}

impl Backend {
    /// Where it is, as the file writes it.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { port: self.port.clone(), number: Some(self.to_port) }
    }

    /// Whether it keeps the flows that it has, and gets no others.
    #[must_use]
    pub const fn drains(&self) -> bool {
        self.weight == 0
    }
}

impl fmt::Display for Backend {
    /// As the command line writes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target().fmt(out)?;
        if self.weight == USUAL_WEIGHT { Ok(()) } else { write!(out, "={}", self.weight) }
    }
}

impl Serialize for Backend {
    /// As the file writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Weighted {
            port: String,
            weight: u8,
        }
        let port = self.target().to_string();
        if self.weight == USUAL_WEIGHT {
            return port.serialize(serializer);
        }
        Weighted { port, weight: self.weight }.serialize(serializer)
    }
}

/// What goes to the same backend of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// A connection.
    #[default]
    Flow,
    /// All connections of a client's address.
    Client,
}

impl Affinity {
    /// How the file calls them.
    pub const WORDS: [(&str, Self); 2] = [("flow", Self::Flow), ("client", Self::Client)];
}

impl fmt::Display for Affinity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Flow => "flow",
            Self::Client => "client",
        })
    }
}

/// A backend as a person types it: `web-1:80`, `web-1:80=3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Where it is.
    pub target: Target,
    /// Its weight, if they say one.
    pub weight: Option<u8>,
}

impl FromStr for BackendSpec {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let Some((target, weight)) = text.rsplit_once('=') else {
            return Ok(Self { target: text.parse()?, weight: None });
        };
        let weight = weight.parse().map_err(|_| not_a_weight(weight)).and_then(check_weight)?;
        Ok(Self { target: target.parse()?, weight: Some(weight) })
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(out)?;
        self.weight.iter().try_for_each(|weight| write!(out, "={weight}"))
    }
}

/// The weight that `number` is.
pub(super) fn check_weight(number: i64) -> Result<u8, Mistake> {
    let weight = u8::try_from(number).ok().filter(|weight| *weight <= MAX_WEIGHT);
    weight.ok_or_else(|| not_a_weight(number))
}

fn not_a_weight(text: impl fmt::Display) -> Mistake {
    Mistake::new(format!("{text} is not a weight")).help(format!(
        "write a number from 1 to {MAX_WEIGHT}, or 0 for a backend that gets no new connections"
    ))
}

impl Forward {
    /// The ports of the workload that it leads to as `backend`.
    #[must_use]
    pub const fn to_ports(&self, backend: &Backend) -> PortRange {
        let more = self.ports.1 - self.ports.0;
        PortRange { first: backend.to_port, last: backend.to_port.saturating_add(more) }
    }

    /// Where it leads, as the command line writes it.
    #[must_use]
    pub fn targets(&self) -> String {
        self.to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The ports that it leads to, as messages call them.
    pub(super) fn led_to(&self) -> String {
        match &self.to[..] {
            [one] => format!("port `{}`", one.port),
            all => {
                let names: Vec<_> = all.iter().map(|backend| format!("`{}`", backend.port)).collect();
                format!("ports {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_printing_and_reading() {
        for text in ["web-1:80", "web-1", "web-1:80=3", "web.1=0", "a_b:65535=100"] {
            assert_eq!(text.parse::<BackendSpec>().unwrap().to_string(), text);
        }
        let backend = |weight| Backend { port: "web-1".to_owned(), to_port: 80, weight }.to_string();
        assert_eq!([backend(1), backend(0)], ["web-1:80", "web-1:80=0"]);
        for (text, words) in [
            ("web-1:80=101", "101 is not a weight"),
            ("web-1:80=-1", "-1 is not a weight"),
            ("web-1:80=", " is not a weight"),
            ("web-1:80=many", "a number from 1 to 100, or 0"),
            ("=3", "names no port of the policy"),
            ("web-1:0=3", "0 is not a port"),
        ] {
            let told = text.parse::<BackendSpec>().unwrap_err().to_string();
            assert!(told.contains(words), "{text}: {told}");
        }
        for (word, affinity) in Affinity::WORDS {
            assert_eq!(affinity.to_string(), word);
        }
    }
}
