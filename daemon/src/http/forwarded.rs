//! What proxies that are trusted say of a request: for whom they send it, and how it came to them.
//!
//! Each proxy adds its own peer at the end of what it was told, so the last one that is no proxy of
//! ours is the client. What is before that the client may have made up. For the same reason only
//! the header counts that the operator's proxies write: another one goes through them unread.

use std::net::IpAddr;
use std::str::FromStr as _;

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName, HeaderValue};

use crate::config::exposure::{Proxies, ProxyHeader};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is known by a proxy's word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told<'a> {
    /// The client.
    pub(super) client: Option<IpAddr>,
    /// `http` or `https`, as the client wrote it.
    pub(super) scheme: Option<&'a str>,
}

/// A step on the way of a request: who made it, and how.
#[derive(Debug, Clone, Copy)]
struct Hop<'a> {
    from: Option<IpAddr>,
    scheme: Option<&'a str>,
}

/// Reads what a proxy says; its peer has to be one that is trusted.
pub(super) fn told<'a>(headers: &'a HeaderMap, proxies: &Proxies) -> Told<'a> {
    match proxies.header {
        ProxyHeader::XForwarded => {
            let hops = values(headers, FORWARDED_FOR).flat_map(|value| value.split(','));
            let hops = hops.map(|hop| Hop {
                from: address(hop.trim()),
                scheme: None,
            });
            let client = outermost(hops.collect(), proxies).and_then(|hop| hop.from);
            let scheme = headers.get(FORWARDED_PROTO);
            Told {
                client,
                scheme: scheme.and_then(|scheme| scheme.to_str().ok()),
            }
        }
        ProxyHeader::Forwarded => {
            let hops = values(headers, FORWARDED).flat_map(|value| split(value, ','));
            let hop = outermost(hops.map(element).collect(), proxies);
            Told {
                client: hop.and_then(|hop| hop.from),
                scheme: hop.and_then(|hop| hop.scheme),
            }
        }
    }
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value: &HeaderValue| value.to_str().ok())
}

/// The last hop that is no proxy of ours, as far as hops have addresses; else the first of ours.
fn outermost<'a>(hops: Vec<Hop<'a>>, proxies: &Proxies) -> Option<Hop<'a>> {
    let mut outermost = None;
    for hop in hops.into_iter().rev() {
        let Some(from) = hop.from else { break };
        outermost = Some(hop);
        if !proxies.has(from) {
            break;
        }
    }
    outermost
}

/// An element of `Forwarded`: `for="[2001:db8::17]:4711";proto=https;by=...` (RFC 7239, 4).
fn element(text: &str) -> Hop<'_> {
    let pair = |wanted: &str| {
        split(text, ';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case(wanted).then_some(value)
        })
    };
    Hop {
        from: pair("for").and_then(address),
        scheme: pair("proto"),
    }
}

/// Splits where a separator stands outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let ends = character == separator && !is_quoted;
        is_quoted ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && is_quoted && !is_escaped;
        ends
    })
}

/// An address as proxies write it, some with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let address = match bare {
        Some((address, _port)) => address,
        None => match hop.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => hop,
        },
    };
    let address = IpAddr::from_str(address).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ProxyHeader) -> Proxies {
        Proxies {
            unix: false,
            networks: vec!["10.0.0.0/8".parse().expect("a network")],
            header,
        }
    }

    fn client(headers: &HeaderMap, header: ProxyHeader) -> Option<IpAddr> {
        told(headers, &proxies(header)).client
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy_of_ours() {
        for (header, found) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            // The first one is what the client made up.
            ("127.0.0.1, 192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            ("nonsense, 10.0.0.2", Some("10.0.0.2")),
            ("10.0.0.3, 10.0.0.2", Some("10.0.0.3")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("unknown", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, value)]);
            let expected = found.map(|address| address.parse().expect("an address"));
            let found = client(&headers, ProxyHeader::XForwarded);
            assert_eq!(found, expected, "{header}");
            assert_eq!(client(&headers, ProxyHeader::Forwarded), None);
        }
        let mut two = HeaderMap::new();
        two.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        two.append(
            FORWARDED_FOR,
            HeaderValue::from_static("192.0.2.2, 10.0.0.1"),
        );
        let found = client(&two, ProxyHeader::XForwarded);
        assert_eq!(found, "192.0.2.2".parse().ok());
    }

    #[test]
    fn the_standard_header_tells_the_same() {
        for (header, found, scheme) in [
            (
                "for=192.0.2.1;proto=https",
                Some("192.0.2.1"),
                Some("https"),
            ),
            (
                "For=\"[2001:db8::1]:4711\" ; Proto=\"http\"",
                Some("2001:db8::1"),
                Some("http"),
            ),
            (
                "for=127.0.0.1, for=192.0.2.1;proto=https, for=10.0.0.2;proto=http",
                Some("192.0.2.1"),
                Some("https"),
            ),
            // Neither a comma nor a quote within quotes ends anything.
            (
                r#"for="1, for=2\", for=3";by=x, for=192.0.2.1"#,
                Some("192.0.2.1"),
                None,
            ),
            ("for=_hidden, for=10.0.0.2", Some("10.0.0.2"), None),
            ("for=unknown;proto=https", None, None),
            ("192.0.2.1", None, None),
        ] {
            let value = HeaderValue::from_str(header).expect("a value");
            let headers = HeaderMap::from_iter([(FORWARDED, value)]);
            let expected = Told {
                client: found.map(|address| address.parse().expect("an address")),
                scheme,
            };
            let proxies = proxies(ProxyHeader::Forwarded);
            assert_eq!(told(&headers, &proxies), expected, "{header}");
            assert_eq!(client(&headers, ProxyHeader::XForwarded), None);
        }
    }
}
