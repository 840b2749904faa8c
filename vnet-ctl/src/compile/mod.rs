//! From a policy to the tables that the datapath reads, and to the answer which rule decides.
//!
//! All of it is pure: a policy, the addresses and devices that belong to it in, data out. Writing the
//! tables is left to [`crate::datapath`], finding the devices to [`crate::host`].

mod assign;
mod evaluate;
mod explain;
mod identity;
mod ports;
mod rules;
mod tables;
#[cfg(test)]
mod tests;

pub use assign::{AssignError, Assigned, Released, assign, assign_rested};
pub use explain::{Decision, End, ExplainError, Obstacle, Party, Question, explain};
pub use tables::{Bridge, Devices, PortDevice, Tables, TooLarge, compile};
