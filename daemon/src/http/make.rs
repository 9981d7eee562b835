//! `POST /make`: a package from what the host has.
//!
//! Making runs in a child process (this program's own `make`) with limits and a time bound: it
//! reads whatever the host has. It dies with its request; the installation that follows does not.
//! A package that needs `base` gets it made and installed first when no fitting one is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use piston_client::api::{Code, InstallReply, MakeKind, MakeReply, MakeRequest};
use piston_client::ids::Language;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::app::App;
use super::body::Json;
use super::reply::{self, Reply};
use crate::error::Error;
use crate::packages::{Packages, Staging};

/// What is kept of what the child says.
const MAX_WORDS: u64 = 16 * 1024;

/// The name of the package that others are made to depend on.
const BASE: &str = "base";

/// Makes, and installs or returns the file.
pub(super) async fn make(State(app): State<Arc<App>>, Json(request): Json<MakeRequest>) -> Reply {
    let MakeRequest {
        from: MakeKind::Host,
        name,
        program,
        install,
    } = request;
    let packages = Arc::clone(&app.engine().await?.packages);
    let made = run(
        &packages,
        &name,
        program.as_deref(),
        app.config().make_timeout,
    )
    .await?;
    if !install {
        return file(made).await;
    }
    let (again, time) = (Again::of(&made)?, app.config().make_timeout);
    match app
        .detached(made.install(Arc::clone(&packages), Requested::ByName))
        .await
    {
        Err(error) if error.code() == Code::DependencyUnresolved && name.as_str() != BASE => {
            let base: Language = super::body::id(BASE)?;
            let base = run(&packages, &base, None, time).await?;
            let below = base.install(Arc::clone(&packages), Requested::AsDependency);
            let below = app.detached(below).await?;
            let made = again.0.install(packages, Requested::ByName);
            reply::json(&summary(&[below, app.detached(made).await?]))
        }
        done => reply::json(&summary(&[done?])),
    }
}

/// What was installed, dependencies first; the last one was asked for.
fn summary(installed: &[InstallReply]) -> Option<MakeReply> {
    let package = installed.last()?.package.clone();
    let with_dependencies =
        |reply: &InstallReply| [reply.dependencies.clone(), vec![reply.package.clone()]].concat();
    let installed = installed.iter().flat_map(with_dependencies).collect();
    Some(MakeReply { package, installed })
}

/// Who asked for a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requested {
    ByName,
    AsDependency,
}

/// A package file in a directory of its own.
#[derive(Debug)]
struct Made {
    file: PathBuf,
    staging: Arc<Staging>,
}

/// The same file under a second name: installing takes the first one away.
struct Again(Made);

impl Again {
    fn of(made: &Made) -> Result<Self, Error> {
        let file = made.staging.path.join("again");
        std::fs::hard_link(&made.file, &file)
            .map_err(|error| Error::caused_by(Code::Internal, &error))?;
        Ok(Self(Made {
            file,
            staging: Arc::clone(&made.staging),
        }))
    }
}

impl Made {
    async fn install(
        self,
        packages: Arc<Packages>,
        requested: Requested,
    ) -> Result<InstallReply, crate::packages::PackagesError> {
        packages
            .install_file(self.file.clone(), requested == Requested::ByName)
            .await
    }
}

/// Runs the maker.
async fn run(
    packages: &Packages,
    name: &Language,
    program: Option<&str>,
    time: Duration,
) -> Result<Made, Error> {
    let staging = Arc::new(packages.staging()?);
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["make", "host", name.as_str(), "--limited", "--output"])
        .arg(&staging.path);
    if let Some(program) = program {
        command.args(["--program", program]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let internal = |error: std::io::Error| Error::caused_by(Code::Internal, &error);
    let mut child = command.spawn().map_err(internal)?;
    let _group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(words(out), words(err), child.wait()) };
    let cannot = |text: String| Error::new(Code::CannotMake, text);
    let Ok((out, err, status)) = tokio::time::timeout(time, all).await else {
        let text = format!("making {name} took longer than {} s", time.as_secs());
        return Err(cannot(text));
    };
    if !status.map_err(internal)?.success() {
        let reason = err.trim().trim_start_matches("error: ");
        return Err(cannot(match reason {
            "" => format!("the maker of {name} died without a word"),
            reason => reason.to_owned(),
        }));
    }
    let file = PathBuf::from(out.trim());
    // The child said where; nothing outside its directory is taken, whatever it says.
    if file.parent() != Some(&*staging.path) {
        return Err(internal(std::io::Error::other(format!(
            "the maker said `{}`",
            out.trim()
        ))));
    }
    Ok(Made { file, staging })
}

/// The first words of a stream; the rest is not read.
async fn words(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was read before an error is worth as much.
        drop(stream.take(MAX_WORDS).read_to_end(&mut bytes).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The child's process group, killed on drop with all that it started.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map(Pid::from_raw),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Mostly it is gone already.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Replies with the file. Its directory is kept until the last byte has left.
async fn file(made: Made) -> Reply {
    let internal = |error: std::io::Error| Error::caused_by(Code::Internal, &error);
    let file = tokio::fs::File::open(&made.file).await.map_err(internal)?;
    let length = file.metadata().await.map_err(internal)?.len();
    let name = file_name(&made.file);
    let pieces = futures_util::stream::unfold((file, made), |(mut file, made)| async move {
        let mut piece = vec![0; 128 * 1024];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Bytes::from(piece)), (file, made)))
            }
            Err(error) => Some((Err(error), (file, made))),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok::<Response, Error>((headers, Body::from_stream(pieces)).into_response())
}

/// Names of package files hold nothing that a header would have to escape.
fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
