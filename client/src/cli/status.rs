//! `piston status`: whether the daemon is well, and what its host lacks.

use anyhow::Result;
use serde_json::json;

use crate::Client;
use crate::api::{Info, Mechanism, Runtime, VersionInfo};

use super::exit::Exit;
use super::render::{Screen, Table, Tone, clean};

/// What there is to know of a daemon.
#[derive(Debug)]
struct Report {
    host: String,
    version: VersionInfo,
    info: Info,
    runtimes: Vec<Runtime>,
}

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Shows it; fails when jobs can't run.
pub(super) async fn show(client: &Client, screen: &Screen) -> Result<Exit> {
    let report = Report {
        host: client.host().to_string(),
        version: client.version().await?,
        info: client.info().await?,
        runtimes: client.runtimes().await?,
    };
    let Report {
        host,
        version,
        info,
        runtimes,
    } = &report;
    let json = json!({
        "host": host, "client": CLIENT, "version": version, "info": info, "runtimes": runtimes,
    });
    screen.show(&json, |_| text(&report, screen))?;
    let broken = info.mechanisms.iter().any(|m| m.required && !m.available);
    Ok(if broken { Exit::Failed } else { Exit::Done })
}

fn text(report: &Report, screen: &Screen) -> String {
    let Report {
        host,
        version,
        info,
        runtimes,
    } = report;
    let mut table = Table::default();
    let mut line = |label: &str, value: String| table.row(&[label.to_owned(), value]);
    let apis = version.api.join(", ");
    line(
        "daemon",
        format!(
            "{} {} at {host}, API {apis}",
            version.product, version.version
        ),
    );
    line("client", CLIENT.to_owned());
    line(
        "runs as",
        if info.rootless {
            "an ordinary user"
        } else {
            "root"
        }
        .to_owned(),
    );
    // Who may only run programs is not told where it is.
    if !info.mount.is_empty() {
        line("filesystem", info.mount.clone());
    }
    line(
        "packages",
        format!("{}, {} of images", info.packages, info.image_bytes),
    );
    line("languages", languages(runtimes));
    line(
        "jobs",
        format!(
            "{} running, {} waiting, at most {} at once",
            info.jobs_running, info.jobs_queued, info.max_concurrent_jobs
        ),
    );
    match (&info.runners.error, info.runners.entries) {
        (Some(error), _) => line(
            "runners",
            format!("the file on disk is not in force: {error}"),
        ),
        (None, 0) => {}
        (None, entries) => line(
            "runners",
            format!("{entries} in force, see `piston runners show`"),
        ),
    }
    let absent: Vec<&Mechanism> = info.mechanisms.iter().filter(|m| !m.available).collect();
    if !info.mechanisms.is_empty() {
        line("sandbox", sandbox(&absent, info.mechanisms.len()));
    }
    let mut text = screen.table(&table);
    for mechanism in absent {
        text.push('\n');
        text.push_str(&mechanism_text(mechanism, screen));
    }
    text
}

/// What is there of a sandbox, in a line.
fn sandbox(absent: &[&Mechanism], all: usize) -> String {
    match absent {
        [] => format!("complete: the host has all {all} mechanisms"),
        _ if absent.iter().any(|m| m.required) => {
            format!(
                "jobs can't run: {} of {all} mechanisms are missing",
                absent.len()
            )
        }
        _ => format!(
            "jobs can run, but the host lacks {} of {all} mechanisms:",
            absent.len()
        ),
    }
}

fn languages(runtimes: &[Runtime]) -> String {
    if runtimes.is_empty() {
        return "none yet: `piston package from-host python --install`".to_owned();
    }
    let names = runtimes
        .iter()
        .map(|runtime| format!("{} {}", runtime.language, runtime.version));
    let mut names: Vec<String> = names.collect();
    // A package that extends another one runs the same languages.
    names.dedup();
    names.join(", ")
}

/// One mechanism that is not there, in the words of `pistond check`, and how to get it.
fn mechanism_text(mechanism: &Mechanism, screen: &Screen) -> String {
    let (mark, tone) = if mechanism.required {
        ("missing", Tone::Bad)
    } else {
        ("absent", Tone::Warning)
    };
    let name = clean(&mechanism.name);
    let indent = mark.len() + 2;
    let what = screen.hanging(indent, &format!("{name}: {}", clean(&mechanism.detail)));
    let what = format!("{}  {what}\n", screen.tone(tone, mark));
    let Some(remedy) = &mechanism.remedy else {
        return what;
    };
    let next = screen.hanging(indent + "next: ".len(), &clean(remedy));
    format!("{what}{:indent$}next: {next}\n", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RunnersInfo, StageLimits};
    use crate::units::Bytes;

    fn mechanism(name: &str, required: bool, remedy: Option<&str>) -> Mechanism {
        Mechanism {
            name: name.to_owned(),
            available: remedy.is_none(),
            required,
            detail: "details".to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn the_report_shows_what_is_missing_with_what_to_do() {
        let report = Report {
            host: "unix:///s".to_owned(),
            version: VersionInfo {
                product: "Piston".to_owned(),
                version: "0.1.0".to_owned(),
                api: vec!["v2".to_owned(), "v3".to_owned()],
            },
            info: Info {
                version: "0.1.0".to_owned(),
                rootless: true,
                mount: "/run/user/1000/piston/fs".to_owned(),
                mechanisms: vec![
                    mechanism("fuse", true, None),
                    mechanism("memory_limit", false, Some("delegate cgroups")),
                    mechanism("user_namespaces", true, Some("allow them")),
                ],
                packages: 2,
                image_bytes: Bytes::mib(90),
                jobs_running: 1,
                jobs_queued: 0,
                max_concurrent_jobs: 4,
                runners: RunnersInfo {
                    entries: 2,
                    error: None,
                },
            },
            runtimes: vec![Runtime {
                language: "c++".parse().expect("a language"),
                version: "12.2.0".parse().expect("a version"),
                aliases: Vec::new(),
                package: "gcc".parse().expect("a package"),
                compiled: true,
                limits: StageLimits::default(),
            }],
        };
        insta::assert_snapshot!(text(&report, &Screen::plain()), @"
        daemon      Piston 0.1.0 at unix:///s, API v2, v3
        client      0.1.0
        runs as     an ordinary user
        filesystem  /run/user/1000/piston/fs
        packages    2, 90 MiB of images
        languages   c++ 12.2.0
        jobs        1 running, 0 waiting, at most 4 at once
        runners     2 in force, see `piston runners show`
        sandbox     jobs can't run: 2 of 3 mechanisms are missing

        absent  memory_limit: details
                next: delegate cgroups

        missing  user_namespaces: details
                 next: allow them
        ");
    }

    #[test]
    fn a_sandbox_is_told_in_a_line() {
        let (one, other) = (
            mechanism("job_ids", false, Some("do this")),
            mechanism("fuse", true, Some("do that")),
        );
        assert_eq!(sandbox(&[], 3), "complete: the host has all 3 mechanisms");
        let told = sandbox(&[&one], 3);
        assert!(told.starts_with("jobs can run, but"), "{told}");
        let told = sandbox(&[&one, &other], 3);
        assert!(told.starts_with("jobs can't run"), "{told}");
    }
}
