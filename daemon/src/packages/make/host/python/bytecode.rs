//! `.pyc` files that are valid as packed, made by the interpreter's own compiler
//! (`python/compile.py`).
//!
//! Invariant: the same interpreter and modules give the same bytes, on every machine. Writes
//! nothing to the disk: sources are read where they are, bytecode goes from a pipe into the plan.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};

use super::super::super::error::MakeError;
use super::super::super::package::image_time;
use super::super::super::plan::{Content, Item, Plan};
use super::super::question;

const COMPILE: &str = include_str!("compile.py");

/// Interpreters that compile at once. A fixed number: what a `.pyc` file holds depends on what
/// the same process compiled before, and the image is to be the same on every machine.
const COMPILERS: usize = 2;

/// A module of the standard library.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    /// Its source on the host.
    source: String,
    /// Its source in the package: tracebacks name it.
    packed: String,
}

/// Adds a `.pyc` file for each planned module; returns the modules that do not compile. Nothing
/// of the host may be added to the plan afterwards: old interpreters' files hold its time.
pub(in crate::packages::make) fn add(
    plan: &mut Plan,
    interpreter: &Path,
    tag: Option<&str>,
) -> Result<Vec<String>, MakeError> {
    let modules: Vec<Module> = plan.items().filter_map(module).collect();
    let time = image_time(plan);
    let shares: Vec<Vec<&Module>> = (0..COMPILERS)
        .map(|first| modules.iter().skip(first).step_by(COMPILERS).collect())
        .collect();
    let compiled: Vec<_> = std::thread::scope(|scope| {
        let start = |share| scope.spawn(move || compile(interpreter, time, share));
        let running: Vec<_> = shares.iter().map(|share| start(share)).collect();
        running
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut failed = Vec::new();
    for (share, compiled) in shares.iter().zip(compiled) {
        let compiled = compiled.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        for (module, bytes) in share.iter().zip(compiled) {
            if bytes.is_empty() {
                failed.push(module.packed.clone());
            } else {
                plan.bytes(&cache_path(&module.packed, tag), bytes);
            }
        }
    }
    Ok(failed)
}

/// A planned entry as a module, if it is one.
fn module((packed, item): (&str, &Item)) -> Option<Module> {
    let Item::File {
        content: Content::Host(source),
        ..
    } = item
    else {
        return None;
    };
    let source = source.to_str()?;
    let is_module = Path::new(packed).extension() == Some(OsStr::new("py"));
    // The compiler is told names line by line.
    let plain = !packed.contains('\n') && !source.contains('\n');
    (is_module && plain).then(|| Module {
        source: source.to_owned(),
        packed: packed.to_owned(),
    })
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

/// Compiles modules with the interpreter itself; no bytes for one that does not compile.
fn compile(interpreter: &Path, time: u32, modules: &[&Module]) -> Result<Vec<Vec<u8>>, MakeError> {
    let wrong = |reason: String| MakeError::Answer {
        program: interpreter.to_owned(),
        reason: format!("it compiles its library: {reason}"),
    };
    let output = run(interpreter, time, modules).map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(wrong(format!(
            "{} {}",
            output.status,
            text.lines().last().unwrap_or("")
        )));
    }
    frames(&output.stdout, modules.len()).map_err(|error| wrong(error.to_string()))
}

fn run(interpreter: &Path, time: u32, modules: &[&Module]) -> io::Result<Output> {
    let mut list = time.to_string();
    for Module { source, packed } in modules {
        write!(list, "\n{source}\n{packed}").map_err(io::Error::other)?;
    }
    let mut command = question(interpreter);
    command.args(["-s", "-S", "-B", "-W", "ignore", "-c", COMPILE]);
    // Sets in code are written in hash order: fix it.
    command.env("PYTHONHASHSEED", "0");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // The compiler reads all of its input before it answers, so this can't block for ever. An
    // error means that it has ended: its status says more.
    if let Some(mut input) = child.stdin.take() {
        drop(input.write_all(list.as_bytes()));
    }
    child.wait_with_output()
}

/// Splits the compiler's output: for each module its length in 8 bytes, then the bytes.
fn frames(mut output: &[u8], count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let mut length = [0; 8];
        output.read_exact(&mut length)?;
        let length = usize::try_from(u64::from_le_bytes(length)).ok();
        let split = length.and_then(|length| output.split_at_checked(length));
        let (frame, rest) = split.ok_or(io::ErrorKind::UnexpectedEof)?;
        frames.push(frame.to_vec());
        output = rest;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python() -> &'static Path {
        let python = Path::new("/usr/bin/python3");
        assert!(
            python.exists(),
            "this test needs python3 (Debian: apt-get install python3)"
        );
        python
    }

    /// A plan of modules with these sources, and the directory that holds them.
    fn planned(sources: &[(&str, &str)]) -> (Plan, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut plan = Plan::default();
        for (name, text) in sources {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            plan.host_file(&format!("/lib/{name}"), path, false, 1000);
        }
        (plan, directory)
    }

    fn bytes<'a>(plan: &'a Plan, path: &str) -> &'a [u8] {
        let found = plan.items().find_map(|(at, item)| match item {
            Item::File {
                content: Content::Bytes(bytes),
                ..
            } if at == path => Some(bytes),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{path} is not planned"))
    }

    #[test]
    fn a_module_gets_bytecode_that_is_never_compared_with_its_source() {
        let (mut plan, _directory) = planned(&[("one.py", "x = {'a', 'b'}\n"), ("data.txt", "x")]);
        let failed = add(&mut plan, python(), Some("tag")).expect("compiled");
        assert!(failed.is_empty());
        let bytes = bytes(&plan, "/lib/__pycache__/one.tag.pyc");
        assert_eq!(bytes[4..8], [1, 0, 0, 0], "an unchecked hash");
        let name = b"/lib/one.py";
        assert!(
            bytes.windows(name.len()).any(|part| part == name),
            "its name in the package"
        );
        assert_eq!(
            plan.items().count(),
            5,
            "two directories, two files, and the bytecode"
        );
    }

    #[test]
    fn the_same_modules_give_the_same_bytecode() {
        let sources = [
            ("a.py", "x in {'p', 'q', 'r'}\n"),
            ("b.py", "def f(): return 'p'\n"),
        ];
        let (plan, _directory) = planned(&sources);
        let made = [(); 3].map(|()| {
            let mut plan = plan.clone();
            add(&mut plan, python(), None).expect("compiled");
            plan
        });
        assert!(made[0] == made[1] && made[1] == made[2]);
    }

    #[test]
    fn a_module_that_does_not_compile_is_told_and_left() {
        let (mut plan, _directory) = planned(&[("bad.py", "def (:\n"), ("good.py", "")]);
        let failed = add(&mut plan, python(), None).expect("the others compile");
        assert_eq!(failed, ["/lib/bad.py"]);
        assert!(plan.contains("/lib/good.pyc") && !plan.contains("/lib/bad.pyc"));
    }

    #[test]
    fn an_interpreter_that_fails_is_an_error_with_its_complaint() {
        let (mut plan, _directory) = planned(&[("one.py", "")]);
        let error = add(&mut plan, Path::new("/bin/false"), None).expect_err("no answer");
        assert!(error.to_string().contains("/bin/false"), "{error}");
        let error = add(&mut plan, Path::new("/bin/true"), None).expect_err("an empty answer");
        assert!(error.to_string().contains("/bin/true"), "{error}");
    }

    #[test]
    fn frames_are_split_by_their_lengths() {
        let two = [&[1, 0, 0, 0, 0, 0, 0, 0, b'x'][..], &[0; 8]].concat();
        assert_eq!(frames(&two, 2).expect("two"), [b"x".to_vec(), Vec::new()]);
        for bad in [&two[..5], &two[..8], &[0xff; 20]] {
            frames(bad, 2).expect_err("cut off or too long");
        }
    }

    #[test]
    fn bytecode_is_where_the_interpreter_looks() {
        let three = Some("cpython-311");
        assert_eq!(
            cache_path("/lib/json/tool.py", three),
            "/lib/json/__pycache__/tool.cpython-311.pyc"
        );
        assert_eq!(cache_path("/lib/json/tool.py", None), "/lib/json/tool.pyc");
    }
}
