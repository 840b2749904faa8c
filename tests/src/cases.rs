//! The table of cases that the datapath has to pass, on the host model and in the kernel alike.
//!
//! A case is a name and steps in the small [`world`]: a frame enters somewhere and must be dropped for
//! exactly this reason, pass, or leave by this device with these bytes; time advances; a policy is
//! committed. The cases are written from the specification, one module per concept; [`run`] plays them
//! on any [`run::Runner`].

mod backends;
mod closed;
mod errors;
mod fragments;
pub mod frame;
mod host;
mod icmp;
mod joined;
pub mod measured;
pub mod model;
mod multicast;
pub mod nat;
mod neighbours;
mod parsing;
mod policy;
mod precedence;
mod pressed;
mod reset;
mod reviewed;
mod rfc_nat;
mod routing;
mod rules;
pub mod run;
mod segment;
mod source_ports;
mod spoofing;
mod step;
mod tables;
mod tcp;
mod told;
mod udp;
pub mod view;
pub mod world;

pub use step::{Case, Entry, Hook, Outcome, Step};

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    let modules = [
        parsing::cases(),
        spoofing::cases(),
        neighbours::cases(),
        tcp::cases(),
        reset::cases(),
        udp::cases(),
        icmp::cases(),
        errors::cases(),
        routing::cases(),
        policy::cases(),
        precedence::cases(),
        pressed::cases(),
        joined::cases(),
        host::cases(),
        multicast::cases(),
        nat::cases(),
        closed::cases(),
        source_ports::cases(),
        rfc_nat::cases(),
        fragments::cases(),
        backends::cases(),
        told::cases(),
        tables::cases(),
        reviewed::cases(),
        segment::cases(),
    ];
    modules.into_iter().flatten().collect()
}
