//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = pistond::sandbox::hidden_subcommand(std::env::args_os()) {
        return code;
    }
    ExitCode::SUCCESS
}
