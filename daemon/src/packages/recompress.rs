//! Writing an image anew with zstd when it is installed, where the operator asks for it.
//!
//! Owns both ends: [`Recompressor`] starts `pistond recompress-image IMAGE INDEX OUT`;
//! [`recompress_image_main`] is that hidden subcommand, which limits itself. The image was checked
//! before, and what comes out is checked like any other by the caller. Invariant: an image that
//! can't be written anew within the limits is no reason against installing it as it is.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use piston_fs::image::Image;
use piston_fs::image::pack::{Compressor, Tree};
use tokio::process::Command;

use crate::error::chain;

/// What images are written with: inflates as fast as any level, packs a package in seconds.
const COMPRESSOR: Compressor = Compressor::Zstd(9);
/// Address space of the child; each of its threads reserves more than it uses.
const MEMORY_BYTES: u64 = 4 << 30;
/// Seconds of processor time, and bytes of content for each further second.
const CPU_SECONDS: u64 = 60;
const BYTES_PER_CPU_SECOND: u64 = 1 << 20;
/// Content that is many times longer than its image is mostly holes, which inflate fast as it is.
const MOST_CONTENT_PER_BYTE: u64 = 64;

/// Starts the limited child for images of some compressors.
#[derive(Debug, Clone)]
pub(crate) struct Recompressor {
    program: PathBuf,
    arguments: Vec<OsString>,
    compressors: Vec<String>,
}

impl Recompressor {
    /// The running program itself, by its hidden subcommand; for images of these compressors.
    pub(crate) fn of_this_program(compressors: Vec<String>) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec!["recompress-image".into()],
            compressors,
        }
    }

    /// Another program that behaves like the hidden subcommand.
    #[cfg(test)]
    pub(crate) fn other(
        program: PathBuf,
        arguments: Vec<OsString>,
        compressors: Vec<String>,
    ) -> Self {
        Self {
            program,
            arguments,
            compressors,
        }
    }

    /// Whether an image with that compressor and length, and with so much in it, is to be written
    /// anew.
    pub(crate) fn wants(&self, compressor: &str, image_bytes: u64, content_bytes: u64) -> bool {
        self.compressors.iter().any(|wanted| wanted == compressor)
            && content_bytes <= image_bytes.saturating_mul(MOST_CONTENT_PER_BYTE)
    }

    /// Writes a checked image anew; the error is why that is not possible.
    pub(crate) async fn run(
        &self,
        (image, index): (&Path, &Path),
        out: &Path,
        content_bytes: u64,
    ) -> Result<(), String> {
        let cpu = CPU_SECONDS + content_bytes / BYTES_PER_CPU_SECOND;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args([image, index, out])
            .arg(cpu.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let wall = Duration::from_secs(cpu * 3);
        let output = tokio::time::timeout(wall, child.wait_with_output()).await;
        let output = output
            .map_err(|_| format!("it took longer than {} s", wall.as_secs()))?
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or_default();
        Err(format!("{}: {line}", output.status))
    }
}

/// The hidden subcommand `pistond recompress-image IMAGE INDEX OUT SECONDS`: limits this process and
/// writes the image anew to a file that must not exist. The error is why that is not possible.
pub fn recompress_image_main(
    image: &Path,
    index: &Path,
    out: &Path,
    seconds: u64,
) -> Result<(), String> {
    limit_self(image, seconds).map_err(|error| chain(&error))?;
    let image = Arc::new(Image::open(image, index).map_err(|error| chain(&error))?);
    let tree = Tree::of_image(&image).map_err(|error| chain(&error))?;
    let file = File::create_new(out).map_err(|error| chain(&error))?;
    tree.write(&file, COMPRESSOR)
        .map_err(|error| chain(&error))?;
    file.sync_all().map_err(|error| chain(&error))
}

/// Memory, time, length of what is written, no core.
fn limit_self(image: &Path, seconds: u64) -> std::io::Result<()> {
    let length = std::fs::metadata(image)?.len();
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MEMORY_BYTES),
        (Resource::RLIMIT_CPU, seconds),
        // xz packs better than zstd, but not by that much.
        (Resource::RLIMIT_FSIZE, length.saturating_mul(3) + (1 << 20)),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_of_the_compressors_that_were_named_are_wanted_and_no_bombs() {
        let recompressor = Recompressor::of_this_program(vec!["xz".to_owned(), "lzo".to_owned()]);
        for (compressor, content, wanted) in [
            ("xz", 64_000, true),
            ("lzo", 0, true),
            ("zstd", 64_000, false),
            ("xz", 64_001, false),
            ("xz", u64::MAX, false),
        ] {
            let found = recompressor.wants(compressor, 1000, content);
            assert_eq!(found, wanted, "{compressor} {content}");
        }
    }

    #[tokio::test]
    async fn a_child_that_fails_says_why() {
        let script = "echo first >&2; echo last >&2; exit 3";
        let shell = vec!["-c".into(), script.into()];
        let recompressor = Recompressor::other("/bin/sh".into(), shell, Vec::new());
        let path = Path::new("/nonexistent");
        let error = recompressor.run((path, path), path, 0).await.unwrap_err();
        assert!(error.contains("last") && error.contains('3'), "{error}");
    }
}
