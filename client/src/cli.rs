//! The command line `piston`.
//!
//! Flags as typed (`flags`) become one plan of what to ask the daemon (`plan` for jobs, the
//! command groups for the rest), and what comes back is shown by `render`. Every error ends in
//! `failure`, which knows what to suggest. Nothing here is an API: programs use [`crate::Client`].

mod cache;
mod daemon;
mod exit;
mod failure;
mod files;
mod flags;
mod folder;
mod interact;
mod jobs;
mod judge;
mod languages;
mod local;
mod make;
mod outputs;
mod packages;
mod plan;
mod progress;
mod render;
mod repos;
mod run;
mod runners;
mod runtime;
mod status;
mod suggest;
mod tokens;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{Client, Host, Secret, Settings};

use exit::Exit;
use failure::Failure;
use flags::{Cli, Command};
use render::Screen;
use runtime::Sought;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let screen = Screen::of_this_process(cli.json);
    match perform(cli, &screen) {
        Ok(exit) => exit.into(),
        Err(error) if failure::is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            screen.failure(&error);
            failure::exit(&error).into()
        }
    }
}

/// Help and version go out as they are; for a mistake clap shows how it is meant.
fn usage(error: &clap::Error) -> Exit {
    // A closed terminal is no reason to fail harder.
    let _printed = error.print();
    if error.use_stderr() {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn perform(cli: Cli, screen: &Screen) -> Result<Exit, anyhow::Error> {
    // Reading files and standard input may block for long: it is done before there is a runtime.
    let command = match cli.command {
        Command::Run(flags) if flags.watch => Prepared::Watch(flags),
        Command::Run(flags) => {
            let plan = plan::Plan::new(flags, &plan::Surroundings::real())?;
            Prepared::Job(Job::Run(plan.into()))
        }
        Command::Judge(flags) => Prepared::Job(Job::Judge(judge::Trial::new(flags)?.into())),
        Command::Repo(flags::Repo::Index(flags)) => return repos::index(&flags),
        Command::Check => {
            let json = cli.json.then(|| "--json".into());
            return local::become_pistond(std::iter::once("check".into()).chain(json));
        }
        Command::Completions { shell } => return local::completions(shell),
        Command::Man { directory } => return local::man(&directory, screen),
        other => Prepared::Other(other),
    };
    let chosen = match cli.host {
        Some(host) => Some(host),
        None => Host::chosen().map_err(|error| {
            Failure::new(error).next("set $PISTON_HOST to such an address, or unset it")
        })?,
    };
    let token = std::env::var("PISTON_TOKEN").ok();
    let settings = Settings {
        token: token
            .filter(|token| !token.is_empty())
            .as_deref()
            .map(Secret::new),
        ..Settings::default()
    };
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let session = Session { chosen, settings };
    executor.block_on(async {
        match command {
            Prepared::Job(job) => session.perform(&job, screen).await,
            Prepared::Watch(flags) => watch::watch(&session, flags, screen).await,
            Prepared::Other(command) => dispatch(&session.client(), command, screen).await,
        }
    })
}

/// The daemon that commands talk with.
struct Session {
    /// Where it is, if that was said.
    chosen: Option<Host>,
    settings: Settings,
}

impl Session {
    fn client(&self) -> Client {
        let host = self.chosen.clone().unwrap_or_else(Host::by_default);
        Client::with_settings(host, self.settings.clone())
    }

    /// Runs a job, where need be on a daemon that is started for it.
    async fn perform(&self, job: &Job, screen: &Screen) -> Result<Exit, anyhow::Error> {
        let done = job.perform(&self.client(), screen).await;
        let Err(error) = done else {
            return done;
        };
        let (chosen, consent) = (self.chosen.as_ref(), job.sought().consent);
        if daemon::was_started_for(&error, chosen, consent, screen).await? {
            job.perform(&self.client(), screen).await
        } else {
            Err(error)
        }
    }
}

/// A command with what it needs from this machine.
enum Prepared {
    Job(Job),
    Watch(flags::Run),
    Other(Command),
}

/// A command that runs a program.
enum Job {
    Run(Box<plan::Plan>),
    Judge(Box<judge::Trial>),
}

impl Job {
    fn sought(&self) -> &Sought {
        match self {
            Self::Run(plan) => &plan.sought,
            Self::Judge(trial) => &trial.sought,
        }
    }

    async fn perform(&self, client: &Client, screen: &Screen) -> Result<Exit, anyhow::Error> {
        match self {
            Self::Run(plan) => run::run(client, plan, screen).await,
            Self::Judge(trial) => judge::judge(client, trial, screen).await,
        }
    }
}

async fn dispatch(
    client: &Client,
    command: Command,
    screen: &Screen,
) -> Result<Exit, anyhow::Error> {
    match command {
        Command::Package(command) => packages::perform(client, command, screen).await,
        Command::Repo(command) => repos::perform(client, command, screen).await,
        Command::Job(command) => jobs::perform(client, command, screen).await,
        Command::Cache(command) => cache::perform(client, command, screen).await,
        Command::Runners(command) => runners::perform(client, command, screen).await,
        Command::Token(command) => tokens::perform(client, command, screen).await,
        Command::Status => status::show(client, screen).await,
        Command::Daemon(command) => daemon::perform(client, command, screen).await,
        Command::Run(_)
        | Command::Judge(_)
        | Command::Check
        | Command::Completions { .. }
        | Command::Man { .. } => unreachable!("prepared apart"),
    }
}
