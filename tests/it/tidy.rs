//! Rules of the tree that no compiler checks: what may stand where, who may use what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Packages that Cargo.lock may name; raise it in a commit that says what for.
/// OpenPGP is 95 of them: its ciphers and curves, none of which a feature leaves out.
const LOCK_BUDGET: usize = 440;

/// Production lines (before the tests) that a file may have.
const FILE_LINES: usize = 600;

/// Outside crate -> files (or folders, with a slash at the end) that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    (
        "fuser",
        &[
            "fs/src/fuse.rs",
            "fs/src/fuse/",
            "fs/src/mount.rs",
            "fs/src/mount/",
        ],
    ),
    (
        "backhand",
        // The tests read with it what was written, and the other way round.
        &["fs/src/image/format.rs", "fs/tests/images/"],
    ),
    ("redb", &["daemon/src/store.rs", "daemon/src/store/"]),
    (
        "reqwest",
        &["daemon/src/packages/fetch.rs", "daemon/src/packages/fetch/"],
    ),
    ("axum", &["daemon/src/http.rs", "daemon/src/http/"]),
    (
        "hyper",
        &[
            "daemon/src/http.rs",
            "daemon/src/http/",
            "client/src/http.rs",
            "client/src/http/",
        ],
    ),
    ("hyperlocal", &["client/src/http.rs", "client/src/http/"]),
    (
        "hyper_rustls",
        &["client/src/http.rs", "client/src/http/tls.rs"],
    ),
    ("rustls_native_certs", &["client/src/http/tls.rs"]),
    (
        "tungstenite",
        &["daemon/src/http/ws.rs", "daemon/src/http/ws/"],
    ),
    (
        "tokio_tungstenite",
        &["client/src/http.rs", "client/src/http/"],
    ),
    ("object", &["daemon/src/packages/make/elf.rs"]),
    (
        "schemars",
        &[
            "client/src/api/",
            "client/src/ids.rs",
            "client/src/units.rs",
            "daemon/src/http/openapi.rs",
            "daemon/src/http/openapi/",
        ],
    ),
    ("subtle", &["daemon/src/tokens.rs"]),
    ("tower_http", &["daemon/src/http/cors.rs"]),
    ("ipnet", &["daemon/src/config/exposure.rs"]),
    ("landlock", &["daemon/src/sandbox/confine.rs"]),
    ("indicatif", &["client/src/cli/progress.rs"]),
    (
        "pgp",
        &[
            "daemon/src/packages/signature.rs",
            "daemon/src/packages/signature/",
        ],
    ),
    ("rand", &["daemon/src/packages/signature.rs"]),
    ("nodejs_semver", &["daemon/src/packages/version.rs"]),
    ("pep440_rs", &["daemon/src/packages/make/extend/"]),
    (
        "zip",
        &[
            "daemon/src/packages/make/extend/pip/wheel.rs",
            "daemon/src/packages/make/extend/pip/wheel/",
        ],
    ),
];

/// Files that may hold unsafe code, each with its reason at its top.
const UNSAFE: &[&str] = &["daemon/src/sandbox/sys.rs"];

/// The only places that derive serde: one for each outside format.
const SERDE: &[&str] = &[
    "client/src/api/",
    "client/src/ids.rs",
    "client/src/units.rs",
    "daemon/src/http/v2.rs",
    "daemon/src/http/v2/",
    "daemon/src/config.rs",
    "daemon/src/config/",
    "daemon/src/packages/index.rs",
    "daemon/src/packages/index/",
    "daemon/src/packages/info.rs",
    "daemon/src/packages/make/",
    "daemon/src/packages/verify.rs",
    "daemon/src/store/records.rs",
    "daemon/src/sandbox/spec.rs",
    "daemon/src/sandbox/error.rs",
    "daemon/src/sandbox/message.rs",
    "daemon/src/sandbox/host/probe.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Every Rust file of the workspace by its path from the root, without build output.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path
                    .strip_prefix(root)
                    .expect("below")
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, fs::read_to_string(&path).expect("UTF-8 source"));
            }
        }
    }
    let root = root();
    let mut found = BTreeMap::new();
    for member in ["client", "daemon", "fs", "tests"] {
        walk(&root.join(member), &root, &mut found);
    }
    assert!(found.len() > 20, "found only {} files", found.len());
    found
}

/// The part of a file before the test module that stands in it; one that is a file of its own, or
/// a helper for tests further up, ends nothing.
fn before_tests(text: &str) -> &str {
    let marker = "#[cfg(test)]\n";
    let module = text.match_indices(marker).find(|(at, _)| {
        let next = text[at + marker.len()..].lines().next().unwrap_or("");
        next.contains("mod ") && next.ends_with('{')
    });
    module.map_or(text, |(at, _)| &text[..at])
}

/// The same without comment lines.
fn production(text: &str) -> String {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    before_tests(text)
        .lines()
        .filter(code)
        .collect::<Vec<_>>()
        .join("\n")
}

fn allowed(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        if place.ends_with('/') {
            file.starts_with(place)
        } else {
            file == *place
        }
    })
}

/// Whether `text` names the crate as a path (`word::`), not as a part of a longer word.
fn names_crate(text: &str, word: &str) -> bool {
    text.match_indices(&format!("{word}::")).any(|(at, _)| {
        !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    })
}

fn complain(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let expected = BTreeSet::from([
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "client",
        "contrib",
        "daemon",
        "fs",
        "tests",
    ]);
    let found: BTreeSet<String> = fs::read_dir(root())
        .expect("the workspace")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(
        found.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        expected
    );
}

#[test]
fn every_file_says_what_it_owns() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|f| f.0)
        .collect();
    complain("files without `//!` at the top", &faults);
}

#[test]
fn files_stay_short() {
    let long = |(name, text): (String, String)| {
        let lines = before_tests(&text).lines().count();
        (lines > FILE_LINES).then(|| format!("{name}: {lines} lines"))
    };
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("tests/it/"))
        .filter_map(long)
        .collect();
    complain("files over the limit", &faults);
}

/// The playground's own files; the editor in a folder below is generated.
#[test]
fn the_pages_files_stay_short_and_say_what_they_own() {
    let folder = root().join("daemon/page");
    let mut faults = Vec::new();
    for folder in [folder.clone(), folder.join("style")] {
        for entry in fs::read_dir(folder).expect("the page") {
            let path = entry.expect("an entry").path();
            let Some(ending) = path.extension().filter(|_| path.is_file()) else {
                continue;
            };
            let text = fs::read_to_string(&path).expect("UTF-8");
            let says = match ending.to_str() {
                Some("js") => text.starts_with("// "),
                Some("css") => text.starts_with("/* "),
                _ => true,
            };
            let is_short = text.lines().count() <= FILE_LINES;
            let is_plain = ["innerHTML", "outerHTML", "eval(", "style=\"", "onclick="]
                .iter()
                .all(|word| !text.contains(word));
            if !(says && is_short && is_plain) {
                faults.push(path.display().to_string());
            }
        }
    }
    complain(
        "files without a head, too long, or with code or style in text",
        &faults,
    );
}

#[test]
fn each_outside_crate_has_its_owner() {
    let mut faults = Vec::new();
    for (name, text) in sources()
        .iter()
        .filter(|(name, _)| !name.starts_with("tests/"))
    {
        let code = production(text);
        for (word, owners) in OWNERS {
            if names_crate(&code, word) && !allowed(name, owners) {
                faults.push(format!("{name} names {word}, which {owners:?} own"));
            }
        }
    }
    complain("crates used outside their owner", &faults);
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let code = production(&text);
        let uses =
            code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " fn"));
        if uses && !UNSAFE.contains(&name.as_str()) {
            faults.push(format!("{name} holds unsafe code"));
        }
    }
    complain("unsafe outside its files", &faults);
}

#[test]
fn serde_is_derived_once_for_each_format() {
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.contains("/src/")) {
        let code = production(text);
        let derives = code.match_indices("#[derive(").any(|(at, _)| {
            let list = &code[at..code[at..].find(")]").map_or(code.len(), |end| at + end)];
            list.contains("Serialize") || list.contains("Deserialize")
        });
        if derives && !allowed(name, SERDE) {
            faults.push(format!("{name} derives serde"));
        }
    }
    complain("serde outside the modules of outside formats", &faults);
}

#[test]
fn dependencies_between_the_crates_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("piston-client", &[][..]),
        ("piston-fs", &[][..]),
        ("pistond", &["piston-client", "piston-fs"][..]),
        (
            "piston-tests",
            &["piston-client", "piston-fs", "pistond"][..],
        ),
    ]);
    let metadata = metadata();
    let members: Vec<&Value> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package["source"].is_null())
        .collect();
    assert_eq!(members.len(), allowed.len());
    for package in members {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("a list") {
            let on = dependency["name"].as_str().expect("a name");
            if allowed.contains_key(on) {
                assert!(allowed[name].contains(&on), "{name} depends on {on}");
                if name == "pistond" && on == "piston-client" {
                    assert_eq!(dependency["uses_default_features"], false, "only the types");
                }
            }
        }
    }
}

#[test]
fn the_client_types_bring_serde_and_nothing_heavy() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            "piston-client",
            "--no-default-features",
            "-e",
            "normal",
        ])
        .args(["--prefix", "none", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8_lossy(&output.stdout);
    for heavy in ["tokio", "hyper", "clap", "anyhow"] {
        assert!(
            !tree
                .lines()
                .any(|line| line.starts_with(&format!("{heavy} "))),
            "{tree}"
        );
    }
}

#[test]
fn the_lock_file_stays_within_its_budget_and_sources() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(
        packages.len() <= LOCK_BUDGET,
        "{} packages, budget {LOCK_BUDGET}",
        packages.len()
    );
    for package in packages {
        let source = package["source"].as_str().unwrap_or("path");
        assert!(
            source == "path" || source.starts_with("registry+"),
            "{}: {source}",
            package["name"]
        );
    }
}

#[test]
fn every_dependency_has_a_licence_that_fits() {
    const FITS: &[&str] = &[
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Unicode-3.0",
        "Zlib",
        "0BSD",
        "BSL-1.0",
        "CC0-1.0",
        "Unlicense",
        "CDLA-Permissive-2.0",
    ];
    let fits = |licence: &str| {
        let flat = licence.replace(['(', ')'], "").replace('/', " OR ");
        flat.split(" AND ").all(|all| {
            all.split(" OR ")
                .any(|one| FITS.contains(&one.split(" WITH ").next().unwrap_or(one).trim()))
        })
    };
    for package in metadata()["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(fits(licence), "{}: {licence}", package["name"]);
    }
}

#[test]
fn every_promise_names_a_test_or_benchmark_that_exists() {
    let document = fs::read_to_string(root().join("contrib/docs/SPECIFICATION.md"))
        .expect("contrib/docs/SPECIFICATION.md");
    let sources: String = sources().into_values().collect();
    let mut promises = 0;
    for row in document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
    {
        let Some(proof) = row.trim_end_matches('|').rsplit('|').next().map(str::trim) else {
            continue;
        };
        if proof == "proof" {
            continue;
        }
        promises += 1;
        let name = proof.trim_matches('`');
        let exists = if name.contains('/') {
            root().join(name).exists()
        } else {
            sources.contains(&format!("fn {name}("))
        };
        assert!(exists, "{row}: no {name}");
    }
    assert!(promises > 0, "no promises found");
}

#[test]
fn every_operation_of_the_api_has_a_method_in_the_client_library() {
    let document = fs::read_to_string(root().join("contrib/docs/openapi.json"));
    let document: Value = serde_json::from_str(&document.expect("the document")).expect("JSON");
    let client: String = sources()
        .into_iter()
        .filter(|(name, _)| name.starts_with("client/src/client"))
        .map(|(_, text)| text)
        .collect();
    let mut faults = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let Some(path) = path
            .strip_prefix("/api/v3")
            .filter(|path| *path != "/openapi.json")
        else {
            continue;
        };
        for method in operations.as_object().expect("operations").keys() {
            let operation = format!("`{} {path}`", method.to_uppercase());
            if !client.contains(&operation) {
                faults.push(operation);
            }
        }
    }
    complain("operations without a method in the client library", &faults);
}
