//! Harness of the end-to-end tests: real binaries, real packages, real sockets.
//!
//! A [`Daemon`] is a `pistond serve` of its own, started as root or as an unprivileged user, with
//! its data in a temporary directory; dropping it ends it and removes everything. [`packages`]
//! makes real packages from this machine once for each build of the daemon. Nothing here knows
//! what the daemon should answer.

pub mod browser;
mod daemon;
pub mod http;
mod newcomer;
pub mod packages;
pub mod require;
pub mod server;
mod terminal;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub use daemon::{Daemon, Who, free_port};
pub use newcomer::Newcomer;
pub use terminal::Terminal;

/// The folder of the binaries that cargo built beside the running test.
///
/// # Panics
/// When a binary is missing: the tests need `cargo build --workspace --bins` first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/test");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins` first (contrib/test.sh does)",
        path.display()
    );
    path
}

/// Waits up to 20 s for `done`.
///
/// # Panics
/// When it did not come true by then: `what` is said.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
