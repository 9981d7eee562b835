//! `piston package from-host`, `from-debian`, `from-oci`, `from-piston-v2`, `build`, `extend`: packages
//! that the daemon makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use tokio::fs::File;

use crate::api::{MakeFilesParameters, MakeReply, MakeRequest};
use crate::{Client, Error, MadeFile};

use super::failure::Failure;
use super::flags::{Build, Extend, FromDebian, FromHost, FromOci, FromPistonV2, MakeTo};
use super::folder;
use super::packages::joined;
use super::plan::PackageWord;
use super::progress;
use super::render::Screen;

/// The recipe in its folder, and the scripts that may stand beside it.
const RECIPE: &str = "recipe.toml";
const SCRIPTS: [&str; 2] = ["run", "compile"];
/// The environment variable that holds a registry's password.
const PASSWORD_VARIABLE: &str = "PISTON_REGISTRY_PASSWORD";

/// Makes a package of what the daemon's machine has.
pub(super) async fn from_host(client: &Client, flags: FromHost, screen: &Screen) -> Result<()> {
    let name = flags.name.to_string();
    let request = MakeRequest {
        program: flags.program,
        ..MakeRequest::host(flags.name)
    };
    screen.progress(format!(
        "making {name} of what the daemon's machine has ..."
    ));
    make(client, request.into(), &name, flags.to, screen).await
}

/// Makes a package of Debian's packages.
pub(super) async fn from_debian(client: &Client, flags: FromDebian, screen: &Screen) -> Result<()> {
    let name = flags.packages.join(", ");
    screen.progress(format!("making {name} of Debian's packages ..."));
    let file = flags.name.as_ref().map(ToString::to_string);
    let file = file.or_else(|| flags.packages.first().cloned());
    let request = MakeRequest {
        name: flags.name,
        run: flags.run,
        ..MakeRequest::debian(flags.packages)
    };
    make(
        client,
        request.into(),
        &file.unwrap_or_default(),
        flags.to,
        screen,
    )
    .await
}

/// Makes a package of an image.
pub(super) async fn from_oci(client: &Client, flags: FromOci, screen: &Screen) -> Result<()> {
    let password = match &flags.username {
        Some(_) => Some(password(flags.password_stdin)?),
        None => None,
    };
    let path = Path::new(&flags.image);
    let is_path = flags.image.starts_with(['/', '.']) || path.exists();
    // What is not sent is not shown either: somebody may have written a password into it.
    screen.progress("making a package of the image ...".to_owned());
    let file = flags.name.as_ref().map(ToString::to_string);
    let file = file.unwrap_or_else(|| "image".to_owned());
    if is_path && is_remote(client) {
        let (path, image) = archive_and_name(&flags.image);
        let packed = path.is_dir().then(|| folder::pack(&path)).transpose()?;
        let archive = packed
            .as_ref()
            .map_or(path.as_path(), |packed| packed.path());
        let aliases = (!flags.aliases.is_empty()).then(|| flags.aliases.join(","));
        let what = MakeFilesParameters {
            file: file_name(&path),
            name: flags.name,
            version: flags.version.map(|version| version.to_string()),
            image,
            run: flags.run,
            compile: flags.compile,
            aliases,
            layers: flags.layers,
            ..MakeFilesParameters::oci()
        };
        return make(client, What::files(what, archive), &file, flags.to, screen).await;
    }
    let image = if is_path {
        // As the daemon has to see it, which stands elsewhere.
        std::path::absolute(path)?.to_string_lossy().into_owned()
    } else {
        flags.image
    };
    let request = MakeRequest {
        name: flags.name,
        version: flags.version.map(|version| version.to_string()),
        run: flags.run,
        compile: flags.compile,
        aliases: flags.aliases,
        layers: flags.layers,
        username: flags.username,
        password,
        ..MakeRequest::oci(image)
    };
    make(client, request.into(), &file, flags.to, screen).await
}

/// Whether the daemon stands on another machine, as far as that can be told: files of this one are sent to it.
fn is_remote(client: &Client) -> bool {
    client.host().socket().is_none()
}

/// What a file is called, without where it lies.
fn file_name(path: &Path) -> Option<String> {
    let name = std::path::absolute(path).ok()?;
    Some(name.file_name()?.to_string_lossy().into_owned())
}

/// An archive or a layout, and which of its images is meant, where that follows a colon.
fn archive_and_name(text: &str) -> (PathBuf, Option<String>) {
    let colons = text.match_indices(':').map(|(at, _)| text.split_at(at));
    let whole = std::iter::once((text, ""));
    let mut found = whole
        .chain(colons)
        .filter(|(path, _)| Path::new(path).exists());
    let (path, name) = found.next().unwrap_or((text, ""));
    let name = name.strip_prefix(':').map(ToOwned::to_owned);
    (PathBuf::from(path), name)
}

/// Converts a package of the released Piston.
pub(super) async fn from_piston_v2(
    client: &Client,
    flags: FromPistonV2,
    screen: &Screen,
) -> Result<()> {
    let is_url = flags.source.contains("://");
    if !is_url && flags.package.is_none() && is_remote(client) {
        screen.progress("converting a package of the released Piston ...".to_owned());
        let archive = Path::new(&flags.source);
        let what = MakeFilesParameters {
            file: file_name(archive),
            base: flags.base,
            ..MakeFilesParameters::piston_v2()
        };
        return make(
            client,
            What::files(what, archive),
            "package",
            flags.to,
            screen,
        )
        .await;
    }
    let source = if is_url {
        flags.source
    } else {
        // As the daemon has to see it, which stands elsewhere.
        let path = std::path::absolute(&flags.source)?;
        path.to_string_lossy().into_owned()
    };
    screen.progress("converting a package of the released Piston ...".to_owned());
    let (name, version) = match flags.package {
        Some(PackageWord { name, range }) => (Some(name), range),
        None => (None, None),
    };
    let file = name
        .as_ref()
        .map_or_else(|| "package".to_owned(), ToString::to_string);
    let request = MakeRequest {
        name,
        version,
        base: flags.base,
        ..MakeRequest::piston_v2(source)
    };
    make(client, request.into(), &file, flags.to, screen).await
}

/// The password of a registry's user: never an argument, which everybody on the machine sees.
fn password(stdin: bool) -> Result<String> {
    if stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    std::env::var(PASSWORD_VARIABLE).map_err(|_| {
        Failure::new("the registry's password is missing")
            .next(format!("set {PASSWORD_VARIABLE}, or give --password-stdin"))
            .into()
    })
}

/// Makes what a recipe describes.
pub(super) async fn build(client: &Client, flags: Build, screen: &Screen) -> Result<()> {
    let files = recipe(&flags.recipe)?;
    let shown = flags.recipe.display().to_string();
    screen.progress(format!("building {shown} ..."));
    let name = flags
        .recipe
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let request = MakeRequest::recipe(files);
    make(client, request.into(), &name, flags.to, screen).await
}

/// Makes a package that adds libraries or files to another one.
pub(super) async fn extend(client: &Client, flags: Extend, screen: &Screen) -> Result<()> {
    let PackageWord { name, range } = flags.package;
    let file = flags.name.as_ref().unwrap_or(&name).to_string();
    if let Some(folder) = flags.files {
        screen.progress(format!("adding {} to {name} ...", folder.display()));
        let archive = folder::pack(&folder)?;
        let what = MakeFilesParameters {
            file: file_name(&folder),
            version: range,
            name: flags.name,
            at: flags.at,
            ..MakeFilesParameters::new(name.to_string())
        };
        let archive = archive.path();
        return make(client, What::files(what, archive), &file, flags.to, screen).await;
    }
    let libraries = [flags.pip.as_slice(), &flags.npm].concat().join(", ");
    screen.progress(format!("adding {libraries} to {name} ..."));
    let request = MakeRequest {
        name: flags.name,
        version: range,
        pip: flags.pip,
        index: flags.index,
        npm: flags.npm,
        registry: flags.registry,
        ..MakeRequest::extend(name.to_string())
    };
    make(client, request.into(), &file, flags.to, screen).await
}

/// What is to be made.
enum What<'a> {
    Request(Box<MakeRequest>),
    Files {
        what: Box<MakeFilesParameters>,
        archive: &'a Path,
    },
}

impl From<MakeRequest> for What<'_> {
    fn from(request: MakeRequest) -> Self {
        Self::Request(Box::new(request))
    }
}

impl<'a> What<'a> {
    fn files(what: MakeFilesParameters, archive: &'a Path) -> Self {
        let what = Box::new(what);
        Self::Files { what, archive }
    }

    async fn make(&self, client: &Client) -> Result<MakeReply, Error> {
        match self {
            Self::Request(request) => client.make(request).await,
            Self::Files { what, archive } => client.make_files(what, archive).await,
        }
    }

    async fn make_file(&self, client: &Client, to: &mut File) -> Result<MadeFile, Error> {
        match self {
            Self::Request(request) => client.make_file(request, to).await,
            Self::Files { what, archive } => client.make_files_file(what, archive, to).await,
        }
    }
}

/// The files of a recipe: its folder, or the `recipe.toml` itself.
fn recipe(path: &Path) -> Result<BTreeMap<String, String>> {
    let unreadable =
        |path: &Path, error| Failure::new(format!("can't read {}", path.display())).because(error);
    let file = if path.is_dir() {
        path.join(RECIPE)
    } else {
        path.to_owned()
    };
    let text = std::fs::read_to_string(&file).map_err(|error| {
        unreadable(&file, error).next(format!("a recipe is a folder with a `{RECIPE}` in it"))
    })?;
    let mut files = BTreeMap::from([(RECIPE.to_owned(), text)]);
    for script in SCRIPTS {
        let path = file.with_file_name(script);
        if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            files.insert(script.to_owned(), text);
        }
    }
    Ok(files)
}

/// Has it made, and installed or written to a file.
async fn make(
    client: &Client,
    what: What<'_>,
    name: &str,
    to: MakeTo,
    screen: &Screen,
) -> Result<()> {
    let given_up = || "nothing of it is kept: say it again to begin anew".to_owned();
    if let Some(output) = to.output {
        let written = make_file(client, &what, name, &output, screen);
        return progress::watch(written, given_up).await;
    }
    let made = async { Ok(what.make(client).await?) };
    let reply = progress::watch(made, given_up).await?;
    screen.show(&reply, |reply| {
        let notes = reply.notes.iter().map(|note| format!("note: {note}\n"));
        let made = joined(&reply.installed, "nothing new");
        format!("{}made and installed {made}", notes.collect::<String>())
    })
}

/// Writes the package file under a name of its own first: nobody takes half a file for a package.
async fn make_file(
    client: &Client,
    what: &What<'_>,
    name: &str,
    output: &Path,
    screen: &Screen,
) -> Result<()> {
    let unwritable =
        |path: &Path, error| Failure::new(format!("can't write {}", path.display())).because(error);
    let directory = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if directory {
        std::fs::create_dir_all(output).map_err(|error| unwritable(output, error))?;
    }
    let part = if directory {
        output.join(format!(".{name}.part"))
    } else {
        output.with_added_extension("part")
    };
    let mut file = File::create(&part)
        .await
        .map_err(|error| unwritable(&part, error))?;
    let guard = RemoveOnDrop(part);
    let made = what.make_file(client, &mut file).await?;
    file.sync_all()
        .await
        .map_err(|error| unwritable(&guard.0, error))?;
    let target = match (directory, made.name) {
        (true, Some(name)) => output.join(name),
        (true, None) => output.join(format!("{name}.pkg.tar.gz")),
        (false, _) => output.to_owned(),
    };
    std::fs::rename(&guard.0, &target).map_err(|error| unwritable(&target, error))?;
    let result = json!({ "file": target, "bytes": made.length });
    screen.show(&result, |_| {
        format!("wrote {} ({})", target.display(), made.length)
    })
}

/// Takes a half-written file away, unless it was renamed.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // It is not there when all went well.
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_may_be_followed_by_the_name_of_one_of_its_images() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a:b.tar");
        std::fs::write(&archive, "").unwrap();
        let archive = archive.display().to_string();
        for (rest, name) in [
            ("", None),
            (":5.2", Some("5.2")),
            (":x/y:5.2", Some("x/y:5.2")),
        ] {
            let (path, found) = archive_and_name(&format!("{archive}{rest}"));
            assert_eq!(
                (path.display().to_string(), found.as_deref()),
                (archive.clone(), name)
            );
        }
        // What is not there is told by its whole name.
        let (path, name) = archive_and_name("/nowhere/x.tar:5");
        assert_eq!((path, name), (PathBuf::from("/nowhere/x.tar:5"), None));
    }
}
