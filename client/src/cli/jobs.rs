//! `piston job`: what runs now.

use anyhow::Result;
use serde_json::json;

use crate::Client;
use crate::api::{Code, JobState};

use super::exit::Exit;
use super::failure::Failure;
use super::flags::Job;
use super::render::{Screen, Table};

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Job, screen: &Screen) -> Result<Exit> {
    match command {
        Job::List => list(client, screen).await?,
        Job::Kill { id } => {
            client.kill(&id).await.map_err(|error| match error.code() {
                Some(Code::NotFound) => Failure::new(format!("no job {id} runs or waits"))
                    .next("see the jobs with `piston job list`")
                    .into(),
                _ => anyhow::Error::from(error),
            })?;
            screen.show(&json!({ "killed": id }), |_| format!("killed {id}"))?;
        }
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, screen: &Screen) -> Result<()> {
    let jobs = client.jobs().await?;
    screen.show(&jobs, |jobs| {
        if jobs.is_empty() {
            return "no jobs are running".to_owned();
        }
        let mut table = Table::new(["JOB", "PACKAGE", "LANGUAGE", "STATE", "BY", "AGE"]);
        for job in jobs {
            let state = match job.state {
                JobState::Queued => "queued",
                JobState::Compile => "compiling",
                JobState::Run => "running",
            };
            table.row(&[
                job.id.to_string(),
                job.package.to_string(),
                job.language.to_string(),
                state.to_owned(),
                job.requester.clone(),
                job.age_ms.to_string(),
            ]);
        }
        screen.table(&table)
    })
}
