//! The kernel's side: programs, maps, links and what they count.

mod filter;

pub use filter::{FilterError, FlowFilter};
