//! What is served, how, and to whom.

use std::fs;
use std::path::Path;

use super::*;
use crate::config::exposure::Quota;
use crate::http::access::Gate;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/page"))
}

fn names(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names(&path, root, found);
        } else {
            let name = path.strip_prefix(root).expect("below");
            found.push(name.to_str().expect("UTF-8").to_owned());
        }
    }
}

async fn ask(page: Page, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Reply {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(()).expect("a request");
    let door = Door {
        role: piston_client::api::Role::Execute,
        tokens: TokenPolicy::Required,
        quota: Quota::default(),
        gate: Gate::Network,
        page,
    };
    at(&door, &request.into_parts().0).await
}

async fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response {
    let reply = ask(Page::Served, Method::GET, path, headers).await;
    reply.unwrap_or_else(|error| panic!("{path}: {error:?}"))
}

async fn bytes(response: Response) -> Bytes {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    body.expect("a body")
}

#[test]
fn every_file_of_the_folder_is_compiled_in() {
    let mut there = Vec::new();
    names(folder(), folder(), &mut there);
    there.retain(|name| name != "index.html");
    there.sort();
    let listed: Vec<&str> = files::FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        listed, there,
        "daemon/src/http/page/files.rs lists other files"
    );
}

#[test]
fn nothing_refers_to_a_file_that_is_not_there() {
    let is_there = |name: &str| files::FILES.iter().any(|(file, _)| *file == name);
    for part in files::START.split("\"assets/").skip(1) {
        let name = part.split('"').next().expect("an end");
        assert!(is_there(name), "the start page refers to {name}");
    }
    let own = |name: &str| {
        Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "js")
            && !name.starts_with("editor/")
    };
    for (name, text) in files::FILES.iter().filter(|(name, _)| own(name)) {
        let text = std::str::from_utf8(text).expect("UTF-8");
        for part in text.split("from \"./").skip(1) {
            let other = part.split('"').next().expect("an end");
            assert!(is_there(other), "{name} imports {other}");
        }
    }
}

#[test]
fn the_editor_is_what_its_bundle_was_made_as() {
    let versions = fs::read_to_string(folder().join("editor/VERSIONS")).expect("a list");
    let digests = versions.lines().filter_map(|line| line.split_once("  "));
    let mut count = 0;
    for (digest, name) in digests {
        let file = fs::read(folder().join("editor").join(name)).expect(name);
        assert_eq!(
            hex::encode(Sha256::digest(file)),
            digest,
            "{name} was changed by hand"
        );
        count += 1;
    }
    let bundled = files::FILES
        .iter()
        .filter(|(name, _)| name.starts_with("editor/"));
    assert_eq!(
        count,
        bundled.count() - 2,
        "all but LICENSES and VERSIONS have a digest"
    );
}

/// Relative luminance, and from it the contrast, as WCAG 2 has them.
fn luminance(colour: &str) -> f64 {
    let bytes = hex::decode(colour.trim_start_matches('#')).expect(colour);
    let linear = |byte: &u8| match f64::from(*byte) / 255.0 {
        value if value <= 0.040_45 => value / 12.92,
        value => ((value + 0.055) / 1.055).powf(2.4),
    };
    let weights = [0.2126, 0.7152, 0.0722];
    let parts = bytes.iter().map(linear).zip(weights);
    parts.map(|(part, weight)| part * weight).sum()
}

fn contrast(text: &str, ground: &str) -> f64 {
    let (text, ground) = (luminance(text), luminance(ground));
    (text.max(ground) + 0.05) / (text.min(ground) + 0.05)
}

#[test]
fn text_stands_out_from_its_ground_in_both_schemes() {
    let theme = fs::read_to_string(folder().join("style/theme.css")).expect("a theme");
    let (light, dark) = theme.split_once("@media").expect("two schemes");
    let colours = |text: &str| -> BTreeMap<String, String> {
        let line = |line: &str| {
            let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
            Some((name.to_owned(), value.trim_end_matches(';').to_owned()))
        };
        text.lines().filter_map(line).collect()
    };
    let mut scheme = colours(light);
    for later in [BTreeMap::new(), colours(dark)] {
        scheme.extend(later);
        let words = ["text", "quiet", "faint", "good", "warn", "bad", "accent"];
        let plain = words.map(|word| (word, &["paper", "raised", "ground"][..]));
        let code = scheme.keys().filter(|name| name.starts_with("code-"));
        let code = code.map(|name| (&**name, &["paper", "line-now", "selected", "matching"][..]));
        let others = [
            ("on-accent", &["accent", "accent-strong"][..]),
            ("ground", &["text"]),
        ];
        for (text, grounds) in plain.into_iter().chain(code).chain(others) {
            for ground in grounds {
                let contrast = contrast(&scheme[text], &scheme[*ground]);
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
    }
}

#[tokio::test]
async fn the_start_page_names_files_that_a_browser_may_keep_for_ever() {
    let start = get("/play/", &[]).await;
    assert_eq!(start.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(start.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
    let start = bytes(start).await;
    let start = std::str::from_utf8(&start).expect("UTF-8");
    assert!(!start.contains("assets/\"") && !start.contains("\"assets/"));
    let script = start.split("src=\"").find(|part| part.contains("app.js"));
    let script = script
        .and_then(|part| part.split('"').next())
        .expect("a script");
    let file = get(&format!("/play/{script}"), &[]).await;
    assert!(
        file.headers()[header::CACHE_CONTROL]
            .to_str()
            .expect("text")
            .contains("immutable")
    );
    let other = ask(
        Page::Served,
        Method::GET,
        "/play/0123456789abcdef/app.js",
        &[],
    )
    .await;
    assert_eq!(other.expect_err("another build").code(), Code::NotFound);
}

#[tokio::test]
async fn a_file_is_packed_for_those_who_take_it_and_not_sent_to_those_who_have_it() {
    let plain = get("/play/", &[]).await;
    assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None);
    let tag = plain.headers()[header::ETAG].clone();
    let tag = tag.to_str().expect("text");
    let plain = bytes(plain).await;
    for (accepted, is_packed) in [
        ("gzip, deflate, br, zstd", true),
        ("br;q=1.0, GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip;q=0.000, br", false),
        ("identity", false),
    ] {
        let sent = get("/play/", &[(header::ACCEPT_ENCODING, accepted)]).await;
        assert_eq!(
            sent.headers().contains_key(header::CONTENT_ENCODING),
            is_packed,
            "{accepted}"
        );
        assert_eq!(sent.headers()[header::ETAG], tag);
        let mut body = bytes(sent).await;
        if is_packed {
            let mut unpacked = Vec::new();
            let mut reader = flate2::read::GzDecoder::new(&*body);
            std::io::Read::read_to_end(&mut reader, &mut unpacked).expect("gzip");
            body = unpacked.into();
        }
        assert_eq!(body, plain, "{accepted}");
    }
    for (known, status) in [
        (tag, 304),
        (tag.trim_start_matches("W/"), 304),
        ("\"a\", *", 304),
        ("\"a\"", 200),
    ] {
        let sent = get("/play/", &[(header::IF_NONE_MATCH, known)]).await;
        assert_eq!(sent.status(), status, "{known}");
    }
}

#[tokio::test]
async fn a_listener_without_the_page_has_nothing_there() {
    for path in ["/play", "/play/", "/play/listener.json"] {
        let absent = ask(Page::Absent, Method::GET, path, &[]).await;
        assert_eq!(absent.expect_err(path).code(), Code::NotFound);
        let changed = ask(Page::Served, Method::POST, path, &[]).await;
        assert_eq!(changed.expect_err(path).code(), Code::MethodNotAllowed);
    }
    let elsewhere = ask(Page::Served, Method::GET, "/player", &[]).await;
    assert_eq!(elsewhere.expect_err("elsewhere").code(), Code::NotFound);
    let moved = get("/play", &[]).await;
    assert_eq!(moved.headers()[header::LOCATION], "play/");
    let facts = bytes(get("/play/listener.json", &[]).await).await;
    let facts: serde_json::Value = serde_json::from_slice(&facts).expect("JSON");
    assert_eq!(
        facts,
        serde_json::json!({"role": "execute", "tokens": true})
    );
}
