//! `piston man`: a manual page for each command, made of its help.
//!
//! What stands behind the options in the help is told in the sections that readers of manual pages
//! look for: EXAMPLES, EXIT STATUS, and NOTES for the rest.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Result;
use clap::builder::{Resettable, StyledStr};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde_json::json;

use super::failure::Failure;
use super::flags::Cli;
use super::render::Screen;

/// Writes the pages into a folder.
pub(super) fn write(directory: &Path, screen: &Screen) -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let written = fs::create_dir_all(directory).and_then(|()| write_all(&command, directory));
    written.map_err(|error| {
        Failure::new(format!(
            "can't write manual pages to {}",
            directory.display()
        ))
        .because(error)
        .next("name a directory that can be written to")
    })?;
    screen.show(&json!({ "directory": directory }), |_| {
        format!("read them with `man {}/piston.1`", directory.display())
    })
}

/// Writes the page of a command and those of all below it.
fn write_all(command: &Command, directory: &Path) -> io::Result<()> {
    let below = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    for command in below {
        write_all(command, directory)?;
    }
    let help = command.get_after_help().map(ToString::to_string);
    let none = Resettable::<StyledStr>::Reset;
    let man = Man::new(command.clone().after_help(none))
        .source(concat!("piston ", env!("CARGO_PKG_VERSION")))
        .manual("Piston");
    let mut file = File::create(directory.join(man.get_filename()))?;
    man.render(&mut file)?;
    file.write_all(sections(&help.unwrap_or_default()).to_roff().as_bytes())
}

/// What a paragraph of the help is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Notes,
    Status,
    Examples,
}

impl Section {
    /// That of a paragraph, which loses the words that say so.
    fn of(paragraph: &str) -> (Self, &str) {
        const HEADS: [(&str, Section); 4] = [
            ("Examples:\n", Section::Examples),
            ("Example:\n", Section::Examples),
            ("First steps:\n", Section::Examples),
            ("Exit codes: ", Section::Status),
        ];
        let mut heads = HEADS.into_iter();
        let found =
            heads.find_map(|(head, section)| Some((section, paragraph.strip_prefix(head)?)));
        found.unwrap_or((Self::Notes, paragraph))
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Notes => "NOTES",
            Self::Status => "EXIT STATUS",
            Self::Examples => "EXAMPLES",
        }
    }
}

/// The sections of what stands behind the options.
fn sections(help: &str) -> Roff {
    let paragraphs = help.split("\n\n").filter(|text| !text.is_empty());
    let mut paragraphs: Vec<(Section, &str)> = paragraphs.map(Section::of).collect();
    paragraphs.sort_by(|one, other| one.0.cmp(&other.0));
    let mut page = Roff::new();
    let mut last = None;
    for (section, text) in &paragraphs {
        if last.replace(section) == Some(section) {
            page.control("PP", []);
        } else {
            page.control("SH", [section.title()]);
        }
        if *section == Section::Examples {
            page.control("nf", []);
        }
        for line in text.lines() {
            page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if *section == Section::Examples {
            page.control("fi", []);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_options_stands_where_readers_of_manuals_look() {
        let help = "A note\nof two lines.\n\nAnother.\n\nExamples:\n  piston run x\n    --fast\n\n\
                    Exit codes: 0 well.";
        insta::assert_snapshot!(sections(help).to_roff(), @r#"
        .SH NOTES
        A note
        of two lines.
        .PP
        Another.
        .SH "EXIT STATUS"
        0 well.
        .SH EXAMPLES
        .nf
        piston run x
          \-\-fast
        .fi
        "#);
        assert_eq!(sections("").to_roff(), "");
    }
}
