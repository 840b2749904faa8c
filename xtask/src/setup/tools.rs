//! The programs that tests and people use on a running vnet, and those that a trial of the package takes.

use anyhow::{Result, bail};

use super::{Machine, Need, State, Step};

/// A program, Debian's package with it, and from where on it is needed.
pub(super) struct Tool {
    program: &'static str,
    package: &'static str,
    need: Need,
}

/// For vnet itself.
pub(super) const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2", need: Need::Run },
    Tool { program: "ping", package: "iputils-ping", need: Need::Run },
    Tool { program: "ping6", package: "iputils-ping", need: Need::Run },
    Tool { program: "curl", package: "curl", need: Need::Run },
    Tool { program: "python3", package: "python3", need: Need::Run },
    Tool { program: "iperf3", package: "iperf3", need: Need::Test },
    Tool { program: "tcpdump", package: "tcpdump", need: Need::Test },
    Tool { program: "iptables", package: "iptables", need: Need::Test },
    Tool { program: "nft", package: "nftables", need: Need::Test },
    Tool { program: "bpftool", package: "bpftool", need: Need::Test },
    Tool { program: "ethtool", package: "ethtool", need: Need::Test },
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86", need: Need::Test },
];

/// For the peers that vnet is compared with.
pub(super) const PEERS: &[Tool] = &[
    Tool { program: "iptables-legacy-restore", package: "iptables", need: Need::Test },
    Tool { program: "ipset", package: "ipset", need: Need::Test },
    Tool { program: "ovs-vswitchd", package: "openvswitch-switch", need: Need::Test },
];

/// For a small Debian in which the package is tried.
pub(super) const TRIAL: &[Tool] = &[
    Tool { program: "debootstrap", package: "debootstrap", need: Need::Build },
    Tool { program: "systemd-nspawn", package: "systemd-container", need: Need::Build },
    Tool { program: "nsenter", package: "util-linux", need: Need::Build },
];

/// The step.
pub(super) struct Tools {
    /// All that there may be.
    pub(super) tools: &'static [Tool],
    /// What they are for.
    pub(super) need: Need,
}

impl Tools {
    fn wanted(&self) -> impl Iterator<Item = &'static Tool> {
        let need = self.need;
        self.tools.iter().filter(move |tool| tool.need <= need)
    }

    fn missing(&self, machine: &Machine) -> Vec<&'static Tool> {
        self.wanted().filter(|tool| machine.programs.find(tool.program).is_none()).collect()
    }
}

impl Step for Tools {
    fn name(&self) -> &'static str {
        "tools"
    }

    fn look(&self, machine: &Machine) -> Result<State> {
        let missing = self.missing(machine);
        Ok(if missing.is_empty() {
            State::Present(programs(self.wanted()))
        } else {
            State::Missing(format!("no {}", programs(missing)))
        })
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        let Some(apt) = &machine.apt else { bail!("only Debian's packages are known by name") };
        apt.install(machine, &packages(&self.missing(machine)))
    }

    fn by_hand(&self, machine: &Machine) -> Vec<String> {
        let missing = self.missing(machine);
        let sudo = machine.privilege.prefix();
        vec![match &machine.apt {
            Some(_) => {
                format!("{sudo}apt-get install --no-install-recommends {}", packages(&missing).join(" "))
            }
            None => format!("install, with the system's packages, {}", programs(missing)),
        }]
    }
}

fn programs(tools: impl IntoIterator<Item = &'static Tool>) -> String {
    tools.into_iter().map(|tool| tool.program).collect::<Vec<_>>().join(", ")
}

fn packages(tools: &[&'static Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_asks_for_less_than_testing() {
        let all = |need| programs(Tools { tools: TOOLS, need }.wanted());
        assert_eq!(all(Need::Run), "ip, ping, ping6, curl, python3");
        assert!(all(Need::Test).starts_with(&all(Need::Run)));
    }

    #[test]
    fn a_package_is_named_once() {
        assert_eq!(packages(&[&TOOLS[1], &TOOLS[2], &TOOLS[0]]), ["iproute2", "iputils-ping"]);
    }
}
