//! The daemon's binary: hidden subcommands first, then the command line.

use std::process::ExitCode;

use clap::Parser as _;
use pistond::cli::{self, Cli};

fn main() -> ExitCode {
    // The launcher and the probe are this program under another name, and have to start before
    // anything makes a thread or opens a file.
    if let Some(code) = pistond::sandbox::hidden_subcommand(std::env::args_os()) {
        return code;
    }
    cli::run(Cli::parse())
}
