//! Every command of the guides in `contrib/docs`, run in the order in which it stands there.
//!
//! A guide is one session of a newcomer: blocks of `console` hold commands after `$ ` (`> ` goes on
//! with one) and what they print, where `...` stands for anything. A block with a file's name
//! behind its language is that file. What is not meant to be run is in no such block. The blocks of
//! the Python client's page are one program. Beyond all these, each `piston` command that is written
//! anywhere has to be one that `piston` takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use piston_tests::packages::{self, Crafted};
use piston_tests::{Daemon, Newcomer, Who, binary, free_port, require};
use serde_json::json;

/// What ends a command's output.
const END: &str = "@@ end of ";

/// The address that the guides use, in the place of which there is a free one.
const ADDRESS: &str = "127.0.0.1:2000";

/// A piece of a guide, in order.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// A file with its text.
    File(String, String),
    /// A command with the lines that it prints.
    Command(String, Vec<String>),
}

/// What of a guide is to be run.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match kind.split_once(' ') {
            Some((_, name)) => {
                let text = block.join("\n") + "\n";
                pieces.push(Piece::File(name.to_owned(), text));
            }
            None if kind == "console" => pieces.extend(commands(&block)),
            None => {}
        }
    }
    pieces
}

fn commands(block: &[&str]) -> Vec<Piece> {
    let mut commands: Vec<Piece> = Vec::new();
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(Piece::Command(command.to_owned(), Vec::new()));
            continue;
        }
        let Some(Piece::Command(command, output)) = commands.last_mut() else {
            panic!("a block begins with a command: {line}");
        };
        match line.strip_prefix("> ") {
            Some(more) if output.is_empty() => {
                command.push('\n');
                command.push_str(more);
            }
            _ => output.push((*line).to_owned()),
        }
    }
    commands
}

/// Whether lines are as they are shown: `...` alone is any lines, within one it is any text.
fn fits(lines: &[&str], shown: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return lines.is_empty();
    };
    if first.trim() == "..." {
        return (0..=lines.len()).any(|skipped| fits(&lines[skipped..], rest));
    }
    let Some((line, others)) = lines.split_first() else {
        return false;
    };
    line_fits(line, first) && fits(others, rest)
}

pub(super) fn line_fits(line: &str, shown: &str) -> bool {
    let Some((before, after)) = shown.split_once("...") else {
        return line.trim_end() == shown.trim_end();
    };
    let Some(mut rest) = line.strip_prefix(before) else {
        return false;
    };
    loop {
        if line_fits(rest, after) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

/// The folder of the source, which the guides call `~/piston`.
fn source() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::canonicalize(source).expect("the source")
}

/// What is gone through though it is no guide.
const README: &str = "README.md";

fn guide(name: &str) -> String {
    let folder = if name == README { "." } else { "contrib/docs" };
    let text = fs::read_to_string(source().join(folder).join(name)).expect(name);
    text.replace(ADDRESS, &free_port().to_string())
}

/// Goes through a guide as a user who has nothing yet.
fn holds(name: &str) {
    let newcomer = Newcomer::with("");
    std::os::unix::fs::symlink(source(), newcomer.path("home/piston")).expect("a link");
    let mut script = Vec::new();
    let mut expected = Vec::new();
    for piece in pieces(&guide(name)) {
        match piece {
            Piece::File(file, text) => {
                let end = "end of the file";
                script.push(format!("mkdir -p \"$(dirname {file})\"\n"));
                script.push(format!("cat > {file} <<'{end}'\n{text}{end}\n"));
            }
            Piece::Command(command, output) => {
                let number = expected.len();
                script.push(format!("{command}\necho \"{END}{number}: $?\"\n"));
                expected.push((command, output));
            }
        }
    }
    assert!(!expected.is_empty(), "{name} has no commands");
    let file = newcomer.path("home/guide");
    let script = format!("exec 2>&1 </dev/null\n{}", script.concat());
    fs::write(&file, script).expect("written");
    let mut command = newcomer.command(Path::new("/bin/bash"));
    let output = command.arg(&file).stdin(Stdio::null()).output();
    let output = String::from_utf8_lossy(&output.expect("bash").stdout).into_owned();
    let mut rest = &output[..];
    for (number, (command, shown)) in expected.iter().enumerate() {
        let end = format!("{END}{number}: ");
        let (printed, after) = rest.split_once(&end).unwrap_or_else(|| {
            panic!("{name}: no end of `{command}`:\n{rest}\n{}", newcomer.log())
        });
        let (status, after) = after.split_once('\n').expect("a line");
        rest = after;
        let lines: Vec<&str> = printed.lines().collect();
        let shown_text = shown.join("\n");
        assert!(
            status == "0" && fits(&lines, shown),
            "{name}: `{command}` ended with {status} and printed\n{printed}\nwhere the guide \
             shows\n{shown_text}"
        );
    }
}

/// Guides whose commands install languages of Debian's packages.
fn holds_with_debian(name: &str) {
    if Who::User.possible() && require::apt_lists() {
        holds(name);
    }
}

#[test]
fn what_a_guide_shows_is_compared_line_by_line() {
    let check = |lines: &[&str], shown: &[&str], expected: bool| {
        let shown: Vec<String> = shown.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(fits(lines, &shown), expected, "{lines:?} {shown:?}");
    };
    check(&[], &[], true);
    check(&["a"], &[], false);
    check(&[], &["a"], false);
    check(&["a", "b", "c"], &["a", "...", "c"], true);
    check(&["a", "c"], &["a", "...", "c"], true);
    check(&["a", "b"], &["a", "...", "c"], false);
    check(&["took 12 ms, 3 MiB"], &["took ... ms, ... MiB"], true);
    check(&["took 12 ms"], &["took ... s"], false);
    check(&["x 1 x 2 y"], &["x ... x ... y"], true);
    let text = "```console\n$ a <<E\n> b\n> E\nout\n$ c\n```\n```sh x/y\nz\n```\n```text\n$ d\n```";
    let command = |command: &str, output: &[&str]| {
        let output = output.iter().map(|&line| line.to_owned()).collect();
        Piece::Command(command.to_owned(), output)
    };
    let file = Piece::File("x/y".to_owned(), "z\n".to_owned());
    let expected = [command("a <<E\nb\nE", &["out"]), command("c", &[]), file];
    assert_eq!(pieces(text), expected);
}

#[test]
fn every_guide_is_gone_through() {
    let tested = fs::read_to_string(file!()).or_else(|_| {
        // Run from another folder than the workspace's.
        fs::read_to_string(source().join("tests/it/docs.rs"))
    });
    let tested = tested.expect("this file");
    let entries = fs::read_dir(source().join("contrib/docs")).expect("the guides");
    let names = entries.map(|entry| entry.expect("a guide").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    for name in names.chain([README.to_owned()]) {
        if Path::new(&name)
            .extension()
            .is_none_or(|ending| ending != "md")
        {
            continue;
        }
        let text = guide(&name);
        assert!(
            name == README || !text.contains("```sh\n"),
            "{name}: commands stand in `console`"
        );
        let runs = !pieces(&text).is_empty();
        let called = tested.contains(&format!("holds(\"{name}\")"))
            || tested.contains(&format!("holds_with_debian(\"{name}\")"));
        assert_eq!(
            runs, called,
            "{name} has commands that no test runs, or the other way round"
        );
    }
}

#[test]
fn what_the_readme_shows_is_what_happens() {
    holds_with_debian("README.md");
}

/// The words of the `piston` command that a text begins with, as a shell takes them, up to what is
/// the shell's own or the program's.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | ';' | '&' | '>' | '<' | '#' | '\n' | '`' | ')') => break,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    // What stands for something that has a form of its own ends it.
    let ours = words
        .into_iter()
        .take_while(|word| !["--", "ID"].contains(&&**word));
    ours.collect()
}

/// The `piston` commands in a text, in backticks or at the beginning of a line.
fn commands_in(text: &str) -> Vec<Vec<String>> {
    const BEFORE: [&str; 6] = ["\n", "`", "$ ", "| ", "&& ", "; "];
    let found = text.match_indices("piston ").filter(|(at, _)| {
        let before = text[..*at].trim_end_matches("  ");
        BEFORE.iter().any(|end| before.ends_with(end))
    });
    // These are the released Piston's.
    let is_ours = |words: &Vec<String>| {
        let first = words
            .get(1)
            .filter(|word| !["execute", "ppman"].contains(&&***word));
        first.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'))
    };
    let words = found.map(|(at, _)| words(&text[at..]));
    words.filter(is_ours).collect()
}

#[test]
fn commands_are_found_in_texts() {
    let text = "`piston run -i x`, `piston` and piston x\npiston = `piston ppman list`\n  piston judge 'a b' \"c\" -- -d\n\
                echo | piston run - > y # z\n";
    let expected = [
        vec!["piston", "run", "-i", "x"],
        vec!["piston", "judge", "a b", "c"],
        vec!["piston", "run", "-"],
    ];
    assert_eq!(commands_in(text), expected);
}

/// What is written about `piston` has its commands and flags right: each command in a text or in the
/// help of another one is taken, up to what it is about.
#[test]
fn every_command_that_is_written_somewhere_is_one() {
    let piston = |words: &[String]| {
        let mut command = Command::new(binary("piston"));
        let output = command.args(words).arg("--help").output();
        let output = output.expect("piston starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said, output.stdout)
    };
    let mut texts = vec![README.into(), "contrib/quickstart.sh".into()];
    for folder in [
        "contrib/docs",
        "contrib/packages",
        "contrib/proxy",
        "contrib/config",
    ] {
        let entries = fs::read_dir(source().join(folder)).expect(folder);
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| format!("{folder}/{}", name.to_string_lossy()));
        texts.extend(names.filter(|name| source().join(name).is_file()));
    }
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for name in texts {
        // Pictures lie there too.
        let text = fs::read(source().join(&name)).expect("a file");
        let text = String::from_utf8_lossy(&text);
        found.extend(
            commands_in(&text)
                .into_iter()
                .map(|words| (name.clone(), words)),
        );
    }
    // The commands that are named in the help of others, level by level.
    let mut helps = vec![vec!["piston".to_owned()]];
    for group in [
        "run", "judge", "package", "repo", "token", "daemon", "cache", "runners",
    ] {
        helps.push(vec!["piston".to_owned(), group.to_owned()]);
    }
    for name in [
        "install",
        "extend",
        "from-oci",
        "from-debian",
        "from-host",
        "build",
    ] {
        helps.push(["piston", "package", name].map(str::to_owned).to_vec());
    }
    for words in helps {
        let (taken, said, help) = piston(&words[1..]);
        assert!(taken, "{words:?}: {said}");
        let help = String::from_utf8(help).expect("text");
        let examples = help.split("xamples:").nth(1).unwrap_or_default();
        let examples: Vec<&str> = examples.lines().filter(|l| l.starts_with("  ")).collect();
        let examples = format!("\n{}", examples.join("\n"));
        found.extend(
            commands_in(&examples)
                .into_iter()
                .map(|w| (words.join(" "), w)),
        );
    }
    assert!(found.len() > 100, "{} commands", found.len());
    for (name, words) in found {
        let (taken, said, _) = piston(&words[1..]);
        assert!(taken, "{name}: `{}`: {said}", words.join(" "));
    }
}

#[test]
fn the_first_steps_are_as_they_are_shown() {
    holds_with_debian("START.md");
}

#[test]
fn the_api_answers_as_it_is_shown() {
    holds("API.md");
}

#[test]
fn an_operator_finds_what_is_shown() {
    holds("OPERATING.md");
}

#[test]
fn the_playground_is_where_it_is_said_to_be() {
    holds("PLAYGROUND.md");
}

#[test]
fn packages_are_written_as_it_is_shown() {
    holds("WRITING-PACKAGES.md");
}

#[test]
fn who_comes_from_the_released_piston_finds_what_is_shown() {
    holds("MIGRATING.md");
}

/// A page's blocks of Python as one program, and what it prints: what stands behind a line that
/// prints as a comment, and lines of comments.
fn program(page: &str) -> (String, Vec<String>) {
    let mut lines = page.lines();
    let mut program: Vec<&str> = Vec::new();
    while lines.by_ref().any(|line| line == "```python") {
        program.extend(lines.by_ref().take_while(|line| *line != "```"));
    }
    let printed = program.iter().filter_map(|line| {
        let behind = line
            .split_once("  # ")
            .filter(|(code, _)| code.contains("print("));
        line.strip_prefix("# ")
            .or(behind.map(|(_, comment)| comment))
    });
    (program.join("\n"), printed.map(str::to_owned).collect())
}

#[test]
fn the_python_client_prints_what_its_page_shows() {
    let daemon = Daemon::start_with(Who::User, "[packages]\nbuiltin = false\n", &[]);
    packages::install(&daemon, &["bash", "python", "gcc"]);
    let folder = daemon.folder().join("repo");
    fs::create_dir(&folder).expect("a folder");
    Crafted {
        info: json!({"language": "lua", "version": "5.4.6", "mount": "/"}),
        files: &[("usr/share/lua", "it is never run")],
        scripts: &[("run", "#!/usr/bin/lua\n")],
        compressor: "gzip",
    }
    .write(&folder);
    daemon.who().own(&folder);
    let path = folder.to_string_lossy();
    for words in [
        ["repo", "index", &path].as_slice(),
        &["repo", "add", "local", &path],
    ] {
        assert!(daemon.cli(words, b"").status.success(), "{}", daemon.log());
    }
    let client = source().join("contrib/python");
    let page = fs::read_to_string(client.join("README.md")).expect("the page");
    let (program, shown) = program(&page);
    let output = Command::new("python3")
        .args(["-B", "-W", "error", "-c", &program])
        .current_dir(client)
        .env("PISTON_HOST", daemon.socket())
        .env_remove("PISTON_TOKEN")
        .output()
        .expect("python3 starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        output.status.success() && fits(&lines, &shown),
        "{printed}{said}"
    );
}
