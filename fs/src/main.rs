//! `piston-fs`: squashfs images on the command line, without a daemon.
//!
//! `mount` shows one or several images as one tree, `pack` writes an image, `recompress` writes one
//! anew; `verify` is what the others run in a child process of its own before they read an image,
//! since it may be anybody's making.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    match cli::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            writeln!(io::stderr(), "piston-fs: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
