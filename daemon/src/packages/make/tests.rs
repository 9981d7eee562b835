//! Makers against this host: what a package holds, and that programs run from it and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output};

use super::plan::{Content, Item, Plan};
use super::*;

fn language(name: &str) -> Language {
    name.parse().expect("a valid name")
}

fn drafted(name: &str, program: Option<&Path>) -> Draft {
    draft(&language(name), program).unwrap_or_else(|error| {
        panic!("{name} of this host: {error} (Debian: apt-get install python3 gcc g++)")
    })
}

/// Writes a plan below a directory, as the image would show it.
fn materialise(plan: &Plan, root: &Path) {
    fs::create_dir_all(root).expect("a directory");
    for (path, item) in plan.items() {
        let at = root.join(path.trim_start_matches('/'));
        match item {
            Item::Directory => fs::create_dir_all(&at).expect("a directory"),
            Item::Symlink(target) => {
                drop(fs::remove_file(&at));
                symlink(target, &at).expect("a link");
            }
            Item::File {
                content,
                executable,
            } => {
                match content {
                    Content::Host(from) => drop(fs::copy(from, &at).expect("a copy")),
                    Content::Bytes(bytes) => fs::write(&at, bytes).expect("a file"),
                }
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).expect("a mode");
            }
        }
    }
}

/// A view made of plans, lowest first, with the empty directories that a sandbox mounts on.
struct View(tempfile::TempDir);

impl View {
    fn of(plans: &[&Plan]) -> Self {
        let view = tempfile::tempdir().expect("a directory");
        for plan in plans {
            materialise(plan, view.path());
        }
        for mount in ["proc", "dev", "tmp", "piston/job"] {
            fs::create_dir_all(view.path().join(mount)).expect("a mount point");
        }
        Self(view)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join("piston/job").join(name), text).expect("written");
    }

    /// Runs a shell command in the view as its root, in the job's directory.
    fn shell(&self, command: &str) -> Output {
        let output = Command::new("unshare")
            .args(["-Ur", "chroot"])
            .arg(self.0.path())
            .args(["/bin/sh", "-c", &format!("cd /piston/job && {command}")])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .output();
        output.expect("unshare and chroot are there (Debian: util-linux, coreutils)")
    }

    /// The same, for commands that succeed: what they print.
    fn prints(&self, command: &str) -> String {
        let output = self.shell(command);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let complaint = text(&output.stderr);
        assert!(
            output.status.success(),
            "{command}: {} {complaint}",
            output.status
        );
        assert!(
            !complaint.contains("No such file"),
            "{command}: {complaint}"
        );
        text(&output.stdout)
    }
}

/// The command that a draft runs a program with.
fn run_of(draft: &Draft) -> String {
    match draft.description.run.as_ref().expect("it runs programs") {
        package::Step::Command(argv) => argv[0].clone(),
        package::Step::Script(text) => panic!("a script: {text}"),
    }
}

/// The script that a draft compiles with.
fn script_of(draft: &Draft) -> String {
    match draft.description.compile.as_ref().expect("it compiles") {
        package::Step::Script(text) => text.clone(),
        package::Step::Command(argv) => panic!("a command: {argv:?}"),
    }
}

/// Asserts that nothing private of the host is in a plan, and nothing of its users' directories
/// but what `prefix` (of an interpreter that lives there) allows.
fn assert_nothing_private(plan: &Plan, prefix: Option<&Path>) {
    let public_etc = ["/etc/alternatives/", "/etc/ssl/certs/", "/etc/ld.so.conf"];
    for (path, item) in plan.items() {
        for private in [
            "/root",
            "/home",
            "/var",
            "/run",
            "/etc/ssh",
            "/etc/ssl/private",
        ] {
            assert!(!Path::new(path).starts_with(private), "{path}");
        }
        if let Item::Symlink(target) = item {
            assert!(
                !target.starts_with("/root") && !target.starts_with("/home"),
                "{path}: {target}"
            );
        }
        let Item::File {
            content: Content::Host(from),
            ..
        } = item
        else {
            continue;
        };
        let file = Path::new(path).file_name().unwrap_or_default();
        assert!(file != "shadow" && file != "gshadow", "{path}");
        assert!(
            !["/etc/passwd", "/etc/group", "/etc/hosts"].contains(&path),
            "{path}"
        );
        let from_etc = from.starts_with("/etc");
        let public = public_etc
            .iter()
            .any(|part| from.to_string_lossy().starts_with(part));
        assert!(!from_etc || public, "{}", from.display());
        let software = ["/usr", "/etc", "/lib", "/lib64", "/bin", "/sbin"];
        let software = software.iter().any(|top| from.starts_with(top));
        assert!(
            software || prefix.is_some_and(|top| from.starts_with(top)),
            "{}",
            from.display()
        );
    }
}

#[test]
fn an_unknown_name_says_what_was_meant_or_what_there_is() {
    let rows = [
        ("pyhton", "did you mean `python`?"),
        ("python3", "did you mean `python`?"),
        ("c++", "did you mean `gcc`?"),
        ("sh", "did you mean `bash`?"),
        ("erlang", "base, bash, gcc, php, python"),
    ];
    for (name, expected) in rows {
        let error = draft(&language(name), None).expect_err("unknown");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{text}");
    }
}

#[test]
fn the_base_runs_a_shell_with_the_usual_tools() {
    let base = drafted("base", None);
    assert_nothing_private(&base.plan, None);
    let view = View::of(&[&base.plan]);
    assert_eq!(
        view.prints("echo b a | tr ' ' '\\n' | sort | head -1"),
        "a\n"
    );
    assert_eq!(
        view.prints("printf 'x y' | sed s/x/z/ | awk '{print $2, $1}'"),
        "y z\n"
    );
    assert_eq!(view.prints("echo hi | gzip | gunzip | grep -c hi"), "1\n");
    assert_eq!(
        view.prints("ls /usr/bin | wc -l >/dev/null; find / -name passwd"),
        "/etc/passwd\n"
    );
    assert_eq!(
        view.prints("LC_ALL=C.UTF-8 locale charmap 2>/dev/null || echo UTF-8"),
        "UTF-8\n"
    );
    assert_eq!(view.prints("TZ=UTC date -d @0 +%Y"), "1970\n");
}

#[test]
fn the_users_of_a_package_are_not_the_hosts() {
    let base = drafted("base", None);
    let view = View::of(&[&base.plan]);
    assert_eq!(
        view.prints("cut -d: -f1,3 /etc/passwd"),
        "root:0\npiston:1000\nnobody:65534\n"
    );
    assert_eq!(view.prints("stat -c %U /"), "root\n");
}

#[test]
fn bash_stands_on_the_base_package() {
    let (base, bash) = (drafted("base", None), drafted("bash", None));
    let view = View::of(&[&base.plan, &bash.plan]);
    view.write(
        "main.sh",
        "a=(1 2 3); echo \"${#a[@]} $1\"; [[ abc =~ b ]] && seq 2\n",
    );
    let command = format!("{} main.sh arg", run_of(&bash));
    assert_eq!(view.prints(&command), "3 arg\n1\n2\n");
    assert!(bash.description.aliases.contains(&"sh".to_owned()));
}

const IMPORTS: &str = "\
import sys, importlib
for name in 'ssl sqlite3 ctypes json unicodedata hashlib zlib bz2 lzma decimal asyncio \
    multiprocessing threading subprocess socket readline curses uuid zoneinfo datetime'.split():
    importlib.import_module(name)
    print(name)
";

/// What the interpreter itself can import on the host: an optional module that the host's build
/// lacks is not the package's fault.
fn imports_on_the_host(program: &Path) -> String {
    let script = IMPORTS.replace("    importlib.import_module(name)\n    print(name)",
        "    try:\n        importlib.import_module(name)\n        print(name)\n    except ImportError:\n        pass");
    let output = Command::new(program)
        .args(["-I", "-c", &script])
        .current_dir("/")
        .output();
    String::from_utf8(output.expect("python runs").stdout).expect("UTF-8")
}

fn check_python(program: &Path) {
    let python = drafted("python", Some(program));
    assert!(python.notes.len() < 5, "{:?}", python.notes);
    let base = drafted("base", None);
    assert_nothing_private(&python.plan, prefix_of(program).as_deref());
    let view = View::of(&[&base.plan, &python.plan]);
    let run = run_of(&python);
    let expected = imports_on_the_host(program);
    assert!(
        expected.contains("json\n") && expected.contains("ctypes\n"),
        "{expected}"
    );
    let names: Vec<_> = expected.lines().collect();
    view.write(
        "main.py",
        &format!("import {}\nprint('fine')\n", names.join(", ")),
    );
    assert_eq!(
        view.prints(&format!("{run} main.py")),
        "fine\n",
        "{}",
        program.display()
    );
    // Every module of the library that is imported comes from a .pyc that is valid as packed.
    let said = view.shell(&format!("{run} -v main.py"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let from_source = said
        .lines()
        .filter(|line| line.starts_with("# code object from '/"));
    let from_source: Vec<_> = from_source.filter(|line| line.contains(".py'")).collect();
    assert!(from_source.is_empty(), "{from_source:?}");
    assert!(
        said.contains("# code object from '/") && said.contains(".pyc'"),
        "{said}"
    );
    assert!(!said.contains("# wrote"), "{said}");
    for name in ["python3", "python", "/usr/bin/env python3"] {
        let command = format!(
            "PATH={}:/usr/bin {name} -c 'print(1)'",
            Path::new(&run).parent().expect("a directory").display()
        );
        assert_eq!(view.prints(&command), "1\n");
    }
}

/// The prefix of an interpreter outside `/usr`.
fn prefix_of(program: &Path) -> Option<PathBuf> {
    let script = "import os, sys; print(os.path.realpath(sys.base_prefix))";
    let output = Command::new(program)
        .args(["-I", "-c", script])
        .current_dir("/")
        .output();
    let prefix = String::from_utf8(output.expect("python runs").stdout).expect("UTF-8");
    Some(PathBuf::from(prefix.trim())).filter(|prefix| !prefix.starts_with("/usr"))
}

#[test]
fn the_systems_python_runs_from_its_package() {
    check_python(Path::new("/usr/bin/python3"));
}

#[test]
fn the_python_on_the_path_runs_from_its_package() {
    let needed = python::NEEDS;
    let program = Host::read()
        .program(None, &needed)
        .expect("python3 (Debian: python3)");
    check_python(&program);
}

#[test]
fn a_python_outside_the_system_directories_moves_to_the_packages_own() {
    let system = drafted("python", Some(Path::new("/usr/bin/python3")));
    let prefix = tempfile::tempdir().expect("a directory");
    let all = prefix.path().join("all");
    materialise(&system.plan, &all);
    let program = all.join(run_of(&system).trim_start_matches('/'));
    let moved = prefix.path().join("bin");
    fs::create_dir(&moved).expect("made");
    let program = {
        let name = program.file_name().expect("a name");
        fs::rename(&program, moved.join(name)).expect("moved");
        fs::rename(all.join("usr/lib"), prefix.path().join("lib")).expect("moved");
        moved.join(name)
    };
    let python = drafted("python", Some(&program));
    assert!(
        run_of(&python).starts_with("/piston/packages/python/"),
        "{}",
        run_of(&python)
    );
    check_python(&program);
}

#[test]
fn gcc_compiles_and_links_c_and_cpp() {
    let (base, gcc) = (drafted("base", None), drafted("gcc", None));
    assert_nothing_private(&gcc.plan, None);
    let view = View::of(&[&base.plan, &gcc.plan]);
    let compile = script_of(&gcc);
    fs::write(view.0.path().join("piston/compile"), compile).expect("written");
    view.write("part.h", "double half(double x);\n");
    view.write(
        "part.c",
        "#include <math.h>\n#include \"part.h\"\ndouble half(double x) { return floor(x) / 2; }\n",
    );
    view.write(
        "main.c",
        "#include <stdio.h>\n#include <pthread.h>\n#include \"part.h\"\n\
        int main(int n, char **v) { printf(\"%s %.1f\\n\", v[n - 1], half(3.7)); }\n",
    );
    view.write(
        "main",
        "#include <iostream>\n#include <vector>\n#include <thread>\n\
        int main() { std::vector<int> v{1, 2}; std::thread([&] { v.push_back(3); }).join();\n\
        try { throw v.size(); } catch (std::size_t n) { std::cout << n << '\\n'; } }\n",
    );
    let c = "PISTON_LANGUAGE=c bash /piston/compile main.c part.c part.h";
    assert_eq!(
        view.prints(&format!("{c} && /piston/job/a.out arg")),
        "arg 1.5\n"
    );
    let cpp = "PISTON_LANGUAGE=c++ bash /piston/compile main";
    assert_eq!(view.prints(&format!("{cpp} && ./a.out")), "3\n");
    let fixed = "gcc -static main.c part.c -lm -o fixed && ./fixed arg";
    assert_eq!(view.prints(fixed), "arg 1.5\n");
    let parallel = "cc -fopenmp main.c part.c -lm -o parallel && ./parallel arg";
    assert_eq!(view.prints(parallel), "arg 1.5\n");
}

#[test]
fn a_compile_error_is_the_compilers() {
    let (base, gcc) = (drafted("base", None), drafted("gcc", None));
    let view = View::of(&[&base.plan, &gcc.plan]);
    fs::write(view.0.path().join("piston/compile"), script_of(&gcc)).expect("written");
    view.write("main.c", "int main( { }\n");
    let output = view.shell("PISTON_LANGUAGE=c bash /piston/compile main.c");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("main.c:1"),
        "{output:?}"
    );
}

#[test]
fn the_same_host_gives_the_same_plan() {
    let python = Path::new("/usr/bin/python3");
    for (name, program) in [
        ("base", None),
        ("bash", None),
        ("gcc", None),
        ("python", Some(python)),
    ] {
        let (one, other) = (drafted(name, program), drafted(name, program));
        assert!(one.plan == other.plan, "{name}");
    }
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry.expect("an entry")))
        .collect();
    names.sort();
    names
}

#[test]
fn a_package_file_is_whole_and_the_same_each_time() {
    let out = tempfile::tempdir().expect("a directory");
    let read = |name: &str| {
        let made = from_host(&language(name), None, &out.path().join("new")).expect("made");
        assert_eq!(
            files_in(&out.path().join("new")),
            [format!("{}.pkg.tar.gz", made.package)]
        );
        let bytes = fs::read(&made.file).expect("readable");
        fs::remove_file(&made.file).expect("removed");
        (made.package, bytes)
    };
    let (package, one) = read("bash");
    let (_, other) = read("bash");
    assert!(one == other, "the same bytes");
    let file = out.path().join("package");
    fs::write(&file, one).expect("written");
    let contents = super::super::archive::read(&file, out.path()).expect("a valid package file");
    assert_eq!(contents.info.package, package);
    assert_eq!(contents.info.run.expect("a command")[0], "/bin/bash");
    assert!(contents.image_bytes > 0);
}

#[test]
fn a_base_package_brings_its_environment_and_an_image_that_verifies() {
    let out = tempfile::tempdir().expect("a directory");
    let made = from_host(&language("base"), None, out.path()).expect("made");
    let contents = super::super::archive::read(&made.file, out.path()).expect("a valid file");
    let environment = contents.scripts.environment.expect("an environment");
    assert!(environment.starts_with(b"export PATH=/usr/local/bin:/usr/bin:/bin\n"));
    assert!(contents.info.run.is_none() && contents.scripts.run.is_none());
    let index = out.path().join("index");
    let bounds = piston_fs::image::verify::Bounds::default();
    let verified = piston_fs::image::verify::verify(&contents.image, &index, &bounds);
    verified.expect("our own images are sane");
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let out = tempfile::tempdir().expect("a directory");
    // A directory stands where the package file is to be.
    let made = from_host(&language("bash"), None, out.path()).expect("made");
    fs::remove_file(&made.file).expect("removed");
    fs::create_dir(&made.file).expect("made");
    fs::write(made.file.join("in the way"), "").expect("written");
    let error = from_host(&language("bash"), None, out.path()).expect_err("in the way");
    assert!(error.to_string().contains("bash"), "{error}");
    assert_eq!(files_in(out.path()).len(), 1, "{:?}", files_in(out.path()));
}

#[test]
fn a_bash_from_elsewhere_gets_a_place_of_its_own() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let program = elsewhere.path().join("my-bash");
    fs::copy("/bin/bash", &program).expect("this test needs bash");
    let (base, bash) = (drafted("base", None), drafted("bash", Some(&program)));
    let run = run_of(&bash);
    assert!(
        run.starts_with("/piston/packages/bash/") && run.ends_with("/bin/bash"),
        "{run}"
    );
    let view = View::of(&[&base.plan, &bash.plan]);
    assert_eq!(
        view.prints(&format!("{run} -c 'echo $BASH'")),
        format!("{run}\n")
    );
}
