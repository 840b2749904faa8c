//! The `host` table of a policy file.

use super::{
    Failsafe, HostPolicy, Mistake, Protocol, closest,
    protocol::PortRange,
    section::{Node, Report, Schema, Section, list_of, string},
};

pub(super) const HOST: Schema = Schema { keys: &["failsafe_ports"], later: &[] };

/// What the file says about the host; what is wrong is recorded.
pub(super) fn host(node: Node<'_>, report: &mut Report) -> HostPolicy {
    let section = Section::open(("host", "`host`".to_owned(), node.span()), node, &HOST, report);
    let Some(ports) = section.and_then(|section| section.get("failsafe_ports")) else {
        return HostPolicy::default();
    };
    let mut seen = Vec::new();
    let failsafe = list_of(ports, report, |node, report| {
        let text = string(node, report)?;
        let failsafe: Failsafe = report.keep(node.span(), text.parse())?;
        if seen.contains(&failsafe) {
            let mistake = Mistake::new(format!("the failsafe port {failsafe} is given twice"));
            report.error(node.span(), mistake.help("remove one of them"));
            return None;
        }
        seen.push(failsafe);
        Some(failsafe)
    });
    HostPolicy { failsafe: failsafe.unwrap_or_default() }
}

impl std::str::FromStr for Failsafe {
    type Err = Mistake;

    /// As in `tcp/22`.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        const HELP: &str = "write a protocol and a port, such as \"tcp/22\"";
        let Some((protocol, port)) = text.split_once('/') else {
            return Err(Mistake::new(format!("`{text}` is not a failsafe port")).help(HELP));
        };
        let known = [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];
        let Some((_, protocol)) = known.into_iter().find(|(name, _)| *name == protocol) else {
            let help = match closest(&protocol.to_ascii_lowercase(), known.map(|(name, _)| name)) {
                Some(name) => format!("did you mean \"{name}/{port}\"?"),
                None => "it is for tcp, udp and sctp, which have ports".to_owned(),
            };
            return Err(Mistake::new(format!("`{protocol}` cannot be failsafe")).help(help));
        };
        let range: PortRange = port.parse()?;
        if range.first != range.last {
            return Err(Mistake::new(format!("`{text}` is a range of ports"))
                .help("name single ports: what is failsafe is open to every workload"));
        }
        Ok(Self { protocol, port: range.first })
    }
}
