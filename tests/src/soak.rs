//! How much of a long test is run: a part of it by default, all of it when `VNET_SOAK=1`.

use std::env;

/// `full` when all is to be run, else `part`.
pub fn size<T>(part: T, full: T) -> T {
    if env::var_os("VNET_SOAK").is_some_and(|value| value != "0") { full } else { part }
}
