//! The `python` package: an interpreter of the host with its standard library.
//!
//! What it is, it says itself (`python/ask.py`); its own compiler makes the `.pyc` files
//! ([`bytecode`]), because imports without them cost half a second. An
//! interpreter below `/usr` stays at its path; one from elsewhere (pyenv, `/opt`) moves to the
//! package's own directory, which it finds its library from. Installed modules (`site-packages`),
//! tests, and what needs a screen are left out.

pub(in super::super) mod bytecode;

use std::path::{Path, PathBuf};

use piston_client::ids::Version;
use serde::Deserialize;

use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home, owned};
use super::super::plan::Plan;
use super::collect::{Collector, Relocation};
use super::{Host, Needs, ask, base};

/// Its name.
pub(in super::super) const NAME: &str = "python";

pub(in super::super) const NEEDS: Needs = Needs {
    program: "python3",
    debian: "python3",
    fedora: "python3",
    alpine: "python3",
    arch: "python",
};

const ASK: &str = include_str!("python/ask.py");

/// Directories of the standard library that are left out, wherever they are.
const NO_DIRECTORIES: [&str; 11] = [
    "__pycache__",
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "idlelib",
    "turtledemo",
    "tkinter",
    "lib-tk",
    "_bundled",
];
/// Starts of names of extension modules for the interpreter's own tests, or that need a screen.
const NO_EXTENSIONS: [&str; 6] = [
    "_test",
    "_ctypes_test",
    "_xxtestfuzz",
    "xxlimited",
    "xxsubtype",
    "_tkinter",
];
/// Endings of files that no program needs.
const NO_ENDINGS: [&str; 6] = ["pyc", "pyo", "a", "o", "exe", "whl"];
/// Modules that belong to the host's administrator or user.
const NO_MODULES: [&str; 2] = ["sitecustomize.py", "usercustomize.py"];

/// Libraries that are opened by name later on: the first by libc, for threads that are cancelled; all
/// of them by compiled modules that are added to the package, which bring whatever else they need
/// along (PEP 600 lists what they may expect of a system).
const OPENED: [&str; 4] = [
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libz.so.1",
    "libexpat.so.1",
];

/// The interpreter's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    implementation: String,
    version: Version,
    major: u32,
    program: PathBuf,
    prefixes: Vec<PathBuf>,
    search: Vec<PathBuf>,
    tag: Option<String>,
}

/// Plans the package for the host's `python3`, or for another interpreter.
pub(in super::super) fn draft(host: &Host, program: Option<&Path>) -> Result<Draft, MakeError> {
    let asked = host.program(program, &NEEDS)?;
    let answer = Answer::of(&asked)?;
    let home = home(NAME, &answer.version);
    let mut collector = Collector::new(answer.relocations(&home))?;
    let run = collector.program(&answer.program, None)?;
    for directory in answer.outermost_search() {
        library(&mut collector, directory, &answer.program)?;
    }
    for name in OPENED {
        collector.opened_library(name);
    }
    names(&mut collector.plan, &run, answer.major);
    let failed = bytecode::add(&mut collector.plan, &answer.program, answer.tag.as_deref())?;
    let note = |module| format!("{module} does not compile: it has no .pyc");
    collector.notes.extend(failed.into_iter().map(note));
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    let description = Description {
        aliases: aliases(answer.major),
        environment: environment(&run),
        run: Some(Step::Command(owned([&run, "{main}", "{args}"]))),
        ..Description::on_base(NAME, answer.version, host)?
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}

impl Answer {
    fn of(program: &Path) -> Result<Self, MakeError> {
        let wrong = |reason: String| MakeError::Answer {
            program: program.to_owned(),
            reason,
        };
        let (answer, _) = ask(program, &["-E", "-s", "-S", "-c", ASK])?;
        let answer: Self = serde_json::from_str(answer.trim())
            .map_err(|error| wrong(format!("it is asked what it is, and says: {error}")))?;
        if answer.implementation != "CPython" {
            let reason = format!("it is {}, not CPython", answer.implementation);
            return Err(MakeError::Unsupported {
                program: program.to_owned(),
                reason,
            });
        }
        Ok(answer)
    }

    /// Where the interpreter moves, if it has to.
    fn relocations(&self, home: &str) -> Vec<Relocation> {
        let moves = |prefix: &&PathBuf| !prefix.starts_with("/usr") && **prefix != *"/";
        let moving = self.prefixes.iter().filter(moves);
        moving
            .map(|from| Relocation {
                from: from.clone(),
                to: home.to_owned(),
            })
            .collect()
    }

    /// Directories and archives where modules are searched, without those inside of others.
    fn outermost_search(&self) -> impl Iterator<Item = &PathBuf> {
        let inside = |path: &Path| {
            self.search
                .iter()
                .any(|other| path != other && path.starts_with(other))
        };
        self.search.iter().filter(move |path| !inside(path))
    }
}

/// Adds one part of the standard library, with the libraries of its extension modules.
fn library(collector: &mut Collector, part: &Path, program: &Path) -> Result<(), MakeError> {
    if part.is_file() {
        return collector.take(part).map(drop);
    }
    let incomplete = collector.libraries_below(part, &wanted, Some(program))?;
    let real = std::fs::canonicalize(part).unwrap_or_else(|_| part.to_owned());
    collector.tree(part, &|path| {
        wanted(path) && !incomplete.contains(&real.join(path))
    })
}

/// Whether a path below the standard library belongs into the package.
fn wanted(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let ending = path.extension().and_then(|end| end.to_str()).unwrap_or("");
    let is = |names: &[&str]| names.contains(&name);
    let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let build_files = name.starts_with("config-") || name == "config";
    let left_out = is(&NO_DIRECTORIES)
        || is(&NO_MODULES)
        || NO_ENDINGS.contains(&ending)
        || (ending == "so" && starts(&NO_EXTENSIONS))
        || (build_files && ending != "py");
    !left_out
}

/// Adds the names that scripts use for the interpreter.
fn names(plan: &mut Plan, run: &str, major: u32) {
    let (directory, file) = run.rsplit_once('/').unwrap_or(("", run));
    for name in ["python".to_owned(), format!("python{major}")] {
        plan.symlink(&format!("{directory}/{name}"), file);
        // For `#!/usr/bin/python3` when it lives elsewhere.
        plan.symlink(&format!("/usr/bin/{name}"), run);
    }
}

fn aliases(major: u32) -> Vec<String> {
    let names = if major == 2 {
        ["python2", "py2", "py"]
    } else {
        ["py", "python3", "py3"]
    };
    names.map(str::to_owned).to_vec()
}

/// Nothing of a job outlives it: bytecode of its modules would be written for nobody.
fn environment(run: &str) -> String {
    let directory = run.rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = match directory {
        "/usr/bin" | "/usr/local/bin" => String::new(),
        own => format!("export PATH={own}\n"),
    };
    format!("{path}export LANG=C.UTF-8\nexport PYTHONDONTWRITEBYTECODE=1\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_standard_library_stays_what_programs_use() {
        let stays = [
            "os.py",
            "json/__init__.py",
            "lib2to3/Grammar.txt",
            "ensurepip/__init__.py",
            "lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
            "_sysconfigdata__linux_.py",
            "lib-dynload/_xxsubinterpreters.cpython-311.so",
            "logging/config.py",
            "testing.py",
        ];
        let goes = [
            "test",
            "unittest/test",
            "lib2to3/tests",
            "__pycache__",
            "site-packages",
            "dist-packages",
            "tkinter",
            "idlelib",
            "ensurepip/_bundled",
            "sitecustomize.py",
            "config-3.11-x86_64-linux-gnu",
            "os.pyc",
            "distutils/command/wininst-9.0.exe",
            "lib-dynload/_testcapi.cpython-311.so",
            "lib-dynload/_tkinter.so",
            "config",
        ];
        for path in stays {
            assert!(wanted(Path::new(path)), "{path} is missing");
        }
        for path in goes {
            assert!(!wanted(Path::new(path)), "{path} is there");
        }
    }

    #[test]
    fn an_interpreter_moves_unless_it_is_the_systems() {
        let check = |prefix: &str, moves: bool| {
            let answer = Answer {
                implementation: String::new(),
                version: "3.11.2".parse().expect("a version"),
                major: 3,
                program: PathBuf::new(),
                prefixes: vec![PathBuf::from(prefix)],
                search: Vec::new(),
                tag: None,
            };
            assert_eq!(
                !answer.relocations("/piston/packages/python/3").is_empty(),
                moves,
                "{prefix}"
            );
        };
        check("/usr", false);
        check("/usr/local", false);
        check("/", false);
        check("/opt/python", true);
        check("/home/user/.pyenv/versions/3.12.1", true);
    }

    #[test]
    fn a_moved_interpreter_comes_first_on_the_path() {
        assert!(!environment("/usr/bin/python3.11").contains("PATH"));
        let moved = environment("/piston/packages/python/3.12.1/bin/python3.12");
        assert!(
            moved.starts_with("export PATH=/piston/packages/python/3.12.1/bin\n"),
            "{moved}"
        );
    }

    #[test]
    fn a_program_that_is_no_python_is_told_so() {
        let error = draft(&Host::read(), Some(Path::new("/bin/true"))).expect_err("no Python");
        assert!(error.to_string().contains("/bin/true"), "{error}");
        let error = draft(&Host::read(), Some(Path::new("/bin/false"))).expect_err("no Python");
        assert!(error.to_string().contains("/bin/false"), "{error}");
    }
}
