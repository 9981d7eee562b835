//! Behind real reverse proxies, configured as `contrib/proxy` says: what goes through, and how.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use piston_tests::http::{self, Address};
use piston_tests::{Daemon, Who, free_port, packages, require, wait_until};
use serde_json::{Value, json};

const EXECUTE: &str = "/api/v3/packages/bash/*/execute";
const HOST: &str = "Host: piston.example";

/// A kind of proxy: how its configuration in `contrib/proxy` becomes one of a test.
struct Kind {
    program: &'static str,
    file: &'static str,
    /// What stands there for the daemon, and how a TCP address or a socket is written.
    upstream: &'static str,
    socket: fn(&Path) -> String,
    /// What stands there for the port, and how another one is written.
    listen: &'static str,
    port: fn(SocketAddr) -> String,
    /// What else its configuration needs to run in a folder by itself.
    whole: fn(&str, &Path) -> String,
    arguments: fn(&Path) -> Vec<String>,
}

const NGINX: Kind = Kind {
    program: "nginx",
    file: "nginx.conf",
    upstream: "unix:/run/piston/web.sock",
    socket: |path| format!("unix:{}", path.display()),
    listen: "listen 80;",
    port: |port| format!("listen {port};"),
    whole: |text, folder| {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| {
            let path = folder.join(what);
            format!("{what}_temp_path {};", path.display())
        });
        let user = if nix::unistd::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        format!(
            "daemon off; {user} pid {}; error_log stderr; events {{}}\nhttp {{ access_log off; {}\n{text}}}",
            folder.join("pid").display(),
            temporary.concat(),
        )
    },
    arguments: |file| vec!["-c".to_owned(), file.display().to_string()],
};

const HAPROXY: Kind = Kind {
    program: "haproxy",
    file: "haproxy.cfg",
    upstream: "unix@/run/piston/web.sock",
    socket: |path| format!("unix@{}", path.display()),
    listen: "bind :80",
    port: |port| format!("bind {port}"),
    whole: |text, _| text.to_owned(),
    arguments: |file| {
        vec![
            "-db".to_owned(),
            "-f".to_owned(),
            file.display().to_string(),
        ]
    },
};

const CADDY: Kind = Kind {
    program: "caddy",
    file: "Caddyfile",
    upstream: "unix//run/piston/web.sock",
    socket: |path| format!("unix/{}", path.display()),
    listen: "http://piston.example {",
    port: |port| format!("http://piston.example:{} {{\nbind 127.0.0.1", port.port()),
    whole: |text, _| format!("{{\nadmin off\nauto_https off\n}}\n{text}"),
    arguments: |file| {
        let words = ["run", "--adapter", "caddyfile", "--config"];
        let words = words.into_iter().map(str::to_owned);
        words.chain([file.display().to_string()]).collect()
    },
};

/// A running proxy.
struct Proxy {
    child: Child,
    port: SocketAddr,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn start(kind: &Kind, daemon: &str) -> Self {
        Self::start_with(kind, daemon, |text| text)
    }

    /// The same with a configuration that is changed.
    fn start_with(kind: &Kind, daemon: &str, change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/proxy");
        let text = fs::read_to_string(contrib.join(kind.file)).expect("its configuration");
        for word in [kind.upstream, kind.listen] {
            assert!(text.contains(word), "{}: no {word}", kind.file);
        }
        let text = text.replacen(kind.upstream, daemon, 1);
        let text = change(text.replacen(kind.listen, &(kind.port)(port), 1));
        let file = folder.path().join(kind.file);
        fs::write(&file, (kind.whole)(&text, folder.path())).expect("written");
        let log = folder.path().join("log");
        let output = fs::File::create(&log).expect("a log");
        let child = Command::new(kind.program)
            .args((kind.arguments)(&file))
            .env("PATH", search())
            .env("HOME", folder.path())
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            .spawn()
            .expect("it starts");
        let mut proxy = Self {
            child,
            port,
            log,
            _folder: folder,
        };
        wait_until("the proxy listens", || {
            let ended = proxy.child.try_wait().expect("wait");
            assert!(ended.is_none(), "{}: {}", kind.program, proxy.said());
            TcpStream::connect(port).is_ok()
        });
        proxy
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn address(&self) -> Address {
        Address::Tcp(self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = nix::unistd::Pid::from_raw(pid);
        // nginx takes its workers along only when it is asked.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        drop(self.child.wait());
        if std::thread::panicking() {
            #[expect(clippy::print_stdout, reason = "shown for a failed test")]
            let () = println!("log of the proxy:\n{}", self.said());
        }
    }
}

fn search() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

fn there(kind: &Kind) -> bool {
    let path = search();
    let found = path
        .split(':')
        .any(|folder| Path::new(folder).join(kind.program).exists());
    require::that(kind.program, found, "contrib/test.sh installs it")
}

/// Everything through one kind of proxy, over a Unix socket and over TCP.
fn passes(kind: &Kind) {
    if !there(kind) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    Who::User.own(folder.path());
    let (socket, tcp) = (folder.path().join("web.sock"), free_port());
    let config = format!(
        "[http]\nhosts = [\"piston.example\"]\ntrusted_proxies = [\"unix\"]\n\
         [[http.listeners]]\naddress = \"{}\"\nsocket_mode = \"0666\"\n\
         [[http.listeners]]\naddress = \"{tcp}\"\n[limits.run]\nwall_time = \"1m\"\n",
        socket.display()
    );
    let daemon = Daemon::start_with(Who::User, &config, &[]);
    packages::install(&daemon, &["bash"]);
    for upstream in [(kind.socket)(&socket), tcp.to_string()] {
        let proxy = Proxy::start(kind, &upstream);
        let version = http::request(&proxy.address(), "GET", "/api/v3/version", &[HOST], b"");
        assert_eq!(version.status, 200, "{upstream}: {}", proxy.said());
        large_bodies_go_through(&proxy);
        events_come_as_they_happen_and_who_leaves_ends_the_job(&daemon, &proxy);
        who_leaves_before_the_reply_ends_the_job(&daemon, &proxy);
        websockets_go_through_and_who_leaves_ends_the_job(&daemon, &proxy);
    }
    let proxy = Proxy::start(kind, &(kind.socket)(&socket));
    the_client_is_known_and_can_say_nothing_else(&daemon, &proxy);
}

fn large_bodies_go_through(proxy: &Proxy) {
    let large = "x".repeat(12 << 20);
    let main = json!({"name": "main.sh", "content": "wc -c < large"});
    let body = json!({"files": [main, {"name": "large", "content": large}]}).to_string();
    let reply = http::request(&proxy.address(), "POST", EXECUTE, &[HOST], body.as_bytes());
    assert_eq!(reply.status, 200, "{}", proxy.said());
    assert_eq!(reply.json()["run"]["stdout"], format!("{}\n", 12 << 20));
    // What is too large for the daemon is refused in its own words.
    let body = json!({"code": "x".repeat(17 << 20)}).to_string();
    let reply = http::request(&proxy.address(), "POST", EXECUTE, &[HOST], body.as_bytes());
    assert_eq!(reply.json()["code"], "body_too_large");
}

fn sleeper(first: &str) -> String {
    json!({"code": format!("{first}; sleep 60")}).to_string()
}

/// Reads until `word` comes.
fn hear(stream: &mut dyn Read, word: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(word) {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).expect("more of the reply");
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..read]);
    }
}

fn events_come_as_they_happen_and_who_leaves_ends_the_job(daemon: &Daemon, proxy: &Proxy) {
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let headers = [HOST, &format!("Accept: {accept}")];
        let body = sleeper("echo first");
        let mut reply = http::begin(&proxy.address(), "POST", EXECUTE, &headers, body.as_bytes());
        hear(&mut *reply, "first");
        assert!(!daemon.has_no_jobs(), "it was told while it ran");
        drop(reply);
        wait_until("the job of the listener is over", || daemon.has_no_jobs());
    }
}

fn who_leaves_before_the_reply_ends_the_job(daemon: &Daemon, proxy: &Proxy) {
    let body = sleeper("true");
    let reply = http::begin(&proxy.address(), "POST", EXECUTE, &[HOST], body.as_bytes());
    wait_until("the job runs", || !daemon.has_no_jobs());
    drop(reply);
    wait_until("the job is over", || daemon.has_no_jobs());
}

fn websockets_go_through_and_who_leaves_ends_the_job(daemon: &Daemon, proxy: &Proxy) {
    let stream = TcpStream::connect(proxy.port).expect("a connection");
    let url = format!("ws://piston.example:{}{EXECUTE}", proxy.port.port());
    let (mut socket, _) = tungstenite::client(url, stream).expect("a WebSocket");
    let mut say = |message: Value| {
        let text = tungstenite::Message::text(message.to_string());
        socket.send(text).expect("sent");
    };
    let code = "read line; echo \"heard $line\"; sleep 60";
    say(json!({"type": "start", "request": {"code": code}}));
    say(json!({"type": "stdin", "data": "me\n"}));
    let mut heard = String::new();
    while !heard.contains("heard me") {
        heard.push_str(&socket.read().expect("an event").into_text().expect("text"));
    }
    assert!(!daemon.has_no_jobs());
    drop(socket);
    wait_until("the job of the WebSocket is over", || daemon.has_no_jobs());
}

fn the_client_is_known_and_can_say_nothing_else(daemon: &Daemon, proxy: &Proxy) {
    let headers = [
        HOST,
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
    ];
    let body = sleeper("true");
    let reply = http::begin(&proxy.address(), "POST", EXECUTE, &headers, body.as_bytes());
    wait_until("the job runs", || !daemon.has_no_jobs());
    assert_eq!(
        daemon.get("/api/v3/jobs").json()[0]["requester"],
        "127.0.0.1"
    );
    drop(reply);
    let foreign = ["Host: evil.example"];
    let reply = http::request(&proxy.address(), "GET", "/api/v3/version", &foreign, b"");
    assert_ne!(reply.json_or_null()["product"], "Piston");
    // A page that came by https is not the same as one that came by http.
    let body = json!({"code": "true"}).to_string();
    for (scheme, status) in [("http", 200), ("https", 403)] {
        let origin = format!("Origin: {scheme}://piston.example");
        let headers = [HOST, &origin];
        let reply = http::request(&proxy.address(), "POST", EXECUTE, &headers, body.as_bytes());
        assert_eq!(reply.status, status, "{scheme}");
    }
}

#[test]
fn all_of_it_passes_nginx() {
    passes(&NGINX);
}

#[test]
fn all_of_it_passes_haproxy() {
    passes(&HAPROXY);
}

#[test]
fn all_of_it_passes_caddy() {
    passes(&CADDY);
}

/// What openssl writes to a folder: an authority of its own, and a certificate of it for localhost.
fn certificates(folder: &Path) {
    let run = |words: &str| {
        let output = Command::new("openssl")
            .args(words.split(' '))
            .current_dir(folder)
            .output()
            .expect("openssl starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {said}");
    };
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"
    ));
    run(&format!(
        "req -new {key} -keyout web.key -out web.csr -subj /CN=localhost"
    ));
    run("x509 -req -in web.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out web.pem");
}

/// nginx that speaks TLS with the certificate in a folder.
fn with_tls(folder: &Path, tcp: SocketAddr) -> Proxy {
    Proxy::start_with(&NGINX, &tcp.to_string(), |text| {
        let plain = text
            .lines()
            .find(|line| line.trim_start().starts_with("listen "));
        let plain = plain.expect("what it listens on");
        let ssl = plain.replace(';', " ssl;");
        let file = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = (file("web.pem"), file("web.key"));
        text.replacen(
            plain,
            &format!("{ssl} ssl_certificate {certificate}; ssl_certificate_key {key};"),
            1,
        )
    })
}

/// Who uses `piston` over TLS.
struct Caller {
    port: u16,
    token: String,
}

impl Caller {
    /// What it prints, complains of and ends with, given a program on its input.
    fn piston(
        &self,
        words: &[&str],
        name: &str,
        environment: &[(&str, PathBuf)],
    ) -> (String, String, Option<i32>) {
        let mut child = Command::new(piston_tests::binary("piston"))
            .arg(format!("--host=https://{name}:{}", self.port))
            .args(words)
            .env("PISTON_TOKEN", &self.token)
            .envs(environment.iter().map(|(name, file)| (name, file)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("piston starts");
        let input = child.stdin.take().expect("piped");
        drop(std::io::Write::write_all(
            &mut &input,
            b"read -r x; echo heard $x",
        ));
        drop(input);
        let output = child.wait_with_output().expect("piston ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            text(&output.stdout),
            text(&output.stderr),
            output.status.code(),
        )
    }
}

/// The client speaks TLS with who is trusted, and with nobody else.
#[test]
fn the_client_speaks_tls_through_a_proxy_with_a_certificate_that_it_trusts() {
    if !there(&NGINX) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    certificates(folder.path());
    let tcp = free_port();
    let listener = format!("[[http.listeners]]\naddress = \"{tcp}\"\ntokens = true\n");
    let daemon = Daemon::start_with(Who::User, &listener, &[]);
    packages::install(&daemon, &["bash"]);
    let token = daemon.cli(&["token", "create"], b"").stdout;
    let token = String::from_utf8(token).expect("text");
    let proxy = with_tls(folder.path(), tcp);
    let caller = Caller {
        port: proxy.port.port(),
        token: token.trim().to_owned(),
    };
    let trusting = |variable: &'static str, file: &str| [(variable, folder.path().join(file))];
    let words = ["run", "bash", "-"];
    let heard = ("heard\n".into(), String::new(), Some(0));
    for variable in ["PISTON_CACERT", "SSL_CERT_FILE"] {
        let trusted = trusting(variable, "ca.pem");
        assert_eq!(
            caller.piston(&words, "localhost", &trusted),
            heard,
            "{variable}"
        );
    }
    let authority = folder.path().join("ca.pem").display().to_string();
    let named = ["--cacert", &authority, "run", "bash", "-"];
    // What is named goes before what is set.
    let others = trusting("PISTON_CACERT", "nowhere");
    assert_eq!(caller.piston(&named, "localhost", &others), heard);
    // A WebSocket goes the same way.
    let script = folder.path().join("x.sh");
    fs::write(&script, "read -r x; echo \"got $x\"").expect("written");
    let script = script.display().to_string();
    let interactive = ["--cacert", &authority, "run", "-i", &script];
    let (out, err, code) = caller.piston(&interactive, "localhost", &[]);
    assert_eq!(
        (out.as_str(), code),
        ("got read -r x; echo heard $x\n", Some(0)),
        "{err}"
    );
    // Certificates of somebody else, none at all, and for another name.
    let refused = |name: &str, environment: &[(&str, PathBuf)], advice: &str| {
        let (_, err, code) = caller.piston(&words, name, environment);
        assert_eq!(code, Some(125), "{err}");
        assert!(
            err.contains("certificate") && err.contains(advice),
            "{advice}: {err}"
        );
    };
    refused(
        "localhost",
        &trusting("SSL_CERT_FILE", "web.key"),
        "--cacert",
    );
    refused(
        "localhost",
        &trusting("SSL_CERT_FILE", "nowhere"),
        "--cacert",
    );
    refused(
        "127.0.0.1",
        &trusting("PISTON_CACERT", "ca.pem"),
        "have one made for this name",
    );
    the_python_client_trusts_whom_it_is_told_to(&caller, Path::new(&authority));
}

fn the_python_client_trusts_whom_it_is_told_to(caller: &Caller, authority: &Path) {
    let program = "import os, sys; from piston_client import Piston, Unreachable\n\
        print(Piston(sys.argv[1], cacert=sys.argv[2]).run('bash', 'echo one').stdout, end='')\n\
        os.environ['PISTON_CACERT'] = sys.argv[2]\n\
        print(Piston(sys.argv[1]).run('bash', 'echo two').stdout, end='')\n\
        del os.environ['PISTON_CACERT']\n\
        try: Piston(sys.argv[1]).version()\n\
        except Unreachable as error: print(error)\n";
    let output = Command::new("python3")
        .args(["-B", "-W", "error", "-c", program])
        .arg(format!("https://localhost:{}", caller.port))
        .arg(authority)
        .env("PISTON_TOKEN", &caller.token)
        .env(
            "PYTHONPATH",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/python"),
        )
        .output()
        .expect("python3 starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let refusal = out.strip_prefix("one\ntwo\n");
    let refusal = refusal.unwrap_or_else(|| panic!("{out}{err}"));
    assert!(refusal.contains("cacert"), "{refusal}");
}
