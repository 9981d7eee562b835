//! `piston repo`: where packages come from.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::{Repository, RepositorySettings};
use crate::{AvailableQuery, Client};

use super::exit::Exit;
use super::failure::Failure;
use super::flags::{Index, Repo};
use super::local::become_pistond;
use super::packages::{available_table, joined};
use super::render::{Screen, Table};

/// What an index in a folder may be called.
const INDEX_NAMES: [&str; 4] = ["index.yaml", "index.yml", "index.csv", "index"];

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Repo, screen: &Screen) -> Result<Exit> {
    match command {
        Repo::List => list(client, screen).await?,
        Repo::Add { name, url, keys } => {
            let settings = RepositorySettings {
                url: index_url(&url)?,
                keys: read_keys(&keys)?,
            };
            return add(client, &name, &settings, screen).await;
        }
        Repo::Remove { name } => {
            client.remove_repository(&name).await?;
            screen.show(&serde_json::json!({ "removed": name }), |_| {
                format!("removed {name}")
            })?;
        }
        Repo::Sync { name } => return sync(client, &name, screen).await,
        Repo::Packages { repo, sync, query } => {
            let query = AvailableQuery {
                sync,
                search: query,
                language: None,
            };
            packages(client, &repo, &query, screen).await?;
        }
        Repo::Index(flags) => return index(&flags, screen.wants_json()),
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, screen: &Screen) -> Result<()> {
    let repositories = client.repositories().await?;
    screen.show(&repositories, |repositories| {
        if repositories.is_empty() {
            return "no repositories are configured\nadd one: `piston repo add NAME URL`"
                .to_owned();
        }
        table(repositories, screen)
    })
}

fn table(repositories: &[Repository], screen: &Screen) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut table = Table::new(["REPOSITORY", "PACKAGES", "SYNCED", "KEYS", "URL", "PROBLEM"]);
    for repository in repositories {
        table.row(&[
            repository.name.clone(),
            repository.state.packages.to_string(),
            repository
                .state
                .last_sync
                .map_or("never".to_owned(), |then| ago(then, now)),
            keys(repository),
            repository.url.clone(),
            repository.state.last_error.clone().unwrap_or_default(),
        ]);
    }
    screen.table(&table)
}

/// Who has to sign its packages, by the end of each fingerprint, as GnuPG shows keys.
fn keys(repository: &Repository) -> String {
    let short = |key: &String| {
        key.get(key.len().saturating_sub(16)..)
            .unwrap_or(key)
            .to_owned()
    };
    let keys: Vec<String> = repository.keys.iter().map(short).collect();
    joined(&keys, "-")
}

/// How long ago something was, in the largest unit that fits.
fn ago(then: u64, now: u64) -> String {
    let seconds = now.saturating_sub(then);
    let units = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    match units.iter().find(|(length, _)| seconds >= 2 * length) {
        Some((length, unit)) => format!("{} {unit} ago", seconds / length),
        None => format!("{} seconds ago", Duration::from_secs(seconds).as_secs()),
    }
}

/// Adds a repository and looks into it at once: a wrong address is best told where it was typed.
async fn add(
    client: &Client,
    name: &str,
    settings: &RepositorySettings,
    screen: &Screen,
) -> Result<Exit> {
    client.set_repository(name, settings).await?;
    sync(client, name, screen).await
}

/// The text of all files of keys; none where no file is named.
fn read_keys(files: &[PathBuf]) -> Result<Option<String>> {
    let read = |file: &PathBuf| {
        fs::read_to_string(file).map_err(|error| {
            Failure::new(format!("can't read {}", file.display()))
                .because(error)
                .next("`gpg --armor --export NAME` writes a key as it is meant here")
        })
    };
    let texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok((!texts.is_empty()).then(|| texts.join("\n")))
}

async fn sync(client: &Client, name: &str, screen: &Screen) -> Result<Exit> {
    screen.progress("downloading ...");
    let query = AvailableQuery {
        sync: true,
        ..AvailableQuery::default()
    };
    let synced = client.available(name, &query).await;
    let repositories = match name {
        "all" => client.repositories().await?,
        name => vec![client.repository(name).await?],
    };
    // Stored copies serve while a repository is down: a sync that failed may look like a success.
    let good = synced.is_ok() && repositories.iter().all(|r| r.state.last_error.is_none());
    screen.show(&repositories, |repositories| table(repositories, screen))?;
    synced?;
    Ok(if good { Exit::Done } else { Exit::Failed })
}

async fn packages(
    client: &Client,
    repository: &str,
    query: &AvailableQuery,
    screen: &Screen,
) -> Result<()> {
    let packages = client.available(repository, query).await?;
    screen.show(&packages, |packages| {
        match (packages.is_empty(), &query.search) {
            (false, _) => available_table(packages, screen),
            (true, Some(text)) => format!("no package matches `{text}`"),
            (true, None) => {
                "no packages are offered\nadd a repository: `piston repo add NAME URL`, \
                         or make packages: `piston package from-host python --install`"
                    .to_owned()
            }
        }
    })
}

/// The URL of an index that was named by its URL, its path, or the folder that it lies in.
fn index_url(text: &str) -> Result<String, Failure> {
    /// What stands in a `file://` URL as it is.
    const PATH: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = fs::canonicalize(text).map_err(|error| {
        Failure::new(format!("can't find {text}"))
            .because(error)
            .next("give the URL of an index (http://, https://, file://), or a path")
    })?;
    let index = if path.is_dir() {
        index_in(&path)?
    } else {
        path
    };
    let index = index
        .to_str()
        .ok_or_else(|| Failure::new(format!("the path {} is not UTF-8", index.display())))?;
    Ok(format!("file://{}", utf8_percent_encode(index, PATH)))
}

fn index_in(directory: &Path) -> Result<PathBuf, Failure> {
    let mut indexes = INDEX_NAMES.iter().map(|name| directory.join(name));
    indexes.find(|index| index.is_file()).ok_or_else(|| {
        Failure::new(format!("there is no index in {}", directory.display())).next(format!(
            "write one: `piston repo index {}`",
            directory.display()
        ))
    })
}

/// Becomes `pistond index`.
pub(super) fn index(flags: &Index, json: bool) -> Result<Exit> {
    let words = ["index".into(), flags.directory.clone().into_os_string()];
    let rest = flags.rest.iter().cloned();
    let json = json.then(|| "--json".into());
    become_pistond(words.into_iter().chain(rest).chain(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_named_by_url_path_or_folder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = fs::canonicalize(directory.path()).expect("a path");
        let spaced = folder.join("a b");
        fs::create_dir_all(&spaced).expect("a directory");
        let text = spaced.to_str().expect("UTF-8");
        let error = index_url(text).expect_err("no index yet");
        assert!(
            error.to_string().starts_with("there is no index in /"),
            "{error}"
        );
        fs::write(spaced.join("index.yaml"), "").expect("a file");
        let expected = format!("file://{}/a%20b/index.yaml", folder.display());
        assert_eq!(index_url(text).unwrap(), expected);
        assert_eq!(
            index_url(&format!("{text}/../a b/index.yaml")).unwrap(),
            expected
        );
        assert_eq!(index_url("https://x/y").unwrap(), "https://x/y");
        assert!(
            index_url("/no/such")
                .expect_err("nothing")
                .to_string()
                .contains("/no/such")
        );
    }

    #[test]
    fn times_are_told_roughly() {
        let check =
            |seconds: u64, text: &str| assert_eq!(ago(1_000_000 - seconds, 1_000_000), text);
        check(0, "0 seconds ago");
        check(119, "119 seconds ago");
        check(120, "2 minutes ago");
        check(7200, "2 hours ago");
        check(200_000, "2 days ago");
        assert_eq!(ago(2, 1), "0 seconds ago");
    }
}
