//! Settings from `PISTON_*` variables: the released Piston's names and a few of our own.
//!
//! Invariant: `VARIABLES` is the whole list; a `PISTON_` variable that is not in it is worth a
//! warning, never an error, since other programs use the prefix too.

use std::collections::BTreeMap;
use std::str::FromStr;

use piston_client::units::{Bytes, Millis};

use super::raw::{Raw, RawRepository, RawStage, Size, Time};
use super::{ConfigError, raw};

/// Puts one variable's value into a source of settings.
type Apply = fn(&mut Raw, &str) -> Result<(), String>;

/// Every variable that is understood.
const VARIABLES: [(&str, Apply); 26] = [
    ("PISTON_LOG_LEVEL", |raw, text| {
        set(&mut raw.log_level, &text.to_lowercase())
    }),
    ("PISTON_SOCKET", |raw, text| set(&mut raw.http.socket, text)),
    ("PISTON_BIND_ADDRESS", listen),
    ("PISTON_LISTEN", listen),
    ("PISTON_DATA_DIRECTORY", |raw, text| {
        set(&mut raw.data.directory, text)
    }),
    ("PISTON_DISABLE_NETWORKING", |_, text| networking(text)),
    ("PISTON_OUTPUT_MAX_SIZE", |raw, text| {
        size(&mut raw.v2.output, text)
    }),
    ("PISTON_MAX_PROCESS_COUNT", |raw, text| {
        both(raw, |stage| set(&mut stage.processes, text))
    }),
    ("PISTON_MAX_OPEN_FILES", |raw, text| {
        both(raw, |stage| set(&mut stage.open_files, text))
    }),
    ("PISTON_MAX_FILE_SIZE", |raw, text| {
        both(raw, |stage| size(&mut stage.file_size, text))
    }),
    ("PISTON_COMPILE_TIMEOUT", |raw, text| {
        time(&mut raw.limits.compile.wall_time, text)
    }),
    ("PISTON_RUN_TIMEOUT", |raw, text| {
        time(&mut raw.limits.run.wall_time, text)
    }),
    ("PISTON_COMPILE_CPU_TIME", |raw, text| {
        time(&mut raw.limits.compile.cpu_time, text)
    }),
    ("PISTON_RUN_CPU_TIME", |raw, text| {
        time(&mut raw.limits.run.cpu_time, text)
    }),
    ("PISTON_COMPILE_MEMORY_LIMIT", |raw, text| {
        memory(&mut raw.limits.compile, text)
    }),
    ("PISTON_RUN_MEMORY_LIMIT", |raw, text| {
        memory(&mut raw.limits.run, text)
    }),
    ("PISTON_REPO_URL", |raw, text| {
        let repository = RawRepository {
            url: text.to_owned(),
            keys: None,
        };
        raw.repositories.insert("default".to_owned(), repository);
        Ok(())
    }),
    ("PISTON_MAX_CONCURRENT_JOBS", |raw, text| {
        set(&mut raw.jobs.max_concurrent, text)
    }),
    ("PISTON_LIMIT_OVERRIDES", overrides),
    // Read elsewhere: the configuration file before this table, the rest by `piston`.
    ("PISTON_CONFIG", |_, _| Ok(())),
    ("PISTON_HOST", |_, _| Ok(())),
    ("PISTON_TOKEN", |_, _| Ok(())),
    ("PISTON_CACERT", |_, _| Ok(())),
    // The released Piston drops to these; our jobs run as ids of their slots.
    ("PISTON_RUNNER_UID_MIN", |_, _| Ok(())),
    ("PISTON_RUNNER_UID_MAX", |_, _| Ok(())),
    ("PISTON_RUNNER_GID_MIN", |_, _| Ok(())),
];

/// Applies every variable that is set; returns warnings.
pub fn apply(
    raw: &mut Raw,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, ConfigError> {
    for (name, apply) in VARIABLES {
        if let Some(text) = variables
            .get(name)
            .map(|text| text.trim())
            .filter(|t| !t.is_empty())
        {
            apply(raw, text).map_err(|message| ConfigError::Variable { name, message })?;
        }
    }
    let known = |name: &str| VARIABLES.iter().any(|(variable, _)| *variable == name);
    let unknown = variables
        .keys()
        .filter(|name| name.starts_with("PISTON_") && !known(name));
    Ok(unknown
        // What tests and this project's own scripts tell each other is not a typing error.
        .filter(|name| !name.starts_with("PISTON_TEST_"))
        .map(|name| format!("the environment variable {name} is not known and has no effect"))
        .collect())
}

fn set<T: FromStr<Err: std::fmt::Display>>(slot: &mut Option<T>, text: &str) -> Result<(), String> {
    *slot = Some(text.parse().map_err(|error| format!("`{text}`: {error}"))?);
    Ok(())
}

fn size(slot: &mut Option<Size>, text: &str) -> Result<(), String> {
    let bytes: Bytes = text
        .parse()
        .map_err(|error: piston_client::units::InvalidUnit| error.to_string())?;
    *slot = Some(Size(bytes));
    Ok(())
}

fn time(slot: &mut Option<Time>, text: &str) -> Result<(), String> {
    let time: Millis = text
        .parse()
        .map_err(|error: piston_client::units::InvalidUnit| error.to_string())?;
    *slot = Some(Time(time));
    Ok(())
}

/// -1 means "no limit" in the released Piston, which is our default (jobs.md, Limits).
fn memory(stage: &mut RawStage, text: &str) -> Result<(), String> {
    if text.starts_with('-') {
        return Ok(());
    }
    size(&mut stage.memory, text)
}

fn both(raw: &mut Raw, each: impl Fn(&mut RawStage) -> Result<(), String>) -> Result<(), String> {
    each(&mut raw.limits.compile)?;
    each(&mut raw.limits.run)
}

fn listen(raw: &mut Raw, text: &str) -> Result<(), String> {
    let addresses = text.split(',').map(|address| {
        let address = address.trim();
        address
            .parse()
            .map_err(|_| format!("`{address}` is not ADDRESS:PORT, write 127.0.0.1:2000"))
    });
    raw.http.listen = Some(addresses.collect::<Result<_, _>>()?);
    Ok(())
}

fn networking(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(()),
        "false" | "0" | "no" => Err("jobs can't be given the network, leave it at `true`".into()),
        _ => Err(format!("`{text}` is not `true` or `false`")),
    }
}

fn overrides(raw: &mut Raw, text: &str) -> Result<(), String> {
    let given: BTreeMap<String, BTreeMap<String, i64>> = serde_json::from_str(text)
        .map_err(|error| format!("not JSON like {{\"c++\":{{\"run_timeout\":5000}}}}: {error}"))?;
    let raw::RawLimits { overrides, .. } = &mut raw.limits;
    for (language, limits) in given {
        overrides.entry(language).or_default().extend(limits);
    }
    Ok(())
}
