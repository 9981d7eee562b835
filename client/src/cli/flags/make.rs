//! Flags of the commands that make packages.

use std::path::PathBuf;

use clap::Args;

use crate::cli::plan::PackageWord;
use crate::ids::{Language, Version};

#[derive(Debug, Args)]
pub(in crate::cli) struct FromHost {
    /// What to make: python, bash, gcc, perl, javascript, lua, ruby, php, java, go, rust, base
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Language,
    /// Start from this program rather than the one on the daemon's PATH
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) program: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FromDebian {
    /// A language, or Debian packages; the first gives the package its name and version
    #[arg(value_name = "NAME", required = true)]
    pub(in crate::cli) packages: Vec<String>,
    /// Call the package this
    #[arg(long)]
    pub(in crate::cli) name: Option<Language>,
    /// How it runs a program, e.g. '/usr/bin/lua5.4 {main} {args}'
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) run: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FromOci {
    /// Name at a registry, or path of an image layout or of an archive of `docker save`, followed by `:NAME`
    /// where it holds several; a daemon on another machine is sent it
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) image: String,
    /// Call the package this [default: as the image]
    #[arg(long)]
    pub(in crate::cli) name: Option<Language>,
    /// Its version [default: as the image says]
    #[arg(long)]
    pub(in crate::cli) version: Option<Version>,
    /// How it runs a program, e.g. 'python3 {main} {args}' [default: the image's own command]
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) run: Option<String>,
    /// How it compiles, e.g. 'gcc {files}'
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) compile: Option<String>,
    /// Another name of the language. May be given more than once
    #[arg(long = "alias", value_name = "NAME")]
    pub(in crate::cli) aliases: Vec<String>,
    /// A package for each layer, which other images on the same layers share
    #[arg(long, conflicts_with = "output")]
    pub(in crate::cli) layers: bool,
    #[arg(
        long,
        value_name = "NAME",
        help = "User of the registry; the password is taken from $PISTON_REGISTRY_PASSWORD"
    )]
    pub(in crate::cli) username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(in crate::cli) password_stdin: bool,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FromPistonV2 {
    /// A pkg.tar.gz, which a daemon on another machine is sent, or the path there or URL of an index
    #[arg(value_name = "FILE|INDEX")]
    pub(in crate::cli) source: String,
    /// Package of the index, with a version or range or without
    #[arg(value_name = "NAME[@RANGE]")]
    pub(in crate::cli) package: Option<PackageWord>,
    /// Package that stands for the system that its scripts expect [default: debian-base]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) base: Option<Language>,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Build {
    /// The recipe's folder, or its recipe.toml
    #[arg(value_name = "DIR|FILE")]
    pub(in crate::cli) recipe: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "piston package extend NAME[@RANGE] --pip LIBRARY...\n       \
                      piston package extend NAME[@RANGE] --npm LIBRARY...\n       \
                      piston package extend NAME[@RANGE] --files DIR [--at PATH]"
)]
pub(in crate::cli) struct Extend {
    /// Language or package, with a version or range or without
    #[arg(value_name = "NAME[@RANGE]")]
    pub(in crate::cli) package: PackageWord,
    /// Python libraries, e.g. numpy 'pandas>=2,<3'
    #[arg(long, value_name = "LIBRARY", num_args = 1.., required_unless_present_any = ["npm", "files"])]
    pub(in crate::cli) pip: Vec<String>,
    /// Index that they come from
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) index: Option<String>,
    /// JavaScript libraries, e.g. lodash '@types/node@^18'
    #[arg(long, value_name = "LIBRARY", num_args = 1..)]
    pub(in crate::cli) npm: Vec<String>,
    /// Registry that they come from
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) registry: Option<String>,
    /// Folder whose files are added
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pip", "npm", "index", "registry"])]
    pub(in crate::cli) files: Option<PathBuf>,
    /// Directory of the package that they go to [default: /piston/packages/NAME/VERSION]
    #[arg(long, value_name = "PATH", requires = "files")]
    pub(in crate::cli) at: Option<String>,
    /// Call the package this, and run it as a language of this name
    #[arg(long)]
    pub(in crate::cli) name: Option<Language>,
    #[command(flatten)]
    pub(in crate::cli) to: MakeTo,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct MakeTo {
    /// Write the package file here (a file, or a directory) rather than installing it
    #[arg(long, short, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Install it (the default)
    #[arg(long, conflicts_with = "output")]
    pub(in crate::cli) install: bool,
}
