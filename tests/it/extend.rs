//! Libraries added to an installed language: from an index of our own, and numpy from the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use piston_tests::server::{Reply, Server};
use piston_tests::{Daemon, Who, http, packages, require};
use serde_json::{Value, json};

as_root_and_user!(
    libraries_are_added_to_a_language_and_found_by_its_programs,
    what_cannot_be_added_is_told_and_equal_inputs_give_equal_files,
    a_hostile_wheel_is_refused_by_name_and_leaves_nothing,
    numpy_works_on_the_python_of_the_recipe,
    javascript_libraries_are_found_by_programs_in_any_directory,
    a_hostile_registry_is_refused_by_name_and_leaves_nothing,
    files_of_a_folder_are_seen_by_jobs,
    what_can_t_be_added_of_a_folder_is_told_and_leaves_nothing,
    lodash_works_on_the_javascript_of_the_recipe,
);

/// Writes the wheels and pages of an index: a folder, then for each wheel its file name, its
/// metadata, and its files as name=text.
const WRITE_INDEX: &str = r#"
import base64, hashlib, json, os, re, sys, zipfile
root, wheels = sys.argv[1], json.loads(sys.argv[2])
pages = {}
for file, requires, members in wheels:
    name, version = file.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    members = dict(members)
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {one}\n" for one in requires)
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    record = "".join(f"{one},sha256={digest(text)},{len(text)}\n" for one, text in members.items())
    members[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = os.path.join(root, file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for one, text in members.items():
            out.writestr(zipfile.ZipInfo(one), text)
    sha256 = hashlib.sha256(open(path, "rb").read()).hexdigest()
    project = re.sub(r"[-_.]+", "-", name).lower()
    pages.setdefault(project, []).append(f'<a href="../{file}#sha256={sha256}">{file}</a><br/>')
for project, links in pages.items():
    os.makedirs(os.path.join(root, project))
    with open(os.path.join(root, project, "index.html"), "w") as out:
        out.write("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
"#;

/// Writes the packages of a registry: a folder, then for each its name, version, metadata, and its
/// files as name=text.
const WRITE_REGISTRY: &str = r#"
import base64, hashlib, io, json, os, sys, tarfile
root, packages = sys.argv[1], json.loads(sys.argv[2])
pages = {}
for number, (name, version, metadata, members) in enumerate(packages):
    own = dict(metadata, name=name, version=version)
    path = os.path.join(root, f"{number}.tgz")
    with tarfile.open(path, "w:gz") as out:
        for one, text in {**members, "package/package.json": json.dumps(own)}.items():
            entry = tarfile.TarInfo(one)
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
    sha512 = base64.b64encode(hashlib.sha512(open(path, "rb").read()).digest()).decode()
    dist = {"tarball": "file://" + path, "integrity": f"sha512-{sha512}"}
    page = pages.setdefault(name, {"dist-tags": {}, "versions": {}})
    page["dist-tags"]["latest"] = version
    page["versions"][version] = dict(own, dist=dist)
for name, page in pages.items():
    os.makedirs(os.path.join(root, name))
    with open(os.path.join(root, name, "index.json"), "w") as out:
        json.dump(page, out)
"#;

/// Writes packages of a registry whose pages or files are not what they should be.
const WRITE_HOSTILE: &str = r#"
import base64, hashlib, io, json, os, sys, tarfile
root = sys.argv[1]
def page(name, versions):
    with open(os.path.join(root, name), "w") as out:
        json.dump({"dist-tags": {}, "versions": versions}, out)
def one(name, members=(), dist=None, **rest):
    file = os.path.join(root, f"{name}.tgz")
    with tarfile.open(file, "w:gz") as out:
        for member in members:
            out.addfile(member, io.BytesIO(b"\0" * member.size))
    digest = base64.b64encode(hashlib.sha512(open(file, "rb").read()).digest()).decode()
    own = {"tarball": f"{name}.tgz", "integrity": f"sha512-{digest}"}
    page(name, {"1.0.0": dict(rest, dist=dict(own, **(dist or {})))})
def member(name, kind=tarfile.REGTYPE, target="", size=1):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry
none = base64.b64encode(bytes(64)).decode()
one("local", dist={"tarball": "file:///etc/passwd"})
one("swapped", dist={"integrity": f"sha512-{none}"})
one("weak", dist={"integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="})
one("escape", [member("package/../../../etc/evil")])
one("absolute", [member("/etc/evil")])
one("link", [member("package/link", tarfile.SYMTYPE, "../../etc", 0)])
one("hard", [member("package/hard", tarfile.LNKTYPE, "/etc/passwd", 0)])
one("bomb", [member("package/x", tarfile.GNUTYPE_LONGNAME, size=64 << 20)])
one("far", dependencies={"other": "git+ssh://example.org/other.git"})
dist = {"tarball": "x.tgz", "integrity": f"sha512-{none}"}
page("circle", {f"{n}.0.0": {"dist": dist, "dependencies": {"elcric": str(n)}} for n in (1, 2)})
page("elcric", {f"{n}.0.0": {"dist": dist, "dependencies": {"circle": str(3 - n)}} for n in (1, 2)})
"#;

/// A folder that is an index of these wheels.
fn index(wheels: &Value) -> tempfile::TempDir {
    written(WRITE_INDEX, wheels)
}

/// A folder that is a registry of these packages.
fn registry(packages: &Value) -> tempfile::TempDir {
    written(WRITE_REGISTRY, packages)
}

fn written(script: &str, things: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let written = Command::new("python3")
        .args(["-c", script])
        .arg(folder.path())
        .arg(things.to_string())
        .status()
        .expect("python3 is there (Debian: apt-get install python3)");
    assert!(written.success());
    folder
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// Runs a command of the CLI: whether it worked, and what it prints.
fn cli(daemon: &Daemon, words: &[&str]) -> (bool, String) {
    let output = daemon.cli(words, b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.success(), printed)
}

fn works(daemon: &Daemon, words: &[&str]) -> String {
    let (worked, printed) = cli(daemon, words);
    assert!(worked, "{words:?}: {printed}\n{}", daemon.log());
    printed
}

/// What a program prints in a package.
fn prints(daemon: &Daemon, package: &str, code: &str) -> String {
    let run = &daemon.execute(package, &json!({ "code": code }))["run"];
    format!("{}{}", run["stdout"], run["stderr"])
}

/// An index with libraries that need each other.
fn greetings() -> tempfile::TempDir {
    index(&json!([
        ["greet-1.0-py3-none-any.whl", ["wor.ds>=1,<2; python_version >= '3'"], {
            "greet/__init__.py": "from words import word\ndef hello():\n    return 'hello ' + word\n",
            "greet-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet = greet:hello\n",
        }],
        ["wor_ds-1.5-py3-none-any.whl", [], {"words.py": "word = 'world'\n"}],
        ["wor_ds-2.0-py3-none-any.whl", [], {"words.py": "word = 'too new'\n"}],
        ["more-1.0-py3-none-any.whl", ["greet"], {"more.py": "import greet\ntext = greet.hello() + '!'\n"}],
        ["apart-1.0-py3-none-any.whl", [], {"apart.py": "x = 1\n"}],
        ["built-1.0-cp21-cp21-manylinux2014_x86_64.whl", [], {"built.py": ""}],
    ]))
}

const HELLO: &str = "import greet\nprint(greet.hello())";

fn libraries_are_added_to_a_language_and_found_by_its_programs(who: Who) {
    let index = greetings();
    let from = url(index.path());
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-host", "python"]);
    assert!(prints(&daemon, "python", HELLO).contains("ModuleNotFoundError"));
    let extend = |words: &[&str]| {
        let start = ["package", "extend", "python", "--index", &from, "--pip"];
        works(&daemon, &[&start, words].concat())
    };
    let printed = extend(&["Greet"]);
    assert!(
        printed.contains("added greet==1.0, wor-ds==1.5") && printed.contains("python-greet-3"),
        "{printed}"
    );
    // The language is the extended one for everybody: the package's own name, the CLI, v2.
    assert!(prints(&daemon, "python", HELLO).contains("hello world"));
    assert!(prints(&daemon, "python-greet", HELLO).contains("hello world"));
    let program = index.path().join("hello.py");
    fs::write(&program, HELLO).expect("written");
    let printed = works(&daemon, &["run", &program.display().to_string()]);
    assert_eq!(printed, "hello world\n");
    let job = json!({"language": "py", "version": "*", "files": [{"content": HELLO}]});
    let reply = daemon.send("POST", "/api/v2/execute", &job).json();
    assert_eq!(reply["run"]["stdout"], "hello world\n", "{reply}");
    // And it is listed once, as what a job for it gets; the other one has its own name.
    for path in ["/api/v3/runtimes", "/api/v2/runtimes"] {
        let listed = daemon.get(path).json();
        let listed = listed.as_array().expect("a list");
        let languages = listed.iter().map(|one| &one["language"]);
        let mut languages: Vec<&str> = languages.filter_map(Value::as_str).collect();
        languages.sort_unstable();
        assert_eq!(languages, ["python", "python-greet"], "{path}: {listed:?}");
        let package = |one: &Value| one.get("package").or(one.get("runtime")).cloned();
        assert!(
            listed
                .iter()
                .all(|one| package(one) == Some(json!("python-greet"))),
            "{listed:?}"
        );
    }
    let info = works(&daemon, &["package", "info", "python-greet"]);
    assert!(info.contains("greet==1.0, wor-ds==1.5"), "{info}");

    // Extending again adds to it, and does not bring what is there.
    let printed = extend(&["more"]);
    assert!(printed.contains("added more==1.0\n"), "{printed}");
    let more = "import more\nprint(more.text)";
    assert!(prints(&daemon, "python", more).contains("hello world!"));
    // With a name it is a language of its own, and the other one stays as it is.
    let printed = extend(&["apart", "--name", "python-apart"]);
    assert!(printed.contains("python-apart-3"), "{printed}");
    let apart = "import apart, more\nprint(apart.x)";
    assert!(prints(&daemon, "python", apart).contains("ModuleNotFoundError"));
    assert!(prints(&daemon, "python-apart", apart).contains('1'));

    // A step back.
    let (worked, printed) = cli(&daemon, &["package", "remove", "python"]);
    assert!(!worked && printed.contains("python-greet"), "{printed}");
    works(&daemon, &["package", "remove", "python-greet", "--cascade"]);
    assert!(prints(&daemon, "python", HELLO).contains("ModuleNotFoundError"));
}

fn what_cannot_be_added_is_told_and_equal_inputs_give_equal_files(who: Who) {
    let index = greetings();
    let from = url(index.path());
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-host", "python"]);
    let start = ["package", "extend", "python", "--index", &from];
    works(&daemon, &[&start[..], &["--pip", "greet"]].concat());
    for (library, reason) in [
        ("greet", "has greet already"),
        (
            "wor.ds>=2",
            "has wor-ds 1.5 already, and wor-ds>=2 is asked for",
        ),
        ("nothing", "has no nothing"),
        ("more>=7", "more>=7 is asked for"),
        ("built", "none of its wheels is for Python 3"),
        ("a b", "`a b` is refused"),
    ] {
        let (worked, printed) = cli(&daemon, &[&start[..], &["--pip", library]].concat());
        assert!(!worked && printed.contains(reason), "{library}: {printed}");
    }
    let files = ["one", "two"].map(|name| {
        let file = daemon.data().with_file_name(format!("{name}.pkg.tar.gz"));
        let to = [
            "--name",
            "x",
            "--pip",
            "more",
            "-o",
            &file.display().to_string(),
        ]
        .map(str::to_owned);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        works(&daemon, &[&start[..], &to].concat());
        fs::read(file).expect("a package file")
    });
    assert!(files[0] == files[1] && !files[0].is_empty());
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

fn a_hostile_wheel_is_refused_by_name_and_leaves_nothing(who: Who) {
    let wheels = json!([
        ["evil-1.0-py3-none-any.whl", [], {"../../../../etc/evil": "x"}],
        ["swap-1.0-py3-none-any.whl", [], {"swap.py": ""}],
        ["loop-1.0-py3-none-any.whl", ["loop>=2"], {"loop.py": ""}],
    ]);
    let index = index(&wheels);
    // Another file than its page says.
    let swapped = index.path().join("swap-1.0-py3-none-any.whl");
    fs::write(&swapped, b"something else").expect("written");
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-host", "python"]);
    for (library, words) in [
        (
            "evil",
            ["evil-1.0-py3-none-any.whl", "../../../../etc/evil"],
        ),
        ("swap", ["swap-1.0-py3-none-any.whl", "sha256"]),
        ("loop", ["loop 1.0 needs loop>=2", "loop"]),
    ] {
        let request = json!({"from": "extend", "extends": "python", "pip": [library],
            "index": url(index.path())});
        let reply = daemon.send("POST", "/api/v3/make", &request);
        let detail = reply.json()["detail"].to_string();
        assert!(
            reply.status == 422 && words.iter().all(|word| detail.contains(word)),
            "{library}: {detail}"
        );
    }
    let packages = daemon.get("/api/v3/packages").json();
    assert_eq!(packages.as_array().map(Vec::len), Some(2), "{packages}");
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

fn numpy_works_on_the_python_of_the_recipe(who: Who) {
    if !require::apt_lists() || !require::python_index() {
        return;
    }
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-debian", "python"]);
    let index = require::python_index_url();
    let extend = [
        "package", "extend", "python", "--index", &index, "--pip", "numpy",
    ];
    let printed = works(&daemon, &extend);
    assert!(!printed.contains("does not have"), "{printed}");
    let code = "import numpy\nprint(numpy.linalg.det(numpy.eye(3)), numpy.arange(4).sum())";
    let printed = prints(&daemon, "python", code);
    assert!(printed.contains("1.0 6"), "{printed}");
}

fn javascript_libraries_are_found_by_programs_in_any_directory(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let registry = registry(&json!([
        ["greet", "1.0.0", {"dependencies": {"@x/word": "^1", "other": "*"}, "main": "main.js",
            "scripts": {"postinstall": "touch /tmp/evil"}},
            {"package/main.js": "module.exports = () => 'hello ' + require('@x/word') + require('other');"}],
        ["other", "1.0.0", {"dependencies": {"@x/word": "2"}},
            {"package/index.js": "module.exports = ', ' + require('@x/word');"}],
        ["@x/word", "1.0.0", {}, {"package/index.js": "module.exports = 'one';"}],
        ["@x/word", "2.0.0", {}, {"package/index.js": "module.exports = 'two';"}],
        ["newer", "1.0.0", {"engines": {"node": ">=999"}, "type": "module"},
            {"package/index.js": "export default 'imported';"}],
        ["elsewhere", "1.0.0", {"cpu": ["sparc"]}, {}],
    ]));
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-debian", "javascript"]);
    let from = url(registry.path());
    let start = [
        "package",
        "extend",
        "javascript",
        "--registry",
        &from,
        "--npm",
    ];
    let printed = works(&daemon, &[&start[..], &["greet"]].concat());
    assert!(
        printed.contains("added @x/word@1.0.0, @x/word@2.0.0, greet@1.0.0, other@1.0.0")
            && printed.contains("were not run, what they would make is missing: greet@1.0.0"),
        "{printed}"
    );
    let code = "console.log(require('greet')(), process.cwd())";
    let printed = prints(&daemon, "javascript", code);
    assert!(printed.contains("hello one, two"), "{printed}");
    let printed = works(&daemon, &[&start[..], &["newer"]].concat());
    assert!(
        printed.contains("made for another Node than") && printed.contains("newer@1.0.0"),
        "{printed}"
    );
    let code = "import('newer').then((found) => console.log(found.default, require('greet')()))";
    let printed = prints(&daemon, "javascript", code);
    assert!(printed.contains("imported hello one, two"), "{printed}");
    for (library, reason) in [
        ("greet", "has greet already"),
        (
            "@x/word@2",
            "@x/word@2 is asked for, and @x/word 1.0.0 is there",
        ),
        ("nothing", "has no nothing"),
        ("elsewhere", "not for this kind of machine"),
        ("a@git+https://example.org/a.git", "names a place"),
    ] {
        let (worked, printed) = cli(&daemon, &[&start[..], &[library]].concat());
        assert!(!worked && printed.contains(reason), "{library}: {printed}");
    }
    let (worked, printed) = cli(
        &daemon,
        &["package", "extend", "javascript", "--pip", "numpy"],
    );
    assert!(
        !worked && printed.contains("no Python 3 in it"),
        "{printed}"
    );
}

/// A package that has what looks like Node, and nothing else.
fn fake_node(daemon: &Daemon) {
    let crafted = packages::Crafted {
        info: json!({"language": "javascript", "version": "20.1.0", "mount": "/"}),
        files: &[("usr/bin/node", "it is never run")],
        scripts: &[("run", "#!/usr/bin/node\n")],
        compressor: "gzip",
    };
    let folder = tempfile::tempdir().expect("a directory");
    let reply = daemon.upload(&crafted.write(folder.path()));
    assert_eq!(
        reply.status,
        201,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
}

fn a_hostile_registry_is_refused_by_name_and_leaves_nothing(who: Who) {
    let daemon = Daemon::start(who);
    fake_node(&daemon);
    let folder = tempfile::tempdir().expect("a directory");
    let wrote = Command::new("python3")
        .args(["-c", WRITE_HOSTILE])
        .arg(folder.path())
        .status();
    assert!(wrote.expect("python3 is there").success());
    let folder = folder.path().to_owned();
    let server = Server::start(move |path| match path {
        "/endless" => Reply::Endless,
        "/loop" => Reply::moved("/loop"),
        "/file" => Reply::moved("file:///etc/passwd"),
        "/page" => Reply::ok("<!DOCTYPE html><html></html>"),
        "/broken" => Reply::Status("500 Internal Server Error"),
        path => fs::read(folder.join(path.trim_start_matches('/')))
            .map_or(Reply::Status("404 Not Found"), Reply::Body),
    });
    let before = daemon.get("/api/v3/packages").json();
    for (library, words) in [
        ("endless", ["/endless", "longer than"]),
        ("loop", ["/loop", "redirected too often"]),
        ("file", ["/file", "302"]),
        ("page", ["/page", "is no package"]),
        ("broken", ["/broken", "500"]),
        ("missing", ["has no missing", ""]),
        ("local", ["leads from the web", "file:///etc/passwd"]),
        ("swapped", ["/swapped.tgz", "sha512"]),
        ("weak", ["weak-1.0.0.tgz", "no sha512"]),
        ("escape", ["escape-1.0.0.tgz", "package/../../../etc/evil"]),
        ("absolute", ["absolute-1.0.0.tgz", "/etc/evil"]),
        ("link", ["link-1.0.0.tgz", "package/link"]),
        ("hard", ["hard-1.0.0.tgz", "package/hard"]),
        ("bomb", ["bomb-1.0.0.tgz", "a header of over 1 MiB"]),
        ("circle", ["folders", "allowed"]),
        ("far", ["far 1.0.0 needs", "names a place"]),
    ] {
        let request = json!({"from": "extend", "extends": "javascript", "npm": [library],
            "registry": server.url()});
        let reply = daemon.send("POST", "/api/v3/make", &request);
        let detail = reply.json()["detail"].to_string();
        assert!(
            reply.status == 422 && words.iter().all(|word| detail.contains(word)),
            "{library}: {} {detail}",
            reply.status
        );
    }
    assert_eq!(daemon.get("/api/v3/packages").json(), before);
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

fn files_of_a_folder_are_seen_by_jobs(who: Who) {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("lib/greet")).expect("a directory");
    fs::write(at("lib/greet/__init__.py"), "word = 'hello'\n").expect("written");
    fs::write(at("tool"), "#!/bin/sh\necho tool runs\n").expect("written");
    for readable in ["", "tool"] {
        fs::set_permissions(at(readable), fs::Permissions::from_mode(0o755)).expect("mode");
    }
    fs::write(at("data.csv"), "1,2,3\n").expect("written");
    std::os::unix::fs::symlink("data.csv", at("latest.csv")).expect("a symlink");
    let dir = folder.path().display().to_string();

    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let extend = ["package", "extend", "python", "--files", &dir];
    let printed = works(&daemon, &[&extend[..], &["--at", "/opt/course"]].concat());
    assert!(
        printed.contains("added 4 files to /opt/course") && printed.contains("python-files-3"),
        "{printed}"
    );
    let code = "import subprocess, sys\nsys.path.append('/opt/course/lib')\nimport greet\n\
        print(greet.word, open('/opt/course/latest.csv').read(), \
        subprocess.check_output('/opt/course/tool'))";
    let printed = prints(&daemon, "python", code);
    for word in ["hello", "1,2,3", "tool runs"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    // Into its own directory, under a name of its own; and the same folder gives the same file.
    let named = [&extend[..], &["--name", "python-course"]].concat();
    let files = ["one", "two"].map(|name| {
        let file = daemon.data().with_file_name(format!("{name}.pkg.tar.gz"));
        let output = file.display().to_string();
        works(&daemon, &[&named[..], &["-o", &output]].concat());
        fs::read(file).expect("a package file")
    });
    assert!(files[0] == files[1] && !files[0].is_empty());
    works(&daemon, &named);
    let code = "import glob\nprint(glob.glob('/piston/packages/python-course/*/data.csv'))";
    assert!(prints(&daemon, "python-course", code).contains("python-course/3"));
    assert!(prints(&daemon, "python", code).contains("[]"));
}

fn what_can_t_be_added_of_a_folder_is_told_and_leaves_nothing(who: Who) {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let dir = folder.path().display().to_string();
    let daemon = Daemon::start(who);
    fake_node(&daemon);
    let before = daemon.get("/api/v3/packages").json();
    let extend = ["package", "extend", "javascript", "--files", &dir];
    let refused = |words: &[&str], reason: &str| {
        let (worked, printed) = cli(&daemon, &[&extend[..], words].concat());
        assert!(!worked && printed.contains(reason), "{words:?}: {printed}");
    };
    refused(&[], "there is no file in it");
    fs::write(at("node"), "x").expect("written");
    refused(&["--at", "usr"], "no absolute path");
    refused(&["--at", "/tmp"], "a sandbox has something of its own");
    refused(&["--at", "/usr/bin/node"], "in a file of the package");
    std::os::unix::fs::symlink("/etc/passwd", at("out")).expect("a symlink");
    refused(&[], "`out` is a symlink that leads out of the folder");
    fs::remove_file(at("out")).expect("removed");
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    refused(&[], "/pipe is a pipe");
    let (worked, printed) = cli(&daemon, &["package", "extend", "nothing", "--files", &dir]);
    assert!(!worked && printed.contains("/pipe"), "{printed}");
    // Whatever else is sent.
    for (body, reason) in [
        (&b"no tar"[..], "damaged, or no tar"),
        (b"", "there is no file in it"),
    ] {
        let path = "/api/v3/make/files?extends=javascript";
        let reply = http::request(&daemon.address(), "POST", path, &[], body);
        let detail = reply.json()["detail"].to_string();
        assert!(reply.status == 422 && detail.contains(reason), "{detail}");
    }
    assert_eq!(daemon.get("/api/v3/packages").json(), before);
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

fn lodash_works_on_the_javascript_of_the_recipe(who: Who) {
    if !require::apt_lists() || !require::javascript_registry() {
        return;
    }
    let daemon = Daemon::start(who);
    works(&daemon, &["package", "from-debian", "javascript"]);
    let registry = require::javascript_registry_url();
    let extend = ["package", "extend", "javascript", "--registry", &registry];
    works(
        &daemon,
        &[&extend[..], &["--npm", "lodash", "express@4"]].concat(),
    );
    let code =
        "const _ = require('lodash');\nconsole.log(_.sum([1, 2, 3]), typeof require('express'))";
    let printed = prints(&daemon, "javascript", code);
    assert!(printed.contains("6 function"), "{printed}");
}
