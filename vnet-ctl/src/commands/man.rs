//! `man`: the manual, one page for each command.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::Context;
use crate::{
    cli::Cli,
    failure::{Done, Failure, Kind, Outcome},
    output::{Table, View, counted},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl man /usr/local/share/man/man1
  vnet-ctl man /tmp/man && man /tmp/man/vnet-ctl-sg-add.1
  vnet-ctl man /tmp/man -o name                 the files";

/// Write the manual into a folder, one page for each command.
///
/// The folder is made if it is not there. Pages of before are replaced, other files stay.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self, context: &Context<'_>) -> Outcome {
        let folder = self.folder.as_path();
        let pages = pages(&Cli::command());
        if context.globals.dry_run {
            context.output.note(&format!("{} would be written.", counted(pages.len(), "page")));
        } else {
            make_folder(folder)?;
            for (name, text) in &pages {
                write(&folder.join(name), text)?;
            }
            context.output.note(&format!("{} written to {}", counted(pages.len(), "page"), folder.display()));
        }
        let paths: Vec<String> =
            pages.iter().map(|(name, _)| folder.join(name).display().to_string()).collect();
        if !context.output.is_for_people() {
            let table = Table::new(["PAGE"]).rows(paths.iter().map(|path| [path.clone()]));
            context.output.show(&paths, &View::list(table))?;
        }
        Ok(Done::Success)
    }
}

/// The pages of all commands by the names of their files.
fn pages(command: &clap::Command) -> Vec<(String, Vec<u8>)> {
    let mut root = command.clone().disable_help_subcommand(true);
    root.build();
    let mut found = Vec::new();
    collect(&root, &mut found);
    found
}

fn collect(command: &clap::Command, found: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    // The commands below are referred to by the names of their pages.
    let man = Man::new(command.clone()).title(&name).source(concat!("vnet ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // Writing to memory does not fail.
    if man.manual("vnet").render(&mut text).is_ok() {
        found.push((format!("{name}.1"), text));
    }
    command.get_subcommands().for_each(|sub| collect(sub, found));
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| {
        if folder.exists() {
            let message = format!("{} is a file, not a folder", folder.display());
            return Failure::new(Kind::Invalid, message).help("name a folder; it is made if it is not there");
        }
        Failure::new(Kind::Failed, format!("make the folder {}: {error}", folder.display()))
    })
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let write = || -> io::Result<()> { File::create(path)?.write_all(text) };
    write().map_err(|error| Failure::new(Kind::Failed, format!("write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let pages = pages(&Cli::command());
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["vnet-ctl.1", "vnet-ctl-sg.1", "vnet-ctl-sg-add.1", "vnet-ctl-network-create.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
        let add = &pages.iter().find(|(name, _)| name == "vnet-ctl-sg-add.1").expect("a page").1;
        let add = String::from_utf8_lossy(add);
        assert!(add.contains(".TH vnet-ctl-sg-add 1") && add.contains("Examples:"), "{add}");
    }
}
