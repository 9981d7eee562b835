//! `pistond check`: what the host offers, as a table for people, made to fit their terminal.

use std::fmt::Write as _;
use std::process::ExitCode;

use piston_client::api::Mechanism;
use piston_client::wrap::{hanging, has_room};
use rustix::termios::tcgetwinsize;

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
        print(&table(&mechanisms, columns()));
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

/// The columns of the terminal that standard output is, if it is one.
fn columns() -> Option<usize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// A line for each mechanism; beside its name, on a narrow terminal below it, what is known of it
/// and what to do.
fn table(mechanisms: &[Mechanism], columns: Option<usize>) -> String {
    const BELOW: usize = 4;
    let names = mechanisms.iter().map(|mechanism| mechanism.name.len());
    let width = names.max().unwrap_or(0);
    let beside = width + "  MISSING  ".len();
    let is_wide = has_room(beside, columns);
    let indent = if is_wide { beside } else { BELOW };
    let mut text = String::new();
    for mechanism in mechanisms {
        let state = match (mechanism.available, mechanism.required) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "absent",
        };
        // Writing to a String does not fail.
        let detail = hanging(indent, &mechanism.detail, columns);
        let _ = if is_wide {
            writeln!(text, "{:width$}  {state:7}  {detail}", mechanism.name)
        } else {
            writeln!(text, "{}  {state}\n{:indent$}{detail}", mechanism.name, "")
        };
        if let Some(remedy) = mechanism.remedy.as_ref().filter(|_| !mechanism.available) {
            let remedy = hanging(indent + "-> ".len(), remedy, columns);
            let _ = writeln!(text, "{:indent$}-> {remedy}", "");
        }
    }
    let missing = mechanisms
        .iter()
        .filter(|m| m.required && !m.available)
        .count();
    let end = match missing {
        0 => "Jobs can run on this host.".to_owned(),
        1 => "Jobs can't run on this host: a required mechanism is missing.".to_owned(),
        n => format!("Jobs can't run on this host: {n} required mechanisms are missing."),
    };
    let _ = writeln!(text, "\n{}", hanging(0, &end, columns));
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
        let mechanisms = [
            mechanism("fuse", true, true),
            mechanism("user_namespaces", false, true),
            mechanism("cgroup", false, false),
        ];
        let expected = "\
fuse             ok       about fuse
user_namespaces  MISSING  about user_namespaces
                          -> do this
cgroup           absent   about cgroup
                          -> do this

Jobs can't run on this host: a required mechanism is missing.
";
        assert_eq!(table(&mechanisms, None), expected);
        assert_eq!(table(&mechanisms, Some(62)), expected);
        insta::assert_snapshot!(table(&mechanisms, Some(46)), @"
        fuse             ok       about fuse
        user_namespaces  MISSING  about
                                  user_namespaces
                                  -> do this
        cgroup           absent   about cgroup
                                  -> do this

        Jobs can't run on this host: a required
        mechanism is missing.
        ");
        insta::assert_snapshot!(table(&mechanisms, Some(24)), @"
        fuse  ok
            about fuse
        user_namespaces  MISSING
            about
            user_namespaces
            -> do this
        cgroup  absent
            about cgroup
            -> do this

        Jobs can't run on this
        host: a required
        mechanism is missing.
        ");
    }
}
