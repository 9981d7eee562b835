//! What can go wrong between a caller and the daemon, and what to do about it.
//!
//! [`Error::Transport`]: the daemon was not reached or went away. [`Error::Fault`]: it answered
//! that it won't. [`Error::Decode`]: it answered what nobody understands. Texts say what happened;
//! [`Error::remedy`] says what to do next. Sources are not repeated in the texts.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{Code, Problem};
use crate::host::Host;
#[cfg(feature = "tls")]
use crate::host::Scheme;
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
            Self::Decode(_) => Some(
                "make sure that the address is a Piston daemon's, and of about this version"
                    .to_owned(),
            ),
        }
    }
}

impl TransportError {
    /// What the caller can do next, where that can be said.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Unreachable { host, source } => Some(unreachable_remedy(host, source)),
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
            Self::Read { .. } | Self::Write(_) => None,
        }
    }
}

fn unreachable_remedy(host: &Host, source: &io::Error) -> String {
    const ELSEWHERE: &str = "or name another daemon with --host or $PISTON_HOST";
    match (host, source.kind()) {
        (Host::Unix(_), io::ErrorKind::NotFound) => {
            format!("start a daemon with `pistond serve`, {ELSEWHERE}")
        }
        (Host::Unix(_), io::ErrorKind::ConnectionRefused) => format!(
            "the socket is left from a daemon that is gone: start one with `pistond serve`, \
             {ELSEWHERE}"
        ),
        (Host::Unix(_), io::ErrorKind::PermissionDenied) => {
            "join the socket's group (`piston` unless configured otherwise), e.g. \
             `sudo usermod -aG piston $USER` and a new login, or start a daemon of your own with \
             `pistond serve`"
                .to_owned()
        }
        #[cfg(feature = "tls")]
        (Host::Http(address), io::ErrorKind::InvalidData) if address.scheme() == Scheme::Https => {
            "have the certificate's authority trusted: name its file (PEM) in $SSL_CERT_FILE"
                .to_owned()
        }
        #[cfg(feature = "tls")]
        (Host::Http(address), _) if address.scheme() == Scheme::Https => {
            format!("start the proxy there, and the daemon behind it, {ELSEWHERE}")
        }
        (Host::Http(address), _) => format!(
            "start a daemon there with `pistond serve --listen {}`, {ELSEWHERE}",
            address.authority()
        ),
        (Host::Unix(_), _) => format!("look at the daemon's log, {ELSEWHERE}"),
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
            "ask for less, or raise it in the daemon's configuration, of which \
             `pistond config default` explains `limits`"
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
            "compare the versions of client and daemon with `piston status`"
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

    fn unreachable(host: &str, kind: io::ErrorKind) -> TransportError {
        let host = host.parse().expect("an address");
        TransportError::Unreachable {
            host,
            source: kind.into(),
        }
    }

    #[test]
    fn a_daemon_that_is_not_there_can_be_started() {
        let check = |host, kind, text: &str| {
            let remedy = unreachable(host, kind).remedy().expect("a remedy");
            assert!(remedy.contains(text), "{remedy}");
        };
        check("unix:///s", io::ErrorKind::NotFound, "`pistond serve`");
        check(
            "unix:///s",
            io::ErrorKind::ConnectionRefused,
            "left from a daemon that is gone",
        );
        check(
            "unix:///s",
            io::ErrorKind::PermissionDenied,
            "usermod -aG piston",
        );
        let refused = io::ErrorKind::ConnectionRefused;
        check(
            "http://localhost:2000",
            refused,
            "pistond serve --listen localhost:2000",
        );
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
