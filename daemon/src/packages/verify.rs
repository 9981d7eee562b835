//! Checking an image in a disposable child process with limits.
//!
//! Owns both ends: [`Verifier`] starts `pistond verify-image IMAGE INDEX` and reads its one line
//! of JSON; [`verify_image_main`] is that hidden subcommand: it limits itself, then calls the one
//! walk over untrusted bytes. Invariants: the daemon itself never walks an image that was not
//! checked; whatever the child does (crash, hang, memory) ends as an error here within bounds.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use piston_client::ids::Digest;
use piston_fs::image::verify::{Bounds, Verified, verify};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::recompress::Recompressor;

/// Address space of the child.
const MEMORY_BYTES: u64 = 512 << 20;
/// Longest index it may write.
const INDEX_BYTES: u64 = 1 << 30;
/// Seconds of processor time, and bytes of image for each further second.
const CPU_SECONDS: u64 = 20;
const BYTES_PER_CPU_SECOND: u64 = 16 << 20;
/// Most bytes of output that are read from the child.
const OUTPUT_BYTES: u64 = 64 << 10;

/// What the child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// The image is fine and its index is written.
    Verified {
        digest: String,
        nodes: u32,
        content_bytes: u64,
    },
    /// It is not.
    Refused(String),
}

/// Why an image is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something is wrong with it.
    #[error("{0}")]
    Refused(String),
    /// The child could not be started or did not end properly.
    #[error("the image could not be checked: {0}")]
    Child(String),
}

/// Starts the limited child.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// What writes images anew that are checked for an installation, if anything does.
    pub(crate) recompressor: Option<Recompressor>,
}

impl Verifier {
    /// The running program itself, by its hidden subcommand.
    pub(crate) fn of_this_program() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec!["verify-image".into()],
            recompressor: None,
        }
    }

    /// The same, and images of some compressors are written anew when they are installed.
    pub(crate) fn recompressing(self, recompressor: Recompressor) -> Self {
        Self {
            recompressor: Some(recompressor),
            ..self
        }
    }

    /// Another program that behaves like the hidden subcommand.
    #[cfg(test)]
    pub(crate) fn other(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            program,
            arguments,
            recompressor: None,
        }
    }

    /// Checks `image` and writes its index to `index`, which must not exist.
    pub(crate) async fn verify(&self, image: &Path, index: &Path) -> Result<Verified, VerifyError> {
        let failed = |reason: String| VerifyError::Child(reason);
        let image_bytes = std::fs::metadata(image)
            .map_err(|error| failed(format!("{}: {error}", image.display())))?
            .len();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(image)
            .arg(index)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C at the daemon's terminal is for the daemon, which lets an install end first.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("{}: {error}", self.program.display())))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let wall = Duration::from_secs(cpu_seconds(image_bytes) * 3 + 30);
        let ended = tokio::time::timeout(wall, async {
            let (stdout, stderr) = tokio::join!(bounded(stdout), bounded(stderr));
            (child.wait().await, stdout, stderr)
        });
        let Ok((status, stdout, stderr)) = ended.await else {
            // The child is killed on drop.
            return Err(VerifyError::Refused(format!(
                "checking the image took longer than {} s",
                wall.as_secs()
            )));
        };
        let status = status.map_err(|error| failed(error.to_string()))?;
        match serde_json::from_slice(last_line(&stdout)) {
            Ok(Report::Verified {
                digest,
                nodes,
                content_bytes,
            }) => Ok(Verified {
                digest: *digest
                    .parse::<Digest>()
                    .map_err(|error| failed(error.to_string()))?
                    .as_bytes(),
                nodes,
                content_bytes,
            }),
            Ok(Report::Refused(reason)) => Err(VerifyError::Refused(reason)),
            Err(_) => Err(no_report(status, &stderr)),
        }
    }
}

/// A child that said nothing ran into one of its limits, or has a bug.
fn no_report(status: std::process::ExitStatus, stderr: &[u8]) -> VerifyError {
    use std::os::unix::process::ExitStatusExt as _;
    let stderr = String::from_utf8_lossy(stderr);
    let hint = stderr.lines().next().unwrap_or_default();
    tracing::warn!(%status, stderr = %stderr, "the image check ended without a result");
    match status.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL) => {
            VerifyError::Refused("checking the image takes too much processor time".to_owned())
        }
        Some(libc::SIGXFSZ) => VerifyError::Refused("the image's index is too long".to_owned()),
        Some(libc::SIGABRT) if hint.contains("memory allocation") => {
            VerifyError::Refused("checking the image takes too much memory".to_owned())
        }
        _ => VerifyError::Child(format!("{status}: {hint}")),
    }
}

async fn bounded<R: tokio::io::AsyncRead + Unpin>(pipe: Option<R>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What can't be read shows as a missing report.
        drop((&mut pipe).take(OUTPUT_BYTES).read_to_end(&mut bytes).await);
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    }
    bytes
}

fn last_line(bytes: &[u8]) -> &[u8] {
    let trimmed = bytes.trim_ascii_end();
    trimmed
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or(trimmed)
}

fn cpu_seconds(image_bytes: u64) -> u64 {
    CPU_SECONDS + image_bytes / BYTES_PER_CPU_SECOND
}

/// The hidden subcommand `pistond verify-image IMAGE INDEX`: limits this process, checks the
/// image, writes the index and prints one line of JSON.
///
/// To be called before any thread is started; exits 0 when the image is fine, else 1.
pub fn verify_image_main(image: &Path, index: &Path) -> ExitCode {
    let report = match limit_self(image) {
        Ok(()) => report(image, index),
        Err(error) => Report::Refused(format!("the check can't limit itself: {error}")),
    };
    let fine = matches!(report, Report::Verified { .. });
    let mut line = serde_json::to_vec(&report).unwrap_or_default();
    line.push(b'\n');
    if std::io::stdout().write_all(&line).is_err() || !fine {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn report(image: &Path, index: &Path) -> Report {
    match verify(image, index, &Bounds::default()) {
        Ok(verified) => Report::Verified {
            digest: hex::encode(verified.digest),
            nodes: verified.nodes,
            content_bytes: verified.content_bytes,
        },
        Err(error) => Report::Refused(crate::error::chain(&error)),
    }
}

/// Memory, time, index length, descriptors; no core, no network, no new privileges.
fn limit_self(image: &Path) -> std::io::Result<()> {
    let image_bytes = std::fs::metadata(image)?.len();
    let cpu = cpu_seconds(image_bytes);
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MEMORY_BYTES),
        (Resource::RLIMIT_CPU, cpu),
        (Resource::RLIMIT_FSIZE, INDEX_BYTES),
        (Resource::RLIMIT_NOFILE, 32),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    // Without the privilege for it the network stays reachable to code that never uses it.
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        tracing::debug!(%error, "the image check keeps the network namespace");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Verifier {
        Verifier::other("/bin/sh".into(), vec!["-c".into(), script.into()])
    }

    async fn outcome(script: &str) -> Result<Verified, VerifyError> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::write(&image, b"x").unwrap();
        shell(script)
            .verify(&image, &dir.path().join("index"))
            .await
    }

    #[tokio::test]
    async fn the_report_is_the_last_line() {
        let digest = "ab".repeat(32);
        let script = format!(
            r#"echo noise; echo '{{"verified":{{"digest":"{digest}","nodes":3,"content_bytes":9}}}}'"#
        );
        let verified = outcome(&script).await.unwrap();
        assert_eq!((verified.nodes, verified.content_bytes), (3, 9));
        assert_eq!(verified.digest, [0xab; 32]);
    }

    #[tokio::test]
    async fn a_refusal_carries_its_reason() {
        let error = outcome(r#"echo '{"refused":"names not sorted"}'; exit 1"#).await;
        assert_eq!(error.unwrap_err().to_string(), "names not sorted");
    }

    #[tokio::test]
    async fn a_child_that_dies_is_an_error_that_says_how() {
        for (script, expected) in [
            ("kill -XCPU $$", "processor time"),
            ("kill -XFSZ $$", "index is too long"),
            (
                "echo 'memory allocation of 5 bytes failed' >&2; kill -ABRT $$",
                "too much memory",
            ),
            ("echo 'thread panicked' >&2; exit 101", "thread panicked"),
            ("true", "could not be checked"),
            ("echo nonsense", "could not be checked"),
        ] {
            let text = outcome(script).await.unwrap_err().to_string();
            assert!(text.contains(expected), "{script}: {text}");
        }
    }

    /// A Ctrl-C meant for the daemon once failed the install that was under way.
    #[tokio::test]
    async fn a_signal_to_the_daemons_process_group_does_not_reach_the_check() {
        let script = r#"read -r _ _ _ _ group _ < /proc/$$/stat
            if [ "$group" = $$ ]; then echo '{"refused":"own group"}'; fi"#;
        let error = outcome(script).await.unwrap_err();
        assert_eq!(error.to_string(), "own group");
    }

    #[tokio::test]
    async fn a_flood_of_output_costs_nothing() {
        let error = outcome("head -c 50000000 /dev/zero").await.unwrap_err();
        assert!(matches!(error, VerifyError::Child(_)));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let verifier = Verifier::other("/nonexistent/pistond".into(), Vec::new());
        let text = verifier
            .verify(Path::new("/etc/hostname"), Path::new("/x"))
            .await
            .unwrap_err()
            .to_string();
        assert!(text.contains("/nonexistent/pistond"), "{text}");
    }
}
