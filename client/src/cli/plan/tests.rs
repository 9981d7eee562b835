//! Tests of how words, files and standard input become a job.

use clap::Parser as _;

use super::super::flags::{Cli, Command};
use super::*;
use crate::api::TextEncoding;
use crate::units::{Bytes, Millis};

fn terminal() -> Surroundings {
    Surroundings { stdin: None }
}

fn piped(bytes: &'static [u8]) -> Surroundings {
    Surroundings {
        stdin: Some(Box::new(move || Box::new(bytes))),
    }
}

fn plan(words: &[&str], around: &Surroundings) -> Result<Plan, Failure> {
    let all = ["piston", "run"].iter().chain(words);
    match Cli::try_parse_from(all).expect("good flags").command {
        Command::Run(flags) => Plan::new(flags, around),
        other => panic!("{other:?}"),
    }
}

fn refused(words: &[&str]) -> String {
    let error = plan(words, &terminal()).expect_err("refused");
    let account = super::super::failure::account(&error.into());
    format!("{} -> {}", account.error, account.next.join("; "))
}

/// A directory with `main.py`, `lib/util.py` and `data`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(folder.path().join("lib")).expect("a directory");
        for (name, content) in [
            ("main.py", &b"print(1)"[..]),
            ("lib/util.py", b"x = 1"),
            ("data", &[0xff]),
        ] {
            std::fs::write(folder.path().join(name), content).expect("a file");
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

fn words(list: &[&str]) -> Words {
    understand(list.iter().map(|&word| word.to_owned()).collect()).expect("understood")
}

#[test]
fn a_language_and_files_are_told_from_files_alone() {
    let check = |list: &[&str], named: Option<(&str, Option<&str>)>, paths: &[&str]| {
        let owned = |(name, range): (&str, Option<&str>)| (name.into(), range.map(str::to_owned));
        let expected = Words {
            named: named.map(owned),
            paths: paths.iter().map(PathBuf::from).collect(),
        };
        assert_eq!(words(list), expected);
    };
    check(&["python", "x.py"], Some(("python", None)), &["x.py"]);
    check(
        &["python@3.x", "x", "y"],
        Some(("python", Some("3.x"))),
        &["x", "y"],
    );
    check(
        &["python@>=3 <4", "x"],
        Some(("python", Some(">=3 <4"))),
        &["x"],
    );
    check(&["python@", "x"], Some(("python", None)), &["x"]);
    check(
        &["python-3.11.2", "x"],
        Some(("python", Some("3.11.2"))),
        &["x"],
    );
    check(&["C++", "-"], Some(("C++", None)), &["-"]);
    check(&["x.py"], None, &["x.py"]);
    check(&["./x.sh", "a"], None, &["./x.sh", "a"]);
    check(&["."], None, &["."]);
    // It might be a language: without such a file it is.
    check(&["no-such.js", "x"], Some(("no-such.js", None)), &["x"]);
}

#[test]
fn a_package_is_named_with_or_without_a_version() {
    let check = |word: &str, name: &str, range: Option<&str>| {
        let word: PackageWord = word.parse().expect("a package");
        assert_eq!((word.name.as_str(), word.range.as_deref()), (name, range));
    };
    check("python", "python", None);
    check("python@3", "python", Some("3"));
    check("python-3.11.2", "python", Some("3.11.2"));
    check("python-3.11.2-rc.1", "python", Some("3.11.2-rc.1"));
    check("f-sharp-5.0.0", "f-sharp", Some("5.0.0"));
    check("f-sharp", "f-sharp", None);
    let exact = |word: &str| word.parse::<PackageWord>().expect("a package").exact();
    assert_eq!(exact("python@3"), None);
    assert_eq!(
        exact("python@3.11.2").map(|p| p.to_string()).as_deref(),
        Some("python-3.11.2")
    );
}

#[test]
fn everything_that_is_asked_for_is_in_the_request() {
    let folder = Folder::new();
    let main = folder.path("main.py");
    let list = [
        "--timeout",
        "3s",
        "--memory",
        "64M",
        "--env",
        "A=b=c",
        "--env",
        "E=",
        "--stats",
        "--cache",
        "output",
        "--out",
        "*.svg",
        "python",
        &main,
        &folder.path("lib/util.py"),
        &folder.path("data"),
        "--",
        "one",
        "--two",
    ];
    let plan = plan(&list, &piped(b"input")).expect("a plan");
    let request = plan.request;
    let names: Vec<_> = request
        .files
        .iter()
        .map(|f| f.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["main.py", "lib/util.py", "data"]);
    assert_eq!(request.files[0].content, "print(1)");
    assert_eq!(request.files[2].encoding, TextEncoding::Base64);
    assert_eq!(request.args, ["one", "--two"]);
    assert_eq!(request.cache, Some(crate::api::CacheLevel::Output));
    assert_eq!(request.outputs, ["*.svg"]);
    assert_eq!(request.stdin, Some(Stdin::Text("input".into())));
    assert_eq!(
        request.env.into_iter().collect::<Vec<_>>(),
        [
            ("A".to_owned(), "b=c".to_owned()),
            ("E".to_owned(), String::new()),
        ]
    );
    assert_eq!(request.limits.run.wall_time_ms, Some(Millis(3000)));
    assert_eq!(request.limits.run.memory_bytes, Some(Bytes::mib(64)));
    assert!(plan.stats);
}

#[test]
fn standard_input_is_the_programs_unless_it_is_the_program() {
    let folder = Folder::new();
    let main = folder.path("main.py");
    let stdin = |words: &[&str], around: &Surroundings| plan(words, around).unwrap().request.stdin;
    assert_eq!(stdin(&[&main], &terminal()), None);
    assert_eq!(stdin(&[&main], &piped(b"")), None);
    assert_eq!(stdin(&[&main], &piped(b"x")), Some("x".into()));
    let from_file = ["--stdin", &main, &main];
    assert_eq!(stdin(&from_file, &piped(b"x")), Some("print(1)".into()));
    let program = plan(&["python", "-"], &piped(b"print(2)")).unwrap().request;
    assert_eq!(
        (program.files[0].content.as_str(), program.stdin),
        ("print(2)", None)
    );
    assert_eq!(program.files[0].name, None);
}

#[test]
fn what_can_not_be_a_job_says_what_to_do() {
    let folder = Folder::new();
    let check = |words: &[&str], expected: &str| {
        let text = refused(words);
        assert!(text.contains(expected), "{text}");
    };
    check(
        &["python"],
        "no file to run in python -> write `piston run python FILE`",
    );
    check(&["-"], "`piston run LANG -`");
    check(
        &[&folder.path("data")],
        "by its ending -> name it: `piston run LANG /",
    );
    check(
        &["python", "/no/such/file"],
        "there is no file /no/such/file -> check",
    );
    check(&["none.py"], "there is no file none.py");
    check(&["none.p"], "there is no file none.p");
    check(&[&folder.path("mian.py")], "-> did you mean /");
    check(&[&folder.path("main.py"), "arg"], "stand after `--`");
    check(
        &["--stdin", "/none", &folder.path("main.py")],
        "no file /none",
    );
}

#[test]
fn endless_input_is_refused_and_not_swallowed() {
    let folder = Folder::new();
    let endless = Surroundings {
        stdin: Some(Box::new(|| Box::new(io::repeat(b'x')))),
    };
    let error = plan(&[&folder.path("main.py")], &endless).expect_err("endless");
    assert_eq!(error.to_string(), "standard input is over 64 MiB");
}
