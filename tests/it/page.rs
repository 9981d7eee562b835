//! The playground: the page itself in Debian's Chromium, and what listeners that have it are careful
//! with.

use std::process::Command;

use nix::sys::signal::Signal;
use piston_tests::browser::{Browser, Held};
use piston_tests::http::{self, Address};
use piston_tests::packages::Crafted;
use piston_tests::{Daemon, Who, binary, free_port, packages, wait_until};
use serde_json::{Value, json};

const SCREEN: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (360, 740);

/// What the page may take of a network when it is opened for the first time.
const FIRST_LOAD: u64 = 300_000;

/// A daemon with bash and the page on TCP, and where the page is.
fn served(settings: &str) -> (Daemon, String) {
    let port = free_port();
    let config = format!(
        "[[http.listeners]]\naddress = \"{port}\"\npage = true\n{settings}\n[limits.run]\nwall_time = \"1m\"\n"
    );
    let daemon = Daemon::start_with(Who::User, &config, &[]);
    packages::install(&daemon, &["bash"]);
    (daemon, format!("http://{port}/play/"))
}

/// Replaces what is in the editor.
fn write(browser: &mut Browser, text: &str) {
    browser.click("#editor");
    browser.rewrite(text);
}

/// The secret of a token with a role.
fn token(daemon: &Daemon, role: &str) -> String {
    let made = daemon.cli(&["--json", "token", "create", "--role", role], b"");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    made["secret"].as_str().expect("a secret").to_owned()
}

fn fill(browser: &mut Browser, field: &str, text: &str) {
    browser.click(field);
    browser.rewrite(text);
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let value = browser.eval(&format!("document.querySelector({selector:?}).innerText"));
    value.as_str().unwrap_or_default().to_owned()
}

fn written(browser: &mut Browser) -> String {
    let value = browser.eval(
        "document.querySelector('#editor').shadowRoot.querySelector('.cm-content').innerText",
    );
    value.as_str().unwrap_or_default().to_owned()
}

fn until_state(browser: &mut Browser, start: &str) {
    browser.until(&format!(
        "document.querySelector('#state').innerText.startsWith({start:?})"
    ));
}

fn focus(browser: &mut Browser) -> String {
    let id =
        browser.eval("document.activeElement.id || document.activeElement.getAttribute('role') || document.activeElement.dataset.view");
    id.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_page_loads_little_complains_of_nothing_and_runs_what_is_written() {
    let (_daemon, url) = served("");
    let mut browser = Browser::start(SCREEN);
    browser.open(&url);
    let received = browser.received();
    assert!((50_000..FIRST_LOAD).contains(&received), "{received} bytes");
    // What is typed over text that has a colour is no style of its own.
    write(&mut browser, "if :; then :; fi");
    write(
        &mut browser,
        "read name; echo \"dear $name: $1|$2\"; echo oh >&2; exit 3",
    );
    fill(&mut browser, "#stdin", "Ada");
    fill(&mut browser, "#args", "one 'two words'");
    browser.click("#run");
    until_state(&mut browser, "Exit code 3");
    assert_eq!(
        text(&mut browser, "#output .stdout").trim(),
        "dear Ada: one|two words"
    );
    assert_eq!(text(&mut browser, "#output .stderr").trim(), "oh");
    let figures = text(&mut browser, "#figures");
    for word in ["Memory", "CPU", "Making the sandbox", "Running"] {
        assert!(figures.contains(word), "{figures}");
    }
    browser.picture("ran");
    // The next visit begins where this one ended, and takes nothing a second time.
    browser.open(&url);
    assert!(written(&mut browser).contains("dear $name"));
    assert!(browser.received() < 10_000, "{}", browser.received());
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn output_comes_while_the_program_runs_and_stop_ends_it() {
    let (daemon, url) = served("");
    let mut browser = Browser::start(SCREEN);
    browser.open(&url);
    write(&mut browser, "echo begun; sleep 50; echo over");
    browser.press("Enter", Held::Control);
    browser.until("document.querySelector('#output').innerText.includes('begun')");
    assert!(!daemon.has_no_jobs());
    browser.click("#stop");
    until_state(&mut browser, "Stopped");
    wait_until("the job is gone", || daemon.has_no_jobs());
    // It can be run again, and what a signal or a limit ends says so.
    write(&mut browser, "kill -SEGV $$");
    browser.click("#run");
    until_state(&mut browser, "Ended by SIGSEGV");
    write(&mut browser, "while :; do :; done");
    browser.click("#run");
    until_state(&mut browser, "Out of time after ");
    write(&mut browser, "echo again");
    browser.click("#run");
    until_state(&mut browser, "Finished");
    assert_eq!(text(&mut browser, "#output").trim(), "again");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_program_that_reads_while_it_runs_is_talked_with() {
    let (daemon, url) = served("tokens = true");
    let secret = token(&daemon, "execute");
    let mut browser = Browser::start(SCREEN);
    browser.open_to(&url, "document.querySelector('dialog[open]') !== null");
    browser.write(&secret);
    browser.press("Enter", Held::Nothing);
    browser.until("document.body.dataset.ready !== undefined");
    write(
        &mut browser,
        "echo who; read name; echo \"dear $name\"; cat; echo over",
    );
    browser.click("#live");
    browser.click("#run");
    browser.until("document.querySelector('#output').innerText.includes('who')");
    assert_eq!(focus(&mut browser), "line");
    browser.write("Ada");
    browser.press("Enter", Held::Nothing);
    browser.until("document.querySelector('#output').innerText.includes('dear Ada')");
    browser.click("#end");
    until_state(&mut browser, "Finished");
    let printed = text(&mut browser, "#output");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines, ["who", "Ada", "dear Ada", "over"]);
    // Stop ends such a job as well.
    browser.click("#run");
    browser.until("document.querySelector('#output').innerText.trim() === 'who'");
    browser.click("#stop");
    until_state(&mut browser, "Stopped");
    wait_until("the job is gone", || daemon.has_no_jobs());
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_shared_link_brings_the_whole_program_and_runs_nothing() {
    let (daemon, url) = served("");
    let mut author = Browser::start(SCREEN);
    author.open(&url);
    write(&mut author, ". ./words.sh; echo \"$word\"");
    author.click("#add");
    author.rewrite("words.sh");
    author.press("Enter", Held::Nothing);
    write(&mut author, "word='na\u{ef}ve \u{1f600}'");
    fill(&mut author, "#stdin", "in");
    fill(&mut author, "#args", "--flag");
    author.click("#share");
    author.until("location.hash.length > 1");
    let link = author.eval("location.href");
    assert_eq!(author.complaints(), [""; 0]);
    drop(author);

    let mut reader = Browser::start(SCREEN);
    reader.open(link.as_str().expect("a link"));
    assert!(written(&mut reader).contains(". ./words.sh"));
    let fields = reader
        .eval("[document.querySelector('#stdin').value, document.querySelector('#args').value]");
    assert_eq!(fields, json!(["in", "--flag"]));
    assert_eq!(text(&mut reader, "#output"), "");
    assert!(daemon.has_no_jobs());
    reader.click("#run");
    until_state(&mut reader, "Finished");
    assert_eq!(text(&mut reader, "#output").trim(), "na\u{ef}ve \u{1f600}");
    // With the first change it is the reader's own.
    write(&mut reader, "echo mine");
    reader.until("location.hash === ''");
    let broken = format!("{url}#p1=AAAA");
    reader.open(&broken);
    reader.until("document.querySelector('#toast').innerText.includes('cut off')");
    assert!(written(&mut reader).contains("echo mine"));
    assert_eq!(reader.complaints(), [""; 0]);
}

#[test]
fn the_page_fits_a_phone_and_is_dark_where_that_is_preferred() {
    let (_daemon, url) = served("");
    let mut browser = Browser::start(PHONE);
    browser.open(&url);
    write(&mut browser, "seq -s ' ' 1 400");
    browser.click("#run");
    until_state(&mut browser, "Finished");
    let ground = "getComputedStyle(document.querySelector('.source')).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        browser.picture(scheme);
        assert_eq!(
            browser.eval("document.documentElement.scrollWidth <= innerWidth"),
            json!(true)
        );
        grounds.push(browser.eval(ground));
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn everything_can_be_done_by_keyboard() {
    let (_daemon, url) = served("");
    let mut browser = Browser::start(SCREEN);
    browser.open(&url);
    let mut order = Vec::new();
    for _ in 0..9 {
        browser.press("Tab", Held::Nothing);
        let visible = "getComputedStyle(document.activeElement).outlineStyle === 'solid'";
        assert_eq!(
            browser.eval(visible),
            json!(true),
            "{}",
            focus(&mut browser)
        );
        order.push(focus(&mut browser));
    }
    let expected = [
        "program", "status", "runtime", "run", "share", "tab", "add", "editor", "editor",
    ];
    assert_eq!(order, expected);
    // Tab belongs to the editor, until Esc.
    browser.press("Escape", Held::Nothing);
    browser.press("Tab", Held::Nothing);
    assert_eq!(focus(&mut browser), "live");

    browser.eval("document.querySelector('#tabs [role=tab]').focus()");
    browser.press("F2", Held::Nothing);
    browser.rewrite("begin.sh");
    browser.press("Enter", Held::Nothing);
    assert_eq!(
        (
            text(&mut browser, "#tabs").trim(),
            focus(&mut browser).as_str()
        ),
        ("begin.sh", "tab")
    );
    browser.press("Tab", Held::Nothing);
    browser.press("Enter", Held::Nothing);
    browser.press("Escape", Held::Nothing);
    browser.press("ArrowLeft", Held::Nothing);
    assert_eq!(text(&mut browser, "#tabs [aria-selected=true]"), "begin.sh");
    browser.press("ArrowRight", Held::Nothing);
    browser.press("Delete", Held::Nothing);
    assert_eq!(text(&mut browser, "#tabs").trim(), "begin.sh");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn where_a_token_is_needed_the_page_comes_without_one_and_asks_for_it() {
    let (daemon, url) = served("tokens = true\nrate = \"1/h\"");
    let secret = token(&daemon, "execute");
    let mut browser = Browser::start(SCREEN);
    browser.open_to(&url, "document.querySelector('dialog[open]') !== null");
    browser.write("pst_1_2");
    browser.press("Enter", Held::Nothing);
    browser.until("document.querySelector('dialog[open] p')?.innerText.includes('not known')");
    browser.write(&secret);
    browser.press("Enter", Held::Nothing);
    browser.until("document.body.dataset.ready !== undefined");
    browser.click("#run");
    until_state(&mut browser, "Finished");
    assert!(text(&mut browser, "#output").contains("Hello, world!"));
    // It is gone with its tab: nothing that stays holds it.
    let kept = browser.eval("JSON.stringify(localStorage) + document.cookie + location.href");
    assert!(!kept.to_string().contains(&secret));
}

/// A folder with one package as a repository of the daemon.
fn offer(daemon: &Daemon) {
    let folder = daemon.folder().join("repo");
    std::fs::create_dir(&folder).expect("a folder");
    let platform = format!("test-{}", std::env::consts::ARCH);
    Crafted {
        info: json!({
            "language": "mark", "version": "1.2.0", "author": "A Tester <a@tester>",
            "dependencies": {}, "build_platform": platform, "aliases": [], "mount": "/",
        }),
        files: &[("usr/share/mark", "mark")],
        scripts: &[("run", "#!/bin/sh\n")],
        compressor: "gzip",
    }
    .write(&folder);
    let mut index = Command::new(binary("pistond"));
    let indexed = index.arg("index").arg(&folder).status();
    assert!(indexed.expect("pistond").success());
    let url = json!({"url": format!("file://{}/index.yaml", folder.display())});
    assert!(daemon.send("PUT", "/api/v3/repos/local", &url).status < 300);
    daemon.get("/api/v3/repos/local/packages?sync=true");
}

#[test]
fn an_admin_installs_and_removes_packages_and_sees_how_busy_the_daemon_is() {
    let (daemon, url) = served("role = \"admin\"\ntokens = true");
    offer(&daemon);
    let secret = token(&daemon, "admin");
    let mut browser = Browser::start(SCREEN);
    browser.open_to(&url, "document.querySelector('dialog[open]') !== null");
    browser.write(&secret);
    browser.press("Enter", Held::Nothing);
    browser.until("document.body.dataset.ready !== undefined");

    browser.click("[data-view=packages]");
    browser.until("document.querySelectorAll('#packages .package').length > 2");
    browser.click("#filter");
    browser.write("mark");
    browser.until("document.querySelectorAll('#packages .package').length === 1");
    browser.click("#packages .package button");
    browser
        .until("document.querySelector('#packages .problem').innerText === 'mark is installed.'");
    assert_eq!(daemon.get("/api/v3/packages/mark/1.2.0").status, 200);
    let languages = "document.querySelector('#runtime').innerText";
    assert!(browser.eval(languages).to_string().contains("mark 1.2.0"));
    browser.click("#packages .package.installed button");
    browser.until("document.querySelector('#packages .package:not(.installed)') !== null");
    assert_eq!(daemon.get("/api/v3/packages/mark/1.2.0").status, 404);
    browser.picture("packages");

    browser.click("[data-view=status]");
    browser.until("document.querySelector('#status .tiles')?.children.length > 4");
    daemon.execute("bash", &json!({"code": "echo hello"}));
    for (chart, line) in [
        ("Jobs", 0),
        ("Jobs that ended", 0),
        ("Time of a job", 1),
        ("Cache of jobs", 0),
        ("Kept of jobs", 0),
        ("Filesystem, bytes", 0),
    ] {
        let drawn = format!(
            "document.querySelectorAll('[aria-label=\"{chart}\"] polyline')[{line}].getAttribute('points') > ''"
        );
        browser.until(&drawn);
    }
    browser.picture("status");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn who_may_only_run_programs_sees_no_packages_and_of_the_status_what_all_may_see() {
    let (_daemon, url) = served("");
    let mut browser = Browser::start(PHONE);
    browser.open(&url);
    assert_eq!(
        browser.eval("document.querySelector('[data-view=packages]').hidden"),
        json!(true)
    );
    browser.click("[data-view=status]");
    browser.until("document.querySelector('#status polyline')?.getAttribute('points') > ''");
    assert_eq!(
        browser.eval("document.querySelectorAll('#status .chart').length"),
        json!(1)
    );
    assert_eq!(
        browser.eval("document.documentElement.scrollWidth <= innerWidth"),
        json!(true)
    );
    browser.click("[data-view=program]");
    browser.click("#run");
    until_state(&mut browser, "Finished");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_the_daemon_refuses_is_said_in_its_own_words() {
    let (mut daemon, url) = served("");
    let mut browser = Browser::start(SCREEN);
    browser.open(&url);
    let bash = &daemon.get("/api/v3/packages/bash").json()[0];
    let version = bash["version"].as_str().expect("a version");
    let removed = daemon.send(
        "DELETE",
        &format!("/api/v3/packages/bash/{version}"),
        &Value::Null,
    );
    assert_eq!(removed.status, 200, "{removed:?}");
    browser.click("#run");
    until_state(&mut browser, "Package not found");
    let said = text(&mut browser, "#output .problem");
    assert!(said.contains("bash"), "{said}");
    browser.open(&url);
    until_state(&mut browser, "No language is installed");

    packages::install(&daemon, &["bash"]);
    browser.open(&url);
    write(&mut browser, "echo begun; sleep 50");
    browser.click("#run");
    browser.until("document.querySelector('#output').innerText.includes('begun')");
    daemon.stop(Signal::SIGKILL);
    until_state(&mut browser, "The connection broke");
    browser.click("#run");
    until_state(&mut browser, "No answer");
}

#[test]
fn behind_a_proxys_prefix_the_page_is_the_same() {
    let port = free_port();
    let config = format!(
        "[http]\nprefix = \"/code\"\n[[http.listeners]]\naddress = \"{port}\"\npage = true\n"
    );
    let daemon = Daemon::start_with(Who::User, &config, &[]);
    packages::install(&daemon, &["bash"]);
    let mut browser = Browser::start(SCREEN);
    browser.open(&format!("http://{port}/code/"));
    browser.click("#run");
    until_state(&mut browser, "Finished");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_listener_has_the_page_where_the_operator_says_so_and_is_careful_then() {
    let ask = |daemon: &Daemon, method: &str, path: &str, headers: &[&str]| {
        http::request(&daemon.address(), method, path, headers, b"").status
    };
    let evil = ["Host: evil.example"];
    let page = ["Origin: http://evil.example"];
    let browser = ["Accept: text/html,*/*;q=0.8"];
    let kill = "/api/v3/jobs/00000000000000000000000000000000";

    let daemon = Daemon::start(Who::User);
    assert_eq!(ask(&daemon, "GET", "/play/", &[]), 404);
    assert_eq!(ask(&daemon, "GET", "/", &browser), 200);
    assert_eq!(ask(&daemon, "GET", "/api/v3/packages", &evil), 200);
    drop(daemon);

    let port = free_port();
    let config = format!("[http]\nsocket_page = true\nlisten = [\"{port}\"]\n");
    let daemon = Daemon::start_with(Who::User, &config, &[]);
    assert_eq!(ask(&daemon, "GET", "/play/", &[]), 200);
    // Who asks for the address alone gets to the page with a browser, else the words of v2.
    assert_eq!(ask(&daemon, "GET", "/", &browser), 307);
    assert_eq!(ask(&daemon, "GET", "/", &[]), 200);
    assert_eq!(ask(&daemon, "GET", "/api/v3/packages", &[]), 200);
    for path in ["/play/", "/api/v3/packages", "/metrics"] {
        assert_eq!(ask(&daemon, "GET", path, &evil), 403, "{path}");
    }
    assert_eq!(ask(&daemon, "DELETE", kill, &page), 403);
    assert_eq!(ask(&daemon, "DELETE", kill, &[]), 404);
    assert!(daemon.cli(&["status"], b"").status.success());
    let tcp = http::request(&Address::Tcp(port), "GET", "/play/", &[], b"");
    assert_eq!(tcp.status, 404);
}
