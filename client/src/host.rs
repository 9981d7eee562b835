//! Where the daemon is: `unix:///path`, `/path`, `http://host:port[/prefix]` or the same with
//! `https` (feature `tls`), and the default.
//!
//! Invariant: a [`Host`] that was parsed can be connected to as far as its form goes. Nothing here
//! opens a connection.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::symlink_metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The socket of the system's daemon.
const SYSTEM_SOCKET: &str = "/run/piston/piston.sock";

/// Longest path that fits `sockaddr_un`, less its closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A Unix socket, by its path.
    Unix(PathBuf),
    /// HTTP over TCP, with TLS or without.
    Http(HttpAddress),
}

/// How HTTP is spoken over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    #[cfg(feature = "tls")]
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http://",
            #[cfg(feature = "tls")]
            Self::Https => "https://",
        })
    }
}

/// Host, port and path prefix of an `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpAddress {
    scheme: Scheme,
    /// `host:port`, or `host` with port 80 (443 with TLS) meant.
    authority: String,
    /// Empty, or `/prefix` without a slash at its end, where a proxy adds one.
    prefix: String,
}

impl HttpAddress {
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`, as it goes into a URL.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What stands before the API's own paths, empty for nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// Why a text does not say where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a daemon's address: {reason}")]
pub struct InvalidHost {
    text: String,
    reason: &'static str,
}

impl Host {
    /// `$PISTON_HOST`, else the socket where a daemon of this user, or of the system, would be.
    ///
    /// Root's daemon is the system's. Anybody else's own daemon goes before the system's when its
    /// socket is there, so that a newcomer's first daemon is found without any setting.
    pub fn from_environment() -> Result<Self, InvalidHost> {
        Ok(Self::chosen()?.unwrap_or_else(Self::by_default))
    }

    /// `$PISTON_HOST`, if it is set.
    pub(crate) fn chosen() -> Result<Option<Self>, InvalidHost> {
        let text = env::var_os("PISTON_HOST").filter(|text| !text.is_empty());
        text.map(from_os).transpose()
    }

    /// The socket where a daemon of this user, or of the system, would be.
    pub(crate) fn by_default() -> Self {
        Self::Unix(first_present(Self::default_sockets(), Path::exists))
    }

    /// The sockets that [`Self::from_environment`] looks for, the preferred one first.
    pub fn default_sockets() -> Vec<PathBuf> {
        let user = rustix::process::geteuid();
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        default_sockets(user.as_raw(), runtime, |directory| {
            symlink_metadata(directory).map_or(true, |metadata| metadata.uid() == user.as_raw())
        })
    }

    /// Whether TLS is spoken with the daemon.
    #[cfg(feature = "tls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Http(address) if address.scheme == Scheme::Https)
    }

    /// The socket's path, unless the daemon is reached over TCP.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Http(_) => None,
        }
    }
}

fn from_os(text: OsString) -> Result<Host, InvalidHost> {
    match text.into_string() {
        Ok(text) => text.parse(),
        Err(text) => Err(invalid(&text.to_string_lossy(), "it is not UTF-8")),
    }
}

/// The sockets of a user's own daemon and of the system's, by the rules that `pistond` has.
///
/// Without a session the runtime directory is one in `/tmp`, where anybody may have been first:
/// `ours` tells whether it is not there, or is the user's.
fn default_sockets(
    user: u32,
    runtime_directory: Option<PathBuf>,
    ours: impl Fn(&Path) -> bool,
) -> Vec<PathBuf> {
    let session = runtime_directory.filter(|directory| directory.is_absolute());
    let own = match session {
        _ if user == 0 => None,
        Some(directory) => Some(directory.join("piston")),
        None => Some(PathBuf::from(format!("/tmp/piston-{user}"))).filter(|own| ours(own)),
    };
    let own = own.map(|directory| directory.join("piston.sock"));
    own.into_iter().chain([SYSTEM_SOCKET.into()]).collect()
}

/// The first of `sockets` that is there, else the first.
fn first_present(sockets: Vec<PathBuf>, present: impl Fn(&Path) -> bool) -> PathBuf {
    let at = sockets
        .iter()
        .position(|socket| present(socket))
        .unwrap_or(0);
    sockets
        .into_iter()
        .nth(at)
        .unwrap_or_else(|| SYSTEM_SOCKET.into())
}

fn invalid(text: &str, reason: &'static str) -> InvalidHost {
    InvalidHost {
        text: text.chars().take(200).collect(),
        reason,
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let parsed = if let Some(path) = text.strip_prefix("unix://") {
            parse_socket(path).map(Self::Unix)
        } else if text.starts_with('/') {
            parse_socket(text).map(Self::Unix)
        } else if let Some(rest) = text.strip_prefix("http://") {
            parse_http(Scheme::Http, rest).map(Self::Http)
        } else if let Some(rest) = text.strip_prefix("https://") {
            parse_https(rest).map(Self::Http)
        } else {
            Err("write /path/to/piston.sock or http://host:port")
        };
        parsed.map_err(|reason| invalid(text, reason))
    }
}

fn parse_socket(path: &str) -> Result<PathBuf, &'static str> {
    if !path.starts_with('/') {
        return Err("a socket's path is absolute: unix:///path/to/piston.sock");
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err("a socket's path has at most 107 bytes");
    }
    if path.contains('\0') {
        return Err("a path has no zero byte");
    }
    Ok(path.into())
}

#[cfg(feature = "tls")]
fn parse_https(rest: &str) -> Result<HttpAddress, &'static str> {
    parse_http(Scheme::Https, rest)
}

#[cfg(not(feature = "tls"))]
fn parse_https(_: &str) -> Result<HttpAddress, &'static str> {
    Err("https is not spoken by this build of the client (its feature `tls`)")
}

fn parse_http(scheme: Scheme, rest: &str) -> Result<HttpAddress, &'static str> {
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (name, port) = split_port(authority)?;
    let name_byte = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let good = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(name_byte),
    };
    if !good {
        return Err("the host is a name or an address: http://localhost:2000, http://[::1]:2000");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err("the port is a number up to 65535");
    }
    let path_byte = |c: u8| c.is_ascii_alphanumeric() || b"-._~/%".contains(&c);
    if !path.bytes().all(path_byte) {
        return Err("after the port only a path prefix may stand");
    }
    Ok(HttpAddress {
        scheme,
        authority: authority.to_owned(),
        prefix: path.trim_end_matches('/').to_owned(),
    })
}

/// `host:port`, `[v6]:port`, or either without a port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            Ok((&authority[..colon], Some(&authority[colon + 1..])))
        }
        _ if authority.contains('@') => Err("a name and password have no place in it"),
        _ => Ok((authority, None)),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(HttpAddress {
                scheme,
                authority,
                prefix,
            }) => write!(f, "{scheme}{authority}{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_alike() {
        let longest = format!("unix:///{}", "s".repeat(106));
        for text in [
            "unix:///run/piston/piston.sock",
            "unix:///with space",
            &longest,
            "http://localhost:2000",
            "http://127.0.0.1:65535",
            "http://[::1]:2000",
            "http://[::1]",
            "http://piston.example",
            "http://piston.example/code/piston",
            #[cfg(feature = "tls")]
            "https://piston.example/code/piston",
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.to_string(), text);
        }
    }

    #[test]
    fn a_path_alone_is_a_socket() {
        let host: Host = "/run/x.sock".parse().unwrap();
        assert_eq!(host.to_string(), "unix:///run/x.sock");
    }

    #[test]
    fn a_slash_at_the_end_means_nothing() {
        let host: Host = "http://localhost:2000/".parse().unwrap();
        assert_eq!(host.to_string(), "http://localhost:2000");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_right_form() {
        let too_long = format!("unix:///{}", "s".repeat(107));
        let check = |text: &str, reason: &str| {
            let error = text.parse::<Host>().expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        };
        check("", "write /path");
        check("localhost:2000", "http://host:port");
        check("run/piston.sock", "write /path");
        check("tcp://localhost:2000", "http://host:port");
        #[cfg(not(feature = "tls"))]
        check("https://localhost", "https is not spoken");
        #[cfg(feature = "tls")]
        check("https://local host", "name or an address");
        check("unix://piston.sock", "absolute");
        check("unix://", "absolute");
        check(&too_long, "107");
        check("http://", "name or an address");
        check("http://:2000", "name or an address");
        check("http://[::1", "name or an address");
        check("http://[zz]:1", "name or an address");
        check("http://a b:1", "name or an address");
        check("http://u:p@host:1", "name or an address");
        check("http://host:65536", "65535");
        check("http://host:", "65535");
        check("http://host:+1", "65535");
        check("http://host:1/a?b", "path prefix");
        check("http://host:1/a\r\nb", "path prefix");
    }

    #[test]
    fn root_uses_the_system_socket_and_others_prefer_their_own() {
        let session = || Some(PathBuf::from("/run/user/7"));
        let check = |user, runtime, own: &[&str]| {
            let expected: Vec<_> = own
                .iter()
                .chain(&[SYSTEM_SOCKET])
                .map(PathBuf::from)
                .collect();
            assert_eq!(default_sockets(user, runtime, |_| true), expected);
        };
        check(0, session(), &[]);
        check(0, None, &[]);
        check(7, session(), &["/run/user/7/piston/piston.sock"]);
        check(7, None, &["/tmp/piston-7/piston.sock"]);
        check(7, Some("relative".into()), &["/tmp/piston-7/piston.sock"]);
    }

    /// Somebody else's socket in `/tmp` would be sent our programs.
    #[test]
    fn a_directory_in_tmp_that_is_not_ours_is_passed_over() {
        let sockets = default_sockets(7, None, |_| false);
        assert_eq!(sockets, [PathBuf::from(SYSTEM_SOCKET)]);
    }

    #[test]
    fn the_first_socket_that_is_there_wins_and_else_the_preferred_one() {
        let sockets = || vec![PathBuf::from("/own"), PathBuf::from("/system")];
        let with = |present: &'static str| {
            first_present(sockets(), move |path| path == Path::new(present))
        };
        assert_eq!(with("/system"), PathBuf::from("/system"));
        assert_eq!(with("/own"), PathBuf::from("/own"));
        assert_eq!(with("/none"), PathBuf::from("/own"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "(unix://|http://)?[ -~\\PC]{0,40}") {
            if let Ok(host) = text.parse::<Host>() {
                proptest::prop_assert_eq!(host.to_string().parse(), Ok(host));
            }
        }
    }
}
