//! The subcommands of `piston-fs`.

mod child;
mod pack;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, geteuid};
use piston_fs::layer::{Layer, Placed};
use piston_fs::mount::{DEADLINE, MountOptions, Server};

/// Squashfs images and their merged trees, in user space.
#[derive(Debug, Parser)]
#[command(name = "piston-fs", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount images, merged, until interrupted
    ///
    /// As root the mount is for everybody; as another user it is made by fusermount3 and for that
    /// user alone.
    Mount(Mount),
    /// Write a directory tree as an image
    Pack {
        /// The tree
        directory: PathBuf,
        /// The image to write; must not exist
        image: PathBuf,
        /// zstd level, 1 to 22
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(i32).range(1..=22))]
        level: i32,
    },
    /// Check an image and write its index
    Verify {
        /// The image
        image: PathBuf,
        /// The index to write; must not exist
        index: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Mount {
    /// Images, the lowest first: the last one wins where they overlap
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Where to mount; created when missing
    mountpoint: PathBuf,
    /// Threads that answer the kernel
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=256))]
    threads: u16,
    /// Block cache in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    cache: u32,
    /// Seconds that a read may take before it fails
    #[arg(long, default_value_t = DEADLINE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Directory of hot lists: which parts of each image are read first, to have them ready next time
    #[arg(long, value_name = "DIRECTORY")]
    hot_lists: Option<PathBuf>,
}

/// Does what was asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Mount(mount) => run_mount(mount),
        Command::Pack {
            directory,
            image,
            level,
        } => pack::run(directory, image, *level),
        Command::Verify { image, index } => child::verify(image, index),
    }
}

fn run_mount(mount: &Mount) -> anyhow::Result<()> {
    let mut layers = Vec::with_capacity(mount.images.len());
    for path in &mount.images {
        let mut image = child::open_verified(path)?;
        if let Some(directory) = &mount.hot_lists {
            let mut name = String::new();
            for byte in image.digest() {
                write!(name, "{byte:02x}").context("a digest")?;
            }
            image = image.with_hot_list(directory.join(name + ".hot"));
        }
        layers.push(Placed {
            layer: Layer::Image(Arc::new(image)),
            at: "/".to_owned(),
        });
    }
    // Before the first thread, so that all of them leave these signals to this one.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let signals = SigSet::from_iter(signals);
    signals.thread_block().context("cannot block signals")?;
    let server = Arc::new(start(mount)?);
    for name in server.publish_root(&layers)? {
        tracing::warn!(name, "an image hides what a lower one has");
    }
    writeln!(io::stdout(), "mounted on {}", server.path().display()).unwrap_or_default();
    end_with_the_mount(&server)?;
    signals.wait().context("cannot wait for signals")?;
    server.unmount();
    Ok(())
}

fn start(mount: &Mount) -> anyhow::Result<Server> {
    let mebibytes = usize::try_from(mount.cache).unwrap_or(usize::MAX);
    let options = MountOptions {
        path: mount.mountpoint.clone(),
        threads: mount.threads.into(),
        cache_bytes: mebibytes.saturating_mul(1 << 20),
        deadline: Duration::from_secs(mount.deadline),
    };
    Ok(if geteuid().is_root() {
        Server::mount(&options)?
    } else {
        Server::mount_as_user(&options)?
    })
}

/// When somebody else unmounts, this process ends as if it had been told to.
fn end_with_the_mount(server: &Arc<Server>) -> anyhow::Result<()> {
    let server = Arc::clone(server);
    let wait = move || {
        server.wait();
        kill(Pid::this(), Signal::SIGTERM).unwrap_or_default();
    };
    let thread = thread::Builder::new().name("unmounted".to_owned());
    thread.spawn(wait).context("cannot start a thread")?;
    Ok(())
}
