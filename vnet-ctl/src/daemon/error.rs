//! How things go wrong, for the process that runs the daemon and for the clients that ask it.

use std::{net::IpAddr, path::PathBuf};

use axum::http::StatusCode;

use crate::{
    api::{Refusal, types::ApiError},
    policy::Diagnostics,
    policy_file::FileError,
};

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The policy is not valid, or does not fit this host or the datapath.
    #[error("{0}")]
    Invalid(String),
    /// Another daemon runs.
    #[error("{0}")]
    Conflict(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl DaemonError {
    /// The exit code of the process: 1 failed, 2 invalid policy, 5 another daemon runs.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Invalid(_) => 2,
            Self::Conflict(_) => 5,
        }
    }
}

impl From<anyhow::Error> for DaemonError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// A policy that was not put in force; the one before it still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Its text has errors.
    #[error("{0}")]
    Policy(Box<Diagnostics>),
    /// It takes something from ports that runtimes created.
    #[error("{conflicts}\n{help}")]
    Conflict {
        /// Which ports, and what it takes.
        conflicts: String,
        /// What to do next.
        help: String,
    },
    /// It does not fit this host, or the datapath.
    #[error("{0}")]
    Unfit(String),
    /// It would get in the way of something else.
    #[error("{message}; {help}")]
    Refused {
        /// Of what.
        message: String,
        /// What to do about it.
        help: String,
    },
    /// The policy file cannot be read, or not be replaced.
    #[error("{0}")]
    File(#[from] FileError),
    /// The daemon is ending.
    #[error("the daemon is shutting down")]
    Stopping,
    /// A step failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl From<ApplyError> for DaemonError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Policy(diagnostics) => Self::Invalid(diagnostics.to_string()),
            ApplyError::Unfit(message) => Self::Invalid(message),
            ApplyError::Stopping | ApplyError::Refused { .. } | ApplyError::Conflict { .. } => {
                Self::Conflict(error.to_string())
            }
            ApplyError::File(error) => Self::Failed(error.into()),
            ApplyError::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Policy(diagnostics) => {
                let errors = match diagnostics.len() {
                    1 => "an error".to_owned(),
                    count => format!("{count} errors"),
                };
                let body = ApiError {
                    error: format!("the policy has {errors}; nothing was changed"),
                    rendered: Some(diagnostics.to_string()),
                    diagnostics: diagnostics.iter().collect(),
                    ..ApiError::default()
                };
                Self::with_body(StatusCode::UNPROCESSABLE_ENTITY, body)
            }
            ApplyError::Conflict { conflicts, help } => {
                let message =
                    format!("the policy conflicts with ports of runtimes; nothing was changed\n{conflicts}");
                Self::new(StatusCode::CONFLICT, message).help(help)
            }
            ApplyError::Unfit(message) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            ApplyError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            ApplyError::Refused { message, help } => Self::new(StatusCode::CONFLICT, message).help(help),
            ApplyError::File(error) => {
                let is_conflict = error.is_conflict();
                let status =
                    if is_conflict { StatusCode::CONFLICT } else { StatusCode::INTERNAL_SERVER_ERROR };
                let refusal = Self::new(status, format!("{error}; nothing was changed"));
                error.help().into_iter().fold(refusal, Self::help)
            }
            ApplyError::Failed(error) => error.into(),
        }
    }
}

/// A port of a runtime that was not created, changed or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Nothing is called so.
    #[error("no port is called {0:?}")]
    NotFound(String),
    /// No port has the address.
    #[error("no port has the address {0}")]
    NoLease(IpAddr),
    /// Ports of several networks have the address.
    #[error("several networks have {address}: it is that of the ports {}; nothing was changed", .ports.join(", "))]
    SeveralLeases {
        /// The address.
        address: IpAddr,
        /// The ports that have it.
        ports: Vec<String>,
    },
    /// It is the file's.
    #[error("port {name} is declared in {}; nothing was changed", origin.display())]
    InFile {
        /// The port.
        name: String,
        /// The policy file.
        origin: PathBuf,
    },
    /// The address is in use.
    #[error("{address} belongs to port {port} of {origin}, whose workload is there; nothing was changed")]
    Alive {
        /// The address.
        address: IpAddr,
        /// The port that has it.
        port: String,
        /// Who created the port.
        origin: String,
    },
    /// It is not right.
    #[error("{0}")]
    Invalid(String),
    /// Another has what it wants.
    #[error("{0}")]
    Taken(String),
    /// It could not be stored.
    #[error("{0}")]
    Store(String),
    /// It could not be put in force.
    #[error("{0}")]
    Apply(ApplyError),
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        let message = error.to_string();
        match error {
            PortError::NotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, message).help("`vnet-ctl port list` shows them all")
            }
            PortError::NoLease(_) => Self::new(StatusCode::NOT_FOUND, message)
                .help("`vnet-ctl ipam show` lists all that are given out"),
            PortError::SeveralLeases { .. } => Self::new(StatusCode::CONFLICT, message)
                .help("remove the one that you mean with `vnet-ctl port delete NAME`"),
            PortError::InFile { name, origin } => Self::new(StatusCode::CONFLICT, message).help(format!(
                "remove it from {}, or with `vnet-ctl port delete {name}`; or choose another name",
                origin.display()
            )),
            PortError::Alive { port, origin, .. } => Self::new(StatusCode::CONFLICT, message).help(format!(
                "stop the workload first, or have {origin} remove the port (DELETE /v1/ports/{port})"
            )),
            PortError::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            PortError::Taken(_) => Self::new(StatusCode::CONFLICT, message),
            PortError::Store(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
            PortError::Apply(error) => error.into(),
        }
    }
}
