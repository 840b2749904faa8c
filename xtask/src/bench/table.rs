//! Figures as a table for people.

use std::fmt::Write as _;

use super::{Measure, Report};

/// The whole report, one line for each figure, parts apart from one another.
pub(super) fn table(report: &Report) -> String {
    let Report { machine, measures } = report;
    let mut text = format!("commit {}, Linux {}, {} CPUs\n", machine.commit, machine.kernel, machine.cpus);
    let width = measures.iter().map(|measure| measure.what.chars().count()).max().unwrap_or(0);
    let mut part = "";
    for measure in measures {
        if measure.part != part {
            part = &measure.part;
            let _ = writeln!(text, "\n{part}");
        }
        let _ = writeln!(text, "  {:<width$}  {:>12} {}", measure.what, figure(measure), measure.unit);
    }
    text
}

/// Four digits that count, thousands apart.
fn figure(measure: &Measure) -> String {
    let value = measure.value;
    if value.fract() == 0.0 || value >= 1000.0 {
        return thousands(value.round());
    }
    let decimals = if value >= 100.0 { 1 } else { 2 };
    format!("{value:.decimals$}")
}

fn thousands(whole: f64) -> String {
    let digits = format!("{whole:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::Machine, *};

    fn measure(part: &str, what: &str, value: f64, unit: &str) -> Measure {
        Measure { part: part.to_owned(), what: what.to_owned(), value, unit: unit.to_owned() }
    }

    #[test]
    fn parts_stand_apart_and_figures_below_one_another() {
        let measures = vec![
            measure("rules", "rules", 100_000.0, "rules"),
            measure("rules", "one rule changed", 4.256, "ms"),
            measure("ports", "torn down", 1234.5, "ms"),
        ];
        let machine =
            Machine { commit: "abc".to_owned(), kernel: "6.18".to_owned(), cpu: String::new(), cpus: 2 };
        let report = Report { machine, measures };
        let expected = "commit abc, Linux 6.18, 2 CPUs\n\n\
                        rules\n\
                        \x20 rules                  100,000 rules\n\
                        \x20 one rule changed          4.26 ms\n\n\
                        ports\n\
                        \x20 torn down                1,235 ms\n";
        assert_eq!(table(&report), expected);
    }
}
