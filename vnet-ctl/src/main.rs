//! The command line of vnet.
fn main() {}
