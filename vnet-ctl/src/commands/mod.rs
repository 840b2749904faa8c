//! The commands, one file per verb: each has its flags and what it does with them.

pub(crate) mod acl;
pub(crate) mod apply;
mod change;
pub(crate) mod completion;
pub(crate) mod confirm;
pub(crate) mod diff;
pub(crate) mod drops;
pub(crate) mod eip;
pub(crate) mod export;
pub(crate) mod flows;
pub(crate) mod forward;
pub(crate) mod ipam;
pub(crate) mod man;
pub(crate) mod monitor;
mod named;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod rollback;
mod rule_args;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod sg;
mod source;
pub(crate) mod status;
pub(crate) mod teardown;
pub(crate) mod validate;
pub(crate) mod version;

use vnet_ctl::policy;

use crate::{
    cli::{Command, Globals},
    client::Client,
    failure::{Failure, Kind, Outcome},
    output::{Output, listed},
};

/// What every command has at hand.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The flags of every command.
    pub(crate) globals: Globals,
    /// Where answers go.
    pub(crate) output: &'a Output,
    /// The way to the daemon.
    pub(crate) client: Client,
}

impl<'a> Context<'a> {
    /// As the global flags say.
    pub(crate) fn new(globals: Globals, output: &'a Output) -> Self {
        let client = Client::new(&globals.socket, output.shows_progress());
        Self { globals, output, client }
    }
}

/// Runs one command.
pub(crate) async fn run(command: Command, context: &Context<'_>) -> Outcome {
    match command {
        Command::Run(command) => command.run(context).await,
        Command::Validate(command) => command.run(context).await,
        Command::Schema(command) => command.run(context),
        Command::Apply(command) => command.run(context).await,
        Command::Confirm(command) => command.run(context).await,
        Command::Rollback(command) => command.run(context).await,
        Command::Diff(command) => command.run(context).await,
        Command::Export(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Acl(command) => command.run(context).await,
        Command::Sg(command) => command.run(context).await,
        Command::Port(command) => command.run(context).await,
        Command::Network(command) => command.run(context).await,
        Command::Forward(command) => command.run(context).await,
        Command::Eip(command) => command.run(context).await,
        Command::Ipam(command) => command.run(context).await,
        Command::Drops(command) => command.run(context).await,
        Command::Monitor(command) => command.run(context).await,
        Command::Flows(command) => command.run(context).await,
        Command::Teardown(command) => command.run(context).await,
        Command::Completion(command) => command.run(context),
        Command::Man(command) => command.run(context),
        Command::Version(command) => command.run(context).await,
    }
}

/// The failure of a name that nothing has, with the nearest of `names`.
pub(crate) fn no_such(noun: &str, name: &str, names: &[String]) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no {noun} `{name}`"));
    match policy::closest(name, names.iter().map(String::as_str)) {
        Some(nearest) => failure.help(format!("did you mean `{nearest}`?")),
        None if names.is_empty() => failure.help(format!("there are no {noun}s at all")),
        None => failure.help(format!("there are: {}", listed(names))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let help = |name: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            no_such("port", name, &names).help.expect("a help")
        };
        assert_eq!(help("wbe-1", &["db-1", "web-1"]), "did you mean `web-1`?");
        assert_eq!(help("xyz", &["db-1"]), "there are: db-1");
        assert_eq!(help("xyz", &[]), "there are no ports at all");
    }
}
