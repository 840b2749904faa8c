//! What the tests ask the daemon: counters, devices, rules.

use serde_json::Value;
use vnet_common::DropReason;

use super::World;
use crate::eventually;

impl World {
    /// What `vnet-ctl … -o json` answers.
    ///
    /// # Panics
    /// When it fails or answers anything but JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        self.ctl(&[&["-o", "json"], args].concat()).ok().json()
    }

    /// How many packets were dropped for `reason` on this host.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        packets(&self.json(&["drops"])["total"], |row| row["reason"] == reason.label())
    }

    /// How many packets were dropped for `reason` at `port`.
    #[must_use]
    pub fn port_drops(&self, port: &str, reason: DropReason) -> u64 {
        let drops = self.json(&["drops"]);
        packets(&drops["ports"], |row| row["reason"] == reason.label() && row["port"] == port)
    }

    /// Asserts that `act` makes packets be dropped for `reason`.
    ///
    /// # Panics
    /// When the counter does not move.
    pub fn assert_counts(&self, reason: DropReason, act: impl FnOnce()) {
        let before = self.drops(reason);
        act();
        eventually(&format!("`{}` to be counted", reason.label()), || {
            (self.drops(reason) > before).then_some(())
        });
    }

    /// Asserts that `act` makes no packet be dropped for `reason`.
    ///
    /// # Panics
    /// When the counter moves.
    pub fn assert_none_dropped(&self, reason: DropReason, act: impl FnOnce()) {
        let before = self.drops(reason);
        act();
        assert_eq!(self.drops(reason), before, "`{}`", reason.label());
    }

    /// What `port list` says about `port`.
    ///
    /// # Panics
    /// When there is no such port.
    #[must_use]
    pub fn port_row(&self, port: &str) -> Value {
        let list = self.json(&["port", "list"]);
        let rows = rows(&list, "ports");
        let row = rows.iter().find(|row| row["name"] == port);
        row.unwrap_or_else(|| panic!("no port {port} in {list}")).clone()
    }

    /// The host-side device of `port`.
    ///
    /// # Panics
    /// When it is not told.
    #[must_use]
    pub fn device(&self, port: &str) -> String {
        let row = self.port_row(port);
        row["device"].as_str().unwrap_or_else(|| panic!("no device in {row}")).to_owned()
    }

    /// Adds a rule by the command line and gives its id.
    ///
    /// # Panics
    /// When it is refused, or no id is printed.
    #[track_caller]
    pub fn sg_add(&self, args: &[&str]) -> String {
        let added = self.ctl(&[&["sg", "add"], args].concat()).ok();
        rule_id(&added.stdout).unwrap_or_else(|| panic!("no rule id: {added}"))
    }
}

/// The rows of a listing, whether it is an array or an object that holds one.
#[must_use]
pub fn rows<'a>(listing: &'a Value, name: &str) -> &'a [Value] {
    let array = listing.as_array().or_else(|| listing[name].as_array());
    array.unwrap_or_else(|| panic!("no rows of {name} in {listing}"))
}

fn packets(counters: &Value, wanted: impl Fn(&Value) -> bool) -> u64 {
    let rows = counters.as_array().unwrap_or_else(|| panic!("no counters: {counters}"));
    rows.iter().filter(|row| wanted(row)).filter_map(|row| row["packets"].as_u64()).sum()
}

/// The first word of `text` that is a rule's id: eight hexadecimal digits.
fn rule_id(text: &str) -> Option<String> {
    let is_id = |word: &&str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(is_id).map(str::to_owned)
}
