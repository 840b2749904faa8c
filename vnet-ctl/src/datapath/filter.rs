//! Which flows a person means: `port=web-1,protocol=tcp,dst_port=443,address=10.10.0.0/24`.
//!
//! All terms must hold. Decides about flows as they are shown, from nothing else.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::api::types::FlowInfo;

/// The terms of a filter; without any, every flow matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// A port at either end, or `host`.
    pub port: Option<String>,
    /// Addresses that either end has, on either side of a translation.
    pub address: Option<IpNet>,
    /// The protocol, as `FlowInfo` names it.
    pub protocol: Option<String>,
    /// The port that the flow was opened to.
    pub dst_port: Option<u16>,
}

/// A filter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{term:?} is no filter: {reason}")]
pub struct FilterError {
    term: String,
    reason: &'static str,
}

impl FlowFilter {
    /// Whether `flow` is meant.
    #[must_use]
    pub fn matches(&self, flow: &FlowInfo) -> bool {
        let translated = flow.translated.iter().flat_map(|leaves| [leaves.src, leaves.dst]);
        let addresses: Vec<IpAddr> = [flow.src, flow.dst].into_iter().chain(translated).collect();
        let touches = |net: &IpNet| addresses.iter().any(|addr| net.contains(addr));
        self.port.as_ref().is_none_or(|port| flow.from == *port || flow.to == *port)
            && self.address.as_ref().is_none_or(touches)
            && self.protocol.as_ref().is_none_or(|protocol| flow.protocol == *protocol)
            && self.dst_port.is_none_or(|port| flow.dst_port == port)
    }
}

impl FromStr for FlowFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for term in text.split([',', ' ']).filter(|term| !term.is_empty()) {
            let wrong = |reason| FilterError { term: term.to_owned(), reason };
            let (key, value) = term.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
            match key {
                "port" => filter.port = Some(value.to_owned()),
                "address" => {
                    let net = value.parse().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
                    filter.address = Some(net.map_err(|_| wrong("write an address or a CIDR"))?);
                }
                "protocol" => filter.protocol = Some(value.to_ascii_lowercase()),
                "dst_port" => {
                    filter.dst_port = Some(value.parse().map_err(|_| wrong("write a number up to 65535"))?);
                }
                _ => return Err(wrong("the keys are port, address, protocol and dst_port")),
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for FlowFilter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            self.port.as_ref().map(|port| format!("port={port}")),
            self.address.as_ref().map(|net| format!("address={net}")),
            self.protocol.as_ref().map(|protocol| format!("protocol={protocol}")),
            self.dst_port.map(|port| format!("dst_port={port}")),
        ];
        let terms: Vec<String> = terms.into_iter().flatten().collect();
        out.write_str(&terms.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Traffic;

    fn flow() -> FlowInfo {
        FlowInfo {
            protocol: "tcp".to_owned(),
            state: "established".to_owned(),
            from: "web-1".to_owned(),
            to: "host".to_owned(),
            src: "10.10.0.10".parse().unwrap(),
            src_port: 40000,
            dst: "10.10.0.1".parse().unwrap(),
            dst_port: 443,
            translated: None,
            original: Traffic::default(),
            reply: Traffic::default(),
            idle_secs: 0,
            timeout_secs: 7440,
            generation: 1,
            egress_rule: None,
            ingress_rule: None,
        }
    }

    fn matches(filter: &str) -> bool {
        filter.parse::<FlowFilter>().unwrap().matches(&flow())
    }

    #[test]
    fn every_term_must_hold() {
        assert!(matches(""));
        assert!(matches("port=web-1,protocol=TCP dst_port=443,address=10.10.0.0/24"));
        assert!(matches("port=host") && matches("address=10.10.0.1"));
        assert!(
            !matches("port=web-2") && !matches("address=10.10.0.2") && !matches("port=web-1,dst_port=80")
        );
    }

    #[test]
    fn nonsense_is_refused_by_its_term() {
        for (text, term) in
            [("web-1", "web-1"), ("dst_port=70000", "dst_port=70000"), ("proto=tcp", "proto=tcp")]
        {
            assert!(text.parse::<FlowFilter>().unwrap_err().to_string().contains(term));
        }
    }

    #[test]
    fn text_survives_a_round_trip() {
        let text = "port=web-1,address=10.0.0.0/8,protocol=udp,dst_port=53";
        assert_eq!(text.parse::<FlowFilter>().unwrap().to_string(), text);
    }
}
