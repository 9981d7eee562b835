//! Packages of images: from a real registry on loopback that asks who asks or does not, from folders
//! and archives; programs run in them.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use piston_tests::{Daemon, Who, free_port, wait_until};
use serde_json::{Value, json};

as_root_and_user!(
    an_image_of_a_registry_becomes_a_package_and_runs_programs,
    a_registry_that_asks_for_a_password_gets_the_one_that_is_for_it,
    a_registry_that_wants_a_token_is_shown_one,
    a_password_is_seen_by_nobody_while_a_registry_is_asked,
    layouts_and_archives_become_packages_and_what_is_wrong_with_one_is_told,
    layers_come_three_at_a_time_and_those_that_are_installed_do_not,
);

/// Writes an image of this machine's bash into a folder, as a layout and as `docker save` has it, and
/// pushes it where a registry is named; it has as many small layers more as are asked for.
const WRITE_IMAGE: &str = r##"
import gzip, hashlib, io, json, os, platform, re, subprocess, sys, tarfile, urllib.request
folder, registry, more = sys.argv[1:4]
here = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
other = "arm64" if here == "amd64" else "amd64"
blobs = os.path.join(folder, "blobs/sha256")
os.makedirs(blobs)

def tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, what in entries:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode, member.mtime = 0o755, 1000.5
            if isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what
                archive.addfile(member)
            else:
                member.size = len(what)
                archive.addfile(member, io.BytesIO(what))
    return out.getvalue()

def program(path):
    real = os.path.realpath(path)
    entries = [(path, open(real, "rb").read())]
    for library in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", real], capture_output=True, text=True).stdout):
        entries.append((library, open(library, "rb").read()))
    return entries

lower = tar(program("/usr/bin/bash") + [("etc/motd", b"lower"), ("opt/old/x", b"old"), ("etc/os-release", b"ID=own\n")])
upper = tar([("bin/sh", "/usr/bin/bash"), ("etc/.wh.motd", b""), ("opt/old/.wh..wh..opq", b""), ("opt/old/y", b"new"),
             ("usr/bin/start", b"#!/usr/bin/bash\nshift\nexec \"$@\"\n")])

tars = [lower, upper] + [tar([(f"opt/more/{number}", b"more")]) for number in range(int(more))]

def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()

def blob(kind, data):
    with open(os.path.join(blobs, digest(data)[7:]), "wb") as out:
        out.write(data)
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}

def config(architecture):
    return json.dumps({"architecture": architecture, "os": "linux", "config": {
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "BASH_VERSION_OF=5", "GREETING=it's ${HOME}"],
        "Entrypoint": ["start", "--"], "Cmd": ["bash"], "WorkingDir": "/srv",
        "Labels": {"org.opencontainers.image.version": "7.8"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in tars]}}).encode()

OCI = "application/vnd.oci.image."
layers = [blob(OCI + "layer.v1.tar+gzip", gzip.compress(lower, 1))] + [blob(OCI + "layer.v1.tar", one) for one in tars[1:]]
manifests = []
for architecture in (other, here):
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
        "config": blob(OCI + "config.v1+json", config(architecture)), "layers": layers}).encode()
    one = blob(OCI + "manifest.v1+json", data)
    manifests.append({**one, "platform": {"os": "linux", "architecture": architecture}})
index = json.dumps({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": manifests}).encode()
open(os.path.join(folder, "index.json"), "wb").write(index)
open(os.path.join(folder, "oci-layout"), "w").write('{"imageLayoutVersion": "1.0.0"}')

mine = config(here)
name = digest(mine)[7:] + ".json"
with tarfile.open(os.path.join(folder, "saved.tar.gz"), "w:gz") as saved:
    members = [(f"{number}/layer.tar", one) for number, one in enumerate(tars)]
    for path, data in [(name, mine)] + members + [("manifest.json", json.dumps(
            [{"Config": name, "RepoTags": ["team/shell:5.2"], "Layers": [path for path, _ in members]}]).encode())]:
        member = tarfile.TarInfo(path)
        member.size = len(data)
        saved.addfile(member, io.BytesIO(data))

def send(method, url, data, kind):
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)

if registry:
    top = f"http://{registry}/v2/team/shell"
    for name in os.listdir(blobs):
        place = send("POST", f"{top}/blobs/uploads/", b"", "text/plain").headers["Location"]
        joint = "&" if "?" in place else "?"
        data = open(os.path.join(blobs, name), "rb").read()
        send("PUT", f"{place}{joint}digest=sha256:{name}", data, "application/octet-stream")
    for one in manifests:
        data = open(os.path.join(blobs, one["digest"][7:]), "rb").read()
        send("PUT", f"{top}/manifests/{one['digest']}", data, one["mediaType"])
    send("PUT", f"{top}/manifests/5.2-slim", index, OCI + "index.v1+json")
print(manifests[1]["digest"])
"##;

/// Serves the layouts in a folder by their names, and tells at `/told` which layers it was asked for since
/// it last told, and how many at most at once; the first ones wait for others to be asked for too.
const COUNTING_REGISTRY: &str = r#"
import http.server, json, os, sys, threading
folder = sys.argv[1]
change = threading.Condition()
asked, now, most = [], 0, 0

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        global asked, now, most
        *_, image, kind, name = ["", ""] + self.path.split("/")
        if name == "told":
            data = json.dumps({"asked": asked, "most": most}).encode()
            asked, most = [], 0
        elif name.startswith("sha256:"):
            data = open(os.path.join(folder, image, "blobs", name.replace(":", "/")), "rb").read()
        else:
            data = open(os.path.join(folder, image, "index.json"), "rb").read()
        is_layer = kind == "blobs" and not data.startswith(b"{")
        if is_layer:
            with change:
                asked.append(name)
                now += 1
                most = max(most, now)
                change.notify_all()
                if len(asked) <= 3:
                    change.wait_for(lambda: most > 3, 0.5)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if is_layer:
            with change:
                now -= 1
        self.wfile.write(data)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Makes tokens as the registry wants them, for who knows the password; its address is printed.
const TOKEN_SERVER: &str = r#"
import base64, http.server, json, subprocess, sys, time, urllib.parse
key, certificate = sys.argv[1:3]
lines = open(certificate).read().split("\n")
der = "".join(line for line in lines if line and not line.startswith("-"))
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        wanted = "Basic " + base64.b64encode(b"ann:tr0ub4dor").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.end_headers()
            return
        kind, name, actions = asked["scope"][0].split(":")
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {"iss": "tokens", "sub": "ann", "aud": asked["service"][0], "exp": now + 300, "nbf": now - 10,
            "iat": now - 10, "jti": "1", "access": [{"type": kind, "name": name, "actions": actions.split(",")}]}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), capture_output=True).stdout
        body = json.dumps({"token": text + "." + b64(signature)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// A process of the test's own, ended with it.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A registry over a folder, which keeps its images from one to the next.
fn registry(folder: &Path, auth: &Value) -> (Helper, SocketAddr) {
    let address = free_port();
    let store = folder.join("registry");
    let config = json!({
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": store}},
        "http": {"addr": address.to_string(), "secret": "x"},
        "auth": auth,
    });
    let mut config = config;
    if auth.is_null() {
        config.as_object_mut().expect("an object").remove("auth");
    }
    let file = folder.join("registry.yml");
    // JSON is YAML.
    fs::write(&file, config.to_string()).expect("written");
    let log = fs::File::create(folder.join("registry.log")).expect("a log");
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("docker-registry is there (Debian: apt-get install docker-registry)");
    let helper = Helper(child);
    wait_until("the registry listens", || {
        TcpStream::connect(address).is_ok()
    });
    (helper, address)
}

/// A server in Python, and the port that it prints.
fn python_server(program: &str, arguments: &[&Path]) -> (Helper, u16) {
    let server = Command::new("python3")
        .args(["-c", program])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is there");
    let mut server = Helper(server);
    let mut port = String::new();
    let out = server.0.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut port).expect("a port");
    (server, port.trim().parse().expect("a port"))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    folder
}

/// Writes the image into a folder and pushes it; the digest of this machine's manifest.
fn write_image(folder: &Path, registry: Option<SocketAddr>) -> String {
    write_image_of(folder, registry, 0)
}

/// The same with more layers.
fn write_image_of(folder: &Path, registry: Option<SocketAddr>, more: usize) -> String {
    let output = Command::new("python3")
        .args(["-c", WRITE_IMAGE])
        .arg(folder)
        .arg(registry.map_or_else(String::new, |address| address.to_string()))
        .arg(more.to_string())
        .output()
        .expect("python3 is there (Debian: apt-get install python3)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A registry that has the image, started anew with `auth`.
fn registry_with_image(folder: &Path, auth: &Value) -> (Helper, SocketAddr) {
    let (open, address) = registry(folder, &Value::Null);
    write_image(&folder.join("image"), Some(address));
    drop(open);
    registry(folder, auth)
}

/// Runs a command of the CLI: whether it worked, and what it prints.
fn cli(daemon: &Daemon, words: &[&str], input: &[u8]) -> (bool, String) {
    let output = daemon.cli(words, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.success(), printed)
}

fn works(daemon: &Daemon, words: &[&str]) -> String {
    let (worked, printed) = cli(daemon, words, b"");
    assert!(worked, "{words:?}: {printed}\n{}", daemon.log());
    printed
}

fn nothing_is_left(daemon: &Daemon) {
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

/// What shows each part of the image: its files, its whiteouts, its variables, its entry point.
const PROGRAM: &str = "\
    [ -e /etc/motd ] || echo no motd\n\
    [ -e /opt/old/x ] || echo \"old $(</opt/old/y)\"\n\
    echo \"$GREETING\"; echo \"$1\"";
const PRINTS: &str = "no motd\nold new\nit's ${HOME}\nhi\n";

fn prints(daemon: &Daemon, package: &str) -> Value {
    let job = json!({"code": PROGRAM, "args": ["hi"]});
    daemon.execute(package, &job)["run"]["stdout"].clone()
}

fn an_image_of_a_registry_becomes_a_package_and_runs_programs(who: Who) {
    let folder = folder();
    let (_registry, address) = registry(folder.path(), &Value::Null);
    let digest = write_image(&folder.path().join("image"), Some(address));
    let daemon = Daemon::start(who);
    let image = format!("{address}/team/shell:5.2-slim");
    let printed = works(&daemon, &["package", "from-oci", &image, "--alias", "sh"]);
    assert!(
        printed.contains("made and installed shell-5.2.0")
            && printed.contains(&format!("made of {image}, {digest}"))
            && printed.contains("runs programs with the image's command: start -- bash"),
        "{printed}"
    );
    assert_eq!(prints(&daemon, "shell"), PRINTS);
    let package = &daemon.get("/api/v3/packages/shell").json()[0];
    assert_eq!(
        package["layers"].as_array().map(Vec::len),
        Some(1),
        "{package}"
    );
    let program = folder.path().join("program.sh");
    fs::write(&program, PROGRAM).expect("written");
    let printed = works(
        &daemon,
        &["run", "sh", &program.display().to_string(), "--", "hi"],
    );
    assert_eq!(printed, PRINTS);

    // A package for each layer: what another image on the same ones adds is its own package.
    let each = |name: &str| {
        let words = ["package", "from-oci", &image, "--layers", "--name", name];
        works(&daemon, &words)
    };
    let printed = each("first");
    assert!(
        printed.contains("layer-") && printed.contains("first-5.2.0"),
        "{printed}"
    );
    assert_eq!(prints(&daemon, "first"), PRINTS);
    let layers = daemon.get("/api/v3/packages/first").json()[0]["layers"].clone();
    let layers = layers.as_array().map_or(0, Vec::len);
    assert!(layers > 2, "{layers}");
    let printed = each("second");
    assert!(
        printed.contains("made and installed second-5.2.0"),
        "{printed}"
    );
    assert_eq!(prints(&daemon, "second"), PRINTS);
    let request = json!({"from": "oci", "image": image, "layers": true, "install": false});
    let reply = daemon.send("POST", "/api/v3/make", &request);
    assert!(reply.status == 422 && reply.json()["detail"].to_string().contains("`layers`"));

    // By its digest, and to a file: the same again is the same file.
    let image = format!("{address}/team/shell@{digest}");
    let files = ["one", "two"].map(|name| {
        let file = daemon.data().with_file_name(format!("{name}.pkg.tar.gz"));
        let file = file.display().to_string();
        works(
            &daemon,
            &["package", "from-oci", &image, "--name", "x", "-o", &file],
        );
        fs::read(file).expect("a package file")
    });
    assert!(files[0] == files[1] && !files[0].is_empty());
    for (image, reason) in [
        (format!("{address}/team/shell:6"), "has no such image (404)"),
        (format!("{address}/team/other"), "has no such image (404)"),
        (
            format!("{address}/team/shell@sha256:{}", "0".repeat(64)),
            "(404)",
        ),
        (format!("{}/team/shell", free_port()), "cannot pull"),
        ("Shell".to_owned(), "`Shell` names no image"),
    ] {
        let (worked, printed) = cli(&daemon, &["package", "from-oci", &image], b"");
        let short = image.split('@').next().unwrap_or_default();
        assert!(
            !worked && printed.contains(reason) && printed.contains(short),
            "{image}: {printed}"
        );
    }
    nothing_is_left(&daemon);
}

fn a_registry_that_asks_for_a_password_gets_the_one_that_is_for_it(who: Who) {
    let folder = folder();
    let users = folder.path().join("users");
    // tr0ub4dor, as `htpasswd -B` writes it.
    fs::write(
        &users,
        "ann:$2b$05$exScAscHpL7b54j4KVolSOPNpEwm/4F8FW5fhNdQcQ5gjP1p3UXc6\n",
    )
    .expect("written");
    let auth = json!({"htpasswd": {"realm": "here", "path": users}});
    let (_registry, address) = registry_with_image(folder.path(), &auth);
    let image = format!("{address}/team/shell:5.2");
    let auth_file = folder.path().join("config.json");
    let entry = json!({ "auth": "YW5uOnRyMHViNGRvcg==" });
    fs::write(
        &auth_file,
        json!({"auths": {"127.0.0.1:1": entry}}).to_string(),
    )
    .expect("written");
    fs::set_permissions(&auth_file, fs::Permissions::from_mode(0o644)).expect("mode");
    let config = format!("[packages]\nregistry_auth = \"{}\"\n", auth_file.display());
    let daemon = Daemon::start_with(who, &config, &[]);
    let image = image.replace(":5.2", ":5.2-slim");
    let from = ["package", "from-oci", &image];
    let (worked, printed) = cli(&daemon, &from, b"");
    assert!(
        !worked
            && printed.contains("without a user's name and password")
            && printed.contains(&image),
        "{printed}"
    );
    let with = |password: &[u8]| {
        let words = [
            &from[..],
            &["--username", "ann", "--password-stdin", "--name", "x"],
        ]
        .concat();
        cli(&daemon, &words, password)
    };
    let (worked, printed) = with(b"wr0ng-w0rd\n");
    assert!(!worked && printed.contains("to the user ann"), "{printed}");
    assert!(
        !printed.contains("wr0ng") && !daemon.log().contains("wr0ng"),
        "{printed}"
    );
    let (worked, printed) = with(b"tr0ub4dor\n");
    assert!(worked, "{printed}");
    // The operator's file is read when it is needed: now it has one for this registry.
    let auths = json!({ "auths": { address.to_string(): entry } });
    fs::write(&auth_file, auths.to_string()).expect("written");
    works(&daemon, &from);
    assert_eq!(prints(&daemon, "shell"), PRINTS);
    a_recipe_changes_what_is_made_of_an_image(&daemon, &image, &auth_file);
    assert!(!daemon.log().contains("tr0ub4dor"));
}

/// A recipe with everything that it may have, of an image that is not given to everybody.
fn a_recipe_changes_what_is_made_of_an_image(daemon: &Daemon, image: &str, auth_file: &Path) {
    let folder = folder();
    let recipe = format!(
        r#"
language = "loud"
version = "2.0.0"
aliases = ["shout"]
artifacts = ["program"]
remove = ["/opt/old"]

[oci]
image = "{image}"

[environment]
GREETING = "hi there"

[links]
"/usr/local/bin/shell" = "/usr/bin/bash"

[files]
"/etc/motd" = "of the recipe"

[test]
loud = "test.sh"
"#
    );
    let run = "#!/usr/bin/bash\nshift\nexec /usr/local/bin/shell program \"$@\"\n";
    let compile = "#!/usr/bin/bash\nprintf 'echo compiled\\n%s' \"$(<\"$1\")\" >program\n";
    for (name, text) in [
        ("recipe.toml", &*recipe),
        ("run", run),
        ("compile", compile),
    ] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let path = folder.path().display().to_string();
    let printed = works(daemon, &["package", "build", &path]);
    assert!(
        printed.contains("made and installed loud-2.0.0"),
        "{printed}"
    );
    let code = "echo \"$GREETING, $BASH_VERSION_OF\"; [ -e /opt/old ] || echo no old\n\
                echo \"$(</etc/motd)\"; echo \"$1\"";
    let ran = daemon.execute("loud", &json!({"code": code, "args": ["x"]}));
    let expected = "compiled\nhi there, 5\nno old\nof the recipe\nx\n";
    assert_eq!(ran["run"]["stdout"], expected, "{ran}");

    // Without a daemon, with credentials and without.
    let make = |words: &[&str]| {
        let output = Command::new(piston_tests::binary("pistond"))
            .args(["make", "recipe", &path, "-o", &path])
            .args(words)
            .output()
            .expect("pistond runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    let (worked, said) = make(&[]);
    assert!(!worked && said.contains("without a user's name"), "{said}");
    let (worked, said) = make(&["--auth-file", &auth_file.display().to_string()]);
    assert!(worked && said.contains("made of"), "{said}");
    assert!(folder.path().join("loud-2.0.0.pkg.tar.gz").is_file());
}

fn a_registry_that_wants_a_token_is_shown_one(who: Who) {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let (key, certificate) = (path("key.pem"), path("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=tokens",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{made:?}");
    let (_server, port) = python_server(TOKEN_SERVER, &[&key, &certificate]);
    let realm = format!("http://127.0.0.1:{port}/token");
    let auth = json!({"token": {"realm": realm, "service": "here", "issuer": "tokens",
        "rootcertbundle": certificate}});
    let (_registry, address) = registry_with_image(folder.path(), &auth);
    let daemon = Daemon::start(who);
    let image = format!("{address}/team/shell:5.2-slim");
    let request = |password: &str| json!({"from": "oci", "image": image, "username": "ann", "password": password});
    let refused = daemon.send("POST", "/api/v3/make", &request("wr0ng-w0rd"));
    let detail = refused.json()["detail"].to_string();
    assert!(
        refused.status == 422 && detail.contains("to the user ann"),
        "{detail}"
    );
    assert!(!detail.contains("wr0ng"), "{detail}");
    let made = daemon.send("POST", "/api/v3/make", &request("tr0ub4dor"));
    assert_eq!(made.status, 200, "{}\n{}", made.json(), daemon.log());
    assert_eq!(prints(&daemon, "shell"), PRINTS);
    nothing_is_left(&daemon);
}

fn a_password_is_seen_by_nobody_while_a_registry_is_asked(who: Who) {
    let daemon = Daemon::start(who);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let request = json!({"from": "oci", "image": format!("{address}/team/shell"), "username": "ann",
        "password": "s3cret-w0rd"});
    let asking = piston_tests::http::begin(
        &daemon.address(),
        "POST",
        "/api/v3/make",
        &[],
        request.to_string().as_bytes(),
    );
    // Somebody is asked, and does not answer: the maker waits.
    let (mut asked, _) = silent.accept().expect("the maker asks");
    let mut first = [0; 4];
    asked.read_exact(&mut first).expect("a request");
    assert_eq!(&first, b"GET ");
    let processes = fs::read_dir("/proc")
        .expect("processes")
        .filter_map(Result::ok);
    let arguments = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let arguments: Vec<String> = arguments
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    let shown = address.to_string();
    let makers = arguments
        .iter()
        .filter(|words| words.contains(&shown))
        .count();
    assert_eq!(makers, 1, "{arguments:?}");
    assert!(!arguments.iter().any(|words| words.contains("s3cret-w0rd")));
    drop(asking);
    let gone = || {
        let left = fs::read_dir(daemon.data().join("staging")).expect("staging");
        left.count() == 0
    };
    wait_until("who hangs up ends the maker", gone);
    assert!(!daemon.log().contains("s3cret-w0rd"));
}

fn layouts_and_archives_become_packages_and_what_is_wrong_with_one_is_told(who: Who) {
    let daemon = Daemon::start(who);
    let layout = daemon.folder().join("shell");
    write_image(&layout, None);
    let path = |name: &str| layout.join(name).display().to_string();
    let from = |image: &str, words: &[&str]| {
        cli(
            &daemon,
            &[&["package", "from-oci", image], words].concat(),
            b"",
        )
    };
    let (worked, printed) = from(&path(""), &["--version", "1.2.3"]);
    assert!(
        worked && printed.contains("installed shell-1.2.3"),
        "{printed}"
    );
    let (worked, printed) = from(
        &format!("{}:5.2", path("saved.tar.gz")),
        &["--name", "saved"],
    );
    assert!(
        worked && printed.contains("installed saved-5.2.0"),
        "{printed}"
    );
    for package in ["shell", "saved"] {
        assert_eq!(prints(&daemon, package), PRINTS, "{package}");
    }
    // Another layer than the image says.
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("blobs");
    let blobs = blobs.map(|entry| entry.expect("an entry").path());
    let largest = blobs.max_by_key(|path| fs::metadata(path).expect("facts").len());
    let largest = largest.expect("a layer");
    let mut bytes = fs::read(&largest).expect("a layer");
    bytes[100] ^= 1;
    fs::write(&largest, bytes).expect("written");
    let name = largest
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let (worked, printed) = from(&path(""), &["--name", "other"]);
    assert!(
        !worked && printed.contains(&format!("layer 1 (sha256:{name}) is sha256:")),
        "{printed}"
    );
    let (worked, printed) = from("/etc/passwd", &[]);
    assert!(
        !worked && printed.contains("neither an image layout"),
        "{printed}"
    );
    assert!(!printed.contains("root:"), "{printed}");
    let packages = daemon.get("/api/v3/packages").json();
    assert_eq!(packages.as_array().map(Vec::len), Some(2), "{packages}");
    nothing_is_left(&daemon);
}

fn layers_come_three_at_a_time_and_those_that_are_installed_do_not(who: Who) {
    let folder = folder();
    write_image_of(&folder.path().join("one"), None, 4);
    write_image_of(&folder.path().join("other"), None, 5);
    let (_server, port) = python_server(COUNTING_REGISTRY, &[folder.path()]);
    let address = format!("127.0.0.1:{port}");
    let told = || {
        let server = piston_tests::http::Address::Tcp(([127, 0, 0, 1], port).into());
        let told = piston_tests::http::request(&server, "GET", "/told", &[], b"").json();
        (
            told["asked"].as_array().map_or(0, Vec::len),
            told["most"].clone(),
        )
    };
    let daemon = Daemon::start(who);
    let from = |image: &str, words: &[&str]| {
        let image = format!("{address}/team/{image}:1.2.3");
        works(&daemon, &[&["package", "from-oci", &image], words].concat())
    };
    from("one", &["--name", "whole"]);
    assert_eq!(told(), (6, json!(3)));
    let printed = from("one", &["--layers"]);
    assert!(!printed.contains("installed already"), "{printed}");
    assert_eq!(told().0, 6);
    let printed = from("other", &["--layers"]);
    let note = "6 of its 7 layers are installed already: they were not fetched";
    assert!(printed.contains(note), "{printed}");
    assert_eq!(told().0, 1);
    let printed = from("other", &["--layers", "--name", "again"]);
    assert!(printed.contains("7 of its 7 layers"), "{printed}");
    assert_eq!(told().0, 0);
    let job = json!({"code": "echo /opt/more/*; [ -e /etc/motd ] || echo no motd"});
    for (package, more) in [("one", 4), ("other", 5), ("again", 5)] {
        let files: Vec<String> = (0..more)
            .map(|number| format!("/opt/more/{number}"))
            .collect();
        let expected = format!("{}\nno motd\n", files.join(" "));
        let run = &daemon.execute(package, &job)["run"];
        assert_eq!(run["stdout"], expected, "{package}: {run}");
    }
    nothing_is_left(&daemon);
}

/// The daemon can't see the files: they are the test's own user's.
#[test]
fn a_daemon_that_is_reached_over_tcp_is_sent_the_files() {
    let port = free_port();
    let config =
        format!("[[http.listeners]]\naddress = \"{port}\"\nrole = \"admin\"\ntokens = true\n");
    let daemon = Daemon::start_with(Who::User, &config, &[]);
    let words = ["--json", "token", "create", "--role", "admin"];
    let made: Value = serde_json::from_slice(&daemon.cli(&words, b"").stdout).expect("JSON");
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let remote = |words: &[&str]| {
        let output = Command::new(piston_tests::binary("piston"))
            .args(words)
            .env("PISTON_HOST", format!("http://{port}"))
            .env("PISTON_TOKEN", made["secret"].as_str().expect("a secret"))
            .output()
            .expect("piston runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (output.status.success(), printed)
    };
    write_image(&folder.path().join("judge"), None);
    let (worked, printed) = remote(&["package", "from-oci", &path("judge"), "--alias", "j"]);
    assert!(worked && printed.contains("judge-7.8.0"), "{printed}");
    let archive = format!("{}:5.2", path("judge/saved.tar.gz"));
    let (worked, printed) = remote(&[
        "package", "from-oci", &archive, "--name", "other", "--layers",
    ]);
    assert!(worked && printed.contains("other-5.2.0"), "{printed}");
    assert!(
        printed.contains("made of saved.tar.gz, sha256:"),
        "{printed}"
    );
    for package in ["judge", "other"] {
        assert_eq!(prints(&daemon, package), PRINTS, "{package}");
    }
    let to = path("judge.pkg.tar.gz");
    let (worked, printed) = remote(&["package", "from-oci", &path("judge"), "-o", &to]);
    assert!(worked && Path::new(&to).is_file(), "{printed}");

    let old = folder.path().join("old");
    fs::create_dir(&old).expect("made");
    let info = r#"{"language": "hey", "version": "1.2.0", "dependencies": {}}"#;
    for (name, text) in [("pkg-info.json", info), ("run", "shift\necho \"hey $1\"\n")] {
        fs::write(old.join(name), text).expect("written");
    }
    let packed = Command::new("tar")
        .args(["czf", &path("hey.pkg.tar.gz"), "-C"])
        .arg(&old)
        .arg(".")
        .status();
    let packed = packed.expect("tar");
    assert!(packed.success());
    let from = ["package", "from-piston-v2", &path("hey.pkg.tar.gz")];
    piston_tests::packages::install(&daemon, &[]);
    let (worked, printed) = remote(&[&from[..], &["--base", "base"]].concat());
    assert!(worked && printed.contains("hey-1.2.0"), "{printed}");
    let ran = daemon.execute("hey", &json!({"code": "", "args": ["you"]}));
    assert_eq!(ran["run"]["stdout"], "hey you\n", "{ran}");

    // What is wrong is told by the names that the files have here.
    fs::write(path("text"), "x").expect("written");
    let staging = daemon.data().join("staging").display().to_string();
    for (words, reason) in [
        (["from-oci", &path("text")], "the image text: it is neither"),
        (["from-piston-v2", &path("text")], "text: it is no tar.gz"),
        (["from-oci", &path("nothing")], "nothing"),
        (["from-piston-v2", &path("nothing")], "nothing"),
    ] {
        let (worked, printed) = remote(&[&["package"][..], &words].concat());
        assert!(!worked && printed.contains(reason), "{words:?}: {printed}");
        assert!(!printed.contains(&staging), "{printed}");
    }
    nothing_is_left(&daemon);
}
