//! `drops`: how many packets were dropped, for which reason, at which port.

use clap::builder::PossibleValuesParser;
use vnet_common::DropReason;
use vnet_ctl::api::types::{DropCount, DropReport, PortDrops};

use super::{Context, port};
use crate::{
    failure::{Done, Outcome},
    output::{Table, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl drops
  vnet-ctl drops --port web-1                       one port only
  vnet-ctl drops --reason ingress-denied -o json
  watch vnet-ctl drops";

/// Show how many packets were dropped, and for which reason.
///
/// Totals by reason with what each means, then the same by port. Reasons that dropped nothing are left
/// out. Counters run from when the datapath was loaded; they survive a restart of the daemon.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Only what was dropped at this port
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Only this reason
    #[arg(long, value_name = "REASON", value_parser = reasons(), hide_possible_values = true)]
    reason: Option<String>,
}

/// The names of all reasons.
fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label()))
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        if let Some(name) = &self.port {
            port::port(context, name).await?;
        }
        let report: DropReport = context.client.get("/v1/drops").await?;
        let report = self.narrowed(report);
        context.output.show(&report, &self.view(&report))?;
        Ok(Done::Success)
    }

    fn narrowed(&self, mut report: DropReport) -> DropReport {
        let is_meant = |reason: &str| self.reason.as_deref().is_none_or(|wanted| wanted == reason);
        report.total.retain(|count| count.packets > 0 && is_meant(&count.reason));
        report.ports.retain(|count| count.packets > 0 && is_meant(&count.reason));
        if let Some(port) = &self.port {
            report.ports.retain(|count| count.port == *port);
            // The totals are those of the whole host.
            report.total.clear();
        }
        report
    }

    fn view(&self, report: &DropReport) -> View {
        let note = "Nothing was dropped.";
        let ports = by_port(&report.ports);
        if self.port.is_some() {
            return View::list(ports.empty(note));
        }
        View::list(by_reason(&report.total).empty(note)).table(ports)
    }
}

/// A table of drops by reason.
pub(crate) fn by_reason(counts: &[DropCount]) -> Table {
    let row =
        |count: &DropCount| [count.reason.clone(), count.packets.to_string(), count.explanation.clone()];
    Table::new(["REASON", "PACKETS", "MEANING"]).rows(counts.iter().map(row))
}

fn by_port(counts: &[PortDrops]) -> Table {
    let row = |count: &PortDrops| {
        [count.port.clone(), count.reason.clone(), count.packets.to_string(), count.ifindex.to_string()]
    };
    Table::new(["PORT", "REASON", "PACKETS"]).wide(["IFINDEX"]).rows(counts.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> DropReport {
        let total = |reason: &str, packets| DropCount {
            reason: reason.to_owned(),
            number: 0,
            packets,
            explanation: String::new(),
        };
        let port = |port: &str, reason: &str| PortDrops {
            port: port.to_owned(),
            ifindex: 1,
            reason: reason.to_owned(),
            number: 0,
            packets: 1,
        };
        DropReport {
            total: vec![total("truncated", 2), total("no-flow", 0)],
            ports: vec![port("a", "truncated"), port("b", "truncated")],
        }
    }

    #[test]
    fn reasons_that_dropped_nothing_are_left_out() {
        let shown = Command { port: None, reason: None }.narrowed(report());
        assert_eq!((shown.total.len(), shown.ports.len()), (1, 2));
    }

    #[test]
    fn one_port_shows_no_totals_of_others() {
        let shown = Command { port: Some("b".to_owned()), reason: None }.narrowed(report());
        assert_eq!((shown.total.len(), shown.ports.len()), (0, 1));
    }
}
