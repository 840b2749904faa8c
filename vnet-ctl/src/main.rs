//! The command line of vnet: parses it, runs the command, prints how it ended.

mod cli;
mod client;
mod commands;
mod failure;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

use crate::{
    cli::Cli,
    commands::Context,
    failure::{Failure, Kind, Outcome},
    output::{ColorWhen, Format, Output},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&args, &error),
    };
    let output = Output::new(cli.globals.format, cli.globals.color, cli.globals.quiet);
    match run(cli, &output) {
        Ok(done) => done.into(),
        Err(failure) => {
            output.fail(&failure);
            failure.exit_code()
        }
    }
}

fn run(cli: Cli, output: &Output) -> Outcome {
    // The daemon has work for more than one thread; a client waits for one answer.
    let mut builder = match cli.command {
        cli::Command::Run(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Failed, format!("start the async runtime: {error}")))?;
    let context = Context::new(cli.globals, output);
    runtime.block_on(commands::run(cli.command, &context))
}

fn parse(args: &[String]) -> Result<Cli, clap::Error> {
    let color = match preset(args, "color", None).as_deref() {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    };
    let mut command = reflowed(Cli::command()).color(color);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// `command` with the prose below its examples, and below those of all that is under it, in lines as long as the
/// terminal takes: those of the source would be broken twice.
fn reflowed(command: clap::Command) -> clap::Command {
    let help = command.get_after_help().map(|help| joined(&help.to_string()));
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(reflowed)
}

/// Joins the lines of each paragraph; what is indented, and headings with a colon at their end, stay.
fn joined(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut joined = String::new();
    let mut previous = "";
    for line in text.lines() {
        if !joined.is_empty() {
            let goes_on = is_prose(previous) && is_prose(line) && !previous.ends_with([':', '.']);
            joined.push(if goes_on { ' ' } else { '\n' });
        }
        joined.push_str(line);
        previous = line;
    }
    joined
}

/// Prints help, the version or what is wrong with the command line.
fn refuse(args: &[String], error: &clap::Error) -> ExitCode {
    let is_error = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_error && preset(args, "output", Some('o')).as_deref() == Some("json") {
        let failure = usage_failure(&error.to_string());
        Output::new(Format::Json, ColorWhen::Never, false).fail(&failure);
        return failure.exit_code();
    }
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What clap says in paragraphs, as one sentence and one piece of advice.
fn usage_failure(text: &str) -> Failure {
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: "));
    Failure::new(Kind::Invalid, message).help(tip.unwrap_or("--help tells how to use the command"))
}

/// The value of a global flag in a command line that does not parse as a whole.
fn preset(args: &[String], long: &str, short: Option<char>) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            return None;
        }
        if let Some(rest) = arg.strip_prefix("--").and_then(|flag| flag.strip_prefix(long)) {
            match rest.strip_prefix('=') {
                Some(value) => return Some(value.to_owned()),
                None if rest.is_empty() => return args.next().cloned(),
                None => {}
            }
        }
        if let Some(rest) = short.and_then(|short| arg.strip_prefix('-')?.strip_prefix(short)) {
            let value = rest.trim_start_matches('=');
            return if value.is_empty() { args.next().cloned() } else { Some(value.to_owned()) };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_becomes_a_sentence_and_advice() {
        let failure =
            usage_failure("error: unrecognized subcommand 'statsu'\n\n  tip: a similar one\n\nUsage: x\n");
        assert_eq!(failure.message, "unrecognized subcommand 'statsu'");
        assert_eq!(failure.help.as_deref(), Some("a similar one"));
    }

    #[test]
    fn a_global_flag_is_found_in_every_spelling() {
        for line in ["x -o json bad", "x -ojson", "x bad --output json", "x --output=json", "x -o=json"] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(preset(&args, "output", Some('o')).as_deref(), Some("json"), "{line}");
        }
        let args = ["x".to_owned(), "--".to_owned(), "-ojson".to_owned()];
        assert_eq!(preset(&args, "output", Some('o')), None);
    }
}
