//! vnet's datapath.
#![no_std]
