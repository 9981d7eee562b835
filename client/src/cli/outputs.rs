//! `piston run --out`: the files that a job left, written where the command was given.
//!
//! Invariant: the names are the program's, which nobody trusts: nothing is written outside the
//! current directory, through a link, or to a hidden file.

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context as _, Result};

use crate::api::{InputFile, OutputFile};

use super::failure::Failure;
use super::render::Screen;

/// Writes what a job left into a folder, but for what it was sent and left as it was.
pub(super) fn write(
    files: &[OutputFile],
    sent: &[InputFile],
    folder: &Path,
    screen: &Screen,
) -> Result<()> {
    let mut written = 0;
    for file in files {
        let bytes = file.bytes().context("of a file that the program left")?;
        if sent.contains(&InputFile::new(&*file.name, &bytes)) {
            continue;
        }
        write_one(folder, &file.name, &bytes)?;
        screen.note(format!("wrote {}", file.name));
        written += 1;
    }
    if written == 0 {
        screen.note("the program left no file that --out names");
    }
    Ok(())
}

fn write_one(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::new(format!("the program's file {name:?} {why}"))
            .next("it is in the reply of `piston run --json`")
    };
    let mut path = folder.to_owned();
    let mut parts = Path::new(name).components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            return Err(refused("would lie outside this directory"));
        };
        if part.as_encoded_bytes().starts_with(b".") {
            return Err(refused("would be a hidden one"));
        }
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Err(refused("would be written through a link"));
        }
        if parts.peek().is_some() && !path.is_dir() {
            fs::create_dir(&path).map_err(|error| unwritable(&path).because(error))?;
        }
    }
    fs::write(&path, bytes).map_err(|error| unwritable(&path).because(error))
}

fn unwritable(path: &Path) -> Failure {
    Failure::new(format!("can't write {}", path.display()))
        .next("change to a directory that can be written to and has room")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_in_the_folder_and_nothing_hidden_or_linked_is_written() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("in");
        fs::create_dir(&folder).expect("a folder");
        std::os::unix::fs::symlink(outer.path(), folder.join("link")).expect("a link");
        for name in [
            "../x", "/x", "a/../x", ".bashrc", "a/.x", "link/x", "link", "",
        ] {
            write_one(&folder, name, b"x").expect_err(name);
        }
        assert!(!outer.path().join("x").exists());
        for _again in 0..2 {
            write_one(&folder, "a/b/plot.svg", b"<svg>").expect("written");
        }
        let text = fs::read(folder.join("a/b/plot.svg")).expect("there");
        assert_eq!(text, b"<svg>");
    }
}
