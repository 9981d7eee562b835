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
    let causes = error.chain().map(|cause| without_number(cause.to_string()));
    let causes: Vec<String> = causes.collect();
    let ours = error
        .chain()
        .find_map(|error| error.downcast_ref::<Failure>());
    let theirs = error
        .chain()
        .find_map(|error| error.downcast_ref::<Error>());
    let next = match (ours, theirs) {
        (Some(failure), _) if !failure.next.is_empty() => failure.next.clone(),
        (_, Some(error)) => advice(error),
        _ if is_full(error) => vec!["make room on that disk, or write to another".to_owned()],
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

/// The words of an error of the system without its number, which says the same to fewer people.
fn without_number(text: String) -> String {
    let words = text
        .strip_suffix(')')
        .and_then(|text| text.rsplit_once(" (os error "));
    match words {
        Some((words, number)) if number.chars().all(|c| c.is_ascii_digit()) => words.to_owned(),
        _ => text,
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

/// Whether it all comes of a disk that is full.
fn is_full(error: &anyhow::Error) -> bool {
    let error = error.root_cause().downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
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

fn advice(error: &Error) -> Vec<String> {
    let Error::Transport(TransportError::Unreachable {
        host: Host::Unix(socket),
        source,
        ..
    }) = error
    else {
        return error.remedy().into_iter().collect();
    };
    match source.kind() {
        io::ErrorKind::PermissionDenied => vec![permission(&admitted(socket))],
        io::ErrorKind::NotFound => {
            let looked_for = others_looked_for(socket, &Host::default_sockets());
            std::iter::once(start(socket)).chain(looked_for).collect()
        }
        io::ErrorKind::ConnectionRefused => vec![format!(
            "the socket is left from a daemon that is gone: {}",
            start(socket)
        )],
        _ => error.remedy().into_iter().collect(),
    }
}

/// What to do where no daemon is.
fn start(socket: &Path) -> String {
    format!(
        "start one with `piston daemon start{}` (`piston run -y` does), or name another with \
         --host or $PISTON_HOST",
        host_option(socket)
    )
}

/// What names a socket on a command line, unless it is one that is found without.
pub(super) fn host_option(socket: &Path) -> String {
    if Host::default_sockets().iter().any(|usual| usual == socket) {
        return String::new();
    }
    let path = socket.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if path.chars().all(plain) {
        format!(" --host {path}")
    } else {
        format!(" --host '{}'", path.replace('\'', r"'\''"))
    }
}

/// Who may use a socket.
#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    /// Nobody but this user.
    Owner(String),
    /// Who is in this group.
    Group(String),
}

/// Who may use a socket that we may not, by the mode of what keeps us out: the socket, or the
/// first directory on the way to it that we can't search.
fn admitted(socket: &Path) -> Admitted {
    const GROUP_MAY_WRITE: u32 = 0o020;
    const GROUP_MAY_SEARCH: u32 = 0o010;
    let mut path = socket.ancestors().zip(0..);
    let found = path.find_map(|(path, above)| Some((std::fs::metadata(path).ok()?, above)));
    let Some((metadata, above)) = found else {
        return Admitted::Group("piston".to_owned());
    };
    let needed = if above == 0 {
        GROUP_MAY_WRITE
    } else {
        GROUP_MAY_SEARCH
    };
    if metadata.mode() & needed == 0 {
        Admitted::Owner(name_of(metadata.uid(), "/etc/passwd"))
    } else {
        Admitted::Group(name_of(metadata.gid(), "/etc/group"))
    }
}

/// The name of an id, as a table of the system has it; else the id.
fn name_of(id: u32, table: &str) -> String {
    let id = id.to_string();
    let table = std::fs::read_to_string(table).unwrap_or_default();
    let name = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number == id).then(|| name.to_owned())
    });
    name.unwrap_or(id)
}

fn permission(admitted: &Admitted) -> String {
    const OWN: &str = "start a daemon of your own with `piston daemon start`, without --host and \
                       $PISTON_HOST";
    match admitted {
        Admitted::Owner(name) | Admitted::Group(name) if name == "root" => {
            format!("only root may use this socket: use sudo, or {OWN}")
        }
        Admitted::Owner(name) => format!("only {name} may use this socket: {OWN}"),
        Admitted::Group(name) => format!(
            "the socket is for members of the group `{name}`: `sudo usermod -aG {name} $USER`, \
             then log in again; or {OWN}"
        ),
    }
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
    use crate::Obstacle;
    use crate::api::Code;

    #[test]
    fn a_daemon_that_is_not_there_is_named_with_the_way_to_start_one_there() {
        let told = |socket: &str| {
            let error = Error::from(TransportError::Unreachable {
                host: Host::Unix(socket.into()),
                obstacle: Obstacle::Connection,
                source: io::ErrorKind::NotFound.into(),
            });
            account(&error.into())
        };
        let account = told("/nowhere/s");
        assert_eq!(
            account.error,
            "can't reach the daemon at unix:///nowhere/s: entity not found"
        );
        let begins = |account: &Account, text: &str| account.next[0].starts_with(text);
        assert!(begins(
            &account,
            "start one with `piston daemon start --host /nowhere/s` "
        ));
        let usual = Host::default_sockets().remove(0);
        let account = told(&usual.to_string_lossy());
        assert!(begins(&account, "start one with `piston daemon start` "));
        assert_eq!(host_option(Path::new("/a b's")), r" --host '/a b'\''s'");
    }

    #[test]
    fn errors_of_the_system_are_told_in_words() {
        let error = io::Error::from_raw_os_error(2);
        let account = account(&Failure::new("can't read x").because(error).into());
        assert_eq!(account.error, "can't read x: No such file or directory");
        let other = "a text (os error of ours)".to_owned();
        assert_eq!(without_number(other.clone()), other);
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
    fn a_forbidden_socket_says_for_whom_it_is() {
        let group = |name: &str| permission(&Admitted::Group(name.to_owned()));
        assert!(group("docker").contains("usermod -aG docker $USER"));
        let owner = |name: &str| permission(&Admitted::Owner(name.to_owned()));
        assert!(owner("root").contains("sudo") && group("root").contains("sudo"));
        assert!(owner("ann").starts_with("only ann may use this socket: start a daemon"));
    }

    #[test]
    fn who_is_admitted_is_read_off_what_keeps_us_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("s");
        let told = |path: &Path, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).expect("ours");
            admitted(&socket)
        };
        let metadata = folder.path().metadata().expect("there");
        let owner = Admitted::Owner(name_of(metadata.uid(), "/etc/passwd"));
        // A socket that can't be seen: it is its folder that keeps us out.
        assert_eq!(told(folder.path(), 0o700), owner);
        assert!(matches!(told(folder.path(), 0o750), Admitted::Group(_)));
        std::fs::write(&socket, "").expect("a file");
        assert_eq!(told(&socket, 0o600), owner);
        assert!(matches!(told(&socket, 0o660), Admitted::Group(_)));
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
