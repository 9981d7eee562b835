//! A project's page of a Python index: links to files, as JSON (PEP 691) or HTML (PEP 503).
//!
//! Which of the two it is its first character says; not every index says it rightly otherwise. Pure;
//! takes what it understands and passes by the rest. Whether a link leads anywhere is not looked at.

use percent_encoding::percent_decode_str;
use piston_client::ids::Digest;
use serde_json::Value;

/// Which forms are asked for: JSON, which is shorter and says more, rather than HTML.
pub(super) const FORMS: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.2, text/html; q=0.1";
/// Most links of one page; the largest projects have some 20,000.
const MAX_LINKS: usize = 200_000;

/// A file that a page links to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it is, relative to the page, without the fragment.
    pub(super) to: String,
    /// Its name.
    pub(super) file: String,
    /// Its sha256, where the page gives it.
    pub(super) sha256: Option<Digest>,
    /// Versions of Python that it is for.
    pub(super) python: Option<String>,
    /// Whether its authors took it back.
    pub(super) yanked: bool,
    /// The sha256 of its metadata, where that can be had alone (PEP 658).
    pub(super) metadata: Option<Digest>,
}

/// The links of a page, in their order; an error in words when it is of no version that is known.
pub(super) fn links(page: &str) -> Result<Vec<Link>, String> {
    if page.trim_start().starts_with('{') {
        json_links(page)
    } else {
        Ok(html_links(page))
    }
}

fn json_links(page: &str) -> Result<Vec<Link>, String> {
    let page: Value = serde_json::from_str(page).map_err(|error| error.to_string())?;
    let version = page.pointer("/meta/api-version").and_then(Value::as_str);
    let major = version.and_then(|version| version.split('.').next());
    if major != Some("1") {
        let version = version.unwrap_or("unknown");
        return Err(format!(
            "its form is version {version}, and 1 is understood"
        ));
    }
    let files = page.get("files").and_then(Value::as_array);
    let files = files.into_iter().flatten().filter_map(json_link);
    Ok(files.take(MAX_LINKS).collect())
}

fn json_link(file: &Value) -> Option<Link> {
    let text = |key: &str| file.get(key).and_then(Value::as_str);
    let digest = |hashes: &Value| hashes.get("sha256")?.as_str()?.parse().ok();
    let metadata = ["core-metadata", "dist-info-metadata"];
    let url = text("url")?;
    Some(Link {
        to: url.split_once('#').map_or(url, |(to, _)| to).to_owned(),
        file: text("filename")?.to_owned(),
        sha256: file.get("hashes").and_then(digest),
        python: text("requires-python").map(ToOwned::to_owned),
        // A reason, or whether.
        yanked: match file.get("yanked") {
            Some(Value::Bool(yanked)) => *yanked,
            other => other.is_some_and(Value::is_string),
        },
        metadata: metadata
            .iter()
            .find_map(|key| file.get(key).and_then(digest)),
    })
}

fn html_links(html: &str) -> Vec<Link> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let name = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let (name, inside) = rest.split_at(name);
        let (attributes, after) = attributes(inside);
        rest = after;
        if name.eq_ignore_ascii_case("a") && found.len() < MAX_LINKS {
            found.extend(link(&attributes));
        }
    }
    found
}

fn link(attributes: &[(String, String)]) -> Option<Link> {
    let value = |name: &str| {
        let found = attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let href = value("href")?;
    let (to, fragment) = href.split_once('#').unwrap_or((href, ""));
    let path = to.split_once('?').map_or(to, |(path, _)| path);
    let file = path.rsplit('/').next().unwrap_or(path);
    let file = percent_decode_str(file).decode_utf8().ok()?.into_owned();
    let digest = |text: &str| text.strip_prefix("sha256=")?.parse().ok();
    let metadata = value("data-core-metadata").or_else(|| value("data-dist-info-metadata"));
    Some(Link {
        sha256: fragment.split('&').find_map(digest),
        python: value("data-requires-python").map(ToOwned::to_owned),
        yanked: value("data-yanked").is_some(),
        metadata: metadata.and_then(digest),
        to: to.to_owned(),
        file,
    })
}

/// The attributes of a tag, and what follows it.
fn attributes(inside: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = inside;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (found, after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c));
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if name.is_empty() && !after.starts_with('=') {
            return (found, after);
        }
        let after = after.trim_start();
        let Some(after) = after.strip_prefix('=') else {
            found.push((name.to_ascii_lowercase(), String::new()));
            rest = after;
            continue;
        };
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, after) = if let Some(quote) = quote {
            after[1..].split_once(quote).unwrap_or((after, ""))
        } else {
            let end = after.find(|c: char| c.is_whitespace() || c == '>');
            after.split_at(end.unwrap_or(after.len()))
        };
        found.push((name.to_ascii_lowercase(), unescaped(value)));
        rest = after;
    }
}

/// A text with its character references replaced; one that is not known stays as it is.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest[1..].split_once(';');
        let known = reference.and_then(|(name, after)| Some((character(name)?, after)));
        let (character, after) = known.unwrap_or(('&', &rest[1..]));
        plain.push(character);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_read_with_what_the_page_says_of_them() {
        let digest = "ab".repeat(32);
        let html = format!(
            "<!DOCTYPE html><html><head><title>a</title></head><body><!-- <a href=\"no\"> -->\n\
             <a href=\"../../files/a-1.0-py3-none-any.whl#sha256={digest}\" \
             data-requires-python=\"&gt;=3.8,&#60;4\" data-core-metadata='sha256={digest}'>a</a><br/>\n\
             <A HREF=https://example.org/a-2.0%2Bcpu.tar.gz?x=1 data-yanked>b</A>\n\
             <a name=\"nothing\">c</a></body></html>"
        );
        let found = links(&html).expect("a page");
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].to, "../../files/a-1.0-py3-none-any.whl");
        assert_eq!(found[0].file, "a-1.0-py3-none-any.whl");
        assert_eq!(found[0].python.as_deref(), Some(">=3.8,<4"));
        assert!(found[0].sha256.is_some() && found[0].metadata.is_some() && !found[0].yanked);
        assert_eq!(found[1].file, "a-2.0+cpu.tar.gz");
        assert!(found[1].yanked && found[1].sha256.is_none());
    }

    #[test]
    fn what_is_no_page_has_no_links() {
        for text in [
            "",
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href='x",
            "<!--",
            "<a =",
        ] {
            assert!(
                html_links(text).iter().all(|link| link.sha256.is_none()),
                "{text}"
            );
        }
    }

    #[test]
    fn both_forms_of_a_page_say_the_same() {
        let digest = "ab".repeat(32);
        let html = format!(
            "<a href=\"../a-1.0.whl#sha256={digest}\" data-requires-python=\"&gt;=3.8\" \
             data-core-metadata=\"sha256={digest}\">a</a>\n\
             <a href=\"https://example.org/a-2.0.whl\" data-yanked=\"broken\">b</a>"
        );
        let json = format!(
            r#" {{"meta": {{"api-version": "1.1"}}, "name": "a", "files": [
                {{"filename": "a-1.0.whl", "url": "../a-1.0.whl", "hashes": {{"sha256": "{digest}"}},
                  "requires-python": ">=3.8", "yanked": false, "core-metadata": {{"sha256": "{digest}"}}}},
                {{"filename": "a-2.0.whl", "url": "https://example.org/a-2.0.whl#sha256=x",
                  "hashes": {{}}, "yanked": "broken", "core-metadata": true}},
                {{"filename": 3}}, 7]}}"#
        );
        assert_eq!(links(&json), links(&html));
        assert_eq!(links(&json).expect("a page").len(), 2);
    }

    #[test]
    fn json_of_another_kind_is_refused() {
        for (text, reason) in [
            ("{", "EOF"),
            ("{}", "unknown"),
            (
                r#"{"meta": {"api-version": "2.0"}, "files": []}"#,
                "version 2.0",
            ),
        ] {
            let error = links(text).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_hangs(text in "[<>a/=\"'&;#! \u{e9}x{}\\[\\]:-]{0,200}") {
            drop(links(&text));
            drop(links(&format!(r#"{{"meta": {{"api-version": "1"}}, "files": {text}}}"#)));
        }
    }
}
