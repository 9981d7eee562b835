//! `pistond check`: what the host offers, as a table for people.

use std::fmt::Write as _;
use std::process::ExitCode;

use piston_client::api::Mechanism;

use crate::config::{self, Flags, paths::Host};
use crate::sandbox::cgroup::Groups;
use crate::sandbox::host;

use super::{eprint_line, print, print_line};

/// Examines the host; fails when jobs can't run on it.
pub(super) fn run(json: bool) -> ExitCode {
    let groups = Groups::survey(memory_percent());
    let mechanisms = host::examine(groups.as_ref());
    if json {
        match serde_json::to_string_pretty(&mechanisms) {
            Ok(text) => print_line(&text),
            Err(error) => eprint_line(&format!("error: {error}")),
        }
    } else {
        print(&table(&mechanisms));
    }
    let is_missing = |mechanism: &Mechanism| mechanism.required && !mechanism.available;
    if mechanisms.iter().any(is_missing) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What is configured; a configuration that can't be read is the business of `pistond config check`.
fn memory_percent() -> u64 {
    const DEFAULT: u64 = 75;
    config::load(&Flags::default(), &Host::current())
        .map_or(DEFAULT, |loaded| loaded.config.jobs.memory_percent)
}

fn table(mechanisms: &[Mechanism]) -> String {
    let width = mechanisms
        .iter()
        .map(|mechanism| mechanism.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for mechanism in mechanisms {
        let state = match (mechanism.available, mechanism.required) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "absent",
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:width$}  {state:7}  {}",
            mechanism.name, mechanism.detail
        );
        if let Some(remedy) = mechanism.remedy.as_ref().filter(|_| !mechanism.available) {
            let _ = writeln!(text, "{:width$}  {:7}  -> {remedy}", "", "");
        }
    }
    let missing = mechanisms
        .iter()
        .filter(|m| m.required && !m.available)
        .count();
    let _ = match missing {
        0 => writeln!(text, "\nJobs can run on this host."),
        1 => writeln!(
            text,
            "\nJobs can't run on this host: a required mechanism is missing."
        ),
        n => writeln!(
            text,
            "\nJobs can't run on this host: {n} required mechanisms are missing."
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_is_missing_and_the_remedy() {
        let mechanism = |name: &str, available, required| Mechanism {
            name: name.to_owned(),
            available,
            required,
            detail: format!("about {name}"),
            remedy: Some("do this".to_owned()),
        };
        let text = table(&[
            mechanism("fuse", true, true),
            mechanism("user_namespaces", false, true),
            mechanism("cgroup", false, false),
        ]);
        let expected = "\
fuse             ok       about fuse
user_namespaces  MISSING  about user_namespaces
                          -> do this
cgroup           absent   about cgroup
                          -> do this

Jobs can't run on this host: a required mechanism is missing.
";
        assert_eq!(text, expected);
    }
}
