//! `piston judge`: one program against many inputs, and a table of verdicts.

mod why;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value};

use crate::Client;
use crate::api::{
    BatchCase, BatchRequest, BatchResponse, Compare, InputFile, Limits, OutputEncoding,
    StageLimits, Status, Stdin, Verdict,
};

use super::ending;
use super::exit::Exit;
use super::failure::Failure;
use super::files::{base_name, read_file, with_others};
use super::flags::Judge;
use super::plan::{Words, understand};
use super::render::{Screen, Table, pass};
use super::runtime::{self, Sought};

/// What a folder calls what has to be printed.
const EXPECTED: [&str; 2] = ["out", "ans"];

/// A program with its cases, everything read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    pub(super) sought: Sought,
    /// What the cases are called.
    names: Vec<String>,
    /// All but the language.
    request: BatchRequest,
}

impl Trial {
    /// Reads what `flags` name.
    pub(super) fn new(flags: Judge) -> Result<Self, Failure> {
        let compare = compare(&flags.compare)?;
        let words = understand(flags.words)?;
        let [file, cases] = &words.paths[..] else {
            return Err(misused(&words));
        };
        if file.is_dir() && cases.is_file() {
            return Err(swapped(cases, file));
        }
        let (file, cases) = (file.clone(), cases.clone());
        let sought = words.language(&file, flags.missing.consent())?;
        let main = InputFile::new(base_name(&file)?, &read_file(&file)?);
        let (names, cases) = read_cases(&cases, compare)?;
        let run = Limits {
            wall_time_ms: flags.timeout,
            memory_bytes: flags.memory,
            ..Limits::default()
        };
        Ok(Self {
            sought,
            names,
            request: BatchRequest {
                files: with_others(main, &file, &flags.files)?,
                limits: StageLimits {
                    compile: Limits::default(),
                    run,
                },
                encoding: OutputEncoding::Utf8,
                cases,
                stop_on_failure: flags.stop_on_failure,
                parallel: flags.parallel,
                ..BatchRequest::default()
            },
        })
    }
}

/// What is missing of a program and its cases, or too much.
fn misused(words: &Words) -> Failure {
    let language = match &words.named {
        Some((name, Some(range))) => format!("{name}@{range} "),
        Some((name, None)) => format!("{name} "),
        None => String::new(),
    };
    if let (Some((folder, None)), [file]) = (&words.named, &words.paths[..])
        && Path::new(folder).is_dir()
        && file.is_file()
    {
        return swapped(file, Path::new(folder));
    }
    match &words.paths[..] {
        [file, _, more, ..] => {
            Failure::new("there is more than a program and its cases").next(format!(
                "write `piston judge {language}{} CASES --file {}` for what goes along",
                file.display(),
                more.display()
            ))
        }
        [cases] if cases.is_dir() => Failure::new("the program is missing").next(format!(
            "write `piston judge {language}FILE {}`",
            cases.display()
        )),
        paths => Failure::new("the cases are missing").next(format!(
            "write `piston judge {language}{} CASES`, a folder of NAME.in and NAME.out",
            paths[0].display()
        )),
    }
}

/// The cases were named before the program.
fn swapped(program: &Path, cases: &Path) -> Failure {
    let (program, cases) = (program.display(), cases.display());
    Failure::new("the program stands before its cases")
        .next(format!("write `piston judge {program} {cases}`"))
}

fn compare(word: &str) -> Result<Compare, Failure> {
    match word {
        "exact" => Ok(Compare::Exact),
        "trim" => Ok(Compare::Trim),
        "tokens" => Ok(Compare::Tokens),
        other => Err(Failure::new(format!("`{other}` is no way to compare"))
            .next("write `--compare exact`, `trim` or `tokens`")),
    }
}

/// The cases at a path, with their names.
fn read_cases(path: &Path, compare: Compare) -> Result<(Vec<String>, Vec<BatchCase>), Failure> {
    if path.is_dir() {
        return read_folder(path, compare);
    }
    let text = read_file(path)?;
    let cases = read_list(&text, compare).map_err(|error| {
        Failure::new(format!("{} is not a list of cases", path.display()))
            .because(error)
            .next(r#"write [{"stdin": "1 2", "expected_stdout": "3"}, ...], or name a folder"#)
    })?;
    if cases.is_empty() {
        return Err(Failure::new(format!(
            "there is no case in {}",
            path.display()
        )));
    }
    let names = (1..=cases.len()).map(|number| number.to_string());
    Ok((names.collect(), cases))
}

/// Cases as the API has them; those that don't say how they are compared are as all are.
fn read_list(text: &[u8], compare: Compare) -> serde_json::Result<Vec<BatchCase>> {
    let mut cases: Vec<BatchCase> = serde_json::from_slice(text)?;
    let given: Vec<Map<String, Value>> = serde_json::from_slice(text)?;
    for (case, given) in cases.iter_mut().zip(given) {
        if !given.contains_key("compare") {
            case.compare = compare;
        }
    }
    Ok(cases)
}

fn read_folder(folder: &Path, compare: Compare) -> Result<(Vec<String>, Vec<BatchCase>), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(format!("can't list {}", folder.display())).because(error)
    };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_input = path.extension().is_some_and(|ending| ending == "in");
        if let (true, Some(name)) = (is_input, path.file_stem().and_then(|name| name.to_str())) {
            names.insert(name.to_owned());
        }
    }
    if names.is_empty() {
        let text = format!("there is no case in {}", folder.display());
        return Err(Failure::new(text).next("a case is NAME.in, with NAME.out or NAME.ans"));
    }
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by(|one, other| by_number(one, other));
    let case = |name: &String| {
        let file = |ending: &str| -> PathBuf { folder.join(format!("{name}.{ending}")) };
        let input = read_file(&file("in"))?;
        let expected = EXPECTED.iter().map(|ending| file(ending));
        let expected = expected
            .filter(|path| path.exists())
            .map(|path| read_file(&path));
        let expected = expected.into_iter().next().transpose()?;
        Ok(BatchCase {
            stdin: Some(Stdin::from(&input[..])),
            expected_stdout: expected.map(|bytes| Stdin::from(&bytes[..])),
            compare,
            ..BatchCase::default()
        })
    };
    let cases = names.iter().map(case).collect::<Result<_, Failure>>()?;
    Ok((names, cases))
}

/// Names in the order of the numbers in them: `2` before `10`.
fn by_number(one: &str, other: &str) -> Ordering {
    let parts = |name: &str| -> Vec<(String, u64)> {
        let mut parts = Vec::new();
        let mut rest = name;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (text, after) = rest.split_at(digits);
            let end = after
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(after.len());
            let (number, after) = after.split_at(end);
            parts.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
            rest = after;
        }
        parts
    };
    parts(one).cmp(&parts(other)).then_with(|| one.cmp(other))
}

/// Runs the cases and shows what came of them.
pub(super) async fn judge(client: &Client, trial: &Trial, screen: &Screen) -> Result<Exit> {
    let judged = runtime::perform(client, &trial.sought, screen, async |package, language| {
        let request = BatchRequest {
            language: Some(language.clone()),
            ..trial.request.clone()
        };
        client.batch(package, &trial.sought.range, &request).await
    });
    let response = judged.await?;
    let runtime = (&response.language, &response.version);
    let runs = response.cases.iter().filter_map(|case| case.run.as_ref());
    let limits = ending::limits(client, runtime, runs, &trial.request.limits).await;
    show(&response, trial, &limits.run, screen)
}

fn show(response: &BatchResponse, trial: &Trial, limits: &Limits, screen: &Screen) -> Result<Exit> {
    screen.show(response, |response| {
        let mut table = Table::new(["CASE", "VERDICT", "TIME", "MEMORY", ""]);
        let asked = trial.names.iter().zip(&trial.request.cases);
        for (case, (name, asked)) in response.cases.iter().zip(asked) {
            let run = case.run.as_ref();
            table.row(&[
                name.clone(),
                case.verdict
                    .map_or("-".to_owned(), |verdict| verdict.to_string()),
                run.map_or("-".to_owned(), |run| run.wall_time_ms.to_string()),
                run.map_or("-".to_owned(), |run| run.memory_bytes.to_string()),
                why::why(case, asked, limits).unwrap_or_default(),
            ]);
        }
        screen.table(&table)
    })?;
    if response.verdict == Verdict::CompileError {
        if let Some(compile) = &response.compile {
            pass(b"", compile.output.as_bytes())?;
        }
        screen.note("the program does not compile");
    }
    let verdicts = response.cases.iter().filter_map(|case| case.verdict);
    let right = verdicts
        .filter(|verdict| *verdict == Verdict::Accepted)
        .count();
    let all = response.cases.len();
    screen.note(format!("{}: {right} of {all} accepted", response.verdict));
    Ok(match response.verdict {
        Verdict::Accepted => Exit::Done,
        Verdict::Ended(Status::Internal) => Exit::Failed,
        _ => Exit::Program(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_stand_in_the_order_of_their_numbers() {
        let mut names = ["b2", "a", "10", "2", "b10", "2a", "02", "b2c"];
        names.sort_by(|one, other| by_number(one, other));
        assert_eq!(names, ["02", "2", "2a", "10", "a", "b2", "b2c", "b10"]);
    }

    #[test]
    fn what_is_missing_of_a_program_and_its_cases_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let cases = folder.path().to_str().expect("UTF-8");
        let said = |words: &[&str]| {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            misused(&understand(words).expect("words")).to_string()
        };
        let program = folder.path().join("sum.py");
        fs::write(&program, "").expect("written");
        let program = program.to_str().expect("UTF-8");
        assert_eq!(said(&[program]), "the cases are missing");
        assert_eq!(said(&["python", cases]), "the program is missing");
        let named = Words {
            named: Some((cases.to_owned(), None)),
            paths: vec![PathBuf::from(program)],
        };
        assert!(misused(&named).to_string().contains("before its cases"));
        let many = [program, cases, "util.py"];
        assert_eq!(said(&many), "there is more than a program and its cases");
    }

    #[test]
    fn a_folder_is_its_inputs_with_what_they_should_give() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("2.in", "two"),
            ("10.in", "ten"),
            ("10.out", "TEN"),
            ("2.ans", "TWO"),
            ("x.in", ""),
            ("stray.out", ""),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let (names, cases) = read_cases(folder.path(), Compare::Trim).expect("cases");
        assert_eq!(names, ["2", "10", "x"]);
        let text = |text: &str| Some(Stdin::Text(text.to_owned()));
        assert_eq!(
            (&cases[0].stdin, &cases[0].expected_stdout),
            (&text("two"), &text("TWO"))
        );
        assert_eq!(cases[1].expected_stdout, text("TEN"));
        assert_eq!(cases[2].expected_stdout, None);
    }

    #[test]
    fn a_list_in_json_is_taken_as_the_api_has_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let cases = |text: &str| {
            fs::write(file.path(), text).expect("written");
            read_cases(file.path(), Compare::Trim)
        };
        let (names, read) =
            cases(r#"[{"stdin": "1"}, {"args": ["x"], "compare": "tokens"}]"#).expect("cases");
        assert_eq!(names, ["1", "2"]);
        let compared: Vec<Compare> = read.iter().map(|case| case.compare).collect();
        assert_eq!(compared, [Compare::Trim, Compare::Tokens]);
        for bad in ["", "{}", "[]", r#"[{"input": ""}]"#] {
            cases(bad).expect_err(bad);
        }
    }
}
