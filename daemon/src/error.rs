//! The edge of the daemon: an error as a client sees it, and as the log does.
//!
//! An [`Error`] has a stable code, a text for the outside, and the chain of its causes. The chain
//! goes to the log under the request's id. It also goes to the client where the client's own input
//! is at fault or a repository is (then it says what to change); a fault of ours
//! ([`Code::Internal`]) shows the client nothing but the id.

use std::error::Error as StdError;
use std::time::Duration;

use piston_client::api::{Code, Problem};

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Error {
    code: Code,
    outside: String,
    inside: String,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error that is told as it is.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        let outside = text.into();
        Self {
            code,
            inside: outside.clone(),
            outside,
            retry_after: None,
        }
    }

    /// An error with a cause.
    pub fn caused_by(code: Code, error: &(dyn StdError + 'static)) -> Self {
        let inside = chain(error);
        let outside = match code {
            Code::Internal | Code::Unknown => {
                "something went wrong in the daemon, its log has the \
                                               reason under this request's id"
                    .to_owned()
            }
            _ => inside.clone(),
        };
        let retry_after = match code {
            Code::QueueFull | Code::Starting => Some(Duration::from_secs(1)),
            Code::ShuttingDown => Some(Duration::from_secs(10)),
            _ => None,
        };
        Self {
            code,
            outside,
            inside,
            retry_after,
        }
    }

    /// The same, to be tried again after a while.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self {
            retry_after: Some(time),
            ..self
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the client is told.
    pub fn outside(&self) -> &str {
        &self.outside
    }

    /// What the log is told.
    pub fn inside(&self) -> &str {
        &self.inside
    }

    /// When the client may try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body of a v3 reply.
    pub fn problem(&self, request: &str) -> Problem {
        let mut problem = Problem::new(self.code, &self.outside);
        problem.request_id = Some(request.to_owned());
        problem
    }
}

/// An error with its causes, as one line.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&error| StdError::source(error));
    let mut text = error.to_string();
    for cause in causes {
        let cause = cause.to_string();
        // Transparent variants and io errors repeat what was said already.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Errors that know their code.
macro_rules! coded {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::caused_by(error.code(), &error)
            }
        })*
    };
}

coded!(
    crate::job::JobError,
    crate::job::request::RequestError,
    crate::job::runners::RunnersError,
    crate::packages::PackagesError,
    crate::tokens::TokenError
);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the index")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_client_sees_causes_of_its_own_faults_and_none_of_ours() {
        let error = Outer(std::io::Error::other("/secret/path"));
        let theirs = Error::caused_by(Code::InvalidPackage, &error);
        assert_eq!(theirs.outside(), "cannot read the index: /secret/path");
        let ours = Error::caused_by(Code::Internal, &error);
        assert!(!ours.outside().contains("secret"));
        assert_eq!(ours.inside(), "cannot read the index: /secret/path");
    }

    #[test]
    fn the_problem_body_is_stable() {
        let problem = Error::new(Code::PackageNotFound, "no python-9.9.9").problem("r1");
        insta::assert_json_snapshot!(problem, @r#"
        {
          "type": "about:blank#package_not_found",
          "title": "Package not found",
          "status": 404,
          "detail": "no python-9.9.9",
          "code": "package_not_found",
          "request_id": "r1"
        }
        "#);
    }
}
