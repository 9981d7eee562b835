//! The subcommands of `piston-fs`.

mod child;
mod pack;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, geteuid};
use piston_fs::image::pack::{Compressor, Tree};
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
        #[command(flatten)]
        compression: Compression,
    },
    /// Write an image anew with another compressor
    ///
    /// Everything that the image shows stays as it is, and reading it gets faster: zstd inflates
    /// several times as fast as xz.
    Recompress {
        /// The image to read
        image: PathBuf,
        /// The image to write; must not exist
        out: PathBuf,
        #[command(flatten)]
        compression: Compression,
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
struct Compression {
    /// Compressor of the image
    #[arg(long = "comp", value_enum, default_value_t = Algorithm::Zstd)]
    algorithm: Algorithm,
    /// Its level: zstd 1 to 22 (default 15), gzip 1 to 9 (default 9); lz4 has none
    #[arg(long)]
    level: Option<u8>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Algorithm {
    Zstd,
    Gzip,
    Lz4,
}

impl Compression {
    fn compressor(&self) -> anyhow::Result<Compressor> {
        Ok(match (self.algorithm, self.level) {
            (Algorithm::Zstd, level) => Compressor::Zstd(level.unwrap_or(15).into()),
            (Algorithm::Gzip, level) => Compressor::Gzip(level.unwrap_or(9).into()),
            (Algorithm::Lz4, None) => Compressor::Lz4,
            (Algorithm::Lz4, Some(_)) => anyhow::bail!("lz4 has no levels"),
        })
    }
}

#[derive(Debug, clap::Args)]
struct Mount {
    /// Images, the lowest first: the last one wins where they overlap
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Where to mount; created when missing
    mountpoint: PathBuf,
    /// Threads that answer the kernel
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(3..=256))]
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
            compression,
        } => pack::run(directory, image, compression.compressor()?),
        Command::Recompress {
            image,
            out,
            compression,
        } => recompress(image, out, compression.compressor()?),
        Command::Verify { image, index } => child::verify(image, index),
    }
}

fn recompress(image: &Path, out: &Path, with: Compressor) -> anyhow::Result<()> {
    let image = Arc::new(child::open_verified(image)?);
    pack::write(Tree::of_image(&image)?, out, with)
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
