//! What a submission may look like.

use piston_client::api;

use super::*;
use crate::job::limits::{LimitPolicy, V2Limits};
use crate::job::runners::Rules;
use crate::packages::{Entry, ProvidedRuntime};

pub(crate) fn policy() -> LimitPolicy {
    let limits = Limits {
        disk: Bytes::mib(1),
        ..crate::config::limits::RUN
    };
    LimitPolicy {
        defaults: Stages {
            compile: limits,
            run: limits,
        },
        max: limits,
        overrides: BTreeMap::new(),
        v2: V2Limits {
            output: Bytes(1024),
            memory: Stages::default(),
        },
    }
}

/// Rules without an entry.
pub(crate) fn rules() -> Rules {
    Rules {
        limits: policy(),
        entries: Vec::new(),
    }
}

pub(crate) fn lease(languages: &[&str]) -> Lease {
    let runtime = |language: &&str| ProvidedRuntime {
        language: language.parse().expect("a language"),
        aliases: vec![format!("{language}-alias")],
        limits: BTreeMap::new(),
    };
    let installed = Installed {
        package: PackageRef::new(
            "gcc".parse().expect("a language"),
            "1.2.3".parse().expect("a version"),
        ),
        extends: Vec::new(),
        view: "views/gcc/1.2.3".to_owned(),
        run: (!languages.is_empty()).then(|| Entry::Script("/run".to_owned())),
        compile: None,
        environment: Vec::new(),
        runtimes: languages.iter().map(runtime).collect(),
        identity: piston_client::ids::Digest::from_bytes([0; 32]),
        cache: CacheLevel::None,
        level_set: None,
        time_to_live: None,
        artifacts: GlobSet::empty(),
    };
    Lease::made_up(installed)
}

fn request(body: &str) -> Result<Request, RequestError> {
    let wire = serde_json::from_str(body).expect("the wire type");
    from_v3(wire, lease(&["c", "c++"]), &rules())
}

fn names(request: &Request) -> Vec<String> {
    request
        .files
        .iter()
        .map(|file| file.path.as_str().to_owned())
        .collect()
}

#[test]
fn files_are_decoded_and_named() {
    let request = request(
        r#"{"files": [{"content": "a"}, {"name": "d/b.c", "content": "Yg==", "encoding": "base64"},
            {"name": "", "content": "63", "encoding": "hex"}, {"name": "e.c", "content": "e"}],
            "stdin": {"content": "00ff", "encoding": "hex"}}"#,
    )
    .expect("acceptable");
    assert_eq!(
        names(&request),
        ["file0.code", "d/b.c", "file2.code", "e.c"]
    );
    let contents: Vec<_> = request.files.iter().map(|file| &file.bytes[..]).collect();
    assert_eq!(contents, [b"a", b"b", b"c", b"e"]);
    assert_eq!(request.code, ["file0.code", "e.c"]);
    assert_eq!(request.stdin, [0, 255]);
}

#[test]
fn code_is_short_for_one_file() {
    let request = request(r#"{"code": "x", "stdin": "y"}"#).expect("acceptable");
    assert_eq!(
        (names(&request), request.code),
        (vec!["file0.code".to_owned()], vec!["file0.code".to_owned()])
    );
    assert_eq!(request.stdin, b"y");
}

#[test]
fn the_language_is_the_one_asked_for_or_the_first() {
    let language = |body: &str| request(body).map(|request| request.language.to_string());
    assert_eq!(language(r#"{"code": ""}"#).expect("the first"), "c");
    assert_eq!(
        language(r#"{"code": "", "language": "c++"}"#).expect("by name"),
        "c++"
    );
    assert_eq!(
        language(r#"{"code": "", "language": "c++-alias"}"#).expect("by alias"),
        "c++"
    );
    let error = language(r#"{"code": "", "language": "d"}"#).expect_err("not provided");
    assert_eq!(error.to_string(), "gcc-1.2.3 runs c, c++, not d");
    assert_eq!(error.code(), Code::NotExecutable);
}

#[test]
fn a_base_package_runs_nothing() {
    let wire = api::ExecuteRequest {
        code: Some(String::new()),
        ..api::ExecuteRequest::default()
    };
    let error = from_v3(wire, lease(&[]), &rules()).expect_err("nothing to run");
    assert_eq!(error.code(), Code::NotExecutable);
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    let check = |body: &str, expected: &str| {
        let error = request(body).expect_err(body).to_string();
        assert!(error.contains(expected), "{body} gives {error}");
    };
    check("{}", "`files` is empty");
    check(r#"{"files": []}"#, "`files` is empty");
    check(
        r#"{"code": "", "files": [{"content": ""}]}"#,
        "`code` and `files`",
    );
    check(
        r#"{"files": [{"content": ""}, {"content": "x", "encoding": "hex"}]}"#,
        "`files[1].content` is not hex",
    );
    check(
        r#"{"files": [{"content": "a", "encoding": "base64"}]}"#,
        "is not base64",
    );
    for name in ["../x", "/x", "a/../b", ".", "a//b", "a\\u0000"] {
        let body = format!(r#"{{"files": [{{"content": "", "name": "{name}"}}]}}"#);
        check(&body, "`files[0].name` is refused");
    }
    check(
        r#"{"files": [{"content": "", "name": "a"}, {"content": "", "name": "a"}]}"#,
        "`files[1].name` `a` is also the name of files[0]",
    );
    check(
        r#"{"files": [{"content": "", "name": "a/b/c"}, {"content": "", "name": "a/b"}]}"#,
        "`files[0].name` needs `a/b` as a folder",
    );
    check(
        r#"{"code": "", "args": ["a", "b\u0000"]}"#,
        "`args[1]` holds a NUL",
    );
    check(
        r#"{"code": "", "env": {"A=B": ""}}"#,
        "`env.A=B` is not a name",
    );
    check(r#"{"code": "", "env": {"": ""}}"#, "`env.` is not a name");
    check(
        r#"{"code": "", "env": {"A": "\u0000"}}"#,
        "`env.A` holds a NUL",
    );
    check(
        r#"{"code": "", "outputs": ["{"]}"#,
        "`outputs[0]` is not a glob",
    );
    check(
        r#"{"code": "", "limits": {"run": {"wall_time_ms": 3001}}}"#,
        "`limits.run.wall_time_ms` is 3001",
    );
    let large = serde_json::json!({"code": "x".repeat(1 << 20)}).to_string();
    check(&large, "`files` hold 1048576 bytes");
    let long = serde_json::json!({"code": "", "args": ["x".repeat(200_000)]}).to_string();
    check(&long, "`args[0]` is longer than");
    let many = serde_json::json!({"code": "", "args": vec!["x".repeat(100_000); 11]}).to_string();
    check(&many, "`args` and `env` hold");
}

#[test]
fn what_compiling_left_goes_over_the_submitted_files() {
    let request =
        request(r#"{"files": [{"content": "a", "name": "a"}, {"content": "b", "name": "b"}]}"#);
    let request = request.expect("acceptable");
    let artifact = |name: &str, mode| WorkspaceFile {
        path: name.parse().expect("a path"),
        mode,
        bytes: b"new".to_vec(),
    };
    let left = vec![artifact("b", 0o755), artifact("c", 0o755)];
    let carried = carried_over(request.files, left);
    let seen: Vec<_> = carried
        .iter()
        .map(|file| (file.path.as_str(), file.mode, &file.bytes[..]))
        .collect();
    assert_eq!(
        seen,
        [
            ("a", 0o644, &b"a"[..]),
            ("b", 0o755, b"new"),
            ("c", 0o755, b"new")
        ]
    );
}
