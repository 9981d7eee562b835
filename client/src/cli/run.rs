//! `piston run`: finds the package that runs a language, runs the job, ends as the program ended.
//!
//! What the program prints is passed on as it comes, and not kept. What a compiler prints waits for
//! its end: until then it is not known which of it is of interest.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::timeout;

use crate::api::{
    Code, Event, ExecuteRequest, ExecuteResponse, Limits, OutputEncoding, Runtime, StageExit,
    StageName, StageResult, Status,
};
use crate::ids::Language;
use crate::{AvailableQuery, Client, Events};

use super::exit::{Exit, signal_number};
use super::failure::Failure;
use super::interact;
use super::outputs;
use super::plan::{InputFrom, Plan, Wanted};
use super::render::{Screen, pass};
use super::suggest::nearest;

/// What the makers of packages know, with the languages that come of it.
const FROM_HOST: [(&str, &[&str]); 3] = [
    ("python", &["python", "python3", "py"]),
    ("bash", &["bash", "sh"]),
    ("gcc", &["gcc", "c", "c++", "cpp"]),
];

/// Languages that the daemon has recipes for, with the other names that they run by.
const FROM_DEBIAN: [(&str, &[&str]); 11] = [
    ("bash", &["sh"]),
    ("gcc", &["c", "c++", "cpp"]),
    ("go", &["golang"]),
    ("java", &["jdk"]),
    ("javascript", &["js", "node", "nodejs"]),
    ("lua", &[]),
    ("perl", &["pl"]),
    ("php", &[]),
    ("python", &["python3", "py"]),
    ("ruby", &["rb"]),
    ("rust", &["rs"]),
];

/// Longest wait for what repositories offer, which only betters an error's text.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a job as planned.
pub(super) async fn run(client: &Client, plan: &Plan, screen: &Screen) -> Result<Exit> {
    let candidates = found(client, &plan.wanted).await?;
    let (response, shown) = match plan.input {
        InputFrom::Request => {
            let events = execute(client, plan, &candidates, screen).await?;
            follow(events, plan, screen).await?
        }
        InputFrom::Typing => talk(client, plan, &candidates, screen).await?,
    };
    show(&response, &shown, plan, screen)?;
    Ok(exit(&response))
}

/// The packages that can run what is wanted; there is at least one.
pub(super) async fn found(client: &Client, wanted: &Wanted) -> Result<Vec<(Language, Language)>> {
    let runtimes = client.runtimes().await?;
    let candidates = candidates(&runtimes, wanted);
    if candidates.is_empty() {
        return Err(not_installed(client, &runtimes, wanted).await.into());
    }
    Ok(candidates)
}

/// What of a job's output was shown already.
#[derive(Debug, Default)]
struct Shown {
    /// What the compiler wrote to standard error so far.
    warnings: Vec<u8>,
    /// Whether that was shown.
    compiled: bool,
    /// Bytes of the program's standard output.
    stdout: usize,
    /// Bytes of its standard error.
    stderr: usize,
}

impl Shown {
    fn take(&mut self, event: &Event, encoding: OutputEncoding) -> Result<()> {
        match event {
            Event::Stderr {
                stage: StageName::Compile,
                data,
            } => self.warnings.extend_from_slice(&encoding.decode(data)?),
            Event::Stdout {
                stage: StageName::Run,
                data,
            } => {
                let bytes = encoding.decode(data)?;
                self.stdout += bytes.len();
                pass(&bytes, b"")?;
            }
            Event::Stderr {
                stage: StageName::Run,
                data,
            } => {
                let bytes = encoding.decode(data)?;
                self.stderr += bytes.len();
                pass(b"", &bytes)?;
            }
            Event::Exit(StageExit {
                stage: StageName::Compile,
                code: Some(0),
                status: None,
                ..
            }) => {
                pass(b"", &self.warnings)?;
                self.compiled = true;
            }
            Event::Stage { .. }
            | Event::Stdout { .. }
            | Event::Exit(_)
            | Event::Result { .. }
            | Event::Case(_)
            | Event::Batch { .. }
            | Event::Error { .. } => {}
        }
        Ok(())
    }
}

/// Passes on what is told until the result is.
async fn follow(
    mut events: Events,
    plan: &Plan,
    screen: &Screen,
) -> Result<(ExecuteResponse, Shown)> {
    let mut shown = Shown::default();
    while let Some(event) = events.next().await {
        match event? {
            Event::Result { result } => return Ok((*result, shown)),
            _ if screen.wants_json() => {}
            event => shown.take(&event, plan.request.encoding)?,
        }
    }
    Err(Failure::new("the daemon ended the job without a result").into())
}

/// Runs it in the first package that has a version in the range, and passes on what is typed.
async fn talk(
    client: &Client,
    plan: &Plan,
    candidates: &[(Language, Language)],
    screen: &Screen,
) -> Result<(ExecuteResponse, Shown)> {
    let window = interact::window();
    for (package, language) in candidates {
        let request = ExecuteRequest {
            language: Some(language.clone()),
            ..plan.request.clone()
        };
        let opened = client.interact(package, &plan.range, &request, window);
        let (keyboard, events) = match opened.await {
            Err(error) if error.code() == Some(Code::PackageNotFound) && candidates.len() > 1 => {
                continue;
            }
            opened => opened?,
        };
        let typing = interact::type_on(keyboard, window)?;
        return tokio::select! {
            followed = follow(events, plan, screen) => followed,
            never = typing => match never {},
        };
    }
    Err(missing_version(candidates, &plan.range))
}

/// Runs it in the first package that has a version in the range.
async fn execute(
    client: &Client,
    plan: &Plan,
    candidates: &[(Language, Language)],
    screen: &Screen,
) -> Result<Events> {
    for (package, language) in candidates {
        let mut request = plan.request.clone();
        request.language = Some(language.clone());
        if screen.wants_json() {
            request.encoding = OutputEncoding::Utf8;
        }
        match client.execute_events(package, &plan.range, &request).await {
            // Another package may have such a version; of a single one the daemon knows best.
            Err(error) if error.code() == Some(Code::PackageNotFound) && candidates.len() > 1 => {}
            result => return Ok(result?),
        }
    }
    Err(missing_version(candidates, &plan.range))
}

pub(super) fn missing_version(candidates: &[(Language, Language)], range: &str) -> anyhow::Error {
    let names: Vec<&str> = candidates
        .iter()
        .map(|(package, _)| package.as_str())
        .collect();
    no_version(&names, range).into()
}

fn no_version(packages: &[&str], range: &str) -> Failure {
    Failure::new(format!(
        "no installed version of {} is {range}",
        packages.join(", ")
    ))
    .next(format!(
        "`piston package install '{}@{range}'`",
        packages[0]
    ))
    .next("or see what is installed with `piston package list`")
}

/// Packages that provide the language, with its name in them: a package of that very name first,
/// then by newest version.
fn candidates(runtimes: &[Runtime], wanted: &Wanted) -> Vec<(Language, Language)> {
    let provides = |name: &str| {
        let mut found: Vec<&Runtime> = runtimes
            .iter()
            .filter(|runtime| names(runtime).any(|known| known.eq_ignore_ascii_case(name)))
            .collect();
        found.sort_by_key(|runtime| {
            let namesake = runtime.package.as_str().eq_ignore_ascii_case(name);
            std::cmp::Reverse((namesake, runtime.version.clone()))
        });
        found
    };
    let found = match wanted {
        Wanted::Named(name) => provides(name),
        Wanted::OneOf(names) => names
            .iter()
            .map(|name| provides(name))
            .find(|f| !f.is_empty())
            .unwrap_or_default(),
    };
    let mut seen = BTreeSet::new();
    found
        .into_iter()
        .filter(|runtime| seen.insert(&runtime.package))
        .map(|runtime| (runtime.package.clone(), runtime.language.clone()))
        .collect()
}

/// All words that a runtime answers to.
fn names(runtime: &Runtime) -> impl Iterator<Item = &str> {
    let own = [runtime.language.as_str(), runtime.package.as_str()];
    own.into_iter()
        .chain(runtime.aliases.iter().map(String::as_str))
}

async fn not_installed(client: &Client, runtimes: &[Runtime], wanted: &Wanted) -> Failure {
    let wanted = match wanted {
        Wanted::Named(name) => vec![name.as_str()],
        Wanted::OneOf(names) => names.to_vec(),
    };
    let query = AvailableQuery::default();
    let offered = match timeout(PATIENCE, client.available("all", &query)).await {
        Ok(Ok(packages)) => packages
            .into_iter()
            .filter(|package| {
                let aliases = package.aliases.iter().map(String::as_str);
                let mut names = aliases.chain([package.language.as_str()]);
                names.any(|name| wanted.contains(&name))
            })
            .map(|package| package.language)
            .max(),
        _ => None,
    };
    missing_language(&wanted, runtimes, offered.as_ref())
}

/// The error of a language that nothing provides: the likeliest advice first.
fn missing_language(wanted: &[&str], runtimes: &[Runtime], offered: Option<&Language>) -> Failure {
    let name = wanted[0];
    let mut failure = Failure::new(format!("language `{name}` is not installed"));
    if let Some(meant) = nearest(name, runtimes.iter().flat_map(names)) {
        failure = failure.next(format!("did you mean `{meant}`?"));
    }
    if let Some(package) = offered {
        failure = failure.next(format!("install it: `piston package install {package}`"));
    }
    let maker = FROM_HOST
        .iter()
        .find(|(_, names)| wanted.iter().any(|w| names.contains(w)));
    if let Some((maker, _)) = maker {
        failure = failure.next(format!(
            "make it of what this machine has: `piston package from-host {maker} --install`"
        ));
    }
    let recipe = FROM_DEBIAN
        .iter()
        .find(|(recipe, names)| wanted.iter().any(|w| w == recipe || names.contains(w)));
    if let Some((recipe, _)) = recipe {
        failure = failure.next(format!(
            "make it of what Debian has packaged: `piston package from-debian {recipe}`"
        ));
    }
    if offered.is_none() && maker.is_none() && recipe.is_none() {
        failure = failure.next("see what can be installed: `piston repo packages --sync`");
    }
    let installed: BTreeSet<&str> = runtimes.iter().map(|r| r.language.as_str()).collect();
    if !installed.is_empty() {
        let installed: Vec<&str> = installed.into_iter().collect();
        failure = failure.next(format!("installed are: {}", installed.join(", ")));
    }
    failure
}

/// Shows what was not shown while it ran.
fn show(response: &ExecuteResponse, shown: &Shown, plan: &Plan, screen: &Screen) -> Result<()> {
    if screen.wants_json() {
        return screen.show(response, |_| String::new());
    }
    let encoding = plan.request.encoding;
    if let Some(compile) = &response.compile {
        // A compiler's words are no output of the program: they never go to standard output.
        let text = if failed(compile) {
            &compile.output
        } else {
            &compile.stderr
        };
        let text = encoding.decode(text).context("of the compile stage")?;
        if failed(compile) || !shown.compiled {
            pass(b"", &text)?;
        }
        if failed(compile) {
            screen.note("the program does not compile");
        }
        verdict(compile, &Limits::default(), screen);
    }
    if let Some(run) = &response.run {
        // A daemon that does not stream has told none of it.
        let (stdout, stderr) = (run.stdout_bytes(encoding)?, run.stderr_bytes(encoding)?);
        pass(
            stdout.get(shown.stdout..).unwrap_or_default(),
            stderr.get(shown.stderr..).unwrap_or_default(),
        )?;
        verdict(run, &plan.request.limits.run, screen);
    }
    if !plan.request.outputs.is_empty() {
        let request = &plan.request;
        outputs::write(&response.files, &request.files, Path::new("."), screen)?;
    }
    if plan.stats {
        stats(response, screen);
    }
    Ok(())
}

fn failed(stage: &StageResult) -> bool {
    stage.status.is_some() || stage.code != Some(0)
}

fn verdict(stage: &StageResult, limits: &Limits, screen: &Screen) {
    if let Some(text) = verdict_text(stage, limits) {
        screen.note(text);
    }
}

/// Why a stage ended, where its exit code does not say it.
fn verdict_text(stage: &StageResult, limits: &Limits) -> Option<String> {
    let message = |otherwise: &str| {
        stage
            .message
            .as_deref()
            .map_or(otherwise.to_owned(), lower_first)
    };
    let limit = |what: &str, hit: Option<String>| match hit {
        Some(value) => format!("killed: {what} limit {value}"),
        None => format!("killed: {}", message(&format!("{what} limit"))),
    };
    let text = match stage.status? {
        Status::RuntimeError => return None,
        Status::Signalled => {
            let signal = stage.signal.as_deref().unwrap_or("a signal");
            format!("ended by {signal}")
        }
        Status::TimedOut => {
            let asked = limits
                .wall_time_ms
                .filter(|time| stage.wall_time_ms >= *time);
            limit("time", asked.map(|time| time.to_string()))
        }
        Status::MemoryLimit => limit("memory", limits.memory_bytes.map(|size| size.to_string())),
        Status::StdoutLimit => limit("standard output", None),
        Status::StderrLimit => limit("standard error", None),
        Status::Killed => format!("killed: {}", message("cancelled")),
        Status::Internal => format!("the daemon failed: {}", message("it did not say why")),
    };
    Some(text)
}

/// A sentence as it goes on after a colon.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_lowercase);
    first.chain(chars).collect()
}

fn stats(response: &ExecuteResponse, screen: &Screen) {
    let stages = [("compile", &response.compile), ("run", &response.run)];
    for (name, stage) in stages {
        let Some(stage) = stage else { continue };
        screen.note(format!(
            "{name}: {} on the clock, {} of processor, {} of memory",
            stage.wall_time_ms, stage.cpu_time_ms, stage.memory_bytes
        ));
    }
}

/// The exit code that tells how the last stage ended.
fn exit(response: &ExecuteResponse) -> Exit {
    const KILL: u8 = 9;
    let Some(stage) = response.run.as_ref().or(response.compile.as_ref()) else {
        return Exit::Failed;
    };
    let signal = stage
        .signal
        .as_deref()
        .map(|name| signal_number(name).unwrap_or(KILL));
    match (stage.status, signal, stage.code) {
        (Some(Status::Internal), _, _) => Exit::Failed,
        (_, Some(signal), _) => Exit::Signal(signal),
        (None | Some(Status::RuntimeError | Status::Signalled), None, Some(code)) => {
            // A code has eight bits on Linux.
            Exit::Program(u8::try_from(code.rem_euclid(256)).unwrap_or(u8::MAX))
        }
        _ => Exit::Signal(KILL),
    }
}

#[cfg(test)]
mod tests;
