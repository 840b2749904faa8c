//! Which policy a command means, and its text.
//!
//! `-f`, else `--policy`, else the file of the running daemon, else the usual place.

use std::{
    fs::{self, File, FileType},
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use vnet_ctl::{
    api::types::Status,
    policy::{self, Colour, Diagnostics, Policy, Warning},
    policy_file::{FileError, read_settled},
};

use super::Context;
use crate::{
    cli::DEFAULT_POLICY,
    failure::{Failure, Kind},
    output::{Output, counted},
};

/// What `-f -` names.
const STDIN: &str = "-";

/// The flag that names a policy file for one command.
#[derive(clap::Args, Debug)]
pub(crate) struct FileArg {
    /// The policy file; - reads standard input [default: that of --policy, or the running daemon's]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// The text of a policy and where it comes from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file, or `<stdin>`.
    pub(crate) origin: PathBuf,
    /// All of it.
    pub(crate) text: String,
}

impl Source {
    /// Reads the policy that the flags mean.
    pub(crate) async fn read(context: &Context<'_>, file: Option<&Path>) -> Result<Self, Failure> {
        let origin = match file {
            Some(file) if file == Path::new(STDIN) => {
                return Self::stream(io::stdin().lock(), "<stdin>".into());
            }
            // What `-f <(generate)` or `-f /dev/stdin` names.
            Some(file) if is_stream(file) => {
                let stream = File::open(file).map_err(|error| unreadable(file, &error))?;
                return Self::stream(stream, file.to_owned());
            }
            Some(file) => file.to_owned(),
            None => locate(context).await?,
        };
        let text = read_settled(&origin)?;
        Ok(Self { origin, text })
    }

    fn stream(mut stream: impl io::Read, origin: PathBuf) -> Result<Self, Failure> {
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Ok(_) => Ok(Self { origin, text }),
            Err(error) => Err(unreadable(&origin, &error)),
        }
    }

    /// The policy itself; all errors at once.
    pub(crate) fn parse(&self, output: &Output) -> Result<(Policy, Vec<Warning>), Failure> {
        policy::parse(&self.text, &self.origin).map_err(|errors| invalid(output, &errors))
    }
}

fn is_stream(file: &Path) -> bool {
    let is_stream = |kind: FileType| kind.is_fifo() || kind.is_char_device();
    fs::metadata(file).is_ok_and(|metadata| is_stream(metadata.file_type()))
}

/// Reads and parses the policy that the global flags mean.
pub(crate) async fn policy(context: &Context<'_>) -> Result<Policy, Failure> {
    let source = Source::read(context, None).await?;
    Ok(source.parse(context.output)?.0)
}

async fn locate(context: &Context<'_>) -> Result<PathBuf, Failure> {
    if let Some(path) = &context.globals.policy {
        return Ok(path.clone());
    }
    match context.client.get::<Status>("/v1/status").await {
        Ok(status) => Ok(status.policy_path),
        Err(failure) if failure.kind == Kind::Unreachable && Path::new(DEFAULT_POLICY).exists() => {
            Ok(PathBuf::from(DEFAULT_POLICY))
        }
        Err(failure) if failure.kind == Kind::Unreachable => {
            let help = format!("name a policy file; without one, the daemon's or {DEFAULT_POLICY} is meant");
            Err(Failure { help: Some(help), ..failure })
        }
        Err(failure) => Err(failure),
    }
}

/// The failure of a policy that has `errors`.
pub(crate) fn invalid(output: &Output, errors: &Diagnostics) -> Failure {
    let message = format!("the policy is not valid: {}", counted(errors.len(), "error"));
    let colour = if output.colors_stderr() { Colour::Always } else { Colour::Never };
    Failure::new(Kind::Invalid, message).caused_by(errors.iter().collect(), Some(errors.render(colour)))
}

/// Why the policy file at `path` cannot be opened.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(Kind::Invalid, format!("the policy file {path} does not exist"))
            .help("write one (examples/ has some), or name another with -f or --policy");
    }
    Failure::new(Kind::Invalid, format!("read the policy file {path}: {error}"))
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let kind = match &error {
            FileError::Unreadable(_) => Kind::Invalid,
            error if error.is_conflict() => Kind::Conflict,
            _ => Kind::Failed,
        };
        let failure = Self::new(kind, error.to_string());
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
