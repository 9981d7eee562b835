//! The command line `piston`.
//!
//! Flags as typed (`flags`) become one plan of what to ask the daemon (`plan` for jobs, the
//! command groups for the rest), and what comes back is shown by `render`. Every error ends in
//! `failure`, which knows what to suggest. Nothing here is an API: programs use [`crate::Client`].

mod cache;
mod exit;
mod failure;
mod files;
mod flags;
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
mod status;
mod suggest;
mod tokens;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{Client, Host, Secret, Settings};

use exit::Exit;
use failure::Failure;
use flags::{Cli, Command};
use render::Screen;

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
            Exit::Failed.into()
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
        Command::Run(flags) => {
            Prepared::Run(plan::Plan::new(flags, &plan::Surroundings::real())?.into())
        }
        Command::Judge(flags) => Prepared::Judge(judge::Trial::new(flags)?.into()),
        Command::Repo(flags::Repo::Index(flags)) => return repos::index(&flags),
        Command::Check => {
            let json = cli.json.then(|| "--json".into());
            return local::become_pistond(std::iter::once("check".into()).chain(json));
        }
        Command::Completions { shell } => return local::completions(shell),
        Command::Man { directory } => return local::man(&directory, screen),
        other => Prepared::Other(other),
    };
    let host = match cli.host {
        Some(host) => host,
        None => Host::from_environment().map_err(|error| {
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::with_settings(host, settings);
        match command {
            Prepared::Run(plan) => run::run(&client, &plan, screen).await,
            Prepared::Judge(trial) => judge::judge(&client, &trial, screen).await,
            Prepared::Other(command) => dispatch(&client, command, screen).await,
        }
    })
}

/// A command with what it needs from this machine.
enum Prepared {
    Run(Box<plan::Plan>),
    Judge(Box<judge::Trial>),
    Other(Command),
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
        Command::Run(_)
        | Command::Judge(_)
        | Command::Check
        | Command::Completions { .. }
        | Command::Man { .. } => unreachable!("prepared apart"),
    }
}
