//! The host module against the kernel. Each test runs on a thread with network and mount namespaces of
//! its own, so that nothing outside sees it. Needs root; without it the tests fail.

mod build;
mod change;
mod crash;
mod fail;
mod segments;
mod taps;
mod world;
