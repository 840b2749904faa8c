//! What needs root and the kernel: the loaded object, and the daemon around it.
//!
//! Each test has a network namespace and a folder of pins of its own, so they run side by side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod datapath;
mod history;
mod lifecycle;
mod order;
mod outside;
mod partial;
mod process;
mod reload;
mod repair;
mod runtime;
mod server;
mod support;
mod traffic;
mod upgrade;
mod uplinks;
mod world;
