//! What is shown when something fails: one line what, one line what to do next.
//!
//! Owns the wording around [`crate::Error`] that only a person at a terminal needs: which sockets
//! were looked for, which group a socket belongs to.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::api::Problem;
use crate::{Error, Host, TransportError};

use super::exit::Exit;

/// An error of the command line itself, with what to do next.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    next: Vec<String>,
    exit: Exit,
}

impl Failure {
    /// A failure in words.
    pub(super) fn new(what: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            source: None,
            next: Vec::new(),
            exit: Exit::Failed,
        }
    }

    /// How the process ends with it, where that is not as all failures do.
    pub(super) fn ends(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What caused it.
    pub(super) fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What can be done; more than once for alternatives.
    pub(super) fn next(mut self, advice: impl Into<String>) -> Self {
        self.next.push(advice.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A failure ready to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// What happened, with its causes.
    pub(super) error: String,
    /// What to do next.
    pub(super) next: Vec<String>,
    /// The daemon's own account.
    pub(super) problem: Option<Problem>,
}

impl Account {
    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({ "error": self.error, "next": self.next });
        if let Some(problem) = &self.problem {
            json["problem"] = json!(problem);
        }
        json
    }
}

/// Tells a failure as a person needs it.
pub(super) fn account(error: &anyhow::Error) -> Account {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let ours = error
        .chain()
        .find_map(|error| error.downcast_ref::<Failure>());
    let theirs = error
        .chain()
        .find_map(|error| error.downcast_ref::<Error>());
    let next = match (ours, theirs) {
        (Some(failure), _) if !failure.next.is_empty() => failure.next.clone(),
        (_, Some(error)) => advice(error),
        _ => Vec::new(),
    };
    // A transparent error and its source say the same.
    let mut causes: Vec<&str> = causes.iter().map(String::as_str).collect();
    causes.dedup();
    Account {
        error: causes.join(": "),
        next,
        problem: theirs.and_then(Error::problem).cloned(),
    }
}

/// How the process ends with a failure.
pub(super) fn exit(error: &anyhow::Error) -> Exit {
    let failure = error.downcast_ref::<Failure>();
    failure.map_or(Exit::Failed, |failure| failure.exit)
}

/// Whether whoever read our output has gone.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|error| {
            error.kind() == io::ErrorKind::BrokenPipe && error.to_string() == STDOUT_CLOSED
        })
}

/// The text of a broken pipe of our own standard output, which no other broken pipe has.
const STDOUT_CLOSED: &str = "standard output was closed";

/// Our own standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("can't write to standard output: {0}")]
struct Unwritten(io::Error);

/// Marks an error of writing to our own standard output.
pub(super) fn of_stdout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return io::Error::new(io::ErrorKind::BrokenPipe, STDOUT_CLOSED);
    }
    io::Error::new(error.kind(), Unwritten(error))
}

/// What to do where no daemon is.
const START: &str =
    "start one with `piston daemon start`, or name another with --host or $PISTON_HOST";

fn advice(error: &Error) -> Vec<String> {
    let Error::Transport(TransportError::Unreachable {
        host: Host::Unix(socket),
        source,
    }) = error
    else {
        return error.remedy().into_iter().collect();
    };
    match source.kind() {
        io::ErrorKind::PermissionDenied => vec![permission(socket_group(socket).as_deref())],
        io::ErrorKind::NotFound => {
            let looked_for = others_looked_for(socket, &Host::default_sockets());
            std::iter::once(START.to_owned())
                .chain(looked_for)
                .collect()
        }
        io::ErrorKind::ConnectionRefused => vec![format!(
            "the socket is left from a daemon that is gone: {START}"
        )],
        _ => error.remedy().into_iter().collect(),
    }
}

/// The group to join; unknown where the socket's directory hides it.
fn permission(group: Option<&str>) -> String {
    match group {
        Some("root") => "only root may use this socket: use sudo, or start a daemon of your own \
                         with `piston daemon start`"
            .to_owned(),
        group => {
            let group = group.unwrap_or("piston");
            format!(
                "the socket is for members of the group `{group}`: \
                 `sudo usermod -aG {group} $USER`, then log in again; or start a daemon of your \
                 own with `piston daemon start`"
            )
        }
    }
}

/// Name of the group of a socket.
fn socket_group(socket: &Path) -> Option<String> {
    // Where the directory can't be searched, it is the directory that keeps us out.
    let metadata =
        std::fs::metadata(socket).or_else(|_| std::fs::metadata(socket.parent().unwrap_or(socket)));
    let gid = metadata.ok()?.gid().to_string();
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == gid).then(|| name.to_owned())
    })
}

/// The default sockets that were tried before, when `socket` is one of them.
fn others_looked_for(socket: &Path, defaults: &[PathBuf]) -> Option<String> {
    if !defaults.iter().any(|default| default == socket) {
        return None;
    }
    let others: Vec<String> = defaults
        .iter()
        .filter(|default| *default != socket)
        .map(|default| default.display().to_string())
        .collect();
    (!others.is_empty()).then(|| format!("there is none at {} either", others.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Code;

    fn unreachable(host: &str, kind: io::ErrorKind) -> anyhow::Error {
        let host = host.parse().expect("an address");
        Error::from(TransportError::Unreachable {
            host,
            source: kind.into(),
        })
        .into()
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named_with_the_way_to_start_one() {
        let account = account(&unreachable("unix:///nowhere/s", io::ErrorKind::NotFound));
        assert_eq!(
            account.error,
            "can't reach the daemon at unix:///nowhere/s: entity not found"
        );
        assert_eq!(account.next, [START]);
    }

    #[test]
    fn the_other_default_sockets_are_told() {
        let defaults = [PathBuf::from("/own"), PathBuf::from("/system")];
        let told = |socket: &str| others_looked_for(Path::new(socket), &defaults);
        assert_eq!(
            told("/own").as_deref(),
            Some("there is none at /system either")
        );
        assert_eq!(told("/elsewhere"), None);
        assert_eq!(
            others_looked_for(Path::new("/system"), &defaults[1..]),
            None
        );
    }

    #[test]
    fn a_forbidden_socket_names_its_group() {
        assert!(permission(Some("docker")).contains("usermod -aG docker $USER"));
        assert!(permission(None).contains("usermod -aG piston $USER"));
        assert!(permission(Some("root")).contains("sudo"));
    }

    #[test]
    fn a_problem_is_shown_once_with_its_remedy() {
        let problem = Problem::new(Code::PackageNotAvailable, "no repository has cobol");
        let account = account(&anyhow::Error::from(Error::from(problem.clone())));
        assert_eq!(account.error, "no repository has cobol");
        assert!(
            account.next[0].contains("piston repo packages"),
            "{:?}",
            account.next
        );
        assert_eq!(account.problem, Some(problem));
    }

    #[test]
    fn our_own_advice_goes_before_the_general_one() {
        let problem = Error::from(Problem::new(Code::PackageNotFound, "gone"));
        let failure = Failure::new("can't run")
            .because(problem)
            .next("do this")
            .next("or that");
        let account = account(&failure.into());
        assert_eq!(account.error, "can't run: gone");
        assert_eq!(account.next, ["do this", "or that"]);
    }

    #[test]
    fn only_our_own_closed_output_is_quiet() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(of_stdout(pipe()))));
        assert!(!is_broken_pipe(&anyhow::Error::from(pipe())));
    }
}
