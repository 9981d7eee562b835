//! The binary `piston`: see [`piston_client::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    piston_client::cli::main()
}
