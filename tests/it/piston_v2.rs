//! The released Piston's packages, in exactly their shape, on a base: converted, installed, run through
//! both APIs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

as_root_and_user!(
    a_package_of_the_released_piston_runs_where_its_files_were_built_for,
    a_package_of_an_index_is_taken_by_its_name,
);

/// Writes two packages and their index: this machine's Python at the path of such packages, and a
/// language that compiles with a script that says no shell. Prints Python's version.
const WRITE_PACKAGES: &str = r##"
import hashlib, io, json, os, re, subprocess, sys, sysconfig, tarfile
folder = sys.argv[1]
version = ".".join(map(str, sys.version_info[:3]))

def write(name, files, trees=()):
    path = os.path.join(folder, name + ".pkg.tar.gz")
    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as out:
        for member, data in files.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o755
            out.addfile(info, io.BytesIO(data))
        for source, member, keep in trees:
            out.add(source, member, filter=keep)
    return f"{name.split('-')[0]},{name.split('-')[1]},{hashlib.sha256(open(path, 'rb').read()).hexdigest()},file://{path}\n"

def keep(info):
    skipped = {"__pycache__", "test", "dist-packages", "idlelib", "lib2to3", "ensurepip", "tkinter", "distutils", "pydoc_data"}
    name = os.path.basename(info.name)
    return None if name in skipped or name.startswith("config-") else info

program = os.path.realpath(sys.executable)
files = {
    "pkg-info.json": json.dumps({"language": "python", "version": version, "build_platform": "docker-debian",
        "dependencies": {}, "aliases": ["py", "py3", "python3"], "limit_overrides": {"run_timeout": 5000}}).encode(),
    "run": b"#!/bin/bash\n\npython3 \"$@\"\n",
    "environment": b"#!/bin/bash\n\nexport PATH=$PWD/bin:$PATH\nexport LD_LIBRARY_PATH=$PWD/lib\n",
    "bin/python3": open(program, "rb").read(),
}
for library in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", program], capture_output=True, text=True).stdout):
    if not re.search(r"/(libc\.so|ld-linux)", library):
        files["lib/" + os.path.basename(library)] = open(library, "rb").read()
standard = sysconfig.get_path("stdlib")
index = write(f"python-{version}", files, [(standard, "lib/" + os.path.basename(standard), keep)])
index += write("shout-1.2.0", {
    "pkg-info.json": json.dumps({"language": "shout", "version": "1.2.0", "build_platform": "docker-debian", "dependencies": {},
        "limit_overrides": {}, "provides": [{"language": "loud", "aliases": ["l"]}]}).encode(),
    "compile": b"tr a-z A-Z < \"$1\" > loud.txt\n",
    "run": b"shift\ncat loud.txt\necho \"$1 $MOOD\"\ncat\n",
    "environment": b"export MOOD='very happy'\n",
})
open(os.path.join(folder, "index"), "w").write(index)
print(version)
"##;

/// A folder with the packages, and Python's version.
fn released() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let output = Command::new("/usr/bin/python3")
        .args(["-c", WRITE_PACKAGES])
        .arg(folder.path())
        .output()
        .expect("python3 is there (Debian: apt-get install python3)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (folder, version)
}

/// Runs a command of the CLI: whether it worked, and what it prints.
fn cli(daemon: &Daemon, words: &[&str]) -> (bool, String) {
    let output = daemon.cli(words, b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.success(), printed)
}

fn convert(daemon: &Daemon, source: &Path, words: &[&str]) -> (bool, String) {
    let source = source.display().to_string();
    let start = ["package", "from-piston-v2", &source];
    cli(daemon, &[&start, words].concat())
}

fn execute_v2(daemon: &Daemon, job: &Value) -> Value {
    daemon.send("POST", "/api/v2/execute", job).json()
}

fn a_package_of_the_released_piston_runs_where_its_files_were_built_for(who: Who) {
    let (folder, version) = released();
    let daemon = Daemon::start(who);
    packages::install(&daemon, &[]);
    let file = folder.path().join(format!("python-{version}.pkg.tar.gz"));
    let (worked, printed) = convert(&daemon, &file, &["--base", "base"]);
    let expected = format!("made and installed python-{version}");
    assert!(worked && printed.contains(&expected), "{printed}");
    let code = "import sys\nprint(sys.prefix, sys.argv[1], input())";
    let home = format!("/piston/packages/python/{version}");
    let job = json!({"code": code, "args": ["one"], "stdin": "two\n"});
    let run = &daemon.execute("python", &job)["run"];
    assert_eq!(run["stdout"], format!("{home} one two\n"), "{run}");
    let job = json!({"language": "py3", "version": "3.x", "files": [{"content": code}], "args": ["one"],
        "stdin": "two"});
    let reply = execute_v2(&daemon, &job);
    assert_eq!(
        reply["run"]["stdout"],
        format!("{home} one two\n"),
        "{reply}"
    );
    assert_eq!(reply["version"], version.as_str(), "{reply}");
    // Made again it is the same file; on another base it is another package.
    let files = ["one", "two"].map(|name| {
        let file_name = daemon.data().with_file_name(name).display().to_string();
        let (worked, printed) = convert(&daemon, &file, &["--base", "other", "-o", &file_name]);
        assert!(worked, "{printed}");
        fs::read(file_name).expect("a package file")
    });
    assert!(files[0] == files[1] && !files[0].is_empty());
    let (worked, printed) = convert(&daemon, Path::new("/etc/passwd"), &["--base", "base"]);
    assert!(
        !worked && printed.contains("/etc/passwd: it is no tar.gz"),
        "{printed}"
    );
    let staging = fs::read_dir(daemon.data().join("staging")).expect("staging");
    assert_eq!(staging.count(), 0);
}

fn a_package_of_an_index_is_taken_by_its_name(who: Who) {
    let (folder, _) = released();
    let index = folder.path().join("index");
    let daemon = Daemon::start(who);
    packages::install(&daemon, &[]);
    let (worked, printed) = convert(&daemon, &index, &["shout@1", "--base", "base"]);
    assert!(
        worked && printed.contains("installed shout-1.2.0"),
        "{printed}"
    );
    let job = json!({"language": "loud", "code": "hello\n", "args": ["one"], "stdin": "input"});
    let reply = daemon.execute("shout", &job);
    assert_eq!(
        reply["run"]["stdout"], "HELLO\none very happy\ninput",
        "{reply}"
    );
    let job = json!({"language": "l", "version": "*", "files": [{"content": "hello\n"}], "args": ["one"]});
    let reply = execute_v2(&daemon, &job);
    assert_eq!(
        reply["run"]["stdout"], "HELLO\none very happy\n\n",
        "{reply}"
    );
    for (words, reason) in [
        (&["shout@2"][..], "it has shout 1.2.0, and"),
        (&["cobol"], "none of its 2 packages is called `cobol`"),
        (&[], "say which package"),
    ] {
        let (worked, printed) = convert(&daemon, &index, words);
        assert!(!worked && printed.contains(reason), "{words:?}: {printed}");
    }
    // A base that is not there is named.
    let (worked, printed) = convert(&daemon, &index, &["python", "--base", "nowhere"]);
    assert!(!worked && printed.contains("nowhere"), "{printed}");
}
