//! What clients see: the v3 API's errors and roles, and the released Piston's v2 to the letter.

use std::net::SocketAddr;

use piston_tests::http::{self, Address, Reply};
use piston_tests::{Daemon, Who, binary, free_port, packages};
use serde_json::{Value, json};

/// A daemon that also listens on TCP.
fn with_tcp(who: Who) -> (Daemon, Address) {
    let port: SocketAddr = free_port();
    let daemon = Daemon::start_with(who, "", &["--listen", &port.to_string()]);
    (daemon, Address::Tcp(port))
}

fn problem(reply: &Reply, status: u16, code: &str) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, status, "{text}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{text}"
    );
    let body = reply.json();
    assert_eq!(
        (&body["code"], &body["status"]),
        (&json!(code), &json!(status)),
        "{text}"
    );
    assert!(
        body["title"].is_string() && body["request_id"].is_string(),
        "{text}"
    );
    body["detail"].as_str().expect("a detail").to_owned()
}

#[test]
fn v3_answers_bad_requests_with_a_problem_that_says_what_is_right() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let execute = "/api/v3/packages/bash/*/execute";
    let send = |body: Value| daemon.send("POST", execute, &body);

    problem(&daemon.get("/api/v3/nonsense"), 404, "not_found");
    problem(&daemon.get("/nonsense"), 404, "not_found");
    problem(
        &daemon.send("PUT", "/api/v3/version", &json!({})),
        405,
        "method_not_allowed",
    );
    let detail = problem(
        &daemon.get("/api/v3/packages/nolang"),
        404,
        "package_not_found",
    );
    assert!(detail.contains("nolang"), "{detail}");
    let reply = daemon.send(
        "POST",
        "/api/v3/packages/bsh/*/execute",
        &json!({"code": ""}),
    );
    let detail = problem(&reply, 404, "package_not_found");
    assert!(
        detail.contains("bash") && detail.contains("install"),
        "{detail}"
    );
    let reply = daemon.send(
        "POST",
        "/api/v3/packages/bash/9.9.9/execute",
        &json!({"code": ""}),
    );
    let detail = problem(&reply, 404, "package_not_found");
    assert!(
        detail.contains("9.9.9") && detail.contains("bash"),
        "{detail}"
    );
    let reply = daemon.send(
        "POST",
        "/api/v3/packages/base/*/execute",
        &json!({"code": ""}),
    );
    problem(&reply, 422, "not_executable");

    let detail = problem(
        &send(json!({"code": "", "colour": 1})),
        400,
        "malformed_request",
    );
    assert!(detail.contains("colour"), "{detail}");
    let detail = problem(&send(json!({})), 422, "invalid_field");
    assert!(detail.contains("files"), "{detail}");
    for name in ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a\u{0}b"] {
        let body =
            json!({"files": [{"name": "main.sh", "content": ""}, {"name": name, "content": ""}]});
        let detail = problem(&send(body), 422, "invalid_field");
        assert!(detail.contains("files[1].name"), "{name}: {detail}");
    }
    let body = json!({"files": [{"name": "a", "content": ""}, {"name": "a", "content": ""}]});
    problem(&send(body), 422, "invalid_field");
    let body = json!({"files": [{"content": "!", "encoding": "base64"}]});
    let detail = problem(&send(body), 422, "invalid_field");
    assert!(detail.contains("files[0].content"), "{detail}");
    problem(
        &send(json!({"code": "", "args": ["a\u{0}b"]})),
        422,
        "invalid_field",
    );
    problem(
        &send(json!({"code": "", "env": {"A=B": "x"}})),
        422,
        "invalid_field",
    );

    let raw = |content_type: &str, body: &[u8]| {
        let headers = [content_type];
        http::request(&daemon.address(), "POST", execute, &headers, body)
    };
    let detail = problem(
        &raw("Content-Type: application/json", b"{\"code\": "),
        400,
        "malformed_request",
    );
    assert!(detail.contains("line 1"), "{detail}");
    problem(
        &raw("Content-Type: application/json", b"\xff\xfe"),
        400,
        "malformed_request",
    );
    problem(
        &raw("Content-Type: text/plain", b"{\"code\": \"\"}"),
        415,
        "unsupported_media_type",
    );
    let deep = format!(
        "{{\"code\": {}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    problem(
        &raw("Content-Type: application/json", deep.as_bytes()),
        400,
        "malformed_request",
    );
    let run = &daemon.execute("bash", &json!({"code": "echo still here"}))["run"];
    assert_eq!(run["stdout"], "still here\n");
}

#[test]
fn a_body_over_the_bound_is_refused() {
    let daemon = Daemon::start_with(Who::User, "[http]\nmax_body = \"64K\"\n", &[]);
    let body = json!({"code": "x".repeat(100_000)});
    let reply = daemon.send("POST", "/api/v3/packages/bash/*/execute", &body);
    problem(&reply, 413, "body_too_large");
    let reply = daemon.send("POST", "/api/v2/execute", &body);
    assert_eq!(reply.status, 413);
    assert!(reply.json()["message"].is_string());
}

#[test]
fn a_tcp_listener_executes_and_manages_nothing() {
    let (daemon, tcp) = with_tcp(Who::User);
    packages::install(&daemon, &["bash"]);
    let call = |method: &str, path: &str, body: &str| {
        http::request(&tcp, method, path, &[], body.as_bytes())
    };
    assert_eq!(call("GET", "/api/v3/version", "").status, 200);
    assert_eq!(call("GET", "/api/v3/runtimes", "").status, 200);
    assert_eq!(call("GET", "/healthz", "").status, 200);
    let reply = call(
        "POST",
        "/api/v3/packages/bash/*/execute",
        "{\"code\": \"echo tcp\"}",
    );
    assert_eq!(reply.json()["run"]["stdout"], "tcp\n");
    for (method, path, body) in [
        ("GET", "/api/v3/repos", ""),
        ("PUT", "/api/v3/repos/x", "{\"url\": \"file:///x\"}"),
        ("DELETE", "/api/v3/packages/bash/5.2.15", ""),
        ("POST", "/api/v3/packages", ""),
        ("POST", "/api/v3/packages/gc", ""),
        (
            "POST",
            "/api/v3/make",
            "{\"from\": \"host\", \"name\": \"bash\"}",
        ),
        ("POST", "/api/v3/repos/all/packages/bash/*/install", ""),
    ] {
        problem(&call(method, path, body), 403, "forbidden");
    }
    // A web page that rebinds its name to this address is not served.
    let reply = http::request(
        &tcp,
        "GET",
        "/api/v3/runtimes",
        &["Host: evil.example"],
        b"",
    );
    problem(&reply, 403, "host_not_known");
}

fn v2(daemon: &Daemon, body: &Value) -> Reply {
    daemon.send("POST", "/api/v2/execute", body)
}

#[test]
fn v2_validates_in_the_released_order_with_the_released_texts() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let good = json!({"language": "bash", "version": "*", "files": [{"content": "echo hi"}]});
    let check = |change: Value, message: &str| {
        let mut body = good.clone();
        for (key, value) in change.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let reply = v2(&daemon, &body);
        assert_eq!(
            (reply.status, reply.json()),
            (400, json!({"message": message})),
            "{body}"
        );
    };
    check(
        json!({"language": null, "version": 3}),
        "language is required as a string",
    );
    check(
        json!({"version": 3, "files": 3}),
        "version is required as a string",
    );
    check(json!({"files": {}}), "files is required as an array");
    check(
        json!({"files": [{"content": "x"}, {}]}),
        "files[1].content is required as a string",
    );
    check(json!({"language": "no"}), "no-* runtime is unknown");
    check(json!({"version": "99"}), "bash-99 runtime is unknown");
    check(
        json!({"version": "not a range!"}),
        "bash-not a range! runtime is unknown",
    );
    let encoded = json!([{"content": "eA==", "encoding": "base64"}]);
    check(
        json!({"files": encoded}),
        "files must include at least one utf8 encoded file",
    );
    check(
        json!({"run_timeout": "3"}),
        "If specified, run_timeout must be a number",
    );
    check(
        json!({"run_timeout": 3001}),
        "run_timeout cannot exceed the configured limit of 3000",
    );
    check(
        json!({"run_timeout": -1}),
        "run_timeout must be non-negative",
    );
    check(
        json!({"compile_cpu_time": []}),
        "If specified, compile_cpu_time must be a number",
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one daemon, one promise of v2 after the other"
)]
fn v2_answers_as_the_released_piston_does() {
    let (daemon, tcp) = with_tcp(Who::User);
    packages::install(&daemon, &["bash", "gcc"]);
    let body = json!({
        "language": "sh", "version": "5.x",
        "files": [{"content": "cat; echo $1; echo err >&2; exit 4"}],
        "stdin": "in", "args": ["arg"], "unknown": true,
    });
    for path in [
        "/api/v2/execute",
        "/api/v2/piston/execute",
        "/API/V2/Execute/",
    ] {
        let reply = http::request(&tcp, "POST", path, &[], body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{path}");
        let reply = reply.json();
        assert_eq!(reply["language"], "bash");
        assert!(
            reply["version"].is_string() && reply.get("compile").is_none(),
            "{reply}"
        );
        let run = reply["run"].as_object().expect("run");
        let mut keys: Vec<&str> = run.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "code",
                "cpu_time",
                "memory",
                "message",
                "output",
                "signal",
                "status",
                "stderr",
                "stdout",
                "wall_time"
            ]
        );
        assert_eq!(
            (&run["stdout"], &run["stderr"]),
            (&json!("in\narg\n"), &json!("err\n"))
        );
        assert_eq!((&run["code"], &run["signal"]), (&json!(4), &Value::Null));
        assert_eq!(
            (&run["status"], &run["message"]),
            (&json!("RE"), &json!("Exited with error status 4"))
        );
    }
    let run = |code: &str, more: Value| {
        let mut body = json!({"language": "bash", "version": "*", "files": [{"content": code}]});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        v2(&daemon, &body).json()["run"].clone()
    };
    let ended = run("sleep 9", json!({"run_timeout": 200}));
    assert_eq!(
        (&ended["status"], &ended["signal"]),
        (&json!("TO"), &json!("SIGKILL"))
    );
    assert_eq!(ended["message"], "Time limit exceeded (wall clock)");
    assert_eq!(ended["code"], Value::Null);
    let ended = run("head -c 2000 /dev/zero | tr '\\0' x", json!({}));
    assert_eq!(ended["status"], "OL", "{ended}");
    assert_eq!(ended["stdout"].as_str().map(str::len), Some(1024));
    assert_eq!(ended["message"], "stdout length exceeded");
    let ended = run("kill -SEGV $$", json!({}));
    assert_eq!(
        (&ended["status"], &ended["signal"]),
        (&json!("SG"), &json!("SIGSEGV"))
    );
    assert_eq!(ended["message"], "Caught fatal signal 11");
    // A failed compile stands for the run as well.
    let body = json!({"language": "c", "version": "*", "files": [{"name": "a.c", "content": "x"}]});
    let reply = v2(&daemon, &body).json();
    assert_eq!(reply["compile"]["status"], "RE");
    assert_eq!(reply["run"], reply["compile"]);

    let runtimes = daemon.get("/api/v2/runtimes").json();
    let find = |language: &str| {
        let all = runtimes.as_array().expect("a list");
        all.iter()
            .find(|runtime| runtime["language"] == language)
            .expect("a runtime")
            .clone()
    };
    assert_eq!(find("bash")["aliases"], json!(["sh"]));
    assert!(find("bash").get("runtime").is_none(), "{runtimes}");
    assert_eq!(find("c++")["runtime"], "gcc");
    let unknown = daemon.get("/api/v2/nothing");
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({"message": "Not Found"}))
    );
}

#[test]
fn v2_lists_installs_and_removes_packages_in_the_released_words() {
    let (daemon, tcp) = with_tcp(Who::User);
    let folder = daemon.folder().join("repo");
    std::fs::create_dir(&folder).expect("folder");
    for name in ["base", "bash"] {
        let file = packages::file(name);
        std::fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("copy");
    }
    let made = std::process::Command::new(binary("pistond"))
        .arg("index")
        .arg(&folder)
        .output()
        .expect("pistond");
    assert!(made.status.success(), "{made:?}");
    let url = format!("file://{}/index.yaml", folder.display());
    let reply = daemon.send("PUT", "/api/v3/repos/main", &json!({"url": url}));
    assert!(matches!(reply.status, 200 | 201));

    let list = || daemon.get("/api/v2/packages").json();
    let listed = |language: &str| {
        let all = list();
        let mut all = all.as_array().expect("a list").iter();
        let found = all.find(|entry| entry["language"] == language);
        found.expect("listed").clone()
    };
    let version = listed("bash")["language_version"].clone();
    let entry = |language: &str, installed: bool| {
        assert_eq!(listed(language)["installed"], installed, "{language}");
    };
    entry("bash", false);
    let bash = format!("bash-{}", version.as_str().expect("a version"));
    let done = json!({"language": "bash", "version": version});
    let message = |text: &str| json!({"message": text});
    let none = message("Requested package bash-1.x does not exist");
    let removed = message(&format!("{bash} is not installed"));
    for (method, range, status, body) in [
        ("POST", "1.x", 404, &none),
        ("DELETE", "1.x", 404, &none),
        ("DELETE", "*", 500, &removed),
        ("POST", "5.x", 200, &done),
        ("POST", "*", 500, &message("Already installed")),
        ("DELETE", "*", 200, &done),
        ("DELETE", "*", 500, &removed),
    ] {
        // As most clients send it: with a key, and without saying that it is JSON.
        let headers = ["Authorization: key", "Content-Type: text/plain"];
        let asked = json!({"language": "bash", "version": range}).to_string();
        let path = "/api/v2/Packages/";
        let reply = http::request(&daemon.address(), method, path, &headers, asked.as_bytes());
        let got = (reply.status, reply.json());
        assert_eq!(got, (status, body.clone()), "{method} {range}");
        if (method, status) == ("POST", 200) {
            entry("bash", true);
            entry("base", true);
        }
    }
    for method in ["GET", "POST", "DELETE"] {
        let reply = http::request(&tcp, method, "/api/v2/piston/packages", &[], b"{}");
        assert_eq!(reply.status, 403, "{method}");
        assert!(reply.json()["message"].is_string());
    }
    // A package file that is not the one of the index.
    let index = folder.join("index.yaml");
    let text = std::fs::read_to_string(&index).expect("index");
    let (bash_on, wrong) = (text.find("language: bash").expect("listed"), "0".repeat(64));
    let sum = bash_on + text[bash_on..].find("sha256: ").expect("a checksum") + "sha256: ".len();
    let text = format!("{}{wrong}{}", &text[..sum], &text[sum + 64..]);
    std::fs::write(&index, text).expect("index");
    daemon.get("/api/v3/repos/main/packages?sync=true");
    let reply = daemon.send(
        "POST",
        "/api/v2/packages",
        &json!({"language": "bash", "version": "*"}),
    );
    let text = reply.json()["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    let want = format!("Checksum miss-match want: {} got: ", "0".repeat(64));
    assert_eq!(
        (reply.status, text.starts_with(&want)),
        (500, true),
        "{text}"
    );
}

#[test]
fn version_info_and_health_tell_what_runs() {
    let daemon = Daemon::start(Who::User);
    let version = daemon.get("/api/v3/version").json();
    assert_eq!(version["product"], "Piston");
    assert_eq!(version["api"], json!(["v2", "v3"]));
    let info = daemon.get("/api/v3/info").json();
    assert_eq!(info["rootless"], true);
    let mechanisms = info["mechanisms"].as_array().expect("a list");
    for name in ["fuse", "user_namespaces", "seccomp"] {
        let found = mechanisms
            .iter()
            .find(|entry| entry["name"] == name)
            .expect(name);
        assert_eq!(found["available"], true, "{found}");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
    assert_eq!(daemon.get("/readyz").status, 200);
}
