//! A policy that waits for its confirmation, as a file that outlives the daemon.
//!
//! `pending.json` is written before the policy gets in force, and removed once it is confirmed or the policy
//! file says what it said before. So at each instant at which the daemon may be killed, the next one knows:
//!
//! | killed | the policy file has | the next daemon |
//! |---|---|---|
//! | before the new policy is in force, or before it is in the file | the old text | runs the old text: the client got no answer |
//! | while it waits | the new text | runs the new text, and waits for the rest of the time |
//! | after the deadline, or in another boot | the new text | runs the old text, and puts it in the file |
//! | while it waits, with the file changed by somebody | another text | runs the new text, or after the deadline the old one; the other text is kept aside |
//! | after the old text is in the file | the old text | runs the old text |

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::Now;

/// The file's name in the state folder.
pub(super) const FILE_NAME: &str = "pending.json";
/// The layout that this vnet writes, and the only one that it reads.
const VERSION: u32 = 1;

/// A policy that goes unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Pending {
    version: u32,
    /// The policy file that has its text.
    pub(super) file: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// The text of the policy file to return to.
    pub(super) previous: String,
    /// The generation that it became; 0 before it is in force.
    pub(super) generation: u32,
    /// Until when it waits, in seconds since the boot.
    deadline_secs: u64,
    /// Which boot that was.
    boot_id: String,
}

/// What becomes of a policy that waited when its daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It never got as far as the file, or is out of it again: there is nothing to do.
    Settled,
    /// It is in force, and waits on.
    Waits,
    /// The old text is in force, and has to be put in the file.
    Expired,
}

impl Pending {
    /// `text`, in `file` instead of `previous`, for so many seconds from `now`.
    pub(super) fn new([previous, text]: [&str; 2], file: &Path, secs: u64, now: &Now) -> Self {
        Self {
            version: VERSION,
            file: file.to_owned(),
            text: text.to_owned(),
            previous: previous.to_owned(),
            generation: 0,
            deadline_secs: now.secs.saturating_add(secs),
            boot_id: now.boot_id.clone(),
        }
    }

    /// The same as generation `generation`, for so many seconds from `now`.
    pub(super) fn in_force(self, generation: u32, secs: u64, now: &Now) -> Self {
        Self { generation, deadline_secs: now.secs.saturating_add(secs), ..self }
    }

    /// The same, without time left.
    pub(super) fn expired(self) -> Self {
        Self { deadline_secs: 0, ..self }
    }

    /// For how many seconds it still waits; 0 once it has to go. Nobody sits before a machine that has
    /// started anew and confirms.
    pub(super) fn left_secs(&self, now: &Now) -> u64 {
        if self.boot_id == now.boot_id { self.deadline_secs.saturating_sub(now.secs) } else { 0 }
    }

    /// What becomes of it, with the policy file saying `file_text`.
    pub(super) fn fate(&self, file_text: &str, now: &Now) -> Fate {
        if file_text == self.previous {
            Fate::Settled
        } else if self.left_secs(now) == 0 {
            Fate::Expired
        } else {
            Fate::Waits
        }
    }

    /// The one kept in `dir`.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let shown = path.display();
        let pending: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{shown}, which tells what policy to return to, is damaged; put what the policy file should \
                 say into it, then remove {shown}"
            )
        })?;
        if pending.version != VERSION {
            bail!("{shown} has layout {}, which this vnet does not know", pending.version);
        }
        Ok(Some(pending))
    }

    /// Keeps it in `dir`; on failure, what was there before stays.
    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(dir)?;
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(dir.join(FILE_NAME))?;
            // The rename itself survives a power cut only once the folder is on disk.
            File::open(dir)?.sync_all()
        };
        write().with_context(|| format!("write {}", dir.join(FILE_NAME).display()))
    }

    /// Forgets the one kept in `dir`.
    pub(super) fn remove(dir: &Path) -> Result<()> {
        let path = dir.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            // A power cut may bring it back otherwise.
            Ok(()) => File::open(dir)
                .and_then(|dir| dir.sync_all())
                .with_context(|| format!("sync {}", dir.display())),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Now {
        Now { boot_id: "this".to_owned(), secs }
    }

    fn pending() -> Pending {
        Pending::new(["old", "new"], Path::new("/p.toml"), 60, &at(1000))
    }

    #[test]
    fn each_instant_of_a_crash_has_its_way_on() {
        for (instant, file, now, fate) in [
            ("before it was in force or in the file", "old", 1010, Fate::Settled),
            ("the same, found late", "old", 5000, Fate::Settled),
            ("while it waited", "new", 1059, Fate::Waits),
            ("at the deadline", "new", 1060, Fate::Expired),
            ("long after", "new", 9000, Fate::Expired),
            ("with the file edited, in time", "edited", 1059, Fate::Waits),
            ("with the file edited, too late", "edited", 1060, Fate::Expired),
        ] {
            assert_eq!(pending().fate(file, &at(now)), fate, "{instant}");
        }
    }

    #[test]
    fn another_boot_is_too_late() {
        let now = Now { boot_id: "other".to_owned(), secs: 5 };
        assert_eq!((pending().left_secs(&now), pending().fate("new", &now)), (0, Fate::Expired));
    }

    #[test]
    fn the_time_counts_from_when_it_is_in_force() {
        let waiting = pending().in_force(7, 60, &at(1030));
        assert_eq!((waiting.generation, waiting.left_secs(&at(1040))), (7, 50));
        assert_eq!(waiting.expired().left_secs(&at(1040)), 0);
    }

    #[test]
    fn it_is_kept_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Pending::load(dir.path()).unwrap(), None);
        pending().save(dir.path()).unwrap();
        assert_eq!(Pending::load(dir.path()).unwrap(), Some(pending()));
        Pending::remove(dir.path()).unwrap();
        Pending::remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_one_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "{").unwrap();
        let error = format!("{:#}", Pending::load(dir.path()).unwrap_err());
        assert!(error.contains("pending.json") && error.contains("damaged"), "{error}");
    }
}
