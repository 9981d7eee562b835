//! `WWW-Authenticate`: how a registry wants to be asked.
//!
//! Reads what servers send, with quotes and without, several in one header or each in its own.
//! Never fails: what can't be read is no challenge.

use std::collections::BTreeMap;

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user's name and password.
    Basic,
    /// A token, which is to be had elsewhere.
    Bearer {
        /// Where: a URL.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// The first challenge of these headers that can be met; a token rather than a password.
pub(super) fn of(headers: &[String]) -> Option<Challenge> {
    let mut all: Vec<Challenge> = headers.iter().flat_map(|header| read(header)).collect();
    all.sort_by_key(|challenge| *challenge == Challenge::Basic);
    all.into_iter().next()
}

fn read(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return Vec::new();
        }
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, after)) = value_of(value.trim_start()) else {
                return Vec::new();
            };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            found.push((word.to_ascii_lowercase(), BTreeMap::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    let challenge =
        |(scheme, mut parameters): (String, BTreeMap<String, String>)| match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer {
                realm: parameters.remove("realm")?,
                service: parameters.remove("service"),
                scope: parameters.remove("scope"),
            }),
            _ => None,
        };
    found.into_iter().filter_map(challenge).collect()
}

/// A parameter's value, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(ToOwned::to_owned),
            scope: scope.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_however_they_are_written() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        for (headers, expected) in [
            (
                vec![hub],
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (vec![r#"Basic realm="a \"b\", c""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Basic realm="x", bearer realm=/token , service=s"#],
                Some(bearer("/token", Some("s"), None)),
            ),
            (
                vec!["Basic realm=x", r#"Bearer Realm="/t""#],
                Some(bearer("/t", None, None)),
            ),
            (vec!["Negotiate", "Basic"], Some(Challenge::Basic)),
            (vec!["Bearer"], None),
            (vec![r#"Bearer realm="open"#], None),
            (vec!["", "=", "realm=x", ",,"], None),
            (vec![], None),
        ] {
            let headers: Vec<String> = headers.into_iter().map(str::to_owned).collect();
            assert_eq!(of(&headers), expected, "{headers:?}");
        }
    }
}
