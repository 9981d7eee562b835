//! `piston run`: runs a job, and ends as the program ended.
//!
//! What the program prints is passed on as it comes, and not kept. What a compiler prints waits for
//! its end: until then it is not known which of it is of interest.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::api::{
    CacheOutcome, Event, ExecuteRequest, ExecuteResponse, Limits, OutputEncoding, StageExit,
    StageLimits, StageName, StageResult, Status,
};
use crate::{Client, Events};

use super::ending;
use super::exit::{Exit, signal_number};
use super::failure::Failure;
use super::interact;
use super::outputs;
use super::plan::{InputFrom, Plan};
use super::render::{Screen, Watcher, pass};
use super::runtime;

/// Runs a job as planned.
pub(super) async fn run(client: &Client, plan: &Plan, screen: &Screen) -> Result<Exit> {
    let (response, shown) = match plan.input {
        InputFrom::Request | InputFrom::Nowhere => {
            let events = execute(client, plan, screen).await?;
            follow(events, plan, screen).await?
        }
        InputFrom::Typing => talk(client, plan, screen).await?,
    };
    let runtime = (&response.language, &response.version);
    let stages = [&response.compile, &response.run].into_iter().flatten();
    let limits = ending::limits(client, runtime, stages, &plan.request.limits).await;
    show(&response, shown, &limits, plan, screen)?;
    Ok(exit(&response))
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
    /// Whether it printed something that is not shown on a terminal.
    binary: bool,
}

impl Shown {
    fn take(&mut self, event: &Event, plan: &Plan, screen: &Screen) -> Result<()> {
        let encoding = plan.request.encoding;
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
                self.print(&bytes, plan, screen)?;
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

    /// Passes on what the program printed. What is no text upsets a terminal: there it is left
    /// out from its first such piece on, unless the program was given the terminal itself.
    fn print(&mut self, bytes: &[u8], plan: &Plan, screen: &Screen) -> Result<()> {
        self.stdout += bytes.len();
        let guarded = plan.input != InputFrom::Typing && screen.is_terminal();
        if guarded && !self.binary && bytes.contains(&0) {
            self.binary = true;
            screen
                .note("the output is not text and not shown: `> FILE` behind the command keeps it");
        }
        if self.binary {
            return Ok(());
        }
        pass(bytes, b"")
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
            event => shown.take(&event, plan, screen)?,
        }
    }
    Err(Failure::new("the daemon ended the job without a result").into())
}

/// Begins it, and passes on what is typed while it runs.
async fn talk(client: &Client, plan: &Plan, screen: &Screen) -> Result<(ExecuteResponse, Shown)> {
    let window = interact::window();
    let begun = runtime::perform(client, &plan.sought, screen, async |package, language| {
        let request = ExecuteRequest {
            language: Some(language.clone()),
            ..plan.request.clone()
        };
        let range = &plan.sought.range;
        client.interact(package, range, &request, window).await
    });
    let (keyboard, events) = begun.await?;
    let typing = interact::type_on(keyboard, window)?;
    tokio::select! {
        followed = follow(events, plan, screen) => followed,
        never = typing => match never {},
    }
}

/// Begins it.
async fn execute(client: &Client, plan: &Plan, screen: &Screen) -> Result<Events> {
    let encoding = if screen.wants_json() {
        OutputEncoding::Utf8
    } else {
        plan.request.encoding
    };
    runtime::perform(client, &plan.sought, screen, async |package, language| {
        let request = ExecuteRequest {
            language: Some(language.clone()),
            encoding,
            ..plan.request.clone()
        };
        let range = &plan.sought.range;
        client.execute_events(package, range, &request).await
    })
    .await
}

/// Shows what was not shown while it ran.
fn show(
    response: &ExecuteResponse,
    mut shown: Shown,
    limits: &StageLimits,
    plan: &Plan,
    screen: &Screen,
) -> Result<()> {
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
        verdict(compile, &limits.compile, screen);
    }
    if let Some(run) = &response.run {
        // A daemon that does not stream has told none of it.
        let (stdout, stderr) = (run.stdout_bytes(encoding)?, run.stderr_bytes(encoding)?);
        shown.print(stdout.get(shown.stdout..).unwrap_or_default(), plan, screen)?;
        pass(b"", stderr.get(shown.stderr..).unwrap_or_default())?;
        verdict(run, &limits.run, screen);
        if screen.watcher() == Watcher::Person
            && let Some(hint) = hint(run, &stderr, plan.input)
        {
            screen.note(hint);
        }
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

/// What helps a person whose program failed for the lack of something that is easily given.
fn hint(run: &StageResult, stderr: &[u8], input: InputFrom) -> Option<&'static str> {
    const ENDS: [&str; 4] = ["eof", "end of file", "end of input", "nosuchelement"];
    if run.status != Some(Status::RuntimeError) {
        return None;
    }
    let said = String::from_utf8_lossy(stderr);
    if said.contains("ModuleNotFoundError: No module named") {
        return Some(
            "a module of your own is named behind the program, and a library is added with \
             `piston package extend python --pip NAME`",
        );
    }
    if said.contains("Error: Cannot find module '") {
        return Some(
            "a module of your own is named behind the program, and a library is added with \
             `piston package extend javascript --npm NAME`",
        );
    }
    let said = said.to_lowercase();
    let ended = ENDS.iter().any(|end| said.contains(end));
    (input == InputFrom::Nowhere && ended)
        .then_some("it was given no input: `-i` passes on what you type, `--stdin` a file")
}

fn verdict(stage: &StageResult, limits: &Limits, screen: &Screen) {
    if let Some(text) = ending::why(stage, limits) {
        screen.note(text);
    }
}

fn stats(response: &ExecuteResponse, screen: &Screen) {
    let kept = |kept| if kept { "kept from before: " } else { "" };
    let compile = kept(response.cache != CacheOutcome::Miss);
    let run = kept(response.cache == CacheOutcome::Output);
    let stages = [
        ("compile", compile, &response.compile),
        ("run", run, &response.run),
    ];
    for (name, kept, stage) in stages {
        let Some(stage) = stage else { continue };
        screen.note(format!(
            "{name}: {kept}{} on the clock, {} of processor, {} of memory",
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
