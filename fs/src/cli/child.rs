//! Verifying an image in a child process with limits: whatever is wrong with the image, it costs
//! this process nothing.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, setrlimit};
use piston_fs::image::Image;
use piston_fs::image::verify::{self, Bounds};

/// What the child may use: address space, seconds of CPU, bytes of index.
const LIMITS: [(Resource, u64); 4] = [
    (Resource::RLIMIT_AS, 2 << 30),
    (Resource::RLIMIT_CPU, 600),
    (Resource::RLIMIT_FSIZE, 1 << 30),
    (Resource::RLIMIT_CORE, 0),
];

/// The child's part: limits itself, walks the image, writes the index.
pub(super) fn verify(image: &Path, index: &Path) -> anyhow::Result<()> {
    for (resource, limit) in LIMITS {
        setrlimit(resource, limit, limit).context("cannot set limits")?;
    }
    verify::verify(image, index, &Bounds::default()).map_err(|error| {
        fs::remove_file(index).unwrap_or_default();
        anyhow::Error::new(error)
    })?;
    Ok(())
}

/// The parent's part: has an image verified, and opens it.
pub(super) fn open_verified(image: &Path) -> anyhow::Result<Image> {
    let scratch = Scratch::new()?;
    let index = scratch.0.join("index");
    let this = std::env::current_exe().context("cannot find the program itself")?;
    let output = Command::new(this)
        .arg("verify")
        .args([image, &index])
        .stdin(Stdio::null())
        .output()
        .context("cannot start a process to verify images")?;
    if let Some(signal) = output.status.signal() {
        bail!(
            "{}: verifying it ended by signal {signal}: it takes more than an image may",
            image.display()
        );
    }
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.trim().trim_start_matches("piston-fs: ");
        bail!("{}: {text}", image.display());
    }
    // The index is read as a whole, so it may go.
    Image::open(image, &index).with_context(|| image.display().to_string())
}

/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let place = std::env::temp_dir();
        for attempt in 0_u32..1000 {
            let path = place.join(format!("piston-fs-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot create {}", path.display()));
                }
            }
        }
        bail!("cannot find a free name in {}", place.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
