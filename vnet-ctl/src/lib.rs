//! vnet's controller.
//!
//! A policy file is parsed and validated ([`policy`]), compiled to tables ([`compile`]), compared with
//! what is there ([`plan`]) and put in place ([`host`], [`datapath`]). [`daemon`] keeps it there and
//! [`api`] lets people ask and change; [`edit`] changes the file the way a person would.

pub mod api;
pub mod compile;
pub mod daemon;
pub mod datapath;
pub mod edit;
pub mod host;
mod parallel;
pub mod plan;
pub mod policy;
pub mod policy_file;
pub mod state;
