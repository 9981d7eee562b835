//! v2's `packages`: what repositories list and what is installed, install, uninstall.
//!
//! A package is named by its language and a range of versions, of which the newest is meant,
//! installed or not. What is installed from elsewhere than a repository is listed as well. Where
//! something can't be done the original says 500, also for what the client could have known.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use piston_client::api::{Code, InstallState};
use piston_client::ids::{PackageRef, Version};
use serde::Serialize;
use serde_json::Value;

use super::super::app::App;
use super::super::reply::{self, Reply};
use crate::error::Error;
use crate::packages::{Packages, PackagesError, VersionRange};

/// One entry of `GET packages`.
#[derive(Debug, Serialize)]
struct Entry {
    language: String,
    language_version: String,
    installed: bool,
}

/// What was installed or uninstalled.
#[derive(Debug, Serialize)]
struct Changed {
    language: String,
    version: String,
}

/// Every known package, and whether it is installed.
type Known = BTreeMap<PackageRef, bool>;

/// `GET packages`.
pub(super) async fn list(app: &App) -> Reply {
    let packages = Arc::clone(&app.engine().await?.packages);
    let known = app
        .detached(async move { known(&packages).await })
        .await?
        .into_iter()
        .map(|(package, installed)| Entry {
            language: package.language.to_string(),
            language_version: package.version.to_string(),
            installed,
        });
    reply::json(&known.collect::<Vec<_>>())
}

/// `POST packages`.
pub(super) async fn install(app: &Arc<App>, request: Request) -> Reply {
    let body = super::body(app, request).await?;
    let packages = Arc::clone(&app.engine().await?.packages);
    let work = async move {
        let (package, installed) = choose(&body, known(&packages).await?)?;
        if installed {
            return Ok(Err(ALREADY.to_owned()));
        }
        let exact = exact(&package.version);
        match packages.install("all", &package.language, &exact).await {
            Ok(reply) if reply.state == InstallState::AlreadyInstalled => {
                Ok(Err(ALREADY.to_owned()))
            }
            Ok(_) => Ok(Ok(package)),
            Err(error) => told(error),
        }
    };
    answer(app.detached(work).await?)
}

/// `DELETE packages`.
pub(super) async fn uninstall(app: &Arc<App>, request: Request) -> Reply {
    let body = super::body(app, request).await?;
    let packages = Arc::clone(&app.engine().await?.packages);
    let work = async move {
        let (package, installed) = choose(&body, known(&packages).await?)?;
        if !installed {
            return Ok(Err(format!("{package} is not installed")));
        }
        match packages.uninstall(&package, false).await {
            Ok(_) => Ok(Ok(package)),
            Err(error) => told(error),
        }
    };
    answer(app.detached(work).await?)
}

/// What the original says of a package that is there.
const ALREADY: &str = "Already installed";

/// A change that was made, or the words for why it was not.
type Answer = Result<PackageRef, String>;

fn answer(answer: Answer) -> Reply {
    match answer {
        Ok(package) => reply::json(&Changed {
            language: package.language.to_string(),
            version: package.version.to_string(),
        }),
        Err(message) => reply::json_with(
            StatusCode::INTERNAL_SERVER_ERROR,
            &BTreeMap::from([("message", message)]),
        ),
    }
}

/// The words for a package that can't be installed or uninstalled. A fault of ours stays an error,
/// which is logged and tells nothing.
fn told(error: PackagesError) -> Result<Answer, Error> {
    if let PackagesError::Checksum { want, got, .. } = error {
        return Ok(Err(format!("Checksum miss-match want: {want} got: {got}")));
    }
    let error = Error::from(error);
    match error.code() {
        Code::Internal => Err(error),
        _ => Ok(Err(error.outside().to_owned())),
    }
}

async fn known(packages: &Packages) -> Result<Known, Error> {
    let listed = packages.available("all", false).await?;
    let listed = listed
        .into_iter()
        .map(|package| (PackageRef::new(package.language, package.version), false));
    let installed = packages
        .list()
        .into_iter()
        .map(|package| (PackageRef::new(package.language, package.version), true));
    Ok(listed.chain(installed).collect())
}

/// The newest package that the body names.
fn choose(body: &Value, known: Known) -> Result<(PackageRef, bool), Error> {
    let range = body["version"].as_str().map(str::parse::<VersionRange>);
    let fits = |package: &PackageRef| match (body["language"].as_str(), &range) {
        (Some(language), Some(Ok(range))) => {
            package.language.as_str() == language && range.matches(&package.version)
        }
        _ => false,
    };
    let found = known.into_iter().filter(|(package, _)| fits(package));
    let newest = found.max_by(|(a, _), (b, _)| a.version.cmp(&b.version));
    newest.ok_or_else(|| {
        let (language, version) = (word(body.get("language")), word(body.get("version")));
        let text = format!("Requested package {language}-{version} does not exist");
        Error::new(Code::PackageNotFound, text)
    })
}

/// A field as JavaScript puts it into a text.
fn word(field: Option<&Value>) -> String {
    match field {
        None => "undefined".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The range that has this version alone.
fn exact(version: &Version) -> VersionRange {
    let text = version.to_string();
    text.parse().unwrap_or_else(|_| VersionRange::any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Known {
        let package = |language: &str, version: &str| {
            PackageRef::new(
                language.parse().expect("a name"),
                version.parse().expect("a version"),
            )
        };
        BTreeMap::from([
            (package("python", "3.9.4"), true),
            (package("python", "3.12.0"), false),
            (package("bash", "5.2.0"), true),
        ])
    }

    #[test]
    fn the_newest_version_in_the_range_is_meant_installed_or_not() {
        for (version, chosen, installed) in [
            ("*", "python-3.12.0", false),
            ("3.9", "python-3.9.4", true),
            ("3.12.0", "python-3.12.0", false),
        ] {
            let body = json!({"language": "python", "version": version});
            let (package, there) = choose(&body, known()).expect("one");
            assert_eq!((package.to_string().as_str(), there), (chosen, installed));
        }
    }

    #[test]
    fn what_does_not_exist_is_named_as_it_was_asked_for() {
        for (body, name) in [
            (
                json!({"language": "python", "version": "4.x"}),
                "python-4.x",
            ),
            (json!({"language": "py", "version": "*"}), "py-*"),
            (json!({"language": "python", "version": "?"}), "python-?"),
            (json!({"language": "python"}), "python-undefined"),
            (json!({"language": null, "version": 3}), "null-3"),
            (json!([]), "undefined-undefined"),
        ] {
            let error = choose(&body, known()).expect_err("none");
            let text = format!("Requested package {name} does not exist");
            assert_eq!((error.code().status(), error.outside()), (404, &*text));
        }
    }

    #[test]
    fn a_wrong_checksum_has_the_words_of_the_original() {
        let error = PackagesError::Checksum {
            package: Box::new(known().into_keys().next().expect("one")),
            repository: "main".to_owned(),
            algorithm: "sha256",
            want: "aa".to_owned(),
            got: "bb".to_owned(),
        };
        let text = "Checksum miss-match want: aa got: bb".to_owned();
        assert_eq!(told(error).expect("words"), Err(text));
    }
}
