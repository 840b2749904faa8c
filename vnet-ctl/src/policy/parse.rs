//! From text to a validated policy.

use std::path::Path;

use super::{Diagnostics, Policy, Warning};

/// The policy that `text` declares. `origin` names it in messages.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, origin: &Path) -> Result<(Policy, Vec<Warning>), Diagnostics> {
    let _ = (text, origin);
    unimplemented!("coming with the next commit")
}
