//! What a host looks like from outside, to compare before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Finished, Namespace, eventually, netns, process::finish};

/// Everything that vnet could leave behind on a host, as sets of lines by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Snapshot {
    /// Of the namespace `host`, the named namespaces that begin with `prefix`, and the pins
    /// under `bpffs`.
    ///
    /// # Panics
    /// When something cannot be read.
    #[must_use]
    pub fn take(host: &Namespace, prefix: &str, bpffs: &Path) -> Self {
        let lines = |argv: &[&str]| host.exec(argv).ok().stdout.lines().map(str::to_owned).collect();
        let links: BTreeSet<String> = lines(&["ip", "-details", "-oneline", "link"]);
        let kinds = BTreeMap::from([
            ("links", links.iter().map(|link| without_timers(link)).collect()),
            ("addresses", lines(&["ip", "-oneline", "address"])),
            ("IPv4 routes", lines(&["ip", "-4", "route", "show", "table", "all"])),
            ("IPv6 routes", lines(&["ip", "-6", "route", "show", "table", "all"])),
            ("IPv4 rules", lines(&["ip", "-4", "rule"])),
            ("IPv6 rules", lines(&["ip", "-6", "rule"])),
            ("queueing disciplines", lines(&["tc", "qdisc"])),
            ("sysctls", host.enter(sysctls)),
            ("namespaces", namespaces(prefix)),
            ("pins", files_under(bpffs).iter().map(|path| path.display().to_string()).collect()),
        ]);
        Self { kinds }
    }

    /// Asserts that `now` is the same host.
    ///
    /// # Panics
    /// With every line that came or went.
    #[track_caller]
    pub fn assert_same(&self, now: &Self) {
        let mut changes = String::new();
        for (kind, before) in &self.kinds {
            let after = &now.kinds[kind];
            for (sign, line) in
                before.difference(after).map(|l| ('-', l)).chain(after.difference(before).map(|l| ('+', l)))
            {
                let _ = writeln!(changes, "{sign} {kind}: {line}");
            }
        }
        assert!(changes.is_empty(), "the host changed:\n{changes}");
    }
}

/// A link's description without the timers that run in every bridge, each a name and a number.
fn without_timers(link: &str) -> String {
    let mut words = link.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word.ends_with("_timer") {
            // Small numbers are padded to a column.
            let _number = words.find(|word| !word.is_empty());
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Names of the named namespaces that begin with `prefix`.
#[must_use]
pub fn namespaces(prefix: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(netns::FOLDER) else { return BTreeSet::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Every file and folder under `folder`, at any depth, those in a folder before the folder itself.
#[must_use]
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            found.extend(files_under(&path));
        }
        found.push(path);
    }
    found
}

/// The calling thread's network settings, as `path = value`.
fn sysctls() -> BTreeSet<String> {
    let setting = |path: &PathBuf| {
        // Those that cannot be read cannot be compared: write-only triggers, and keys.
        let value = fs::read_to_string(path).ok()?;
        Some(format!("{} = {}", path.display(), value.trim_end()))
    };
    let is_counter = |path: &PathBuf| path.to_string_lossy().ends_with("_count");
    let paths = files_under(Path::new("/proc/sys/net"));
    paths.iter().filter(|path| path.is_file() && !is_counter(path)).filter_map(setting).collect()
}

/// Maps, programs and links of one daemon, by the kernel's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelObjects {
    /// Each as the words that bpftool finds it by: kind and id.
    ids: BTreeSet<(&'static str, u64)>,
}

impl KernelObjects {
    /// Those that are pinned under `bpffs` and those that the process `pid` holds.
    #[must_use]
    pub fn of(bpffs: &Path, pid: Option<u32>) -> Self {
        let mut found = Self::default();
        for pin in files_under(bpffs).iter().filter(|path| !path.is_dir()) {
            found.add_pin(pin);
        }
        for entry in pid.iter().flat_map(|pid| files_under(Path::new(&format!("/proc/{pid}/fdinfo")))) {
            // A file that was closed since the folder was read.
            found.add_open(&fs::read_to_string(entry).unwrap_or_default());
        }
        found
    }

    fn add_pin(&mut self, pin: &Path) {
        for kind in ["map", "link", "prog"] {
            let shown = bpftool(&["-j", kind, "show", "pinned", &pin.to_string_lossy()]);
            let Ok(Value::Object(object)) = serde_json::from_str(&shown.stdout) else { continue };
            let Some(id) = object.get("id").and_then(Value::as_u64) else { continue };
            self.ids.insert((kind, id));
            if let Some(program) = object.get("prog_id").and_then(Value::as_u64) {
                self.ids.insert(("prog", program));
            }
            return;
        }
    }

    fn add_open(&mut self, fdinfo: &str) {
        for line in fdinfo.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let kind = match key {
                "map_id" => "map",
                "prog_id" => "prog",
                "link_id" => "link",
                _ => continue,
            };
            self.ids.extend(value.trim().parse().ok().map(|id| (kind, id)));
        }
    }

    /// How many of `kind` (map, prog, link) there are.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.ids(kind).len()
    }

    /// The ids of `kind`.
    #[must_use]
    pub fn ids(&self, kind: &str) -> BTreeSet<u64> {
        self.ids.iter().filter(|(of, _)| *of == kind).map(|(_, id)| *id).collect()
    }

    /// Waits until the kernel has freed them all, which it does a moment after the last user left.
    ///
    /// # Panics
    /// When some stay.
    pub fn assert_gone(&self) {
        for (kind, id) in &self.ids {
            eventually(&format!("the end of {kind} {id}"), || {
                (!bpftool(&[kind, "show", "id", &id.to_string()]).success()).then_some(())
            });
        }
    }
}

fn bpftool(args: &[&str]) -> Finished {
    let mut command = std::process::Command::new("bpftool");
    command.args(args);
    finish(command)
}
