//! From a policy to the tables that the datapath reads, and to the answer which rule decides.
//!
//! All of it is pure: a policy, the addresses and devices that belong to it in, data out. Writing the
//! tables is left to [`crate::datapath`], finding the devices to [`crate::host`].

mod assign;
mod backends;
mod compiler;
mod difference;
mod entries;
mod evaluate;
mod explain;
mod identity;
mod ports;
mod records;
mod rules;
mod seats;
mod segments;
mod sets;
mod tables;
#[cfg(test)]
mod tests;
mod translation;
mod work;

pub use assign::{AssignError, Assigned, Released, assign, assign_rested};
pub use compiler::Compiler;
pub use difference::{Change, Changes, Difference};
pub use explain::{Decision, End, ExplainError, Obstacle, Party, Question, explain};
pub(crate) use seats::{is_declared, learns, network_of, networks_of};
pub use tables::{
    Bridge, Devices, ExitPlace, PortDevice, SegmentDevice, Source, Tables, TooLarge, UplinkDevice, compile,
};
pub use translation::exit_addresses;
