//! `docs/benchmarks.md`: all figures of a full run, and its plots.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{
    Group, Load, Measure, Measured, More, Peer,
    figures::{flood_headings, floods, headings, pair_headings, pairs, quiet, rows},
    plot::{PLOTS, Plot},
    targets,
};
use crate::{bench::machine::Machine, process::root};

/// The document.
const DOCUMENT: &str = "docs/benchmarks.md";
/// Its plots, beside it.
const FOLDER: &str = "docs/benchmarks";

/// Writes the document and its plots.
pub(super) fn write(machine: &Machine, measured: &Measured, more: &More) -> Result<()> {
    fs::create_dir_all(root().join(FOLDER)).context(FOLDER)?;
    for plot in &PLOTS {
        let path = format!("{FOLDER}/{}.svg", plot.name);
        fs::write(root().join(&path), plot.svg(measured)?).context(path)?;
    }
    fs::write(root().join(DOCUMENT), text(machine, measured, more)).context(DOCUMENT)?;
    eprintln!("written to {DOCUMENT}");
    Ok(())
}

fn text(machine: &Machine, measured: &Measured, more: &More) -> String {
    let Machine { commit, kernel, cpu, cpus } = machine;
    let mut text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench --full` at commit {commit}, on Linux {kernel}, {cpu}, {cpus} CPUs; {}.\n\n\
         Three network namespaces, A, S and B, are joined by two veths, and only what S does differs; in *direct* a\n\
         veth leads from A straight to B, and for *Segments* S is two hosts with a wire between them. Client and\n\
         server are on one CPU. Figures are medians; *of direct* is the\n\
         ratio to *direct* just before and after, with its least and greatest value. Legs between which *direct* changed by\n\
         more than 5 % do not count, if three others do. Machines differ and drift: compare ratios, not figures.\n\n\
         - **Mpps**: datagrams of 18 bytes of a flow that was answered, counted where they arrive.\n\
         - **RR**: one byte and its answer on one TCP connection; the time of both. Less is better.\n\
         - **CRR**: the same with a connection each, closed by FIN or by RST.\n\
         - **TCP**: one stream of iperf3, cubic.\n\
         - **refused**: datagrams of 18 bytes to a port that no rule opens, as the peer counts what it drops; with *direct*,\n\
         \x20 where there are no rules, those that arrive.\n\n",
        quiet(measured)
    );
    text += "## Targets\n\nThose that the project has set itself. Why some are missed is told in\n\
             [performance.md](performance.md).\n\n";
    table(&mut text, &targets::headings(), &targets::rows(measured, more));
    let all = [Load::Packets, Load::Requests, Load::Connections, Load::Resets, Load::Stream];
    section(&mut text, "Paths", measured.of(Group::Limit).chain(measured.of(Group::Paths)), &all);
    section(&mut text, "Translation", measured.of(Group::Translation), &all);
    section(&mut text, "Segments", measured.of(Group::Segments), &all);
    section(
        &mut text,
        "Refused",
        measured.of(Group::Limit).chain(measured.of(Group::Refused)),
        &[Load::Refused],
    );
    pairs_of(&mut text, measured);
    let on_curves = [Load::Packets, Load::Connections];
    section(&mut text, "Rules", measured.of(Group::Rules), &on_curves);
    plots(&mut text, Group::Rules);
    applied(&mut text, measured);
    section(&mut text, "Flows", measured.of(Group::Flows), &on_curves);
    text += "Packets are of so many flows in turn, which have been answered and are in the peer's table all the time. A\n\
             measurement may be too short for all of them; the next one begins with others. New connections are opened\n\
             beside them.\n\n";
    plots(&mut text, Group::Flows);
    flood(&mut text, measured);
    programs(&mut text, more);
    controller(&mut text, more);
    text += "## What each peer is\n\n";
    let peers = measured.peers().map(|peer| (&peer.name, &peer.what));
    for (name, what) in peers.chain(measured.floods.iter().map(|peer| (&peer.name, &peer.what))) {
        let _ = writeln!(text, "- **{name}**: {what}.");
    }
    text
}

fn pairs_of(text: &mut String, measured: &Measured) {
    *text += "## One beside the other\n\nEach as part of *direct*, in the same rounds.\n\n";
    table(text, &pair_headings(), &pairs(measured));
}

fn flood(text: &mut String, measured: &Measured) {
    *text += "## Flood\n\nConnections of a client outside to a forwarded port, before and during a flood of SYNs under false\n\
              addresses for the same port, at twice the flows that the peer's table has room for. The flood has a CPU of\n\
              its own, which does all that its packets cost in S; client and server have the same one before and during\n\
              it. So *of before* is by what is left, CPU for CPU.\n\n";
    table(text, &flood_headings(), &floods(measured));
}

fn programs(text: &mut String, more: &More) {
    *text += "## Programs\n\nns of one packet, more than an empty program takes (`cargo xtask bench prog`).\n\n\
              | way | ns |\n|---|---:|\n";
    for (way, ns) in &more.programs {
        let _ = writeln!(text, "| {way} | {ns:.0} |");
    }
    text.push('\n');
}

fn controller(text: &mut String, more: &More) {
    *text += "## Controller\n\nWhat `cargo xtask bench controller` prints.\n\n| part | what | | |\n|---|---|---:|---|\n";
    for Measure { part, what, value, unit } in &more.controller {
        let _ = writeln!(text, "| {part} | {what} | {value:.1} | {unit} |");
    }
    text.push('\n');
}

fn section<'a>(text: &mut String, name: &str, peers: impl Iterator<Item = &'a Peer>, loads: &[Load]) {
    let _ = writeln!(text, "## {name}\n");
    table(text, &headings(loads), &rows(peers, loads));
}

fn table(text: &mut String, headings: &[String], rows: &[Vec<String>]) {
    let _ = writeln!(text, "| {} |", headings.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---:".repeat(headings.len() - 1));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
}

fn applied(text: &mut String, measured: &Measured) {
    *text += "How long it takes to put them in force: the program that loads them; for vnet, a policy with them, in\n\
              place of one with none, until it is in force.\n\n| peer | ms |\n|---|---:|\n";
    for peer in measured.of(Group::Rules) {
        if let Some(applied_s) = peer.applied_s {
            let _ = writeln!(text, "| {} | {:.1} |", peer.name, applied_s * 1000.0);
        }
    }
    text.push('\n');
}

/// The plots of a group.
fn plots(text: &mut String, group: Group) {
    for Plot { name, title, .. } in PLOTS.iter().filter(|plot| plot.group == group) {
        let _ = writeln!(text, "![{title}](benchmarks/{name}.svg)\n");
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Flood, Flooded, Results, Run},
        *,
    };

    fn direct(count: u32) -> Peer {
        let values = vec![1e6];
        let results = [Load::Packets, Load::Connections].map(|load| Results {
            load,
            values: values.clone(),
            of_direct: vec![1.0],
            drift: vec![0.0],
            counts: vec![true],
        });
        Peer {
            name: format!("direct {count} flows"),
            what: "a veth".to_owned(),
            group: Group::Flows,
            curve: Some(("direct".to_owned(), count)),
            beside: Vec::new(),
            absent: None,
            applied_s: None,
            results: results.into(),
        }
    }

    #[test]
    fn flows_and_floods_have_their_tables() {
        let run = |count| Run { rounds: 1, legs: 1, peers: vec![direct(count)] };
        let round = Flood { before: 20_000.0, during: 15_000.0, syns: 3e5 };
        let (name, what) = ("vnet flooded".to_owned(), "forwards".to_owned());
        let floods = vec![Flooded { name, what, absent: None, rounds: vec![round] }];
        let measured = Measured { runs: vec![run(1000), run(10_000)], floods };
        let machine =
            Machine { commit: "abc".to_owned(), kernel: "6.18".to_owned(), cpu: "a CPU".to_owned(), cpus: 2 };
        let text = text(&machine, &measured, &More::default());
        for line in [
            "| direct 10000 flows | 1.00 | 1.00 (1.00–1.00) | 1000000 | 1.00 (1.00–1.00) |",
            "| vnet flooded | 20000 | 15000 | 0.75 (0.75–0.75) | 0.30 |",
            "![Connections per second against the number of flows](benchmarks/flow-connections.svg)",
            "- **vnet flooded**: forwards.",
        ] {
            assert!(text.lines().any(|own| own == line), "no {line} in {text}");
        }
    }
}
