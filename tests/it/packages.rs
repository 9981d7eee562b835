//! Repositories, installation with dependencies, uninstallation, and everything broken in them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use piston_tests::packages::{Crafted, file, install};
use piston_tests::{Daemon, Who, binary, free_port, http};
use serde_json::{Value, json};

as_root_and_user!(
    a_package_comes_from_a_repository_with_its_dependencies,
    a_package_in_use_stays_until_its_last_job_ends,
    jobs_that_are_the_first_in_a_view_all_at_once_run,
);

/// Package files that differ in what they need.
fn craft(folder: &Path, language: &str, version: &str, dependencies: &Value) -> std::path::PathBuf {
    let marker = format!("{language}-{version}\n");
    Crafted {
        info: json!({
            "language": language, "version": version, "author": "A Tester <a@tester>",
            "dependencies": dependencies.clone(), "build_platform": format!("test-{}", std::env::consts::ARCH),
            "aliases": [format!("{language}-alias")], "mount": "/",
        }),
        files: &[(&format!("usr/share/marks/{language}"), &marker)],
        scripts: &[("run", "#!/bin/bash\ncat /usr/share/marks/*\nexec /bin/bash \"$@\"\n")],
        compressor: "gzip",
    }
    .write(folder)
}

fn index(folder: &Path) {
    let output = Command::new(binary("pistond"))
        .arg("index")
        .arg(folder)
        .output()
        .expect("pistond");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A folder of package files as a repository, with the machine's own base.
fn repository(folder: &Path) {
    fs::create_dir_all(folder).expect("folder");
    let base = file("base");
    fs::copy(&base, folder.join(base.file_name().expect("a name"))).expect("copy");
    craft(folder, "lower", "1.2.0", &json!({"base": "*"}));
    craft(folder, "lower", "1.3.0", &json!({"base": "*"}));
    craft(folder, "lower", "2.0.0", &json!({"base": "*"}));
    craft(folder, "upper", "1.0.0", &json!({"lower": "1.x"}));
    craft(folder, "upper", "1.1.0-rc.1", &json!({"lower": "1.x"}));
    index(folder);
}

fn add(daemon: &Daemon, name: &str, url: &str) {
    let reply = daemon.send(
        "PUT",
        &format!("/api/v3/repos/{name}"),
        &json!({"url": url}),
    );
    assert!(
        matches!(reply.status, 200 | 201),
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
}

/// Installs from a repository: status and body.
fn get(daemon: &Daemon, repository: &str, package: &str, range: &str) -> (u16, Value) {
    let path = format!("/api/v3/repos/{repository}/packages/{package}/{range}/install");
    let reply = daemon.send("POST", &path, &Value::Null);
    (reply.status, reply.json())
}

fn installed(daemon: &Daemon) -> Vec<String> {
    let packages = daemon.get("/api/v3/packages").json();
    let name = |package: &Value| {
        format!(
            "{}-{}",
            package["language"].as_str().unwrap_or(""),
            package["version"].as_str().unwrap_or("")
        )
    };
    packages
        .as_array()
        .expect("a list")
        .iter()
        .map(name)
        .collect()
}

fn a_package_comes_from_a_repository_with_its_dependencies(who: Who) {
    let daemon = Daemon::start(who);
    let folder = daemon.folder().join("repo");
    repository(&folder);
    add(
        &daemon,
        "local",
        &format!("file://{}/index.yaml", folder.display()),
    );
    let listed = daemon.get("/api/v3/repos/local/packages?sync=true").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(6), "{listed}");
    let repos = daemon.get("/api/v3/repos").json();
    assert!(repos.to_string().contains("\"packages\":6"), "{repos}");

    // The newest match that is not a pre-release, and the newest dependency in its range.
    let (status, reply) = get(&daemon, "all", "upper", "%5E1");
    assert_eq!(status, 201, "{reply}\n{}", daemon.log());
    assert_eq!(reply["package"]["version"], "1.0.0");
    let names = installed(&daemon);
    assert!(
        names.contains(&"lower-1.3.0".to_owned()) && names.len() == 3,
        "{names:?}"
    );
    let (status, reply) = get(&daemon, "local", "upper", "*");
    assert_eq!(
        (status, &reply["state"]),
        (200, &json!("already_installed")),
        "{reply}"
    );

    let run = &daemon.execute("upper", &json!({"code": "echo ran in $PISTON_LANGUAGE"}))["run"];
    assert_eq!(
        run["stdout"], "lower-1.3.0\nupper-1.0.0\nran in upper\n",
        "{run}"
    );
    let shown = daemon.get("/api/v3/packages/lower/1.3.0").json();
    assert_eq!(shown["dependents"][0]["language"], "upper", "{shown}");

    let reply = daemon.send("DELETE", "/api/v3/packages/lower/1.3.0", &Value::Null);
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (409, &json!("package_in_use"))
    );
    assert!(
        reply.json()["detail"]
            .as_str()
            .is_some_and(|text| text.contains("upper-1.0.0"))
    );
    assert_eq!(
        daemon
            .send("DELETE", "/api/v3/packages/upper/1.0.0", &Value::Null)
            .status,
        200
    );
    let reply = daemon
        .send("POST", "/api/v3/packages/gc", &Value::Null)
        .json();
    assert_eq!(
        reply["removed"].as_array().map(Vec::len),
        Some(2),
        "{reply}"
    );
    assert_eq!(installed(&daemon), Vec::<String>::new());
    let images = fs::read_dir(daemon.data().join("images"))
        .expect("images")
        .count();
    assert_eq!(images, 0, "images of removed packages are gone");

    // Cascade takes the dependents along.
    assert_eq!(get(&daemon, "all", "upper", "1.0.0").0, 201);
    let path = "/api/v3/packages/lower/1.3.0?cascade=true";
    let reply = daemon.send("DELETE", path, &Value::Null).json();
    assert_eq!(
        reply["removed"].as_array().map(Vec::len),
        Some(2),
        "{reply}"
    );
}

fn a_package_in_use_stays_until_its_last_job_ends(who: Who) {
    let daemon = Daemon::start(who);
    install(&daemon, &["bash"]);
    let version = daemon.get("/api/v3/packages/bash").json()[0]["version"].clone();
    let path = format!(
        "/api/v3/packages/bash/{}",
        version.as_str().expect("a version")
    );
    std::thread::scope(|scope| {
        let job = scope.spawn(|| {
            let code = "echo > /tmp/started; sleep 1; ls /usr/bin/cat; cat /tmp/started; echo end";
            daemon.execute("bash", &json!({"code": code}))["run"].clone()
        });
        while daemon.get("/api/v3/info").json()["jobs_running"] == 0 {
            std::thread::yield_now();
        }
        assert_eq!(daemon.send("DELETE", &path, &Value::Null).status, 200);
        let reply = daemon.send(
            "POST",
            "/api/v3/packages/bash/*/execute",
            &json!({"code": ""}),
        );
        assert_eq!(reply.status, 404, "new jobs are refused at once");
        let run = job.join().expect("a result");
        assert_eq!(run["stdout"], "/usr/bin/cat\n\nend\n", "{run}");
    });
    let image = || {
        fs::read_dir(daemon.data().join("images"))
            .expect("images")
            .count()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while image() != 2 {
        assert!(
            std::time::Instant::now() < deadline,
            "the image stays after the last job"
        );
        std::thread::yield_now();
    }
    install(&daemon, &["bash"]);
    assert_eq!(
        daemon.execute("bash", &json!({"code": "echo back"}))["run"]["stdout"],
        "back\n"
    );
}

/// The kernel may drop a name of a view that two look up for the first time at once, together with
/// what one of them has mounted there (`sandbox::view`).
fn jobs_that_are_the_first_in_a_view_all_at_once_run(who: Who) {
    const AT_ONCE: usize = 6;
    let daemon = Daemon::start(who);
    install(&daemon, &[]);
    for round in 0..15 {
        let version = format!("1.0.{round}");
        let fresh = craft(daemon.folder(), "fresh", &version, &json!({"base": "*"}));
        let reply = daemon.upload(&fresh);
        assert_eq!(reply.status, 201, "{reply:?}");
        let start = std::sync::Barrier::new(AT_ONCE);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    start.wait();
                    let code = "echo x > /tmp/x && cat /tmp/x && ls -A /piston/job";
                    let run = daemon.execute("fresh", &json!({"code": code}))["run"].clone();
                    let expected = format!("fresh-{version}\nx\nfile0.code\n");
                    assert_eq!(run["stdout"], expected, "{run}\n{}", daemon.log());
                });
            }
        });
        let path = format!("/api/v3/packages/fresh/{version}");
        let removed = daemon.send("DELETE", &path, &Value::Null);
        assert_eq!(removed.status, 200, "{removed:?}");
    }
}

/// Events of an installation, of a reply with this status and kind.
fn told(reply: &http::Reply) -> Vec<Value> {
    let text = String::from_utf8(reply.body.clone()).expect("UTF-8");
    assert_eq!(reply.status, 200, "{text}");
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn an_installation_tells_its_plan_its_phases_and_its_end() {
    const LINES: &str = "Accept: application/x-ndjson";
    let daemon = Daemon::start(Who::User);
    let folder = daemon.folder().join("repo");
    repository(&folder);
    craft(&folder, "altered", "1.0.0", &json!({"base": "*"}));
    index(&folder);
    let altered = folder.join("altered-1.0.0.pkg.tar.gz");
    let mut bytes = fs::read(&altered).expect("package");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&altered, bytes).expect("package");
    add(&daemon, "local", &folder.to_string_lossy());
    let install = |name: &str, accept: &str| {
        let path = format!("/api/v3/repos/all/packages/{name}/*/install");
        http::request(&daemon.address(), "POST", &path, &[accept], b"")
    };

    let events = told(&install("upper", LINES));
    assert_eq!(events[0]["event"], "plan", "{events:?}");
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list");
        let name = |planned: &Value| planned["package"]["language"].as_str().map(str::to_owned);
        list.iter().filter_map(name).collect()
    };
    let planned = names(&events[0]["packages"]);
    assert_eq!(planned, ["base", "lower", "upper"], "dependencies first");
    assert_eq!(events[0]["packages"][0]["repository"], "local");
    let result = events.last().expect("an event");
    assert_eq!(result["event"], "result", "{events:?}");
    assert_eq!(result["result"]["package"]["language"], "upper");
    let order = ["download", "unpack", "verify", "publish"];
    for name in planned {
        let of = |event: &&Value| event["package"]["language"] == name.as_str();
        let phases: Vec<usize> = events
            .iter()
            .filter(of)
            .map(|event| order.iter().position(|phase| event["phase"] == *phase))
            .collect::<Option<_>>()
            .expect("known phases");
        assert!(
            phases.is_sorted() && phases.last() == Some(&3),
            "{name}: {events:?}"
        );
    }

    // What is there already has an empty plan; what is wrong before the plan has its status.
    let again = install("upper", "Accept: text/event-stream");
    let text = String::from_utf8_lossy(&again.body);
    assert!(
        text.starts_with(
            "event: plan\ndata: {\"event\":\"plan\",\"packages\":[]}\n\nevent: result\n"
        ),
        "{text}"
    );
    let absent = install("absent", LINES);
    assert_eq!(
        (absent.status, &absent.json()["code"]),
        (404, &json!("package_not_available"))
    );
    let events = told(&install("altered", LINES));
    let error = events.last().expect("an event");
    assert_eq!(
        (&error["event"], &error["problem"]["code"]),
        (&json!("error"), &json!("checksum_mismatch")),
        "{events:?}"
    );
    assert_eq!(installed(&daemon).len(), 3, "nothing of it is there");
}

/// Runs GnuPG with a home of its own.
fn gpg(home: &Path, words: &[&str]) -> std::process::Output {
    Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"])
        .args(["--passphrase", "secret"])
        .args(words)
        .output()
        .expect("gpg")
}

/// A key of its own: its fingerprint, a subkey that signs, and both halves in files of the folder.
fn gpg_key(folder: &Path) -> String {
    let run = |words: &[&str]| {
        let output = gpg(folder, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let user = "Me <me@example.org>";
    run(&["--quick-generate-key", user, "rsa3072", "cert", "never"]);
    let listed = run(&["--list-keys", "--with-colons"]);
    let line = listed.lines().find(|line| line.starts_with("fpr:"));
    let fingerprint = line.and_then(|line| line.split(':').nth(9)).expect("a key");
    run(&["--quick-add-key", fingerprint, "ed25519", "sign", "1y"]);
    for (name, export) in [
        ("secret.asc", "--export-secret-keys"),
        ("me.asc", "--export"),
    ] {
        fs::write(folder.join(name), run(&["--armor", export])).expect("a key");
    }
    fingerprint.to_owned()
}

#[test]
fn a_repository_signed_with_a_key_of_gnupg_is_trusted_and_gnupg_agrees() {
    let daemon = Daemon::start(Who::User);
    let folder = daemon.folder().join("repo");
    fs::create_dir_all(&folder).expect("folder");
    craft(&folder, "signed", "1.0.0", &json!({}));
    let home = tempfile::tempdir().expect("a home");
    let fingerprint = gpg_key(home.path());
    let secret = home.path().join("secret.asc");
    let indexed = Command::new(binary("piston"))
        .args(["repo", "index"])
        .arg(&folder)
        .arg("--sign")
        .arg(&secret)
        .env("PISTON_KEY_PASSPHRASE", "secret")
        .output()
        .expect("piston");
    let said = String::from_utf8_lossy(&indexed.stderr).into_owned();
    assert!(indexed.status.success(), "{said}");
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let agreed = gpg(
        home.path(),
        &["--verify", &path("index.yaml.asc"), &path("index.yaml")],
    );
    assert!(
        agreed.status.success(),
        "{}",
        String::from_utf8_lossy(&agreed.stderr)
    );
    let stopped = Command::new("gpgconf")
        .arg("--homedir")
        .arg(home.path())
        .args(["--kill", "all"])
        .status();
    assert!(stopped.is_ok_and(|status| status.success()));

    let index = path("index.yaml");
    let public = home.path().join("me.asc").to_string_lossy().into_owned();
    let words = ["repo", "add", "mine", &index, "--key", &public];
    let added = daemon.cli(&words, b"");
    assert!(
        added.status.success(),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
    let repo = daemon.get("/api/v3/repos/mine").json();
    assert_eq!(repo["keys"], json!([fingerprint]));
    assert_eq!(
        get(&daemon, "mine", "signed", "*").0,
        201,
        "{}",
        daemon.log()
    );
    let shown = daemon.get("/api/v3/packages/signed/1.0.0").json();
    assert_eq!(shown["signed_by"], fingerprint.as_str());
    // A package that somebody put there afterwards.
    craft(&folder, "other", "1.0.0", &json!({}));
    fs::remove_file(path("index.yaml.asc")).expect("the signature");
    self::index(&folder);
    let listed = daemon.get("/api/v3/repos/mine/packages?sync=true").json();
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(1),
        "the stored copy serves"
    );
    let repo = daemon.get("/api/v3/repos/mine").json();
    let problem = repo["last_error"].as_str().expect("a problem");
    assert!(
        problem.contains("was signed before and is not any more"),
        "{problem}"
    );
}

/// A real web server of the machine on a folder; killed on drop.
struct Web {
    server: Child,
    url: String,
}

impl Web {
    fn serve(folder: &Path) -> Self {
        let address = free_port();
        let port = address.port().to_string();
        let server = Command::new("/usr/bin/python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the web server does not answer"
            );
        }
        Self {
            server,
            url: format!("http://{address}"),
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[test]
fn a_static_web_server_is_a_repository_and_its_copy_serves_while_it_is_down() {
    let daemon = Daemon::start(Who::User);
    let folder = daemon.folder().join("repo");
    repository(&folder);
    let web = Web::serve(&folder);
    add(&daemon, "web", &format!("{}/index.yaml", web.url));
    assert_eq!(get(&daemon, "web", "lower", "1.2.x").0, 201);
    drop(web);
    let listed = daemon.get("/api/v3/repos/web/packages?sync=true").json();
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(6),
        "the stored copy serves: {listed}"
    );
    let repo = daemon.get("/api/v3/repos/web").json();
    assert!(
        repo["last_error"].is_string() && repo["last_sync"].is_u64(),
        "{repo}"
    );
    let (status, reply) = get(&daemon, "web", "lower", "2.x");
    assert_eq!(
        (status, &reply["code"]),
        (502, &json!("repository_unavailable")),
        "{reply}"
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one repository, one fault after the other"
)]
fn what_is_broken_in_a_repository_is_named_and_changes_nothing() {
    let daemon = Daemon::start(Who::User);
    install(&daemon, &[]);
    let before = installed(&daemon);
    let folder = daemon.folder().join("repo");
    fs::create_dir_all(&folder).expect("folder");
    craft(&folder, "good", "1.0.0", &json!({"base": "*"}));
    craft(&folder, "altered", "1.0.0", &json!({"base": "*"}));
    craft(&folder, "cut", "1.0.0", &json!({"base": "*"}));
    craft(&folder, "lonely", "1.0.0", &json!({"nowhere": "^1"}));
    craft(&folder, "ring-a", "1.0.0", &json!({"ring-b": "*"}));
    craft(&folder, "ring-b", "1.0.0", &json!({"ring-c": "*"}));
    craft(&folder, "ring-c", "1.0.0", &json!({"ring-a": "*"}));
    index(&folder);
    let path = |name: &str| folder.join(format!("{name}-1.0.0.pkg.tar.gz"));
    let mut bytes = fs::read(path("altered")).expect("package");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path("altered"), &bytes).expect("package");
    let cut = fs::read(path("cut")).expect("package");
    fs::write(path("cut"), &cut[..cut.len() / 2]).expect("package");
    add(
        &daemon,
        "local",
        &format!("file://{}/index.yaml", folder.display()),
    );
    let check = |name: &str, status: u16, code: &str, words: &[&str]| {
        let (got, reply) = get(&daemon, "local", name, "*");
        assert_eq!(
            (got, &reply["code"]),
            (status, &json!(code)),
            "{name}: {reply}"
        );
        let detail = reply["detail"].as_str().expect("text");
        assert!(
            words.iter().all(|word| detail.contains(word)),
            "{name}: {detail}"
        );
    };
    check("altered", 422, "checksum_mismatch", &["altered-1.0.0"]);
    check("cut", 422, "checksum_mismatch", &["cut-1.0.0"]);
    check(
        "lonely",
        422,
        "dependency_unresolved",
        &["lonely", "nowhere"],
    );
    check(
        "ring-a",
        422,
        "dependency_unresolved",
        &["ring-a", "ring-b", "ring-c"],
    );
    check("absent", 404, "package_not_available", &["absent"]);
    let (status, reply) = get(&daemon, "local", "good", "7.x");
    assert_eq!(
        (status, &reply["code"]),
        (404, &json!("package_not_available"))
    );
    assert!(
        reply["detail"]
            .as_str()
            .is_some_and(|text| text.contains("1.0.0")),
        "{reply}"
    );
    let (status, reply) = get(&daemon, "norepo", "good", "*");
    assert_eq!(
        (status, &reply["code"]),
        (404, &json!("repository_not_found"))
    );
    assert_eq!(installed(&daemon), before);
    assert_eq!(
        get(&daemon, "local", "good", "*").0,
        201,
        "the rest of it still works"
    );
    // The index itself.
    fs::write(
        folder.join("index.yaml"),
        "schema: ppman-repo-1\npackages: {",
    )
    .expect("index");
    let reply = daemon.get("/api/v3/repos/local/packages?sync=true");
    assert_eq!(reply.status, 200, "the stored copy serves");
    let repo = daemon.get("/api/v3/repos/local").json();
    assert!(repo["last_error"].is_string(), "{repo}");
}

#[test]
fn a_hostile_package_file_is_refused_with_the_reason() {
    let daemon = Daemon::start(Who::User);
    let folder = daemon.folder().join("hostile");
    fs::create_dir_all(&folder).expect("folder");
    let refused = |file: &Path, words: &str| {
        let reply = daemon.upload(file);
        let body = reply.json();
        assert_eq!(
            (reply.status, &body["code"]),
            (422, &json!("invalid_package")),
            "{body}"
        );
        assert!(
            body["detail"]
                .as_str()
                .is_some_and(|text| text.contains(words)),
            "{words}: {body}"
        );
    };
    let good = craft(&folder, "good", "1.0.0", &json!({}));
    let unpack = |name: &str| {
        let target = folder.join(name);
        fs::create_dir_all(&target).expect("folder");
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(&good)
            .arg("-C")
            .arg(&target)
            .status();
        assert!(status.is_ok_and(|status| status.success()));
        target
    };
    let repack = |target: &Path| {
        let file = target.with_extension("pkg.tar.gz");
        let status = Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(target)
            .arg(".")
            .status();
        assert!(status.is_ok_and(|status| status.success()));
        file
    };
    let image = unpack("cut-image");
    let bytes = fs::read(image.join("package.squashfs")).expect("image");
    // The superblock's bytes_used: what follows is padding, which nobody misses.
    let used = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes"));
    let used = usize::try_from(used).expect("a small image");
    for keep in [0, 10, 96, used / 2, used - 1] {
        fs::write(image.join("package.squashfs"), &bytes[..keep]).expect("image");
        refused(&repack(&image), "image");
    }
    let mut flipped = bytes.clone();
    flipped[48] ^= 0xff; // the start of the id table
    fs::write(image.join("package.squashfs"), &flipped).expect("image");
    refused(&repack(&image), "image");
    let target = unpack("no-info");
    fs::remove_file(target.join("pkg-info.json")).expect("remove");
    refused(&repack(&target), "pkg-info.json");
    let target = unpack("bad-info");
    let info = json!({"language": "../x", "version": "1.0.0"}).to_string();
    fs::write(target.join("pkg-info.json"), info).expect("write");
    refused(&repack(&target), "language");
    let target = unpack("no-image");
    fs::remove_file(target.join("package.squashfs")).expect("remove");
    refused(&repack(&target), "package.squashfs");
    let noise = folder.join("noise.pkg.tar.gz");
    fs::write(&noise, [0x5a; 5000]).expect("write");
    refused(&noise, "");
    assert_eq!(installed(&daemon), Vec::<String>::new());
    assert_eq!(
        daemon.upload(&good).status,
        201,
        "the good one still installs"
    );
}
