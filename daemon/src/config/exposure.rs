//! Listeners besides the operator's socket, and whom they believe: `[http]`'s part that a network
//! sees.
//!
//! Invariant: no address of a network is an operator's without a token.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use piston_client::api::Role;
use piston_client::units::Rate;

use super::raw::{RawListener, RawProxyHeader};
use super::{BadValue, SocketGroup};

/// A socket that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub place: Place,
    /// What a client may do there at most.
    pub role: Role,
    /// What tokens mean there.
    pub tokens: TokenPolicy,
    /// What each client has that comes without a token.
    pub quota: Quota,
    /// Whether it has the playground.
    pub page: Page,
}

/// Whether a listener serves the playground page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// There is none; a browser finds nothing here.
    Absent,
    /// At `/play/`; the listener is careful with what browsers send.
    Served,
}

impl From<Option<bool>> for Page {
    fn from(page: Option<bool>) -> Self {
        match page {
            Some(true) => Self::Served,
            Some(false) | None => Self::Absent,
        }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Unix(SocketPlace),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// The file of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlace {
    /// Its path.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its group.
    pub group: SocketGroup,
}

/// What tokens mean to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPolicy {
    /// Nothing: clients of the released Piston send keys of services that are gone.
    Ignored,
    /// Nobody comes in without one.
    Required,
}

/// How much somebody may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests.
    pub rate: Option<Rate>,
    /// Jobs at once, running or waiting.
    pub concurrency: Option<u32>,
}

/// Who says for whom a request is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Whoever connects to a Unix socket that is not the operator's.
    pub unix: bool,
    /// Peers of these networks.
    pub networks: Vec<IpNet>,
    /// What they say it in.
    pub header: ProxyHeader,
}

/// The header in which proxies tell for whom they ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Proxies {
    /// Whether a peer is one.
    pub fn has(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&peer))
    }
}

/// Whose web pages may use the API from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's.
    Any,
    /// Those of these origins, `https://host[:port]`.
    These(Vec<String>),
}

impl Origins {
    /// Whether pages of an origin may.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins.iter().any(|own| own.eq_ignore_ascii_case(origin)),
        }
    }
}

/// The listeners: first the short form, then those that are described.
pub(super) fn listeners(
    short: Vec<SocketAddr>,
    raw: Vec<RawListener>,
) -> Result<Vec<Listening>, BadValue> {
    let short = short.into_iter().map(|address| Listening {
        place: Place::Tcp(address),
        role: Role::Execute,
        tokens: TokenPolicy::Ignored,
        quota: Quota::default(),
        page: Page::Absent,
    });
    let described = raw.into_iter().enumerate().map(listener);
    short.map(Ok).chain(described).collect()
}

fn listener((index, raw): (usize, RawListener)) -> Result<Listening, BadValue> {
    let index = index.to_string();
    let bad = |key, message: &str| BadValue::new(&["http", "listeners", &index, key], message);
    let tokens = match raw.tokens {
        Some(true) => TokenPolicy::Required,
        Some(false) | None => TokenPolicy::Ignored,
    };
    let role = raw.role.unwrap_or_default();
    let place = if raw.address.starts_with('/') {
        let path = PathBuf::from(&raw.address);
        socket_length(&path).map_err(|message| bad("address", &message))?;
        Place::Unix(SocketPlace {
            path,
            mode: raw.socket_mode.map_or(0o660, |mode| mode.0),
            group: match raw.socket_group {
                Some(group) if !group.is_empty() => SocketGroup::Required(group),
                _ => SocketGroup::Own,
            },
        })
    } else {
        if raw.socket_mode.is_some() || raw.socket_group.is_some() {
            return Err(bad("address", "a TCP address has no mode and no group"));
        }
        let address = raw.address.parse().map_err(|_| {
            let text = "is neither ADDRESS:PORT nor a socket's absolute path";
            bad("address", &format!("`{}` {text}", raw.address))
        })?;
        if role == Role::Admin && tokens == TokenPolicy::Ignored {
            let text = "`admin` on a TCP address needs `tokens = true`: anybody who reaches it \
                        could do everything";
            return Err(bad("role", text));
        }
        Place::Tcp(address)
    };
    if raw.concurrency == Some(0) {
        return Err(bad(
            "concurrency",
            "0 lets no job run; leave it out for any number",
        ));
    }
    let quota = Quota {
        rate: raw.rate,
        concurrency: raw.concurrency,
    };
    Ok(Listening {
        place,
        role,
        tokens,
        quota,
        page: Page::from(raw.page),
    })
}

/// The kernel's bound of a socket address, less the suffix of the name it is bound under first.
pub(super) fn socket_length(path: &Path) -> Result<(), String> {
    match path.as_os_str().len() {
        ..=100 => Ok(()),
        _ => Err(format!("{} is longer than 100 bytes", path.display())),
    }
}

pub(super) fn proxies(raw: &[String], header: Option<RawProxyHeader>) -> Result<Proxies, BadValue> {
    let mut proxies = Proxies {
        header: match header {
            None | Some(RawProxyHeader::XForwarded) => ProxyHeader::XForwarded,
            Some(RawProxyHeader::Forwarded) => ProxyHeader::Forwarded,
        },
        ..Proxies::default()
    };
    for word in raw {
        let one = || word.parse::<IpAddr>().map(IpNet::from);
        match word.parse::<IpNet>().or_else(|_| one()) {
            _ if word == "unix" => proxies.unix = true,
            Ok(network) => proxies.networks.push(network),
            Err(_) => {
                let text =
                    format!("`{word}` is no address, no network (10.0.0.0/8), and not `unix`");
                return Err(BadValue::new(&["http", "trusted_proxies"], text));
            }
        }
    }
    Ok(proxies)
}

pub(super) fn origins(raw: Vec<String>) -> Result<Origins, BadValue> {
    if raw.iter().any(|origin| origin == "*") {
        return Ok(Origins::Any);
    }
    let is_origin = |text: &str| {
        let host = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let of_a_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        host.is_some_and(|host| !host.is_empty() && host.chars().all(of_a_host))
    };
    match raw.iter().find(|origin| !is_origin(origin)) {
        None => Ok(Origins::These(raw)),
        Some(bad) => Err(BadValue::new(
            &["http", "cors_origins"],
            format!("`{bad}` is no origin, write https://host or https://host:port, or \"*\""),
        )),
    }
}

/// Empty, or `/prefix` without a slash at its end.
pub(super) fn prefix(raw: Option<String>) -> Result<String, BadValue> {
    let prefix = raw.unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let good = prefix.is_empty()
        || (prefix.starts_with('/')
            && !prefix.ends_with('/')
            && !prefix.contains("//")
            && prefix.chars().all(plain));
    if good {
        return Ok(prefix);
    }
    let text = format!("`{prefix}` is not like /code or /code/piston, without a slash at its end");
    Err(BadValue::new(&["http", "prefix"], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_addresses_networks_and_unix_sockets() {
        let words = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "unix"].map(str::to_owned);
        let known = proxies(&words, None).expect("good");
        assert!(known.unix);
        for (peer, is_one) in [
            ("10.255.0.1", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::", true),
            ("::1", false),
        ] {
            assert_eq!(
                known.has(peer.parse().expect("an address")),
                is_one,
                "{peer}"
            );
        }
        proxies(&["localhost".to_owned()], None).expect_err("a name");
    }

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        let check = |origin: &str| origins(vec![origin.to_owned()]);
        for good in ["https://a.example", "http://localhost:3000", "*"] {
            check(good).expect(good);
        }
        for bad in [
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "ftp://a",
            "",
            "null",
        ] {
            check(bad).expect_err(bad);
        }
        let these = check("https://a.example").expect("good");
        assert!(these.allow("https://A.example") && !these.allow("http://a.example"));
    }

    #[test]
    fn a_prefix_has_no_slash_at_its_end() {
        for good in ["", "/code", "/code/piston-3"] {
            assert_eq!(prefix(Some(good.to_owned())).expect("good"), good);
        }
        for bad in ["code", "/", "/code/", "//code", "/co de", "/c?x"] {
            prefix(Some(bad.to_owned())).expect_err(bad);
        }
    }
}
