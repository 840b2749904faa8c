//! x
use crate::policy::Policy;
pub(super) fn differences(_: &Policy, _: &Policy) -> Vec<String> {
    Vec::new()
}
