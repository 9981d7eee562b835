//! What is measured: our mount and its rivals, each mounted anew over the same images.
//!
//! Invariant: a dropped [`Mounted`] leaves nothing mounted and no process behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use fuser::BackgroundSession;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::server::{Contents, Serving};
use crate::set::Set;

/// One way to show the merged tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Our server.
    Ours,
    /// The tree in a directory of an ext4.
    Plain,
    /// The kernel's squashfs for each image, overlayfs over them.
    Kernel,
    /// `squashfuse_ll` for each image, `fuse-overlayfs` over them.
    Pair,
    /// A FUSE filesystem that is never asked: names and attributes, no bytes.
    Bare,
}

impl Subject {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Ours,
        Self::Plain,
        Self::Kernel,
        Self::Pair,
        Self::Bare,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Plain => "plain",
            Self::Kernel => "kernel",
            Self::Pair => "pair",
            Self::Bare => "bare",
        }
    }

    /// Mounts it, so that nothing is cached in it yet.
    pub(crate) fn mount(self, set: &Set) -> Mounted {
        let folder = set.scratch.join(self.name());
        fs::create_dir_all(&folder).expect("a folder for mounts");
        let mut mounted = Mounted {
            root: folder.join("root"),
            mounts: Vec::new(),
            server: None,
            bare: None,
        };
        match self {
            Self::Ours => {
                let server = Serving::start(set, &folder.join("root"), Contents::Set);
                mounted.root = folder.join("root").join(crate::server::VIEW);
                mounted.server = Some(server);
            }
            Self::Plain => mounted.root.clone_from(&set.plain),
            Self::Kernel => {
                mounted.layers(set, &folder, |image, at| {
                    run(
                        Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]),
                        &[image, at],
                    );
                });
                mounted.overlay(Command::new("mount").args(["-t", "overlay", "overlay"]));
            }
            Self::Pair => {
                mounted.layers(set, &folder, |image, at| {
                    run(
                        Command::new("squashfuse_ll").args(["-o", "allow_other"]),
                        &[image, at],
                    );
                });
                mounted.overlay(&mut Command::new("fuse-overlayfs"));
            }
            Self::Bare => {
                fs::create_dir_all(&mounted.root).expect("a mount point");
                mounted.bare = Some(crate::bare::mount(set, &mounted.root));
            }
        }
        mounted
    }
}

/// A subject that can be used.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where the merged tree is.
    pub(crate) root: PathBuf,
    /// Our server, when it is ours.
    pub(crate) server: Option<Serving>,
    /// The one that is never asked, when it is that.
    bare: Option<BackgroundSession>,
    mounts: Vec<PathBuf>,
}

impl Mounted {
    /// Mounts every layer with a function of (image, mount point), the lowest first.
    fn layers(&mut self, set: &Set, folder: &Path, mount: impl Fn(&Path, &Path)) {
        for package in set.merged() {
            let at = folder.join(package.name);
            fs::create_dir_all(&at).expect("a mount point");
            mount(&package.image, &at);
            self.mounts.push(at);
        }
    }

    /// Merges the layers at the root.
    fn overlay(&mut self, command: &mut Command) {
        fs::create_dir_all(&self.root).expect("a mount point");
        let lower: Vec<_> = self
            .mounts
            .iter()
            .rev()
            .map(|at| at.display().to_string())
            .collect();
        let option = format!("lowerdir={}", lower.join(":"));
        run(command.args(["-o", &option]), &[&self.root]);
        self.mounts.push(self.root.clone());
    }

    /// Gives the tree a `/tmp` in memory, as programs need one.
    pub(crate) fn with_tmp(mut self) -> Self {
        let tmp = self.root.join("tmp");
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &tmp, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
        self.mounts.push(tmp);
        self
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.bare.take());
        for at in self.mounts.iter().rev() {
            // A server that is ending keeps the layers below it busy for a moment.
            let gone = (0..100).any(|_| {
                let gone = umount2(at, MntFlags::empty()).is_ok();
                if !gone {
                    thread::sleep(Duration::from_millis(10));
                }
                gone
            });
            if !gone {
                umount2(at, MntFlags::MNT_DETACH).unwrap_or_default();
            }
        }
    }
}

/// Runs a command that must succeed, with some paths as its last arguments.
pub(crate) fn run(command: &mut Command, paths: &[&Path]) {
    let status = command
        .args(paths)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}"
    );
}
