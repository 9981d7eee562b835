//! Packages that the daemon makes of Debian's: recipes of contrib/packages, and Debian's by name.
//!
//! Needs apt's lists (`apt-get update`) and the servers that they name.

use std::path::{Path, PathBuf};
use std::process::Command;

use piston_tests::{Daemon, Who, binary, packages, require};
use serde_json::{Value, json};

as_root_and_user!(
    a_recipe_is_built_with_its_base_and_runs_its_test_program,
    a_package_of_debian_is_made_by_its_name,
    a_fresh_daemon_installs_a_language_without_any_repository,
    languages_of_this_host_become_packages_that_run_their_test_programs,
    toolchains_of_this_host_become_packages_that_run_their_test_programs,
);

/// A file of a recipe.
fn recipe(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/packages");
    root.join(path)
}

/// Runs a command of the CLI that has to work; what it prints.
fn cli(daemon: &Daemon, words: &[&str], input: &[u8]) -> String {
    let output = daemon.cli(words, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{words:?}: {out}{err}\n{}",
        daemon.log()
    );
    out
}

#[test]
fn a_python_of_the_host_has_the_libraries_that_compiled_modules_expect() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["python"]);
    let code = "import ctypes; [ctypes.CDLL(f'lib{name}') for name in \
                ('gcc_s.so.1', 'stdc++.so.6', 'z.so.1', 'expat.so.1')]; print('there')";
    let ran = daemon.execute("python", &json!({ "code": code }));
    assert_eq!(ran["run"]["stdout"], "there\n", "{ran}");
}

fn a_recipe_is_built_with_its_base_and_runs_its_test_program(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let daemon = Daemon::start(who);
    let path = |path: &str| recipe(path).display().to_string();
    let made = cli(&daemon, &["package", "build", &path("lua")], b"");
    assert!(
        made.contains("debian-base-") && made.contains("lua-"),
        "{made}"
    );
    // The second one finds the base, and keeps to it.
    let made = cli(&daemon, &["package", "from-debian", "perl"], b"");
    assert!(
        !made.contains("debian-base-") && made.contains("perl-"),
        "{made}"
    );
    for (language, program) in [("lua", "lua/test.lua"), ("perl", "perl/test.pl")] {
        let printed = cli(&daemon, &["run", language, &path(program)], b"7\n");
        assert_eq!(printed, "OK\n", "{language}");
    }
    let lua = &daemon.get("/api/v3/packages/lua").json()[0];
    assert_eq!(lua["layers"][0]["language"], "debian-base", "{lua}");
    let left: Vec<_> = std::fs::read_dir(daemon.data().join("staging"))
        .expect("staging")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_package_of_debian_is_made_by_its_name(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let daemon = Daemon::start(who);
    let run = "/usr/bin/mawk -f {main} {args}";
    let request = json!({"from": "debian", "packages": ["mawk"], "name": "awk", "run": run});
    let made = daemon.send("POST", "/api/v3/make", &request);
    assert_eq!(made.status, 200, "{}\n{}", made.json(), daemon.log());
    assert_eq!(made.json()["package"]["language"], "awk");
    let job = json!({"code": "{ sum += $1 } END { print sum }", "stdin": "1\n2\n3\n"});
    let run = &daemon.execute("awk", &job)["run"];
    assert_eq!(run["stdout"], "6\n", "{run}");
    // What does not exist is named, with what is meant.
    let request = json!({"from": "debian", "packages": ["mawkk"]});
    let reply = daemon.send("POST", "/api/v3/make", &request);
    let body: Value = reply.json();
    assert_eq!(
        (reply.status, &body["code"]),
        (422, &json!("cannot_make")),
        "{body}"
    );
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("`mawkk`") && detail.contains("is it mawk"),
        "{detail}"
    );
}

fn a_fresh_daemon_installs_a_language_without_any_repository(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let daemon = Daemon::start(who);
    let repos = daemon.get("/api/v3/repos").json();
    assert_eq!(repos[0]["name"], "builtin", "{repos}");
    let said = cli(&daemon, &["package", "install", "lua"], b"");
    assert!(
        said.contains("installed lua-") && said.contains("debian-base-"),
        "{said}"
    );
    // The second one stands on the base that is there.
    let said = cli(&daemon, &["package", "install", "perl"], b"");
    assert!(
        said.contains("installed perl-") && !said.contains("debian-base-"),
        "{said}"
    );
    let program = recipe("lua/test.lua").display().to_string();
    let printed = cli(&daemon, &["run", "lua", &program], b"7\n");
    assert_eq!(printed, "OK\n");
    let lua = &daemon.get("/api/v3/packages/lua").json()[0];
    assert_eq!(lua["repository"], "builtin", "{lua}");
    let listed = daemon.get("/api/v3/repos/builtin/packages").json();
    let listed = listed.as_array().expect("a list");
    let of = |name: &str| listed.iter().find(|package| package["language"] == name);
    let lua = of("lua").expect("lua is listed");
    assert_eq!(
        (&lua["built_from"][0], &lua["installed"]),
        (&json!("lua5.4"), &json!(true))
    );
    let sha256 = lua["checksums"]["sha256"].as_str();
    assert_eq!(
        sha256.map(str::len),
        Some(64),
        "known since it was made: {lua}"
    );
    assert_eq!(of("ruby").expect("ruby")["checksums"], json!({}));
    // It is the daemon's own.
    let reply = daemon.send("DELETE", "/api/v3/repos/builtin", &Value::Null);
    let detail = reply.json()["detail"].to_string();
    assert!(
        reply.status == 422 && detail.contains("builtin = false"),
        "{detail}"
    );
    // What nobody has is told with all that were asked.
    let reply = daemon.send(
        "POST",
        "/api/v3/repos/all/packages/luaa/*/install",
        &Value::Null,
    );
    let detail = reply.json()["detail"].to_string();
    assert!(
        reply.status == 404 && detail.contains("did you mean lua?") && detail.contains("builtin"),
        "{detail}"
    );
}

fn languages_of_this_host_become_packages_that_run_their_test_programs(who: Who) {
    let daemon = Daemon::start(who);
    for (language, program, test) in [
        ("perl", "perl", "perl/test.pl"),
        ("javascript", "node", "javascript/test.js"),
        ("lua", "lua", "lua/test.lua"),
        ("ruby", "ruby", "ruby/test.rb"),
        ("php", "php", "php/test.php"),
    ] {
        if is_on_this_host(program) {
            passes_from_this_host(&daemon, language, test);
        }
    }
    let request = json!({"from": "host", "name": "node"});
    let reply = daemon.send("POST", "/api/v3/make", &request);
    let detail = reply.json()["detail"].to_string();
    assert!(
        reply.status == 422 && detail.contains("did you mean `javascript`"),
        "{detail}"
    );
}

fn toolchains_of_this_host_become_packages_that_run_their_test_programs(who: Who) {
    // They are large: each is made as one of the two.
    let (language, program, test) = match who {
        Who::Root => ("java", "javac", "java/Test.java"),
        Who::User => ("go", "go", "go/test.go"),
    };
    if is_on_this_host(program) {
        passes_from_this_host(&Daemon::start(who), language, test);
    }
}

#[test]
fn what_can_be_made_of_a_host_is_named_wherever_that_is_offered() {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(binary(program)).args(words).output();
        let output = output.expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let refused = said("pistond", &["make", "host", "nothing-like-it"]);
    let (_, names) = refused.split_once("what can be made is ").expect(&refused);
    let names: Vec<&str> = names.trim().split(", ").collect();
    assert!(names.contains(&"rust") && names.len() > 10, "{names:?}");
    let source = |path: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::read_to_string(root.join(path)).expect(path)
    };
    let advice = source("client/src/cli/runtime.rs");
    let texts = [
        said("pistond", &["make", "host", "--help"]),
        said("piston", &["package", "from-host", "--help"]),
        source("contrib/docs/WRITING-PACKAGES.md"),
    ];
    for name in names {
        for text in &texts {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(words.any(|word| word == name), "{name}: {text}");
        }
        let is_base = name == "base";
        assert!(
            is_base || advice.contains(&format!("(\"{name}\", &[\"{name}\"")),
            "{name}"
        );
    }
}

#[test]
fn the_rust_that_rustup_starts_becomes_a_package_that_compiles_programs() {
    // Its toolchain is mostly in a folder of root's own.
    if !(Who::Root.possible() && is_on_this_host("rustc")) {
        return;
    }
    let daemon = Daemon::start(Who::Root);
    cli(&daemon, &["package", "from-host", "base"], b"");
    // By whoever has that toolchain, found on the path.
    let folder = daemon.folder().display().to_string();
    let made = Command::new(binary("pistond"))
        .args(["make", "host", "rust", "-o", &folder])
        .output()
        .expect("pistond runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (file, notes) = (text(&made.stdout), text(&made.stderr));
    assert!(file.contains("/rust-1."), "{file}{notes}");
    cli(&daemon, &["package", "upload", file.trim()], b"");
    let test = recipe("rust/test.rs").display().to_string();
    let printed = cli(&daemon, &["run", "rust", &test], b"7\n");
    assert_eq!(printed, "OK\n", "{notes}");
    let hello = json!({"code": "fn main() { println!(\"hello {}\", std::env::args().len()); }", "args": ["x"]});
    let ran = daemon.execute("rust", &hello);
    assert_eq!(ran["run"]["stdout"], "hello 2\n", "{ran}");
    let wrong = daemon.execute("rust", &json!({"code": "fn main() { nothing(); }"}));
    let said = wrong["compile"]["stderr"].to_string();
    assert!(said.contains("cannot find function"), "{wrong}");
}

fn is_on_this_host(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output();
    require::that(program, found.is_ok(), "install it")
}

/// Makes a language of what this host has, and runs its test program.
fn passes_from_this_host(daemon: &Daemon, language: &str, test: &str) {
    let made = cli(daemon, &["package", "from-host", language], b"");
    assert!(made.contains(&format!("{language}-")), "{made}");
    let test = recipe(test).display().to_string();
    let printed = cli(daemon, &["run", language, &test], b"7\n");
    assert_eq!(printed, "OK\n", "{language}: {made}");
}
