//! Who we are to the kernel, and how to become root for one command.

use anyhow::{Result, bail};

use crate::process::{Programs, announce, complete};

/// What this process can do about root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It is root.
    Root,
    /// It is not, but sudo is there.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// What holds for this process.
    pub(crate) fn detect(programs: &Programs) -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::Root
        } else if programs.find("sudo").is_some() {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// What a person types before a command that needs root.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Sudo => "sudo ",
            Self::None => "(as root) ",
        }
    }

    /// Runs a command as root, telling it first.
    pub(crate) fn run_as_root(self, programs: &Programs, command: &[&str]) -> Result<()> {
        let words = match self {
            Self::Root => command.to_vec(),
            Self::Sudo => [&["sudo"], command].concat(),
            Self::None => bail!("`{}` needs root, and there is no sudo", command.join(" ")),
        };
        let Some((program, args)) = words.split_first() else { return Ok(()) };
        announce(program, args);
        complete(&programs.command(program, args), &format!("`{}` failed", words.join(" ")))
    }
}
