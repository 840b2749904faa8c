//! `completion`: what a shell needs to complete vnet-ctl's command line.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Context;
use crate::{
    cli::Cli,
    failure::{Done, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl completion bash > /etc/bash_completion.d/vnet-ctl
  vnet-ctl completion zsh > ~/.zfunc/_vnet-ctl
  vnet-ctl completion fish > ~/.config/fish/completions/vnet-ctl.fish
  source <(vnet-ctl completion bash)            for this shell only";

/// Print a script that lets a shell complete commands and flags.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Shell,
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self, context: &Context<'_>) -> Outcome {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        context.output.print(&String::from_utf8_lossy(&script))?;
        Ok(Done::Success)
    }
}
