//! What can go wrong between a caller and the daemon, and what to do about it.
//!
//! [`Error::Transport`]: the daemon was not reached or went away. [`Error::Fault`]: it answered
//! that it won't. [`Error::Decode`]: it answered what nobody understands. Texts say what happened;
//! [`Error::remedy`] says what to do next. Sources are not repeated in the texts.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::{Code, Problem};
use crate::host::{Host, HttpAddress, Scheme};
use crate::units::{Bytes, Millis};

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request or its reply did not get through.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The daemon refused, in its own words.
    #[error("{}", fault_text(.0))]
    Fault(Box<Problem>),
    /// The reply is not what this operation replies.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a request or its reply did not get through.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection came about.
    #[error("can't reach the daemon at {host}")]
    Unreachable {
        /// Where it should be.
        host: Host,
        /// What is in the way.
        obstacle: Obstacle,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the reply was complete.
    #[error("the connection to {host} broke before the reply was complete")]
    Broken {
        /// Where the daemon is.
        host: Host,
        /// What broke it.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No complete reply came in time.
    #[error("no reply from {host} within {}", Millis::from(*.after))]
    TimedOut {
        /// Where the daemon is.
        host: Host,
        /// How long it was waited for.
        after: Duration,
    },
    /// The reply is longer than the client takes.
    #[error("the reply of {host} is over {bound}")]
    ReplyTooLarge {
        /// Where the daemon is.
        host: Host,
        /// The bound of [`crate::Settings`].
        bound: Bytes,
    },
    /// A file that was to be sent can't be read.
    #[error("can't read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The token can't stand in a header.
    #[error("the token holds something that is no printable character")]
    Token,
    /// A reply can't be written to where it should go.
    #[error("can't write what the daemon sent")]
    Write(#[source] io::Error),
}

/// What keeps a connection from coming about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The system makes none; the source's kind says why.
    Connection,
    /// The host's name has no address.
    Name,
    /// What listens there speaks no TLS.
    Plain,
    /// Nobody who is trusted vouches for its certificate.
    Authority,
    /// Its certificate is for other names.
    OtherName,
    /// Something else is wrong with its certificate or its TLS.
    Tls,
}

/// A reply that is not what the operation replies.
#[derive(Debug, thiserror::Error)]
#[error("{host} sent a reply (HTTP {status}) that is not Piston's: {reason}{}", quoted(.excerpt))]
pub struct DecodeError {
    /// Where it came from.
    pub(crate) host: Host,
    /// The reply's HTTP status.
    pub(crate) status: u16,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// How it begins, printable.
    pub(crate) excerpt: String,
}

impl DecodeError {
    /// The HTTP status of the reply.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn remedy(&self) -> String {
        let text = "make sure that the address is a Piston daemon's, and of about this version";
        match &self.host {
            // What a proxy says to a client that speaks no TLS.
            Host::Http(address) if self.status == 400 && address.scheme() == Scheme::Http => {
                let (authority, prefix) = (address.authority(), address.prefix());
                format!("{text}; where TLS is spoken write https://{authority}{prefix}")
            }
            Host::Http(_) if (502..=504).contains(&self.status) => {
                "a proxy answers there, but not the daemon behind it: see whether that runs, and \
                 listens where the proxy looks for it"
                    .to_owned()
            }
            _ => text.to_owned(),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Fault(Box::new(problem))
    }
}

impl Error {
    /// The daemon's own account, when it gave one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Fault(problem) => Some(problem),
            Self::Transport(_) | Self::Decode(_) => None,
        }
    }

    /// The daemon's stable word for what is wrong, when it gave one.
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }

    /// What the caller can do next, where that can be said.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Transport(error) => error.remedy(),
            Self::Fault(problem) => fault_remedy(problem),
            Self::Decode(error) => Some(error.remedy()),
        }
    }
}

impl TransportError {
    /// What the caller can do next, where that can be said.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Unreachable {
                host,
                obstacle,
                source,
            } => Some(unreachable_remedy(host, *obstacle, source)),
            Self::Broken { .. } => Some(
                "the daemon was stopped or crashed: look at its log, then try again".to_owned(),
            ),
            Self::TimedOut { .. } => {
                Some("see what the daemon does with `piston status` and in its log".to_owned())
            }
            Self::ReplyTooLarge { .. } => {
                Some("ask for less, or raise the client's bound of replies".to_owned())
            }
            Self::Token => Some(
                "set $PISTON_TOKEN to the one line that `piston token create` printed".to_owned(),
            ),
            Self::Write(source) if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on that disk, or write to another".to_owned())
            }
            Self::Read { .. } | Self::Write(_) => None,
        }
    }
}

/// Where else a daemon may be.
const ELSEWHERE: &str = "or name another daemon with --host or $PISTON_HOST";

fn unreachable_remedy(host: &Host, obstacle: Obstacle, source: &io::Error) -> String {
    match host {
        Host::Unix(socket) => socket_remedy(socket, source),
        Host::Http(address) => network_remedy(address, obstacle, source),
    }
}

fn socket_remedy(socket: &Path, source: &io::Error) -> String {
    let serve = || {
        let usual = Host::default_sockets().iter().any(|usual| usual == socket);
        let option = format!(" --socket {}", socket.display());
        format!("`pistond serve{}`", if usual { "" } else { &option })
    };
    match source.kind() {
        io::ErrorKind::NotFound => format!("start a daemon with {}, {ELSEWHERE}", serve()),
        io::ErrorKind::ConnectionRefused => format!(
            "the socket is left from a daemon that is gone: start one with {}, {ELSEWHERE}",
            serve()
        ),
        io::ErrorKind::PermissionDenied => {
            "join the socket's group (`piston` unless configured otherwise), e.g. \
             `sudo usermod -aG piston $USER` and a new login, or start a daemon of your own with \
             `pistond serve`"
                .to_owned()
        }
        _ => format!("look at the daemon's log, {ELSEWHERE}"),
    }
}

fn network_remedy(address: &HttpAddress, obstacle: Obstacle, source: &io::Error) -> String {
    let (authority, prefix) = (address.authority(), address.prefix());
    match (obstacle, source.kind()) {
        (Obstacle::Name, _) => {
            format!("check the host's name, and that this machine can look names up, {ELSEWHERE}")
        }
        (Obstacle::Plain, _) => {
            format!("no TLS is spoken there: write http://{authority}{prefix}")
        }
        (Obstacle::Authority, _) => "name the file (PEM) of the authority that vouches for it \
                                     with --cacert or $PISTON_CACERT"
            .to_owned(),
        (Obstacle::OtherName, _) => {
            "call the host as its certificate does, or have one made for this name".to_owned()
        }
        (Obstacle::Tls, _) => "have its certificate looked at: it has to be in date, and to be \
                               issued by an authority, not one itself"
            .to_owned(),
        (Obstacle::Connection, io::ErrorKind::ConnectionRefused)
            if address.scheme() == Scheme::Http =>
        {
            format!(
                "nothing listens there: check the port, and that its daemon was told to listen \
                 (`pistond serve --listen ADDRESS:PORT`, or `listen` in its piston.toml), \
                 {ELSEWHERE}"
            )
        }
        (Obstacle::Connection, io::ErrorKind::ConnectionRefused) => format!(
            "nothing listens there: check the port, and that the proxy runs which speaks TLS for \
             the daemon, {ELSEWHERE}"
        ),
        (Obstacle::Connection, _) => format!(
            "check the address, and that nothing on the way (a firewall, a proxy) ends the \
             connection, {ELSEWHERE}"
        ),
    }
}

fn fault_text(problem: &Problem) -> &str {
    if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    }
}

fn fault_remedy(problem: &Problem) -> Option<String> {
    let text = match problem.code {
        Code::Forbidden => {
            "use the daemon's Unix socket, or a listener and a token with the role `admin`"
        }
        Code::HostNotKnown => {
            "use the daemon's address, or have its operator add the name to `hosts` below `[http]` \
             in piston.toml"
        }
        Code::Unauthorized => {
            "set $PISTON_TOKEN to a token, which the daemon's operator makes with \
             `piston token create`"
        }
        Code::TokenNotFound => "see the tokens there are with `piston token list`",
        Code::PackageNotFound => "see what is installed with `piston package list`",
        Code::PackageNotAvailable => {
            "see what there is with `piston repo packages`, after `piston repo sync`"
        }
        Code::RepositoryNotFound => "see what is configured with `piston repo list`",
        Code::LimitTooHigh => {
            "ask for less; who runs the daemon raises it for all below `[limits.run]` in its \
             piston.toml (`piston daemon start --help` says where that is), for one language with \
             `piston runners set`, whose --help shows how"
        }
        Code::PackageInUse => "remove what depends on it first, or use --cascade",
        Code::QueueFull | Code::RateLimited | Code::QuotaExceeded | Code::ShuttingDown => {
            "try again in a moment"
        }
        Code::SandboxUnavailable => "see what is missing with `piston status`",
        Code::RepositoryUnavailable => "check the address with `piston repo list`, then try again",
        Code::NoSpace => "make room on the disk that holds the daemon's data",
        Code::ChecksumMismatch => {
            "sync the repository and try again; if it stays, tell who runs the repository"
        }
        Code::NotFound | Code::MethodNotAllowed | Code::Unknown => {
            "check what follows the host's name in the address, then compare the versions of \
             client and daemon with `piston status`"
        }
        Code::Internal => return Some(internal_remedy(problem)),
        _ => return None,
    };
    Some(text.to_owned())
}

fn internal_remedy(problem: &Problem) -> String {
    match &problem.request_id {
        Some(id) => format!("look for request {id} in the daemon's log"),
        None => "look at the daemon's log".to_owned(),
    }
}

/// The beginning of a reply as it may be shown on a terminal.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let head = &body[..body.len().min(400)];
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = String::from_utf8_lossy(head)
        .chars()
        .map(printable)
        .collect();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(120)
        .collect()
}

fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(", it begins `{excerpt}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(host: &str, obstacle: Obstacle, kind: io::ErrorKind) -> String {
        let error = TransportError::Unreachable {
            host: host.parse().expect("an address"),
            obstacle,
            source: kind.into(),
        };
        error.remedy().expect("a remedy")
    }

    #[test]
    fn what_is_advised_where_no_daemon_is_reached_helps_there() {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut};
        let check = |host, kind, text: &str| {
            let remedy = remedy(host, Obstacle::Connection, kind);
            assert!(remedy.contains(text), "{remedy}");
        };
        let usual = Host::default_sockets().remove(0).display().to_string();
        check(&usual, NotFound, "`pistond serve`");
        check("/s", NotFound, "`pistond serve --socket /s`");
        check("/s", ConnectionRefused, "left from a daemon that is gone");
        check("/s", PermissionDenied, "usermod -aG piston");
        check("http://h:2", ConnectionRefused, "told to listen");
        check("http://h:2", TimedOut, "a firewall");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_is_wrong_with_a_name_or_with_tls_has_advice_of_its_own() {
        let check = |obstacle, kind, text: &str| {
            let remedy = remedy("https://h:2/p", obstacle, kind);
            assert!(remedy.contains(text), "{remedy}");
            assert!(!remedy.contains("pistond serve"), "{remedy}");
        };
        let refused = io::ErrorKind::ConnectionRefused;
        check(Obstacle::Connection, refused, "the proxy runs");
        let other = io::ErrorKind::Other;
        check(Obstacle::Name, other, "the host's name");
        check(Obstacle::Plain, other, "write http://h:2/p");
        check(Obstacle::Authority, other, "--cacert");
        check(Obstacle::OtherName, other, "made for this name");
        check(Obstacle::Tls, other, "in date");
    }

    #[test]
    fn a_proxy_that_wants_tls_or_finds_no_daemon_is_told_apart_from_a_stranger() {
        let decoded = |host: &str, status| {
            let error = DecodeError {
                host: host.parse().expect("an address"),
                status,
                reason: String::new(),
                excerpt: String::new(),
            };
            Error::from(error).remedy().expect("a remedy")
        };
        assert!(decoded("http://h:2/p", 400).contains("write https://h:2/p"));
        assert!(decoded("https://h:2", 502).contains("the daemon behind it"));
        for (host, status) in [("http://h:2", 200), ("/s", 400)] {
            assert!(!decoded(host, status).contains("https"), "{host}");
        }
    }

    #[test]
    fn a_fault_shows_its_detail_and_else_its_title() {
        let error = Error::from(Problem::new(Code::QueueFull, "64 jobs wait already"));
        assert_eq!(error.to_string(), "64 jobs wait already");
        assert_eq!(error.code(), Some(Code::QueueFull));
        assert_eq!(
            Error::from(Problem::new(Code::QueueFull, "")).to_string(),
            "Queue full"
        );
    }

    #[test]
    fn an_internal_error_names_the_request_in_the_log() {
        let mut problem = Problem::new(Code::Internal, "broken");
        problem.request_id = Some("r-17".into());
        let remedy = Error::from(problem).remedy();
        assert_eq!(
            remedy.as_deref(),
            Some("look for request r-17 in the daemon's log")
        );
    }

    #[test]
    fn an_excerpt_is_short_and_harmless_on_a_terminal() {
        assert_eq!(excerpt(b"<html>\r\n\x1b[31m  hi\0"), "<html> [31m hi");
        assert_eq!(excerpt(&[b'x'; 10_000]).len(), 120);
        assert_eq!(excerpt(b""), "");
    }
}
