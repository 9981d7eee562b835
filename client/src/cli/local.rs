//! What `piston` does without a daemon: become `pistond`, print completions.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::exit::Exit;
use super::failure::Failure;
use super::flags::Cli;
use super::render::pass;

/// Becomes the daemon's program with these arguments.
pub(super) fn become_pistond(arguments: impl IntoIterator<Item = OsString>) -> Result<Exit> {
    let program = pistond(env::current_exe().ok().as_deref());
    let error = Command::new(&program).args(arguments).exec();
    Err(Failure::new(format!("can't start {}", program.display()))
        .because(error)
        .next("install `pistond` beside `piston`, or on the PATH")
        .into())
}

/// The daemon's program: the one that came with this one, else the one on the PATH.
pub(super) fn pistond(own: Option<&Path>) -> PathBuf {
    let beside = own
        .and_then(Path::parent)
        .map(|directory| directory.join("pistond"));
    beside
        .filter(|program| program.is_file())
        .unwrap_or_else(|| "pistond".into())
}

/// Prints what makes a shell complete words of `piston`.
pub(super) fn completions(shell: Shell) -> Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "piston", &mut text);
    pass(&text, b"")?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_that_came_along_goes_before_the_one_on_the_path() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let own = folder.path().join("piston");
        assert_eq!(pistond(Some(&own)), PathBuf::from("pistond"));
        assert_eq!(pistond(None), PathBuf::from("pistond"));
        std::fs::write(folder.path().join("pistond"), "").expect("a file");
        assert_eq!(pistond(Some(&own)), folder.path().join("pistond"));
    }
}
