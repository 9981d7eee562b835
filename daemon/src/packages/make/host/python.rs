//! The `python` package: an interpreter of the host with its standard library.
//!
//! What it is, it says itself (`python/ask.py`); its own compiler makes the `.pyc` files that are
//! valid as packed (`python/compile.py`), because imports without them cost half a second. An
//! interpreter below `/usr` stays at its path; one from elsewhere (pyenv, `/opt`) moves to the
//! package's own directory, which it finds its library from. Installed modules (`site-packages`),
//! tests, and what needs a screen are left out.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use piston_client::ids::Version;
use serde::Deserialize;

use super::super::error::MakeError;
use super::super::package::{Description, Draft, fixed_time, home};
use super::super::plan::{Content, Item, Plan};
use super::collect::{Collector, Relocation};
use super::{Host, Needs, ask, base, question};

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
const COMPILE: &str = include_str!("python/compile.py");

/// Interpreters that compile at once. A fixed number: what a `.pyc` file holds depends on what
/// the same process compiled before, and the image is to be the same on every machine.
const COMPILERS: usize = 2;

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

/// Libraries that an extension module opens by name.
const OPENED: [&str; 2] = ["libgcc_s.so.1", "ossl-modules/legacy.so"];

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
    collector.program(&answer.program, None)?;
    let run = collector.place(&answer.program).unwrap_or_default();
    for directory in answer.outermost_search() {
        library(&mut collector, directory, &answer.program)?;
    }
    OPENED
        .iter()
        .for_each(|name| collector.opened_library(name));
    names(&mut collector.plan, &run, answer.major);
    bytecode(&mut collector, &answer)?;
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    let description = Description {
        aliases: aliases(answer.major),
        environment: environment(&run),
        run: Some(vec![run, "{main}".to_owned(), "{args}".to_owned()]),
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
        return collector.take(part);
    }
    let mut incomplete = BTreeSet::new();
    for extension in extensions(part)? {
        if let Err(error) = collector.libraries_of(&extension, Some(program)) {
            // The host can't import it either.
            collector.notes.push(error.to_string());
            incomplete.insert(extension);
        }
    }
    let real = std::fs::canonicalize(part).unwrap_or_else(|_| part.to_owned());
    collector.tree(part, &|path| {
        wanted(path) && !incomplete.contains(&real.join(path))
    })
}

/// Extension modules below a directory that are wanted.
fn extensions(top: &Path) -> Result<Vec<PathBuf>, MakeError> {
    let top = std::fs::canonicalize(top).map_err(super::collect::reading(top))?;
    let mut found = Vec::new();
    let mut pending = vec![top.clone()];
    while let Some(directory) = pending.pop() {
        let entries = std::fs::read_dir(&directory).map_err(super::collect::reading(&directory))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if !wanted(path.strip_prefix(&top).unwrap_or(&path)) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "so") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
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
    !is(&NO_DIRECTORIES)
        && !is(&NO_MODULES)
        && !NO_ENDINGS.contains(&ending)
        && !(ending == "so" && starts(&NO_EXTENSIONS))
        && !(build_files && ending != "py")
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

/// Adds a `.pyc` file for each planned module.
fn bytecode(collector: &mut Collector, answer: &Answer) -> Result<(), MakeError> {
    let module = |(path, item): (&str, &Item)| match item {
        Item::File {
            content: Content::Host(from),
            ..
        } if path.ends_with(".py") => {
            let plain = |path: &str| !path.contains('\n');
            let from = from.to_str().filter(|from| plain(from))?.to_owned();
            plain(path).then(|| (from, path.to_owned()))
        }
        _ => None,
    };
    let modules: Vec<_> = collector.plan.items().filter_map(module).collect();
    let time = fixed_time().unwrap_or(collector.plan.newest());
    let shares: Vec<Vec<&(String, String)>> = (0..COMPILERS)
        .map(|first| modules.iter().skip(first).step_by(COMPILERS).collect())
        .collect();
    let compiled: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .iter()
            .map(|share| scope.spawn(|| compile(&answer.program, time, share)))
            .collect();
        running
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    for (share, compiled) in shares.iter().zip(compiled) {
        let compiled = compiled.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        for ((_, path), bytes) in share.iter().zip(compiled) {
            if bytes.is_empty() {
                collector
                    .notes
                    .push(format!("{path} does not compile and has no .pyc"));
            } else {
                collector
                    .plan
                    .bytes(&cache_path(path, answer.tag.as_deref()), bytes);
            }
        }
    }
    Ok(())
}

/// Where the interpreter looks for the compiled form of a module.
fn cache_path(module: &str, tag: Option<&str>) -> String {
    let (directory, file) = module.rsplit_once('/').unwrap_or(("", module));
    let stem = file.strip_suffix(".py").unwrap_or(file);
    match tag {
        Some(tag) => format!("{directory}/__pycache__/{stem}.{tag}.pyc"),
        None => format!("{directory}/{stem}.pyc"),
    }
}

/// Compiles modules (source, path in the package) with the interpreter itself.
fn compile(
    program: &Path,
    time: u32,
    modules: &[&(String, String)],
) -> Result<Vec<Vec<u8>>, MakeError> {
    let wrong = |what: &str, error: std::io::Error| MakeError::Answer {
        program: program.to_owned(),
        reason: format!("compiling the standard library: {what}: {error}"),
    };
    let mut command = question(program);
    // Sets in code are written in hash order: fix it.
    command
        .args(["-s", "-S", "-B", "-W", "ignore", "-c", COMPILE])
        .env("PYTHONHASHSEED", "0");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| wrong("cannot be run", error))?;
    let mut list = time.to_string();
    for (source, packed) in modules {
        list.push_str(&format!("\n{source}\n{packed}"));
    }
    let sent = child
        .stdin
        .take()
        .map(|mut input| input.write_all(list.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| wrong("no answer", error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or("no message").to_owned();
        return Err(wrong(
            &output.status.to_string(),
            std::io::Error::other(last),
        ));
    }
    sent.transpose()
        .map_err(|error| wrong("cannot be told", error))?;
    frames(&output.stdout, modules.len()).map_err(|error| wrong("wrong answer", error))
}

/// Splits the compiler's output: for each module its length in 8 bytes, then the bytes.
fn frames(mut output: &[u8], count: usize) -> std::io::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let mut length = [0; 8];
        output.read_exact(&mut length)?;
        let length = usize::try_from(u64::from_le_bytes(length)).ok();
        let split = length.and_then(|length| output.split_at_checked(length));
        let (frame, rest) = split.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        frames.push(frame.to_vec());
        output = rest;
    }
    Ok(frames)
}
