//! A user who has nothing of Piston yet: folders of their own, and no daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{Who, binary};

/// Folders of a newcomer. Dropping them ends the daemon that was started there.
#[derive(Debug)]
pub struct Newcomer {
    folder: tempfile::TempDir,
}

impl Newcomer {
    /// An unprivileged user whose daemon's configuration is this text.
    ///
    /// # Panics
    /// When the folders can't be made.
    #[must_use]
    pub fn with(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("piston-").tempdir();
        let newcomer = Self {
            folder: folder.expect("a folder"),
        };
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(newcomer.folder.path(), open).expect("mode");
        for name in ["home", "run", "home/.config", "home/.config/piston"] {
            fs::create_dir(newcomer.path(name)).expect("a folder");
            Who::User.own(&newcomer.path(name));
        }
        newcomer.configure(config);
        newcomer
    }

    /// A path in the folders: `home/...` or `run/...`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the daemon's configuration.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn configure(&self, text: &str) {
        let file = self.path("home/.config/piston/piston.toml");
        fs::write(&file, text).expect("written");
        Who::User.own(&file);
    }

    /// A command of this user, at home, with the binaries of the build before all others.
    ///
    /// # Panics
    /// When they were not built.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Who::User.command(program);
        let binaries = binary("piston");
        let binaries = binaries.parent().expect("a folder").display();
        command
            .env("PATH", format!("{binaries}:/usr/local/bin:/usr/bin:/bin"))
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TERM", "xterm")
            .current_dir(self.path("home"));
        command
    }

    /// What `piston` with these words comes to, without any input.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn piston(&self, words: &[&str]) -> Output {
        let mut command = self.command(&binary("piston"));
        let command = command.args(words).stdin(Stdio::null());
        command.output().expect("piston starts")
    }

    /// What the daemon logged that `piston` started.
    #[must_use]
    pub fn log(&self) -> String {
        let path = self.path("home/.local/state/piston/pistond.log");
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing running either.
        drop(self.piston(&["daemon", "stop"]));
    }
}
