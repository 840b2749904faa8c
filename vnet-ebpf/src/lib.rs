//! vnet's datapath: one packet from its arrival to its verdict, top to bottom in [`pipeline`].
//!
//! The stages are pure: packet and tables are traits, `now` is an argument, nothing here is unsafe but
//! the declaration of wire formats. The kernel runs them over socket buffers and BPF maps
//! (`src/kernel`), host tests over byte vectors and hash maps ([`model`]).
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod case;
pub mod fragments;
pub mod headers;
pub mod hop;
#[cfg(not(target_arch = "bpf"))]
pub mod model;
pub mod packet;
pub mod pipeline;
pub mod question;
pub mod rewrite;
pub mod spread;
pub mod stages;
pub mod tables;
pub mod verdict;
pub mod word;
