//! Where things are by default: system directories as root, XDG directories otherwise.
//!
//! [`Host`] is all that resolution may know of the machine; tests make one up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Home;

/// What resolution knows of the machine and the user.
#[derive(Debug, Clone)]
pub struct Host {
    /// Whose places.
    pub home: Home,
    /// The user's id, as seen before any user namespace is entered.
    pub uid: u32,
    /// Processors.
    pub cpus: usize,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
}

impl Host {
    /// This process on this machine. Variables that are not UTF-8 are left out.
    pub fn current() -> Self {
        let uid = nix::unistd::geteuid();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            home: if uid.is_root() {
                Home::System
            } else {
                Home::User
            },
            uid: uid.as_raw(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            variables,
        }
    }

    /// A directory named by a variable; XDG says that relative ones are to be ignored.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.variables.get(name)?);
        path.is_absolute().then_some(path)
    }
}

/// Default places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The Unix socket.
    pub socket: PathBuf,
    /// The filesystem's mount point.
    pub mount: PathBuf,
}

impl Paths {
    /// The places of a host's user.
    pub fn of(host: &Host) -> Self {
        match host.home {
            Home::System => Self {
                config: "/etc/piston/piston.toml".into(),
                data: "/var/lib/piston".into(),
                socket: "/run/piston/piston.sock".into(),
                mount: "/run/piston/fs".into(),
            },
            Home::User => Self::xdg(host),
        }
    }

    fn xdg(host: &Host) -> Self {
        let home = host.directory("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let or_home = |name: &str, below: &str| {
            host.directory(name)
                .unwrap_or_else(|| home.join(below))
                .join("piston")
        };
        // Without a session there is no runtime directory. The daemon makes this one with mode
        // 0700 and refuses it when it belongs to somebody else.
        let runtime = host.directory("XDG_RUNTIME_DIR").map_or_else(
            || PathBuf::from(format!("/tmp/piston-{}", host.uid)),
            |directory| directory.join("piston"),
        );
        Self {
            config: or_home("XDG_CONFIG_HOME", ".config").join("piston.toml"),
            data: or_home("XDG_DATA_HOME", ".local/share"),
            socket: runtime.join("piston.sock"),
            mount: runtime.join("fs"),
        }
    }
}
