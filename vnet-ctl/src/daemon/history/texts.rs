//! The texts that `rollback` knows: the one in force and the one before it, as files of the state folder;
//! and what had to give way in the policy file.
//!
//! A new text is on the disk before anything is changed, so that a full disk refuses a change rather than
//! losing the way back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// The text in force.
const CURRENT: &str = "current.toml";
/// The text that was in force before it.
const PREVIOUS: &str = "previous.toml";
/// More are not written for one generation.
const MOST_WITHDRAWN: u32 = 10_000;

/// The texts in a state folder.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    dir: PathBuf,
}

impl Texts {
    /// Those in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The text to return to.
    pub(super) fn previous(&self) -> Result<Option<String>> {
        read(&self.dir.join(PREVIOUS))
    }

    /// Writes down `text`, which is about to be in force after `old`.
    pub(super) fn stage(&self, [old, text]: [&str; 2]) -> Result<Staged> {
        let write = |text: &str| -> io::Result<NamedTempFile> {
            let mut file = NamedTempFile::new_in(&self.dir)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let failed = || format!("keep the policy in {}", self.dir.display());
        // What is there is usually the old one; who removed it has not removed the way back.
        let is_known = read(&self.dir.join(CURRENT)).is_ok_and(|current| current.as_deref() == Some(old));
        let old = if is_known { None } else { Some(write(old).with_context(failed)?) };
        Ok(Staged { dir: self.dir.clone(), old, new: write(text).with_context(failed)? })
    }

    /// Notes that `text` is what is in force since the start; another one that was before is now the previous.
    pub(super) fn begin(&self, text: &str) -> Result<()> {
        match read(&self.dir.join(CURRENT))? {
            Some(current) if current == text => Ok(()),
            Some(current) => self.stage([&current, text])?.keep(),
            None => self.stage([text, text])?.keep_current(),
        }
    }

    /// Saves what the policy file said, `file_text`, when it has to give way under `generation`.
    pub(super) fn put_aside(&self, generation: u32, file_text: &[u8]) -> Result<Aside> {
        let save = || -> io::Result<Aside> {
            for count in 1..MOST_WITHDRAWN {
                let again = if count == 1 { String::new() } else { format!("-{count}") };
                let path = self.dir.join(format!("withdrawn-{generation}{again}.toml"));
                match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                    Ok(mut file) => {
                        let aside = Aside(Some(path));
                        file.write_all(file_text)?;
                        file.sync_all()?;
                        return Ok(aside);
                    }
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            Err(ErrorKind::AlreadyExists.into())
        };
        save().with_context(|| format!("save what the policy file says in {}", self.dir.display()))
    }

    /// Forgets the texts, but not what gave way: that is its author's.
    pub(super) fn remove(&self) -> Result<()> {
        for path in [CURRENT, PREVIOUS].map(|name| self.dir.join(name)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A text on the disk that is not yet the one in force; dropped, it leaves no trace.
#[derive(Debug)]
pub(super) struct Staged {
    dir: PathBuf,
    /// The one in force, where it is not kept yet.
    old: Option<NamedTempFile>,
    new: NamedTempFile,
}

impl Staged {
    /// Makes it the one in force, and that one the previous.
    pub(super) fn keep(self) -> Result<()> {
        let Self { dir, old, new } = self;
        let previous = dir.join(PREVIOUS);
        let keep = || -> io::Result<()> {
            match old {
                Some(old) => drop(old.persist(&previous)?),
                None => fs::rename(dir.join(CURRENT), &previous)?,
            }
            new.persist(dir.join(CURRENT))?;
            File::open(&dir)?.sync_all()
        };
        keep().with_context(|| format!("keep the previous policy in {}", dir.display()))
    }

    fn keep_current(self) -> Result<()> {
        let Self { dir, new, .. } = self;
        let path = dir.join(CURRENT);
        new.persist(&path).map(drop).with_context(|| format!("write {}", path.display()))
    }
}

/// What the policy file said, saved; removed again unless it does give way.
#[derive(Debug)]
pub(super) struct Aside(Option<PathBuf>);

impl Aside {
    /// Where it stays.
    pub(super) fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(texts: &Texts, old: &str, new: &str) {
        texts.stage([old, new]).unwrap().keep().unwrap();
    }

    #[test]
    fn the_previous_text_is_that_of_before_the_last_change() {
        let dir = tempfile::tempdir().unwrap();
        let texts = Texts::new(dir.path());
        texts.begin("a").unwrap();
        assert_eq!(texts.previous().unwrap(), None);
        change(&texts, "a", "b");
        assert_eq!(texts.previous().unwrap().as_deref(), Some("a"));
        change(&texts, "b", "a");
        assert_eq!(texts.previous().unwrap().as_deref(), Some("b"));
        drop(texts.stage(["a", "c"]).unwrap());
        assert_eq!(texts.previous().unwrap().as_deref(), Some("b"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_edited_while_no_daemon_ran_can_be_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let texts = Texts::new(dir.path());
        texts.begin("a").unwrap();
        texts.begin("a").unwrap();
        assert_eq!(texts.previous().unwrap(), None);
        texts.begin("b").unwrap();
        assert_eq!(texts.previous().unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn a_text_that_somebody_removed_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let texts = Texts::new(dir.path());
        change(&texts, "a", "b");
        assert_eq!(texts.previous().unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn what_gave_way_stays_when_the_rest_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let texts = Texts::new(dir.path());
        change(&texts, "a", "b");
        let first = texts.put_aside(3, b"x").unwrap().keep();
        let second = texts.put_aside(3, b"y").unwrap().keep();
        drop(texts.put_aside(3, b"z").unwrap());
        texts.remove().unwrap();
        texts.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!((fs::read(first).unwrap(), fs::read(second).unwrap()), (b"x".to_vec(), b"y".to_vec()));
    }
}
