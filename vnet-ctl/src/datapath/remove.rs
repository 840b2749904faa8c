//! Removes every pin, which detaches the programs and frees the maps.
//!
//! Works from the names of the pins alone, so that it also removes those of a run that ended badly or had
//! maps of another shape.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    early, links,
    names::{CONTROL, LINKS_FOLDER, MAPS_FOLDER, Pins},
    sockets,
};

/// What was removed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links, each with a program detached.
    pub links: usize,
    /// Maps.
    pub maps: usize,
    /// What is left, and why.
    pub problems: Vec<String>,
}

/// Removes the pins of every version of vnet, and the folders that are empty then. It goes on after a
/// failure.
#[must_use]
pub fn remove_pins(pins: &Pins) -> Removed {
    let mut removed = Removed::default();
    for root in pins.versions() {
        remove_version(&root, &mut removed);
    }
    remove_folder(&pins.vnet(), &mut removed);
    removed
}

/// What [`remove_pins`] would remove.
#[must_use]
pub fn count_pins(pins: &Pins) -> Removed {
    let mut found = Removed::default();
    for root in pins.versions() {
        match all_links(&root) {
            Ok(links) => found.links += links.len(),
            Err(error) => found.problems.push(format!("{error:#}")),
        }
        // A folder that is not there has no maps.
        found.maps += fs::read_dir(root.join(MAPS_FOLDER)).map_or(0, Iterator::count);
    }
    found
}

/// Removes the pins of this version alone.
#[must_use]
pub fn remove_own_pins(pins: &Pins) -> Removed {
    let mut removed = Removed::default();
    remove_version(&pins.root(), &mut removed);
    remove_folder(&pins.vnet(), &mut removed);
    removed
}

pub(super) fn remove_version(root: &Path, removed: &mut Removed) {
    // Links first: no program may run on maps that are being taken apart.
    match all_links(root) {
        Ok(links) => {
            for path in links {
                match links::remove(&path) {
                    Ok(()) => removed.links += 1,
                    Err(error) => removed.problems.push(format!("{error:#}")),
                }
            }
        }
        Err(error) => removed.problems.push(format!("{error:#}")),
    }
    let maps = root.join(MAPS_FOLDER);
    match remove_files(&maps) {
        Ok(count) => removed.maps += count,
        Err(error) => removed.problems.push(format!("remove the maps in {}: {error}", maps.display())),
    }
    for folder in [&root.join(LINKS_FOLDER), &maps, root] {
        remove_folder(folder, removed);
    }
}

/// The pins of every link of a version, those of the host's sockets first.
fn all_links(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(LINKS_FOLDER);
    let devices = links::pinned(&folder)?.into_iter().map(|(path, ..)| path);
    let early = early::pinned(&folder)?.into_iter().map(|(path, ..)| path);
    Ok(sockets::pinned(&folder).into_iter().chain(early).chain(devices).collect())
}

fn remove_folder(folder: &Path, removed: &mut Removed) {
    match fs::remove_dir(folder) {
        // Whoever put something else there still wants it.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            removed.problems.push(format!("remove {}: {error}", folder.display()));
        }
        _ => {}
    }
}

/// Removes every file of a folder of maps, the control map first: what is left without it is known for rubbish.
pub(super) fn remove_files(folder: &Path) -> io::Result<usize> {
    let mut count = match fs::remove_file(folder.join(CONTROL)) {
        Ok(()) => 1,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        fs::remove_file(entry?.path())?;
        count += 1;
    }
    Ok(count)
}
