//! What figures were measured with: they mean nothing without it.

use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::Programs;

/// A machine, and what ran on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The commit that was built, and whether something was changed since.
    pub(super) commit: String,
    /// The release of the kernel.
    pub(super) kernel: String,
    /// The model of the CPU, as the kernel calls it.
    pub(super) cpu: String,
    /// How many CPUs there are.
    pub(super) cpus: usize,
}

impl Machine {
    /// This one.
    pub(super) fn look(programs: &Programs) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        Ok(Self {
            commit: programs.read("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
            kernel: programs.read("uname", &["--kernel-release"])?,
            cpu: model(&cpuinfo),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
        })
    }
}

/// Name, family, model and stepping of the first CPU: a virtual machine's name alone may say no more than
/// who made it. Only the name where the architecture has no numbers.
fn model(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let value =
            |line: &str| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned());
        cpuinfo.lines().find_map(value)
    };
    let name = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match ["cpu family", "model", "stepping"].map(field) {
        [Some(family), Some(model), Some(stepping)] => {
            format!("{name}, family {family}, model {model}, stepping {stepping}")
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::model;

    #[test]
    fn a_model_has_its_numbers() {
        let cpuinfo =
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n\n";
        assert_eq!(model(cpuinfo), "AMD EPYC, family 25, model 17, stepping 1");
        assert_eq!(model("model name\t: ARM\n"), "ARM");
    }
}
