//! `POST /make` and `POST /make/files`: a package from what the host has, from Debian's packages, by a
//! recipe, from an image, or on top of another one; of a file that the daemon has, or that is sent.
//!
//! Making dies with its request; the installation that follows does not. A package that needs a
//! base gets it made and installed first when no fitting one is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use piston_client::api::{
    Code, InstallReply, MakeFilesParameters, MakeKind, MakeReply, MakeRequest,
};
use tokio::io::AsyncReadExt as _;

use super::app::App;
use super::body::{self, Json, Query, Upload};
use super::reply::Reply;
use crate::error::Error;
use crate::packages::make::{Credentials, Folder, FromOci, FromPistonV2, Layering};
use crate::packages::{DEFAULT_BASE, Extension, MadeFile, Making, RECIPE_FILES, VersionRange};

/// Longest name of a file that is sent.
const MAX_FILE_NAME: usize = 255;
/// Most Debian packages of one request.
const MOST_PACKAGES: usize = 1000;

/// Makes, and installs or returns the file.
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Json(request): Json<MakeRequest>,
) -> Result<Answer, Error> {
    let install = request.install;
    let mut what = making(request)?;
    if let Making::Extension(extension) = &mut what {
        let config = app.config();
        let (index, registry) = (&config.python_index, &config.javascript_registry);
        extension.index = extension.index.take().or_else(|| index.clone());
        extension.registry = extension.registry.take().or_else(|| registry.clone());
    }
    let configured = &app.config().registry_auth;
    match &mut what {
        Making::Oci(image) => image.auth_file.clone_from(configured),
        Making::Recipe { auth_file, .. } => auth_file.clone_from(configured),
        _ => {}
    }
    answer(&app, what, install).await
}

/// Makes a package of a file that comes with the request; installs or returns it.
pub(super) async fn files(
    State(app): State<Arc<App>>,
    Query(asked): Query<MakeFilesParameters>,
    Upload(body): Upload,
) -> Result<Answer, Error> {
    let staging = app.engine().await?.packages.staging()?;
    let archive = staging.path.join("upload");
    let install = asked.install;
    let what = uploaded(asked, &archive)?;
    body::store(body, &archive, &app).await?;
    let answer = answer(&app, what, install).await;
    drop(staging);
    answer
}

/// What a request asks for that brings its file; a parameter that means nothing to its kind is refused.
fn uploaded(asked: MakeFilesParameters, archive: &Path) -> Result<Making, Error> {
    let from = asked.from;
    for (name, given, kind) in [
        ("at", asked.at.is_some(), MakeKind::Extend),
        ("image", asked.image.is_some(), MakeKind::Oci),
    ] {
        if given && from != kind {
            return meaningless(name);
        }
    }
    let is_name = |name: &str| name.len() <= MAX_FILE_NAME && !name.contains(char::is_control);
    if !asked.file.as_deref().is_none_or(is_name) {
        return wrong("`file` is no name of a file");
    }
    let path = archive.display().to_string();
    let aliases = asked.aliases.iter().flat_map(|names| names.split(','));
    let request = MakeRequest {
        name: asked.name,
        extends: asked.extends,
        version: asked.version,
        run: asked.run,
        compile: asked.compile,
        aliases: aliases.map(ToOwned::to_owned).collect(),
        layers: asked.layers,
        base: asked.base,
        install: asked.install,
        ..MakeRequest::of(from)
    };
    fits(&request)?;
    let shown = asked.file;
    match request.from {
        MakeKind::Extend => {
            let archive = archive.to_owned();
            let files = Some(Folder {
                archive,
                at: asked.at,
            });
            Ok(Making::Extension(Extension {
                files,
                ..extended(request)?
            }))
        }
        MakeKind::Oci => {
            let image = match asked.image {
                Some(name) => format!("{path}:{name}"),
                None => path,
            };
            let image = Some(image);
            Ok(Making::Oci(Box::new(FromOci {
                shown,
                ..self::image(MakeRequest { image, ..request })?
            })))
        }
        MakeKind::PistonV2 => {
            let source = Some(path);
            Ok(Making::PistonV2(FromPistonV2 {
                shown,
                ..piston_v2(MakeRequest { source, ..request })?
            }))
        }
        MakeKind::Host | MakeKind::Debian | MakeKind::Recipe => {
            wrong("`from` is of a kind that no file is sent for")
        }
    }
}

async fn answer(app: &App, what: Making, install: bool) -> Result<Answer, Error> {
    let packages = Arc::clone(&app.engine().await?.packages);
    let time = app.config().make_timeout;
    let made = packages.make(&what, time).await?;
    if !install {
        return file(made).await.map(Answer::File);
    }
    let notes = made.notes.clone();
    let work = async move { packages.install_made(made, &what, time).await };
    let made = summary(&app.detached(work).await?, notes);
    Ok(Answer::Installed(Json(made)))
}

fn range(version: Option<&str>) -> Result<VersionRange, Error> {
    parsed("version", version.unwrap_or("*").parse())
}

/// What was made.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is installed.
    Installed(Json<Option<MakeReply>>),
    /// The package file.
    File(Response),
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Installed(reply) => reply.into_response(),
            Self::File(response) => response,
        }
    }
}

/// What a request asks for; a field that means nothing to its kind is refused.
fn making(request: MakeRequest) -> Result<Making, Error> {
    fits(&request)?;
    match request.from {
        MakeKind::Host => host(request),
        MakeKind::Debian => debian(request),
        MakeKind::Recipe => recipe(request.files),
        MakeKind::Oci => Ok(Making::Oci(Box::new(image(request)?))),
        MakeKind::PistonV2 => Ok(Making::PistonV2(piston_v2(request)?)),
        MakeKind::Extend => extension(request),
    }
}

/// Refuses a field that means nothing to the kind.
fn fits(request: &MakeRequest) -> Result<(), Error> {
    unfit(request).map_or(Ok(()), meaningless)
}

fn meaningless<T>(field: &str) -> Result<T, Error> {
    wrong(&format!(
        "`{field}` means nothing to a package made like this"
    ))
}

/// A field that is given and means nothing to the kind.
fn unfit(request: &MakeRequest) -> Option<&'static str> {
    use MakeKind::{Debian, Extend, Host, Oci, PistonV2, Recipe};
    // Each field with whether it is given, and the kinds that it means something to.
    let fields: [(&str, bool, &[MakeKind]); 19] = [
        (
            "name",
            request.name.is_some(),
            &[Host, Debian, Extend, Oci, PistonV2],
        ),
        ("program", request.program.is_some(), &[Host]),
        ("packages", !request.packages.is_empty(), &[Debian]),
        ("run", request.run.is_some(), &[Debian, Oci]),
        ("files", !request.files.is_empty(), &[Recipe]),
        ("extends", request.extends.is_some(), &[Extend]),
        (
            "version",
            request.version.is_some(),
            &[Extend, Oci, PistonV2],
        ),
        ("pip", !request.pip.is_empty(), &[Extend]),
        ("index", request.index.is_some(), &[Extend]),
        ("npm", !request.npm.is_empty(), &[Extend]),
        ("registry", request.registry.is_some(), &[Extend]),
        ("image", request.image.is_some(), &[Oci]),
        ("compile", request.compile.is_some(), &[Oci]),
        ("aliases", !request.aliases.is_empty(), &[Oci]),
        ("layers", request.layers, &[Oci]),
        ("username", request.username.is_some(), &[Oci]),
        ("password", request.password.is_some(), &[Oci]),
        ("source", request.source.is_some(), &[PistonV2]),
        ("base", request.base.is_some(), &[PistonV2]),
    ];
    let from = request.from;
    let is_unfit = |(_, given, kinds): &(&str, bool, &[MakeKind])| *given && !kinds.contains(&from);
    fields.into_iter().find(is_unfit).map(|(field, ..)| field)
}

fn wrong<T>(text: &str) -> Result<T, Error> {
    Err(Error::new(Code::InvalidField, text))
}

fn host(request: MakeRequest) -> Result<Making, Error> {
    let Some(name) = request.name else {
        return wrong("`name` is missing: what to make, e.g. `python`");
    };
    let program = request.program;
    Ok(Making::Host { name, program })
}

fn debian(request: MakeRequest) -> Result<Making, Error> {
    match request.packages.len() {
        0 => wrong("`packages` is empty: name a language or Debian packages"),
        1..=MOST_PACKAGES => Ok(Making::Debian {
            packages: request.packages,
            name: request.name,
            run: request.run,
        }),
        _ => wrong("`packages` names too many"),
    }
}

fn extension(request: MakeRequest) -> Result<Making, Error> {
    let extension = extended(request)?;
    if !(1..=MOST_PACKAGES).contains(&(extension.pip.len() + extension.npm.len())) {
        return wrong("`pip` and `npm` name no library, or too many");
    }
    Ok(Making::Extension(extension))
}

fn extended(request: MakeRequest) -> Result<Extension, Error> {
    let Some(extends) = request.extends else {
        return wrong("`extends` is missing: the language to extend, e.g. `python`");
    };
    let range = range(request.version.as_deref())?;
    Ok(Extension {
        name: request.name,
        pip: request.pip,
        index: request.index,
        npm: request.npm,
        registry: request.registry,
        ..Extension::of(extends, range)
    })
}

fn image(request: MakeRequest) -> Result<FromOci, Error> {
    if request.layers && !request.install {
        return wrong(
            "`layers` makes several packages, which can be installed and not replied with",
        );
    }
    let version = request.version.map(|text| text.parse());
    Ok(FromOci {
        image: parsed(
            "image",
            request.image.as_deref().unwrap_or_default().parse(),
        )?,
        credentials: credentials(request.username, request.password)?,
        auth_file: None,
        name: request.name,
        version: parsed("version", version.transpose())?,
        run: request.run.as_deref().map(words),
        compile: request.compile.as_deref().map(words),
        aliases: request.aliases,
        layering: Layering::asked(request.layers),
        installed: None,
        shown: None,
    })
}

fn piston_v2(request: MakeRequest) -> Result<FromPistonV2, Error> {
    let source = request.source.unwrap_or_default();
    if !(source.starts_with('/') || source.contains("://")) || source.contains('\0') {
        return wrong("`source` is missing: an absolute path, or the URL of an index");
    }
    let range = range(request.version.as_deref())?;
    let base = request.base.map_or_else(|| DEFAULT_BASE.parse(), Ok);
    Ok(FromPistonV2 {
        source,
        wanted: request.name.map(|name| (name, range)),
        base: parsed("base", base)?,
        shown: None,
    })
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// A recipe by its files.
fn recipe(files: BTreeMap<String, String>) -> Result<Making, Error> {
    let odd = files
        .keys()
        .find(|name| !RECIPE_FILES.contains(&name.as_str()));
    match odd {
        Some(name) => wrong(&format!(
            "`files` holds `{name}`; a recipe consists of {}",
            RECIPE_FILES.join(", ")
        )),
        None if !files.contains_key(RECIPE_FILES[0]) => wrong("`files` holds no `recipe.toml`"),
        None => Ok(Making::Recipe {
            files,
            auth_file: None,
        }),
    }
}

fn parsed<T, E: std::fmt::Display>(field: &str, parsed: Result<T, E>) -> Result<T, Error> {
    parsed.map_err(|error| Error::new(Code::InvalidField, format!("`{field}`: {error}")))
}

/// A user and a password; neither is of use without the other.
fn credentials(
    username: Option<String>,
    password: Option<String>,
) -> Result<Option<Credentials>, Error> {
    match (username, password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) if !password.contains('\0') => {
            Ok(Some(Credentials { user, password }))
        }
        (None, Some(_)) => Err(missing("username")),
        _ => Err(missing("password")),
    }
}

fn missing(field: &str) -> Error {
    let text = format!("`{field}` is missing, or holds what none may");
    Error::new(Code::InvalidField, text)
}

/// What was installed, dependencies first; the last one was asked for.
fn summary(installed: &[InstallReply], notes: Vec<String>) -> Option<MakeReply> {
    let package = installed.last()?.package.clone();
    let with_dependencies =
        |reply: &InstallReply| [reply.dependencies.clone(), vec![reply.package.clone()]].concat();
    let installed = installed.iter().flat_map(with_dependencies).collect();
    Some(MakeReply {
        package,
        installed,
        notes,
    })
}

/// Replies with the file. Its directory is kept until the last byte has left.
async fn file(made: MadeFile) -> Reply {
    let internal = |error: std::io::Error| Error::caused_by(Code::Internal, &error);
    let file = tokio::fs::File::open(&made.file).await.map_err(internal)?;
    let length = file.metadata().await.map_err(internal)?.len();
    let name = file_name(&made.file);
    let pieces = futures_util::stream::unfold((file, made), |(mut file, made)| async move {
        let mut piece = vec![0; 128 * 1024];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some((Ok(Bytes::from(piece)), (file, made)))
            }
            Err(error) => Some((Err(error), (file, made))),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok::<Response, Error>((headers, Body::from_stream(pieces)).into_response())
}

/// Names of package files hold nothing that a header would have to escape.
fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(request: serde_json::Value) -> Result<Making, String> {
        let request: MakeRequest = serde_json::from_value(request).expect("a request");
        making(request).map_err(|error| error.outside().to_owned())
    }

    #[test]
    fn each_kind_takes_its_own_fields() {
        let host = parsed(json!({"from": "host", "name": "python", "program": "python3.12"}));
        assert!(
            matches!(
                host,
                Ok(Making::Host {
                    program: Some(_),
                    ..
                })
            ),
            "{host:?}"
        );
        let debian = parsed(
            json!({"from": "debian", "packages": ["lua5.4"], "name": "lua", "run": "/usr/bin/lua {main}"}),
        );
        assert!(
            matches!(debian, Ok(Making::Debian { run: Some(_), .. })),
            "{debian:?}"
        );
        let recipe = parsed(json!({"from": "recipe", "files": {"recipe.toml": "", "compile": ""}}));
        assert!(matches!(recipe, Ok(Making::Recipe { files, .. }) if files.len() == 2));
        let extension = parsed(
            json!({"from": "extend", "extends": "python", "version": "3.11",
            "pip": ["numpy>=2"], "name": "python-science", "index": "https://example.org/simple"}),
        );
        assert!(
            matches!(&extension, Ok(Making::Extension(what)) if what.pip == ["numpy>=2"]),
            "{extension:?}"
        );
        let oci = parsed(json!({"from": "oci", "image": "python:3.12", "name": "py",
            "version": "3.12.4", "run": "python3 {main}", "compile": "python3 -m compileall {files}",
            "aliases": ["python3"], "username": "ann", "password": "secret"}));
        assert!(matches!(oci, Ok(Making::Oci(_))), "{oci:?}");
        assert!(!format!("{oci:?}").contains("secret"));
    }

    #[test]
    fn what_is_missing_or_means_nothing_is_named() {
        let rows = [
            (json!({"from": "host"}), "name"),
            (
                json!({"from": "host", "name": "a", "packages": ["b"]}),
                "packages",
            ),
            (json!({"from": "host", "name": "a", "run": "b"}), "run"),
            (
                json!({"from": "host", "name": "a", "files": {"b": ""}}),
                "files",
            ),
            (json!({"from": "debian"}), "packages"),
            (
                json!({"from": "debian", "packages": ["a"], "program": "b"}),
                "program",
            ),
            (
                json!({"from": "debian", "packages": vec!["a"; 1001]}),
                "too many",
            ),
            (json!({"from": "recipe"}), "recipe.toml"),
            (
                json!({"from": "recipe", "files": {"run": ""}}),
                "recipe.toml",
            ),
            (
                json!({"from": "recipe", "files": {"../x": "", "recipe.toml": ""}}),
                "../x",
            ),
            (
                json!({"from": "recipe", "name": "a", "files": {"recipe.toml": ""}}),
                "name",
            ),
            (json!({"from": "extend", "pip": ["a"]}), "extends"),
            (json!({"from": "extend", "extends": "python"}), "pip"),
            (
                json!({"from": "extend", "extends": "a", "pip": ["a"], "version": "latest"}),
                "version",
            ),
            (
                json!({"from": "extend", "extends": "a", "pip": ["a"], "packages": ["b"]}),
                "packages",
            ),
            (json!({"from": "host", "name": "a", "pip": ["b"]}), "pip"),
            (json!({"from": "piston_v2"}), "source"),
            (json!({"from": "piston_v2", "source": "x.tar.gz"}), "source"),
            (
                json!({"from": "piston_v2", "source": "/x", "version": "latest"}),
                "version",
            ),
            (json!({"from": "host", "name": "a", "base": "b"}), "base"),
            (json!({"from": "oci"}), "image"),
            (json!({"from": "oci", "image": "Python"}), "image"),
            (
                json!({"from": "oci", "image": "a", "version": "1"}),
                "version",
            ),
            (
                json!({"from": "oci", "image": "a", "username": "b"}),
                "password",
            ),
            (
                json!({"from": "oci", "image": "a", "password": "b"}),
                "username",
            ),
            (
                json!({"from": "debian", "packages": ["a"], "image": "b"}),
                "image",
            ),
            (
                json!({"from": "debian", "packages": ["a"], "npm": ["b"]}),
                "npm",
            ),
        ];
        for (request, expected) in rows {
            let text = parsed(request.clone()).expect_err("not acceptable");
            assert!(text.contains(expected), "{request}: {text}");
        }
    }

    #[test]
    fn a_file_that_is_sent_is_of_a_kind_that_takes_one_with_its_own_parameters() {
        let parsed = |asked: serde_json::Value| {
            let asked = serde_json::from_value(asked).expect("parameters");
            let what = uploaded(asked, Path::new("/data/staging/1/upload"));
            what.map_err(|error| error.outside().to_owned())
        };
        let files = parsed(json!({"extends": "python", "at": "/opt"}));
        assert!(
            matches!(&files, Ok(Making::Extension(what)) if what.files.is_some()),
            "{files:?}"
        );
        let image = parsed(
            json!({"from": "oci", "file": "judge.tar", "image": "team/judge:1",
            "aliases": "a,b", "run": "sh {main}", "layers": true}),
        );
        let Ok(Making::Oci(image)) = image else {
            panic!("{image:?}");
        };
        assert_eq!(
            image.image.to_string(),
            "/data/staging/1/upload:team/judge:1"
        );
        assert_eq!(
            (image.aliases.len(), image.shown.as_deref()),
            (2, Some("judge.tar"))
        );
        let old = parsed(json!({"from": "piston_v2", "base": "gcc-base"}));
        assert!(matches!(&old, Ok(Making::PistonV2(_))), "{old:?}");
        for (asked, expected) in [
            (json!({}), "`extends` is missing"),
            (json!({"extends": "a", "version": "latest"}), "`version`"),
            (json!({"extends": "a", "layers": true}), "`layers`"),
            (json!({"extends": "a", "image": "b"}), "`image`"),
            (json!({"from": "oci", "at": "/"}), "`at`"),
            (json!({"from": "oci", "extends": "a"}), "`extends`"),
            (json!({"from": "oci", "file": "a\nb"}), "`file`"),
            (json!({"from": "piston_v2", "run": "a"}), "`run`"),
            (json!({"from": "recipe"}), "`from`"),
        ] {
            let text = parsed(asked.clone()).expect_err("not acceptable");
            assert!(text.contains(expected), "{asked}: {text}");
        }
    }

    #[test]
    fn layers_are_of_images_and_installed() {
        for request in [
            json!({"from": "oci", "image": "a", "layers": true, "install": false}),
            json!({"from": "host", "name": "a", "layers": true}),
        ] {
            let text = parsed(request.clone()).expect_err("not acceptable");
            assert!(text.contains("`layers`"), "{request}: {text}");
        }
    }
}
