//! The command line: flags as given, and which part of the daemon each command calls.
//!
//! Prints for people; what it prints is no interface but for `--json`. Errors go to standard error
//! as one line with their causes, exit code 1, or [`packages::NO_SPACE`]; wrong usage is 2 (clap's).

mod check;
mod images;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use piston_client::ids::Language;
use serde_json::json;

use self::images::{OciFlags, PistonV2Flags};
use crate::config::paths::Host;
use crate::config::{self, Flags};
use crate::job::runners::{self, Runners};
use crate::packages;
use crate::packages::make::{Extend, FromDebian, Made, MakeError, TargetFrom};
use crate::packages::{Rebuilt, Repair};

/// The engine of Piston: installs language packages and runs code in them, sandboxed.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(ServeFlags),
    /// Say what this host offers for running jobs, what is missing, and what to do about it.
    Check {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Print or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a package file, without a daemon.
    #[command(subcommand)]
    Make(MakeCommand),
    /// Write the index of a folder of package files, which makes it a repository.
    Index {
        /// The folder.
        directory: PathBuf,
        #[arg(
            long,
            value_name = "FILE",
            help = "ASCII-armored OpenPGP secret key (`gpg --armor --export-secret-keys NAME`) that \
                    signs each package and the index; its passphrase, if any, is taken from \
                    $PISTON_KEY_PASSPHRASE"
        )]
        sign: Option<PathBuf>,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Rebuild the database of a data directory from the packages that lie there. The daemon must
    /// not run.
    Repair {
        /// Configuration file, which names the data directory.
        #[arg(long, value_name = "FILE", env = "PISTON_CONFIG")]
        config: Option<PathBuf>,
        /// The data directory, instead of the configured one.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Check one image and write its index. Runs in a child of the daemon.
    #[command(hide = true)]
    VerifyImage { image: PathBuf, index: PathBuf },
    /// Write a checked image anew with zstd. Runs in a child of the daemon.
    #[command(hide = true)]
    RecompressImage {
        image: PathBuf,
        index: PathBuf,
        out: PathBuf,
        /// Processor time that it may take.
        seconds: u64,
    },
}

#[derive(Debug, Args)]
struct ServeFlags {
    /// Configuration file, which there need not be [default: /etc/piston/piston.toml; not root:
    /// ~/.config/piston/piston.toml]. `pistond config default` explains every key.
    #[arg(long, value_name = "FILE", env = "PISTON_CONFIG")]
    config: Option<PathBuf>,
    /// Unix socket to serve on [default: /run/piston/piston.sock; not root: piston/piston.sock in
    /// the runtime directory of the session].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Data directory: packages and state [default: /var/lib/piston; not root:
    /// ~/.local/share/piston].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// TCP address to execute jobs on as well, e.g. 127.0.0.1:2000. May be given more than once.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration, and runners.toml in its data directory; an error names its line.
    Check {
        /// The file, instead of the default one.
        #[arg(long, value_name = "FILE", env = "PISTON_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Print the default configuration, every key explained.
    Default,
}

#[derive(Debug, Subcommand)]
enum MakeCommand {
    /// From what this host has installed: an interpreter, a compiler, or their base.
    Host {
        /// What to make: python, bash, gcc, perl, javascript, lua, ruby, php, java, go, rust or base.
        name: Language,
        /// Take this interpreter or compiler, where the host has several.
        #[arg(long, value_name = "PROGRAM")]
        program: Option<PathBuf>,
        #[command(flatten)]
        out: MakeOutput,
    },
    /// From Debian's packages: a language that there is a recipe for (lua, perl, ...), any Debian
    /// package by its name, or `base`, which they all depend on.
    Debian {
        /// A language, or Debian packages; the first gives the name and the version.
        #[arg(value_name = "NAME", required = true)]
        packages: Vec<String>,
        /// What to call the package.
        #[arg(long)]
        name: Option<Language>,
        /// How it runs a program, e.g. '/usr/bin/lua5.4 {main} {args}'.
        #[arg(long, value_name = "COMMAND")]
        run: Option<String>,
        /// The base package that it will stand on (its file), instead of today's.
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
        #[command(flatten)]
        out: MakeOutput,
    },
    /// From an image: of a registry, an image layout, or an archive of `docker save`.
    Oci(OciFlags),
    /// From a package of the released Piston: its files as they are, at the path they were built for.
    PistonV2(PistonV2Flags),
    /// Libraries on top of another package, which the result depends on.
    Extend {
        /// The package file that is extended.
        #[arg(value_name = "FILE", required_unless_present = "target")]
        package: Option<PathBuf>,
        /// Package files that it depends on, lowest first. May be given more than once.
        #[arg(long, value_name = "FILE")]
        base: Vec<PathBuf>,
        /// Python libraries, e.g. numpy 'pandas>=2,<3'.
        #[arg(long, value_name = "LIBRARY", num_args = 1.., required_unless_present_any = ["npm", "files"])]
        pip: Vec<String>,
        /// Index that they come from.
        #[arg(
            long,
            value_name = "URL",
            env = packages::INDEX_VARIABLE,
            hide_env_values = true,
            default_value = packages::make::DEFAULT_INDEX
        )]
        index: String,
        /// JavaScript libraries, e.g. lodash '@types/node@^18'.
        #[arg(long, value_name = "LIBRARY", num_args = 1..)]
        npm: Vec<String>,
        /// Registry that they come from.
        #[arg(
            long,
            value_name = "URL",
            env = packages::REGISTRY_VARIABLE,
            hide_env_values = true,
            default_value = packages::make::DEFAULT_REGISTRY
        )]
        registry: String,
        /// A tar of files; packed with gzip, xz, zstd or lz4, or not.
        #[arg(long, value_name = "FILE")]
        files: Option<PathBuf>,
        /// The directory in the package that they go to, instead of the result's own.
        #[arg(long, value_name = "PATH", requires = "files")]
        at: Option<String>,
        /// What to call the result, and the language that it runs; else it runs the languages of
        /// the package that it extends.
        #[arg(long)]
        name: Option<Language>,
        /// The package that is extended, as the daemon describes it.
        #[arg(long, hide = true, conflicts_with_all = ["package", "base"])]
        target: Option<PathBuf>,
        #[command(flatten)]
        out: MakeOutput,
    },
    /// Print what the recipes that ship with the daemon would give, as an index.
    #[command(hide = true)]
    Offer {
        /// Bound this process's resources.
        #[arg(long)]
        limited: bool,
    },
    /// What a recipe describes.
    Recipe {
        /// The recipe's folder, or its recipe.toml.
        #[arg(value_name = "DIR|FILE")]
        recipe: PathBuf,
        /// The base package that it will stand on (its file), instead of today's.
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// File of credentials for the registry of its image, as `docker login` writes it.
        #[arg(long, value_name = "FILE")]
        auth_file: Option<PathBuf>,
        #[command(flatten)]
        out: MakeOutput,
    },
}

#[derive(Debug, Args)]
struct MakeOutput {
    /// Folder to write the package file to, or the file itself.
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    output: PathBuf,
    /// Bound this process's resources; used when the daemon calls.
    #[arg(long, hide = true)]
    limited: bool,
}

/// Runs a command.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(flags) => serve(flags),
        Command::Check { json } => return check::run(json),
        Command::Config(command) => configuration(command),
        Command::Make(command) => make(command),
        Command::Index {
            directory,
            sign,
            json,
        } => index(&directory, sign.as_deref(), json),
        Command::Repair { config, data } => repair(config, data),
        Command::VerifyImage { image, index } => {
            return packages::verify_image_main(&image, &index);
        }
        Command::RecompressImage {
            image,
            index,
            out,
            seconds,
        } => packages::recompress_image_main(&image, &index, &out, seconds)
            .map_err(anyhow::Error::msg),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint_line(&format!("error: {error:#}"));
            if is_full(&error) {
                packages::NO_SPACE.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Whether a disk that is full is what an error comes of.
fn is_full(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(|cause: &std::io::Error| cause.kind() == std::io::ErrorKind::StorageFull)
}

fn serve(flags: ServeFlags) -> anyhow::Result<()> {
    let ServeFlags {
        config,
        socket,
        data,
        listen,
    } = flags;
    let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
    let flags = Flags {
        config,
        socket: absolute(socket)?,
        data: absolute(data)?,
        listen,
    };
    Ok(crate::serve::serve(&flags)?)
}

fn configuration(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Default => print(config::DEFAULT_FILE),
        ConfigCommand::Check { config } => {
            let flags = Flags {
                config,
                ..Flags::default()
            };
            let loaded = config::load(&flags, &Host::current())?;
            for warning in loaded.warnings {
                eprint_line(&format!("warning: {warning}"));
            }
            match loaded.file {
                Some(file) => print_line(&format!("{}: ok", file.display())),
                None => print_line("no configuration file, the defaults are used: ok"),
            }
            check_runners(loaded.config)?;
        }
    }
    Ok(())
}

/// The operator's settings of runtimes, which lie in the data directory.
fn check_runners(config: config::Config) -> anyhow::Result<()> {
    let runners = Runners::open(&config.data, config.limits)?;
    let file = config.data.join(runners::FILE_NAME);
    match runners.rules().entries.len() {
        0 => print_line(&format!("{}: no entries", file.display())),
        1 => print_line(&format!("{}: 1 entry, ok", file.display())),
        entries => print_line(&format!("{}: {entries} entries, ok", file.display())),
    }
    Ok(())
}

fn make(command: MakeCommand) -> anyhow::Result<()> {
    let base = |file: Option<PathBuf>| {
        let base = file.map(|file| packages::make::read_base(&file));
        base.transpose()
    };
    match command {
        MakeCommand::Host { name, program, out } => out.make(|folder| {
            let program = program.as_deref();
            packages::make::from_host(&name, program, folder)
        }),
        MakeCommand::Debian {
            packages,
            name,
            run,
            base: file,
            out,
        } => out.make(|folder| {
            let run = run.as_deref().map(words);
            let what = FromDebian {
                packages,
                name,
                run,
                base: base(file)?,
            };
            packages::make::from_debian(what, folder)
        }),
        MakeCommand::Extend {
            package,
            base: below,
            pip,
            index,
            npm,
            registry,
            files,
            at,
            name,
            target,
            out,
        } => out.make(|folder| {
            let what = Extend {
                target: match (target, package) {
                    (Some(target), _) => TargetFrom::Written(target),
                    (None, package) => TargetFrom::Files {
                        package: package.unwrap_or_default(),
                        below,
                    },
                },
                name,
                pip,
                index: or_else(index, packages::make::DEFAULT_INDEX),
                npm,
                registry: or_else(registry, packages::make::DEFAULT_REGISTRY),
                files: files.map(|archive| packages::make::Folder { archive, at }),
            };
            packages::make::extend(&what, folder)
        }),
        MakeCommand::Oci(flags) => flags.make(),
        MakeCommand::PistonV2(flags) => flags.make(),
        MakeCommand::Offer { limited } => {
            if limited {
                limit_this_process().context("cannot limit the maker")?;
            }
            print(&packages::make::offer()?);
            Ok(())
        }
        MakeCommand::Recipe {
            recipe,
            base: file,
            auth_file,
            out,
        } => out.make(|folder| {
            let base = base(file)?;
            packages::make::from_recipe(&recipe, base.as_ref(), auth_file, folder)
        }),
    }
}

/// A variable that is set to nothing says nothing.
fn or_else(url: String, otherwise: &str) -> String {
    if url.is_empty() {
        otherwise.to_owned()
    } else {
        url
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

impl MakeOutput {
    /// Whether several files have a place there.
    fn is_folder(&self) -> bool {
        self.output.is_dir()
    }

    /// Has a package made where it is wanted, and says where it is.
    fn make(self, maker: impl FnOnce(&Path) -> Result<Made, MakeError>) -> anyhow::Result<()> {
        if self.limited {
            limit_this_process().context("cannot limit the maker")?;
        }
        let made = if self.output.is_dir() {
            maker(&self.output)?
        } else {
            make_file(&self.output, maker)?
        };
        for note in &made.notes {
            eprint_line(&format!("note: {note}"));
        }
        for file in made.below.iter().chain([&made.file]) {
            print_line(&file.display().to_string());
        }
        Ok(())
    }
}

/// Makes a package into a file of a given name, which appears when it is whole.
fn make_file(
    file: &Path,
    maker: impl FnOnce(&Path) -> Result<Made, MakeError>,
) -> anyhow::Result<Made> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let staging = folder.join(format!(".piston-make-{}", std::process::id()));
    std::fs::create_dir(&staging)
        .with_context(|| format!("cannot create {}", staging.display()))?;
    let made = maker(&staging).map_err(anyhow::Error::from);
    let moved = made.and_then(|made| {
        std::fs::rename(&made.file, file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Made {
            file: file.to_owned(),
            ..made
        })
    });
    // What could not be removed says nothing about what was made.
    drop(std::fs::remove_dir_all(&staging));
    moved
}

/// Bounds what a maker may take of the host when a request started it.
fn limit_this_process() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for (resource, most) in [
        (Resource::Cpu, 3600),
        (Resource::Fsize, 8 << 30),
        (Resource::Data, 4 << 30),
        (Resource::Core, 0),
    ] {
        let most = getrlimit(resource)
            .maximum
            .map_or(most, |own| own.min(most));
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

fn repair(config: Option<PathBuf>, data: Option<PathBuf>) -> anyhow::Result<()> {
    let flags = Flags {
        config,
        data: data.map(std::path::absolute).transpose()?,
        ..Flags::default()
    };
    let root = config::load(&flags, &Host::current())?.config.data;
    let data = packages::DataDirectory { root };
    let _lock = data.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(packages::repair(&data))? {
        Repair::Whole(packages) => print_line(&format!(
            "{}: the database is whole and names {packages} packages, nothing is to be done",
            data.root.display()
        )),
        Repair::Rebuilt(rebuilt) => report(&rebuilt),
    }
    Ok(())
}

/// Says what is in a database that was built anew, and what is not.
fn report(rebuilt: &Rebuilt) {
    print_line(&format!(
        "the database can't be used: {}",
        rebuilt.reason.reason()
    ));
    for package in &rebuilt.packages {
        print_line(&format!("{package} is in it again"));
    }
    for (name, reason) in &rebuilt.left_out {
        eprint_line(&format!("warning: {name} is left out: {reason}"));
    }
    print_line(&format!(
        "rebuilt with {} packages, {} repositories and {} tokens",
        rebuilt.packages.len(),
        rebuilt.repositories,
        rebuilt.tokens
    ));
    if let Some(path) = &rebuilt.set_aside {
        print_line(&format!("the damaged one is kept as {}", path.display()));
    }
}

fn index(directory: &Path, key: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let passphrase = std::env::var("PISTON_KEY_PASSPHRASE").unwrap_or_default();
    let signer = key.map(|key| packages::Signer::read(key, &passphrase));
    let signer = signer.transpose()?;
    let written = packages::index::write_index(directory, signer.as_ref())?;
    if json {
        let left_out = written.left_out.iter();
        let left_out = left_out
            .map(|(file, reason)| json!({ "file": file, "reason": crate::error::chain(reason) }));
        let told = json!({
            "index": written.file,
            "packages": written.packages,
            "left_out": left_out.collect::<Vec<_>>(),
            "signed_by": signer.as_ref().map(packages::Signer::fingerprint),
        });
        print_line(&serde_json::to_string_pretty(&told)?);
        return Ok(());
    }
    for package in &written.packages {
        print_line(&package.to_string());
    }
    for (file, reason) in &written.left_out {
        let reason = crate::error::chain(reason);
        eprint_line(&format!(
            "warning: {} is left out: {reason}",
            file.display()
        ));
    }
    if let Some(signer) = &signer {
        print_line(&format!("signed by {}", signer.fingerprint()));
    }
    print_line(&format!(
        "{} lists {} packages",
        written.file.display(),
        written.packages.len()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command line's results")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stdout, reason = "the command line's results")]
fn print_line(text: &str) {
    println!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "the command line's errors and warnings"
)]
fn eprint_line(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_says_nothing() {
        assert_eq!(or_else(String::new(), "https://usual"), "https://usual");
        assert_eq!(
            or_else("https://own".to_owned(), "https://usual"),
            "https://own"
        );
    }
}
