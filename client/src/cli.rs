//! The command line `piston`.
//!
//! Flags as typed (`flags`) become one plan of what to ask the daemon (`plan` for jobs, the
//! command groups for the rest), and what comes back is shown by `render`. Every error ends in
//! `failure`, which knows what to suggest. Nothing here is an API: programs use [`crate::Client`].

mod cache;
mod daemon;
mod ending;
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
mod man;
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

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};

use crate::{Authorities, Client, Host, Secret, Settings};

use exit::Exit;
use failure::Failure;
use flags::{Cli, Command};
use render::Screen;
use runtime::Sought;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&with_group(error)).into(),
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

/// Tells who gave a command without its group which groups have it: `piston install`, also where it
/// is misspelt and no other word is nearer; and who gave a file alone what runs it.
fn with_group(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let piston = Cli::command();
    let tips = |word: &str| -> Vec<StyledStr> {
        let groups = piston.get_subcommands();
        let groups = groups.filter(|group| group.find_subcommand(word).is_some());
        let tip = |group: &clap::Command| format!("there is `piston {} {word}`", group.get_name());
        groups.map(|group| tip(group).into()).collect()
    };
    let mut found = tips(word);
    if Path::new(word).is_file() {
        found.push(format!("there is `piston run {word}`").into());
    } else if found.is_empty() && error.get(ContextKind::SuggestedSubcommand).is_none() {
        let groups = piston.get_subcommands();
        let commands = groups.flat_map(clap::Command::get_subcommands);
        let meant = suggest::nearest(word, commands.map(clap::Command::get_name));
        found = meant.map(tips).unwrap_or_default();
    }
    if !found.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(found));
    }
    error
}

/// Help and version go out as they are; for a mistake clap shows how it is meant.
fn usage(error: &clap::Error) -> Exit {
    let screen = Screen::of_this_process(json_is_wanted(env::args_os()));
    let shown = match (error.use_stderr(), screen.wants_json()) {
        (true, true) => {
            screen.failure(&misuse(&error.to_string()).into());
            return Exit::Failed;
        }
        (true, false) => {
            // Nobody is left to be told that standard error is closed.
            let _closed = error.print();
            return Exit::Failed;
        }
        (false, _) => error.print().map_err(failure::of_stdout),
    };
    match shown.map_err(anyhow::Error::from) {
        Err(error) if !failure::is_broken_pipe(&error) => {
            screen.failure(&error);
            Exit::Failed
        }
        _ => Exit::Done,
    }
}

/// Whether the words of a command line, wrong as they are, ask for JSON.
fn json_is_wanted(words: impl Iterator<Item = OsString>) -> bool {
    let mut ours = words.take_while(|word| word != "--");
    ours.any(|word| word == "--json")
}

/// What clap says in its paragraphs, for programs.
fn misuse(text: &str) -> Failure {
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let what = paragraphs.next().unwrap_or_default();
    let failure = Failure::new(what.trim_start_matches("error: "));
    paragraphs
        .filter(|paragraph| !paragraph.is_empty())
        .fold(failure, Failure::next)
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
        Command::Repo(flags::Repo::Index(flags)) => return repos::index(&flags, cli.json),
        Command::Check => {
            let json = cli.json.then(|| "--json".into());
            return local::become_pistond(std::iter::once("check".into()).chain(json));
        }
        Command::Completions { shell } => return local::completions(shell),
        Command::Man { directory } => {
            man::write(&directory, screen)?;
            return Ok(Exit::Done);
        }
        other => Prepared::Other(other),
    };
    let chosen = match cli.host {
        Some(host) => Some(host),
        None => Host::chosen().map_err(|error| {
            Failure::new(error).next("set $PISTON_HOST to such an address, or unset it")
        })?,
    };
    let token = env::var("PISTON_TOKEN").ok();
    let settings = Settings {
        token: token
            .filter(|token| !token.is_empty())
            .as_deref()
            .map(Secret::new),
        authorities: trusted(cli.cacert, chosen.as_ref())?,
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

/// Who vouches for the certificate of an https address, where that was said.
fn trusted(named: Option<PathBuf>, host: Option<&Host>) -> Result<Option<Authorities>, Failure> {
    let encrypted = host.is_some_and(Host::is_encrypted);
    if named.is_some() && !encrypted {
        return Err(Failure::new(
            "--cacert is about certificates, which only https:// addresses have",
        )
        .next("write `--host https://...`, or leave --cacert out"));
    }
    let set = || env::var_os("PISTON_CACERT").filter(|path| encrypted && !path.is_empty());
    let Some(file) = named.or_else(|| set().map(PathBuf::from)) else {
        return Ok(None);
    };
    let authorities = Authorities::from_file(&file).map_err(|error| {
        Failure::new("can't tell whom to trust (--cacert, $PISTON_CACERT)")
            .because(error)
            .next("name a file of certificates, each from -----BEGIN CERTIFICATE----- on")
    })?;
    Ok(Some(authorities))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_before_the_programs_own_arguments() {
        let asked = |line: &str| json_is_wanted(line.split(' ').map(OsString::from));
        assert!(asked("piston run --bogus --json x.py"));
        assert!(!asked("piston run --bogus x.py -- --json"));
    }

    #[test]
    fn a_command_without_its_group_gets_the_groups_that_have_it() {
        let told = |words: &[&str]| {
            let error = Cli::try_parse_from(words).expect_err("no such command");
            with_group(error).to_string()
        };
        let install = told(&["piston", "install", "lua"]);
        assert!(
            install.contains("tip: there is `piston package install`"),
            "{install}"
        );
        let misspelt = told(&["piston", "instal", "lua"]);
        assert!(
            misspelt.contains("tip: there is `piston package install`"),
            "{misspelt}"
        );
        let removed = told(&["piston", "uninstall", "lua"]);
        assert!(removed.contains("`piston package uninstall`"), "{removed}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let file = file.path().to_str().expect("UTF-8");
        let run = told(&["piston", file]);
        assert!(
            run.contains(&format!("tip: there is `piston run {file}`")),
            "{run}"
        );
        let kill = told(&["piston", "package", "kill", "x"]);
        assert!(kill.contains("`piston job kill`"), "{kill}");
        assert!(!told(&["piston", "frobnicate"]).contains("tip: there is"));
        let misspelt = told(&["piston", "package", "instal"]);
        assert!(misspelt.contains("'install'"), "{misspelt}");
    }

    #[test]
    fn a_mistake_is_told_programs_by_its_paragraphs() {
        let failure = misuse("error: the arguments are missing:\n  <FILE>\n\nUsage: x\n\n");
        assert_eq!(failure.to_string(), "the arguments are missing: <FILE>");
        let account = failure::account(&failure.into());
        assert_eq!(account.next, ["Usage: x"]);
    }
}
