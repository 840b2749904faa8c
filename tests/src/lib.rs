//! What the test suites stand on: frames as bytes, network namespaces, and a whole small host (a
//! [`World`]) in which the real `vnet-ctl` runs.
//!
//! The suites under `tests/` are black-box: they know the policy schema, the command tree and the
//! drop reasons, and nothing of how they are implemented. They need root, iproute2, iputils,
//! iperf3, tcpdump, curl, ethtool, python3, iptables, nftables, bpftool and QEMU with what a virtual machine boots, and
//! fail where one is missing; `cargo xtask setup` installs them.

pub mod api;
pub mod binary;
pub mod cases;
pub mod crowd;
pub mod dhcp;
pub mod flood;
pub mod frames;
pub mod guest;
pub mod machine;
pub mod netns;
pub mod pair;
pub mod process;
pub mod random;
pub mod raw;
pub mod requirements;
pub mod rules;
pub mod snapshot;
pub mod soak;
pub mod stream;
pub mod tap;
pub mod teller;
pub mod traffic;
pub mod transfer;
pub mod wait;
pub mod watch;
pub mod world;

pub use netns::Namespace;
pub use pair::Pair;
pub use process::{Finished, Running};
pub use wait::eventually;
pub use world::World;
