//! Flags of `pistond make oci` and `pistond make piston-v2`: packages of what others have packed.

use std::path::{Path, PathBuf};

use clap::Args;
use piston_client::ids::{Language, Version};

use super::{MakeOutput, words};
use crate::packages;
use crate::packages::make::{Credentials, FromOci, FromPistonV2, Layering};

#[derive(Debug, Args)]
pub(super) struct OciFlags {
    /// Name at a registry (python:3.12, ghcr.io/owner/name, localhost:5000/name@sha256:...), or a
    /// folder or an archive by its path, followed by `:NAME` where it holds several.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What to call the package [default: as the image].
    #[arg(long)]
    name: Option<Language>,
    /// Its version [default: as the image says].
    #[arg(long)]
    version: Option<Version>,
    /// How it runs a program, e.g. 'python3 {main} {args}' [default: the image's command].
    #[arg(long, value_name = "COMMAND")]
    run: Option<String>,
    /// How it compiles, e.g. 'gcc {files}'.
    #[arg(long, value_name = "COMMAND")]
    compile: Option<String>,
    /// Another name of the language. May be given more than once.
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// A package for each layer, which other images on the same layers share; into a folder.
    #[arg(long)]
    layers: bool,
    #[arg(
        long,
        value_name = "NAME",
        help = "User of the registry; the password is taken from $PISTON_REGISTRY_PASSWORD"
    )]
    username: Option<String>,
    /// File of credentials as `docker login` writes it, which serves when no user is named.
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Which layers are installed already, as the daemon writes it down.
    #[arg(long, hide = true, requires = "layers")]
    installed: Option<PathBuf>,
    /// What to call it in messages.
    #[arg(long, hide = true)]
    shown: Option<String>,
    #[command(flatten)]
    out: MakeOutput,
}

impl OciFlags {
    /// Has the package made.
    pub(super) fn make(self) -> anyhow::Result<()> {
        let path = Path::new(&self.image);
        let is_path = self.image.starts_with(['/', '.']) || path.exists();
        let image = if is_path {
            std::path::absolute(path)?.to_string_lossy().into_owned()
        } else {
            self.image
        };
        let password = || std::env::var(packages::REGISTRY_PASSWORD_VARIABLE).unwrap_or_default();
        let what = FromOci {
            image: image.parse()?,
            credentials: self.username.map(|user| Credentials {
                user,
                password: password(),
            }),
            auth_file: self.auth_file,
            name: self.name,
            version: self.version,
            run: self.run.as_deref().map(words),
            compile: self.compile.as_deref().map(words),
            aliases: self.aliases,
            layering: Layering::asked(self.layers),
            installed: self.installed,
            shown: self.shown,
        };
        if self.layers && !self.out.is_folder() {
            anyhow::bail!("--layers makes several packages: --output has to be a folder");
        }
        self.out
            .make(|folder| packages::make::from_oci(&what, folder))
    }
}

#[derive(Debug, Args)]
pub(super) struct PistonV2Flags {
    /// A pkg.tar.gz, or a path or URL of an index (language,version,checksum,url).
    #[arg(value_name = "FILE|INDEX", env = packages::PISTON_V2_VARIABLE, hide_env_values = true)]
    source: String,
    /// Which package of the index.
    #[arg(long)]
    name: Option<Language>,
    /// Which of its versions, e.g. 3.10 or '>=3 <4' [default: the newest].
    #[arg(long, requires = "name")]
    range: Option<packages::VersionRange>,
    /// Package that stands for the system that its scripts expect.
    #[arg(long, value_name = "NAME", default_value = packages::DEFAULT_BASE)]
    base: Language,
    /// What to call it in messages.
    #[arg(long, hide = true)]
    shown: Option<String>,
    #[command(flatten)]
    out: MakeOutput,
}

impl PistonV2Flags {
    /// Has the package made.
    pub(super) fn make(self) -> anyhow::Result<()> {
        let is_url = self.source.contains("://");
        let any = packages::VersionRange::any;
        let what = FromPistonV2 {
            source: if is_url {
                self.source
            } else {
                let path = std::path::absolute(self.source)?;
                path.to_string_lossy().into_owned()
            },
            wanted: self.name.map(|name| (name, self.range.unwrap_or_else(any))),
            base: self.base,
            shown: self.shown,
        };
        let out = self.out;
        out.make(|folder| packages::make::from_piston_v2(&what, folder))
    }
}
