//! Flags of `piston package` and `piston repo`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::plan::PackageWord;
use super::make::{Build, Extend, FromDebian, FromHost, FromOci, FromPistonV2};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Package {
    /// List what is installed
    #[command(visible_alias = "ls")]
    List,
    /// Install a package from a repository, with what it depends on
    #[command(after_help = "\
Examples:
  piston package install python
  piston package install python@3.11
  piston package install python '>=3.9 <4' --repo mine")]
    Install(Install),
    /// Remove a package
    #[command(visible_alias = "rm", alias = "uninstall")]
    Remove(Remove),
    /// Show a package: what it runs, what it is made of, who needs it
    Info {
        /// Package, with a version or without
        #[arg(value_name = "NAME[@VERSION]")]
        package: PackageWord,
    },
    /// Check that what is on the disk is what was installed
    ///
    /// The sha256 of each image and everything in it, as when it was installed. Ends with 1 when
    /// something is wrong.
    Verify {
        /// Packages, with a version or without [default: all]
        #[arg(value_name = "NAME[@VERSION]")]
        packages: Vec<PackageWord>,
    },
    /// Install a package file
    Upload {
        /// A `.pkg.tar.gz`
        file: PathBuf,
    },
    /// Make a package of what the daemon's own machine has
    #[command(after_help = "\
Knows python, bash, gcc (c and c++), perl, javascript, lua, ruby, php, java, go, rust and base. Without -o \
the package is installed, and `base` with it when that is missing.

Examples:
  piston package from-host python --install
  piston package from-host python --program /opt/python3.13/bin/python3
  piston package from-host base -o packages/ && piston repo index packages/")]
    FromHost(FromHost),
    /// Make a package of what Debian has packaged
    #[command(after_help = "\
The daemon's machine needs apt's lists (`apt-get update`) and reaches their servers. Packages are \
checked against the signed lists, unpacked without root, and nothing on the machine changes. \
Without -o the package is installed, and `debian-base`, which all of them depend on, when that is \
missing.

There are recipes for 30 languages: `piston repo packages builtin` lists them. Any other Debian \
package works as well: a program that is called like it runs the files.

Examples:
  piston package from-debian lua
  piston package from-debian python python3-numpy --name python-numpy
  piston package from-debian gawk --run '/usr/bin/gawk -f {main} {args}'
  piston package from-debian base -o packages/")]
    FromDebian(FromDebian),
    /// Make a package of a container image
    #[command(after_help = "\
The layers of the image, of this machine's architecture, become one package that depends on \
nothing. Every part is checked by its sha256 and unpacked without root; nothing of the image is \
run for it. The image's variables and its command are the package's, unless --run says how it \
runs programs.

Images come from a registry (names without one are Docker Hub's, those of localhost are asked for \
by http), from a folder with an image layout, or from a file that `docker save`, `podman save` or \
`skopeo copy` wrote. A registry that asks who asks gets --username with \
$PISTON_REGISTRY_PASSWORD, or what `registry_auth` in the daemon's configuration has for it.

Examples:
  piston package from-oci python:3.12-slim
  piston package from-oci node:22-slim --name js --run 'node {main} {args}'
  piston package from-oci localhost:5000/team/judge:1.4 --username ann
  docker save gcc:14 -o c.tar
  piston package from-oci c.tar --compile 'gcc {files}' --run /piston/job/a.out")]
    FromOci(FromOci),
    /// Convert a package of the released Piston (version 2)
    #[command(after_help = "\
Its files are taken as they are and stand where they were built for, \
/piston/packages/LANGUAGE/VERSION; its run and compile scripts are started by bash, as they were. \
What they expect around them (bash, coreutils, for some perl, binutils, headers) comes from the \
package that --base names.

Examples:
  piston package from-piston-v2 ./python-3.10.0.pkg.tar.gz
  piston package from-piston-v2 https://packages.example/index python@3.10
  piston package from-piston-v2 ./gcc-10.2.0.pkg.tar.gz --base gcc-base")]
    FromPistonV2(FromPistonV2),
    /// Make what a recipe describes
    #[command(after_help = "\
A recipe is a folder with a recipe.toml: which Debian packages or which container image, how programs \
are compiled and run. A registry gets what `registry_auth` in the daemon's configuration has for it. \
Its format is explained in contrib/packages/README.md, and the recipes there are examples.

Examples:
  piston package build contrib/packages/lua
  piston package build my-recipe/ -o packages/")]
    Build(Build),
    /// Add libraries or files to an installed language
    #[command(after_help = "\
A new package is made, which stands on the installed one and adds the libraries and all that they \
need, or files. Programs of the language find them from then on: of several packages of one \
version, the one that has it all is taken. Extending again adds to that; `piston package remove` \
takes a step back. With --name the language stays as it is, and the name is a language of its \
own.

Python libraries come from PyPI as wheels, checked by their sha256; no pip is needed, and nothing \
of them is run. Another index: --index, `python_index` in the daemon's configuration, or \
PIP_INDEX_URL there. JavaScript libraries come from npm's registry, checked by their sha512, into \
/node_modules, where `require` and `import` of every program find them; scripts that run at \
installation are not run. Another registry: --registry, `javascript_registry` in the daemon's \
configuration, or npm_config_registry there.

Files of a folder go to /piston/packages/NAME/VERSION, which the note says, or to --at: data that \
programs read, modules of your own. Symlinks in it stay, other special files are refused.

Examples:
  piston package extend python --pip numpy
  piston package extend python --pip 'pandas>=2,<3' scikit-learn --name science
  piston package extend javascript --npm lodash express@4
  piston package extend python --files course/ --at /opt/course --name course
  piston run science prog.py")]
    Extend(Extend),
    /// Remove dependencies that nothing needs any more
    Gc,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Install {
    /// Package, with a version or range or without
    #[arg(value_name = "NAME[@RANGE]")]
    pub(in crate::cli) package: PackageWord,
    /// Version or range, e.g. 3.11, ^3.9, '>=3 <4' [default: the newest]
    pub(in crate::cli) range: Option<String>,
    /// Only from this repository
    #[arg(long, value_name = "NAME", default_value = "all")]
    pub(in crate::cli) repo: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Remove {
    /// Package, with its version when several are installed
    #[arg(value_name = "NAME[@VERSION]")]
    pub(in crate::cli) package: PackageWord,
    /// Remove what depends on it as well
    #[arg(long)]
    pub(in crate::cli) cascade: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Repo {
    /// List the configured repositories
    #[command(visible_alias = "ls")]
    List,
    /// Add a repository and download its index
    #[command(after_help = "\
Examples:
  piston repo add mine https://packages.example.org/index.yaml --key mine.asc
  piston repo add local ./packages          a folder that has an index")]
    Add {
        /// What to call it
        name: String,
        /// http://, https:// or file:// URL of its index, or a path on the daemon's machine
        #[arg(value_name = "URL|PATH")]
        url: String,
        /// File of ASCII-armored OpenPGP public keys: every package has to be signed by one of them.
        /// May be given more than once
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
    },
    /// Forget a repository; what was installed from it stays
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
    },
    /// Download indexes again
    Sync {
        /// Only this repository's
        #[arg(default_value = "all")]
        name: String,
    },
    /// List what repositories offer
    Packages {
        /// Only this repository
        #[arg(default_value = "all")]
        repo: String,
        /// Download the index first
        #[arg(long)]
        sync: bool,
        /// Only packages whose name or alias contains this
        #[arg(long, short, value_name = "TEXT")]
        query: Option<String>,
    },
    /// Write the index of a folder of package files (runs `pistond index`)
    #[command(after_help = "\
Examples:
  piston repo index packages/
  piston repo index packages/ --sign secret.asc    signs packages and index")]
    Index(Index),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Index {
    /// The folder
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
    /// Passed on to `pistond index`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(in crate::cli) rest: Vec<std::ffi::OsString>,
}
