//! The error body of every v3 operation: RFC 9457 problem details.

use serde::{Deserialize, Serialize};

/// `application/problem+json` with a stable machine word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `about:blank#<code>`: the code is the type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong here, with which field or name, and what would be right.
    pub detail: String,
    /// The stable machine word.
    pub code: Code,
    /// Names the request in the daemon's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Generates the enum, its HTTP status and its title from one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $status:literal $title:literal,)*) => {
        /// Stable machine words of errors; serialised in `snake_case`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code of a newer daemon.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown => 500,
                }
            }

            /// The code in words.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                    Self::Unknown => "Unknown error",
                }
            }
        }
    };
}

codes! {
    /// The body or a parameter can't be read.
    MalformedRequest 400 "Malformed request",
    /// The listener asks for a token, and the request has none that is known.
    Unauthorized 401 "Token required",
    /// The listener's or token's role does not include the operation.
    Forbidden 403 "Not allowed on this listener",
    /// The request calls the daemon by a name that it does not have.
    HostNotKnown 403 "Not a name of this daemon",
    /// No such path.
    NotFound 404 "No such resource",
    /// No package of that name and version is installed.
    PackageNotFound 404 "Package not found",
    /// No repository lists such a package.
    PackageNotAvailable 404 "Package not available",
    /// There is no such token.
    TokenNotFound 404 "Token not found",
    /// No repository of that name is configured.
    RepositoryNotFound 404 "Repository not found",
    /// The path exists, the method does not.
    MethodNotAllowed 405 "Method not allowed",
    /// The request did not arrive in time.
    RequestTimeout 408 "Request timed out",
    /// Another package is installed under that name and version.
    VersionConflict 409 "Conflicting package",
    /// Other packages depend on it.
    PackageInUse 409 "Package in use",
    /// What `If-Match` names is not in force any more.
    PreconditionFailed 412 "Changed meanwhile",
    /// The body is over its bound.
    BodyTooLarge 413 "Body too large",
    /// The body's content type is not one that is read here.
    UnsupportedMediaType 415 "Unsupported media type",
    /// A field holds something that can't be acted on.
    InvalidField 422 "Field not acceptable",
    /// A limit is above what the operator allows.
    LimitTooHigh 422 "Limit too high",
    /// The package can't be executed, or not in that language.
    NotExecutable 422 "Not executable",
    /// A dependency is missing, in conflict or in a cycle.
    DependencyUnresolved 422 "Dependencies can't be resolved",
    /// The package file or its image is broken or hostile.
    InvalidPackage 422 "Package refused",
    /// The package file is not the one the index names.
    ChecksumMismatch 422 "Checksum mismatch",
    /// A package or index is not signed as it has to be.
    SignatureRefused 422 "Signature refused",
    /// The host has nothing to make the package from.
    CannotMake 422 "Package can't be made",
    /// The path is a WebSocket's, and the request is not for one.
    UpgradeRequired 426 "WebSocket required",
    /// Too many jobs wait already.
    QueueFull 429 "Queue full",
    /// More requests than the rate allows.
    RateLimited 429 "Too many requests",
    /// As many jobs at once as the token or the listener allows.
    QuotaExceeded 429 "Too many jobs at once",
    /// A fault of the daemon.
    Internal 500 "Internal error",
    /// The index or package could not be downloaded.
    RepositoryUnavailable 502 "Repository unavailable",
    /// The daemon has not opened its packages yet.
    Starting 503 "Starting",
    /// The daemon is shutting down.
    ShuttingDown 503 "Shutting down",
    /// What is left of the host's mechanisms is not a sandbox.
    SandboxUnavailable 503 "Sandbox unavailable",
    /// No space for what was asked.
    NoSpace 507 "No space left",
}

impl Problem {
    /// A problem of a kind with its particulars.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let word = serde_word(code);
        Self {
            kind: format!("about:blank#{word}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: None,
        }
    }
}

/// The code as it stands on the wire.
fn serde_word(code: Code) -> String {
    let mut word = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_code_on_the_wire() {
        let problem = Problem::new(Code::PackageNotFound, "no python-9.9.9");
        let json = serde_json::to_value(&problem).expect("plain data");
        assert_eq!(json["code"], "package_not_found");
        assert_eq!(json["type"], "about:blank#package_not_found");
        assert_eq!(json["status"], 404);
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_unknown() {
        let code: Code = serde_json::from_str("\"brand_new\"").expect("other");
        assert_eq!(code, Code::Unknown);
    }
}
