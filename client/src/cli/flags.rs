//! The command line as it is typed: commands, flags, help. No logic beyond reading words.

mod make;
mod packages;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::Host;
use crate::api::{CacheLevel, Change, Role};
use crate::ids::{JobId, TokenId};
use crate::units::{Bytes, InvalidUnit, Millis, Rate};

use super::plan::{EnvVar, PackageWord};
use super::render::Consent;

pub(super) use make::{Build, Extend, FromDebian, FromHost, FromOci, FromPistonV2, MakeTo};
pub(super) use packages::{Index, Install, Package, Remove, Repo};

/// Runs programs in any language, sandboxed, through the Piston daemon.
#[derive(Debug, Parser)]
#[command(
    name = "piston",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
First steps:
  piston run hello.py         run a program; you are asked about what it lacks
  piston daemon start         start one (`pistond serve`: in the foreground)
  piston package install lua  install a language of `piston repo packages`
  piston package extend python --pip numpy
                              add libraries to a language

Exit codes: 0 done; 1 `judge` or `verify` found something wrong; 125 failed, and the message says \
what to do; 130 interrupted. `piston run` ends as the program ended, see its help."
)]
pub(super) struct Cli {
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        help_heading = "Global options",
        help = "The daemon: a socket's /PATH or http[s]://HOST:PORT [default: $PISTON_HOST, else the \
                socket of your own daemon, else the system's]"
    )]
    pub(super) host: Option<Host>,

    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options",
        help = "Trust the authorities in this file (PEM) at https:// addresses rather than the \
                system's [default: $PISTON_CACERT]"
    )]
    pub(super) cacert: Option<PathBuf>,

    /// Print JSON for programs
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a program
    ///
    /// Sends the file to the daemon, runs it in a sandbox, and ends as it ended: the same output,
    /// byte for byte, and the same exit code.
    Run(Run),
    /// Run a program against many inputs, and say which outputs are right
    ///
    /// Compiles it once and runs it in a fresh sandbox for each case. Ends with 0 when every case
    /// is accepted, with 1 when one is not.
    Judge(Judge),
    /// Install, make and remove packages
    #[command(subcommand, visible_alias = "packages")]
    Package(Package),
    /// Configure repositories, see what they have
    #[command(subcommand, visible_alias = "repos")]
    Repo(Repo),
    /// See and kill running jobs
    #[command(subcommand, visible_alias = "jobs")]
    Job(Job),
    /// See and purge what is kept of jobs
    #[command(subcommand)]
    Cache(Cache),
    /// See and set the operator's limits of languages (runners.toml)
    #[command(subcommand)]
    Runners(Runners),
    /// Make, see and revoke tokens, which let clients in over the network
    #[command(subcommand, visible_alias = "tokens")]
    Token(Token),
    /// Show whether the daemon is well, and what its host lacks
    Status,
    /// Start a daemon of your own in the background, and end it
    #[command(subcommand)]
    Daemon(Daemon),
    /// Say whether this machine can run a daemon, and what to do for more (runs `pistond check`)
    Check,
    /// Print what completes words of piston in a shell
    #[command(after_help = "\
Examples:
  piston completions bash > ~/.local/share/bash-completion/completions/piston
  piston completions fish > ~/.config/fish/completions/piston.fish
  piston completions zsh > ~/.zfunc/_piston")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command
    #[command(after_help = "\
Example:
  piston man ~/.local/share/man/man1 && man piston-run")]
    Man {
        /// Where to, e.g. ~/.local/share/man/man1
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// A time with its unit: who writes 3 may mean seconds.
fn time(text: &str) -> Result<Millis, String> {
    let time = text
        .parse()
        .map_err(|error: InvalidUnit| error.to_string())?;
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit: write {text}s or {text}ms"));
    }
    Ok(time)
}

/// A size with its unit: who writes 64 hardly means bytes.
fn size(text: &str) -> Result<Bytes, String> {
    let size = text
        .parse()
        .map_err(|error: InvalidUnit| error.to_string())?;
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit: write {text}M or {text}K"));
    }
    Ok(size)
}

fn level(text: &str) -> Result<CacheLevel, String> {
    match CacheSetting::level(text)? {
        CacheSetting::Is(level) => Ok(level),
        CacheSetting::Default => Err("leave --cache out for the package's own level".to_owned()),
    }
}

/// Flags of `piston run`; what it is about stands at [`Command::Run`], which clap shows.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "piston run [OPTIONS] [LANG[@RANGE]] FILE|FOLDER... [-- ARGS...]",
    after_help = "\
The first FILE starts the program, `-` is standard input; the others are found beside it. Of a \
FOLDER everything is sent that is not hidden, and its main.* starts the program. What follows `--` \
are the program's arguments.

Unless it is a terminal, standard input is read to its end and given to the program; with -i it \
is passed on as it comes, and interrupts go to the program.

Examples:
  piston run hello.py                       the language is known by the ending
  piston run python@3.11 x.py -- one two    a version, arguments
  echo 'print(6 * 7)' | piston run python -
  sort words | piston run --timeout 1s --memory 64M count.c
  piston run main.py util.py data.csv       several files
  piston run plot.py --out '*.svg'          and what it leaves
  piston run -i game.py                     it reads what you type
  piston run --watch hello.py               again after every change

Exit codes: the program's own; 128 + N when signal N ended it (137 also when a limit did); \
125 when piston could not run it."
)]
pub(super) struct Run {
    /// Language (with a version or range), files and folders
    #[arg(value_name = "FILE", required = true, hide = true)]
    pub(super) words: Vec<String>,

    /// The program's arguments
    #[arg(value_name = "ARGS", last = true, hide = true)]
    pub(super) args: Vec<String>,

    /// Give the program this file as its standard input
    #[arg(long, value_name = "FILE")]
    pub(super) stdin: Option<PathBuf>,

    /// Kill it after this time, e.g. 500ms, 3s
    #[arg(long, short, value_name = "TIME", value_parser = time)]
    pub(super) timeout: Option<Millis>,

    /// Let it use this much memory, e.g. 64M
    #[arg(long, short, value_name = "SIZE", value_parser = size)]
    pub(super) memory: Option<Bytes>,

    /// Set a variable of its environment (more than once for more)
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(super) env: Vec<EnvVar>,

    /// What may be kept of it for the next equal run: `none`, `binary` (what compiling gave),
    /// `output` (the whole result) [default: the package's]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(super) cache: Option<CacheLevel>,

    /// Write the files that it leaves and that match into this directory (more than once for more)
    #[arg(long, value_name = "GLOB")]
    pub(super) out: Vec<String>,

    /// Talk with the program while it runs; from a terminal it gets one too
    #[arg(long, short, conflicts_with = "stdin")]
    pub(super) interactive: bool,

    /// Run it again whenever one of the files changes, until Ctrl-C
    #[arg(long, short, conflicts_with = "interactive")]
    pub(super) watch: bool,

    /// Say on standard error what it used: time, processor, memory
    #[arg(long)]
    pub(super) stats: bool,

    #[command(flatten)]
    pub(super) missing: Missing,
}

/// Flags of `piston judge`; what it is about stands at [`Command::Judge`], which clap shows.
#[derive(Debug, Args)]
#[command(
    override_usage = "piston judge [OPTIONS] LANG[@RANGE] FILE CASES\n       \
                      piston judge [OPTIONS] FILE CASES",
    after_help = "\
CASES is a folder with NAME.in (and NAME.out or NAME.ans, what has to be printed), or a JSON file: \
a list of cases as the API has them, [{\"stdin\": \"1 2\", \"expected_stdout\": \"3\"}, ...].

Verdicts: AC accepted, WA wrong answer, CE does not compile, RE exit code, SG signal, TO time, \
ML memory, OL and EL output; a case without one was not run. What stands behind one is where the \
output differs first, what the program said last, or the limit that ended it.

Exit codes: 0 all accepted, 1 not all, 125 when piston could not run it.

Examples:
  piston judge sum.py tests/
  piston judge --timeout 1s --memory 64M --parallel 4 sum.cpp tests/
  piston judge --compare tokens python@3.11 sum.py cases.json"
)]
pub(super) struct Judge {
    /// Language (with a version or range), file, and the cases
    #[arg(value_name = "FILE CASES", required = true, hide = true)]
    pub(super) words: Vec<String>,

    /// Send this file along (more than once for more); it is found beside the program
    #[arg(long = "file", short, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    /// When an output is right: `exact`, `trim` (whitespace at the ends of lines aside), `tokens`
    #[arg(long, short, value_name = "HOW", default_value = "trim")]
    pub(super) compare: String,

    /// Kill a case after this time, e.g. 500ms, 3s
    #[arg(long, short, value_name = "TIME", value_parser = time)]
    pub(super) timeout: Option<Millis>,

    /// Let a case use this much memory, e.g. 64M
    #[arg(long, short, value_name = "SIZE", value_parser = size)]
    pub(super) memory: Option<Bytes>,

    /// Run this many cases at once
    #[arg(long, short, value_name = "N")]
    pub(super) parallel: Option<u32>,

    /// Begin no case after one that failed
    #[arg(long)]
    pub(super) stop_on_failure: bool,

    #[command(flatten)]
    pub(super) missing: Missing,
}

/// What may be done without asking.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Missing {
    /// Start a daemon where none runs, install the language where it is missing; without this you
    /// are asked, on a terminal
    #[arg(long, short)]
    yes: bool,
}

impl Missing {
    pub(super) fn consent(self) -> Consent {
        if self.yes {
            Consent::Given
        } else {
            Consent::Asked
        }
    }
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum Daemon {
    /// Start one in the background, unless one runs already
    ///
    /// It is the `pistond` beside `piston`, else the one on the PATH, and runs as you: without root
    /// it is rootless. Its configuration is /etc/piston/piston.toml, without root
    /// ~/.config/piston/piston.toml; what is changed there holds from its next start on.
    Start,
    /// End the one that listens at the socket; running jobs may come to their end
    Stop,
}

#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// List what runs and what waits
    #[command(visible_alias = "ls")]
    List,
    /// Kill a job
    Kill {
        /// Its id
        id: JobId,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Show how much is kept, of all packages or of one
    Show {
        /// Package, with its version when several are installed
        #[arg(value_name = "NAME[@VERSION]")]
        package: Option<PackageWord>,
    },
    /// Set what is kept of a package's jobs, and for how long
    #[command(after_help = "\
What is set here goes with the package. A job that names a level itself has that one.

Examples:
  piston cache set python --level output --ttl 24h
  piston cache set python --level default --ttl default")]
    Set(SetCache),
    /// Remove what is kept, of all packages or of one
    Purge {
        /// Package, with its version when several are installed
        #[arg(value_name = "NAME[@VERSION]")]
        package: Option<PackageWord>,
    },
}

#[derive(Debug, Args)]
pub(super) struct SetCache {
    /// Package, with its version when several are installed
    #[arg(value_name = "NAME[@VERSION]")]
    pub(super) package: PackageWord,
    /// `none`, `binary` (what compiling gave), `output` (whole results), or `default`
    #[arg(long, required_unless_present = "ttl", value_parser = CacheSetting::level)]
    pub(super) level: Option<CacheSetting<CacheLevel>>,
    /// How long it is kept, e.g. 90m, 24h, or `default`
    #[arg(long, value_name = "TIME", value_parser = CacheSetting::time)]
    pub(super) ttl: Option<CacheSetting<Millis>>,
}

/// A setting, or back to what holds without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheSetting<T> {
    Default,
    Is(T),
}

impl<T> CacheSetting<T> {
    pub(super) fn change(self) -> Change<T> {
        match self {
            Self::Default => Change::Reset,
            Self::Is(value) => Change::Set(value),
        }
    }
}

impl CacheSetting<CacheLevel> {
    fn level(text: &str) -> Result<Self, String> {
        Ok(match text {
            "default" => Self::Default,
            "none" => Self::Is(CacheLevel::None),
            "binary" => Self::Is(CacheLevel::Binary),
            "output" => Self::Is(CacheLevel::Output),
            _ => return Err("a level is none, binary, output or default".to_owned()),
        })
    }
}

impl CacheSetting<Millis> {
    fn time(text: &str) -> Result<Self, InvalidUnit> {
        match text {
            "default" => Ok(Self::Default),
            text => text.parse().map(Self::Is),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token; prints its secret, which is told only this once
    #[command(after_help = "\
A listener asks for a token where the daemon's configuration says `tokens = true`. Clients send \
`Authorization: Bearer SECRET`; `piston` takes it from $PISTON_TOKEN.

Examples:
  piston token create --name judge --rate 10/s --concurrency 4
  piston token create --role admin > admin.token")]
    Create(CreateToken),
    /// List the tokens, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Let nobody in any more with a token; its jobs go on to their end
    Revoke {
        /// Its id
        id: TokenId,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateToken {
    /// What it allows: `execute` (run jobs) or `admin` (everything)
    #[arg(long, default_value = "execute", value_parser = role)]
    pub(super) role: Role,
    /// Whose it is, for the list
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) name: String,
    /// Requests that it allows, e.g. 10/s, 600/m [default: any number]
    #[arg(long)]
    pub(super) rate: Option<Rate>,
    /// Jobs that it may have at once, running or waiting [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) concurrency: Option<u32>,
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "execute" => Ok(Role::Execute),
        "admin" => Ok(Role::Admin),
        _ => Err("a role is execute or admin".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Runners {
    /// Print what is in force
    Show,
    /// Put a file in force; one that is wrong changes nothing
    #[command(after_help = "\
All entries are in the file: what was in force before and is not in it is not in force any more.

Example, with which programs in python may run for 10 seconds:
  [[runner]]
  language = \"python\"
  [runner.run]
  wall_time = \"10s\"
  cpu_time = \"10s\"

contrib/config/runners.toml explains every key. To change what is in force:
  piston runners show > runners.toml; edit it; piston runners set runners.toml")]
    Set {
        /// The file, `-` for standard input
        file: PathBuf,
    },
    /// Say whether a file would be taken, without putting it in force
    Check {
        /// The file, `-` for standard input
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests;
