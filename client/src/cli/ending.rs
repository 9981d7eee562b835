//! How a stage ended, in words: what ended it, and at which limit.

use crate::Client;
use crate::api::{Limits, Runtime, StageLimits, StageResult, Status};
use crate::ids::{Language, Version};

/// The limits that the stages of a job had, as far as one of them ended it: what was asked for,
/// else what its runtime gives.
pub(super) async fn limits(
    client: &Client,
    (language, version): (&Language, &Version),
    stages: impl IntoIterator<Item = &StageResult>,
    asked: &StageLimits,
) -> StageLimits {
    let mut ends = stages.into_iter().filter_map(|stage| stage.status);
    if !ends.any(is_limit) {
        return asked.clone();
    }
    // Without them the message says less.
    let runtimes = client.runtimes().await.unwrap_or_default();
    let of_job = |runtime: &&Runtime| runtime.language == *language && runtime.version == *version;
    let given = runtimes.iter().find(of_job).map(|runtime| &runtime.limits);
    given.map_or(asked.clone(), |given| StageLimits {
        compile: over(asked.compile, given.compile),
        run: over(asked.run, given.run),
    })
}

/// Whether a stage that ended so was ended by one of its limits.
fn is_limit(status: Status) -> bool {
    match status {
        Status::TimedOut | Status::MemoryLimit | Status::StdoutLimit | Status::StderrLimit => true,
        Status::RuntimeError | Status::Signalled | Status::Killed | Status::Internal => false,
    }
}

/// Those limits that messages name, as asked for, else as given.
pub(super) fn over(asked: Limits, given: Limits) -> Limits {
    Limits {
        wall_time_ms: asked.wall_time_ms.or(given.wall_time_ms),
        cpu_time_ms: asked.cpu_time_ms.or(given.cpu_time_ms),
        memory_bytes: asked.memory_bytes.or(given.memory_bytes),
        output_bytes: asked.output_bytes.or(given.output_bytes),
        ..asked
    }
}

/// Why a stage ended, where its exit code does not say it.
pub(super) fn why(stage: &StageResult, limits: &Limits) -> Option<String> {
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
    let printed = |stream: &str| match limits.output_bytes {
        Some(bytes) => format!("killed: it wrote more than {bytes} to {stream}"),
        None => format!("killed: {}", message(&format!("{stream} limit"))),
    };
    let text = match stage.status? {
        Status::RuntimeError => return None,
        Status::Signalled => {
            let signal = stage.signal.as_deref().unwrap_or("a signal");
            format!("ended by {signal}")
        }
        Status::TimedOut => {
            let clock = limits
                .wall_time_ms
                .filter(|time| stage.wall_time_ms >= *time);
            let processor = limits.cpu_time_ms.filter(|time| stage.cpu_time_ms >= *time);
            match (clock, processor) {
                (Some(time), _) => limit("time", Some(time.to_string())),
                (None, Some(time)) => limit("processor time", Some(time.to_string())),
                (None, None) => limit("time", None),
            }
        }
        Status::MemoryLimit => limit("memory", limits.memory_bytes.map(|size| size.to_string())),
        Status::StdoutLimit => printed("standard output"),
        Status::StderrLimit => printed("standard error"),
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
