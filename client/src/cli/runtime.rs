//! Which package runs a language, and what is done where none does.
//!
//! What is missing is brought where whoever waits agrees to it; otherwise the error says how to
//! bring it. The packages that can run something are tried in their order, since only the daemon
//! knows which of them has a version in a range.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;

use crate::api::{AvailablePackage, Code, MakeRequest, Runtime};
use crate::ids::{Language, Version};
use crate::{AvailableQuery, Client, Error};

use super::failure::Failure;
use super::packages;
use super::plan::Wanted;
use super::render::{Consent, Screen};
use super::suggest::nearest;

/// What the daemon makes of its own machine, with the languages that come of it.
const FROM_HOST: [(&str, &[&str]); 11] = [
    ("python", &["python", "python3", "py"]),
    ("bash", &["bash", "sh"]),
    ("gcc", &["gcc", "c", "c++", "cpp"]),
    ("perl", &["perl", "pl"]),
    ("javascript", &["javascript", "js", "node", "nodejs"]),
    ("lua", &["lua"]),
    ("ruby", &["ruby", "rb"]),
    ("php", &["php"]),
    ("java", &["java"]),
    ("go", &["go", "golang"]),
    ("rust", &["rust", "rs"]),
];

/// Longest wait for what repositories offer. A fresh daemon lists its recipes first.
const PATIENCE: Duration = Duration::from_secs(10);

/// A language as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    /// Which one.
    pub(super) wanted: Wanted,
    /// Range of versions.
    pub(super) range: String,
    /// Whether it may be brought when it is missing.
    pub(super) consent: Consent,
}

/// A package with the name that the language has in it.
type Candidate = (Language, Language);

/// What brings a language that is missing.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// A package of this name, of this repository.
    Repository { package: Language, name: String },
    /// The daemon's own machine.
    Host(&'static str),
}

/// Has `job` done by the first package that runs what is sought in a version of the range.
pub(super) async fn perform<T>(
    client: &Client,
    sought: &Sought,
    screen: &Screen,
    job: impl AsyncFn(&Language, &Language) -> Result<T, Error>,
) -> Result<T> {
    let runtimes = client.runtimes().await?;
    let mut candidates = candidates(&runtimes, &sought.wanted);
    if candidates.is_empty() {
        bring_language(client, sought, &runtimes, screen).await?;
        candidates = self::candidates(&client.runtimes().await?, &sought.wanted);
    }
    if let Some(done) = first(&candidates, &job).await? {
        return Ok(done);
    }
    let missing = || missing_version(&runtimes, &candidates, sought);
    bring_version(client, sought, &candidates, missing(), screen).await?;
    let done = first(&candidates, &job).await?;
    done.ok_or_else(|| missing().into())
}

/// What came of the first candidate that has such a version.
async fn first<T>(
    candidates: &[Candidate],
    job: &impl AsyncFn(&Language, &Language) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    for (package, language) in candidates {
        match job(package, language).await {
            Err(error) if error.code() == Some(Code::PackageNotFound) => {}
            done => return done.map(Some),
        }
    }
    Ok(None)
}

/// The error of a version that no candidate has.
fn missing_version(runtimes: &[Runtime], candidates: &[Candidate], sought: &Sought) -> Failure {
    let name = sought.wanted.names()[0];
    let is_candidate = |runtime: &&Runtime| {
        let mut packages = candidates.iter().map(|(package, _)| package);
        packages.any(|package| *package == runtime.package)
    };
    let versions = runtimes.iter().filter(is_candidate);
    let versions: BTreeSet<&Version> = versions.map(|found| &found.version).collect();
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    Failure::new(format!(
        "{name} {} is not installed, but {}",
        sought.range,
        versions.join(", ")
    ))
}

/// Packages that provide the language, with its name in them: a package of that very name first,
/// then by newest version.
fn candidates(runtimes: &[Runtime], wanted: &Wanted) -> Vec<Candidate> {
    let provides = |name: &str| {
        let mut found: Vec<&Runtime> = runtimes
            .iter()
            .filter(|runtime| names(runtime).any(|known| known.eq_ignore_ascii_case(name)))
            .collect();
        found.sort_by_key(|runtime| {
            let namesake = runtime.package.as_str().eq_ignore_ascii_case(name);
            std::cmp::Reverse((namesake, runtime.version.clone()))
        });
        found
    };
    let mut found = wanted.names().into_iter().map(provides);
    let found = found.find(|found| !found.is_empty()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    found
        .into_iter()
        .filter(|runtime| seen.insert(&runtime.package))
        .map(|runtime| (runtime.package.clone(), runtime.language.clone()))
        .collect()
}

/// All words that a runtime answers to.
fn names(runtime: &Runtime) -> impl Iterator<Item = &str> {
    let own = [runtime.language.as_str(), runtime.package.as_str()];
    own.into_iter()
        .chain(runtime.aliases.iter().map(String::as_str))
}

/// All words that a package of a repository answers to.
pub(super) fn offer_names(offer: &AvailablePackage) -> impl Iterator<Item = &str> {
    let aliases = offer.aliases.iter().map(String::as_str);
    std::iter::once(offer.language.as_str()).chain(aliases)
}

/// What repositories offer, as far as it is known soon; none where it is not ours to install.
pub(super) async fn offers(client: &Client) -> Option<Vec<AvailablePackage>> {
    let query = AvailableQuery::default();
    match timeout(PATIENCE, client.available("all", &query)).await {
        Ok(Ok(packages)) => Some(packages),
        Ok(Err(error)) if error.code() == Some(Code::Forbidden) => None,
        // It only betters an error's text, or makes an offer.
        Ok(Err(_)) | Err(_) => Some(Vec::new()),
    }
}

/// Brings a language that no package provides.
async fn bring_language(
    client: &Client,
    sought: &Sought,
    runtimes: &[Runtime],
    screen: &Screen,
) -> Result<()> {
    let wanted = sought.wanted.names();
    screen.progress(format!("looking for {} in repositories ...", wanted[0]));
    let offers = offers(client).await;
    let failure = missing_language(&wanted, runtimes, offers.as_deref());
    let Some(source) = offers.and_then(|offers| source(&wanted, &offers)) else {
        return Err(failure.into());
    };
    bring(client, &source, sought, failure, screen).await
}

/// Brings a version that none of the candidates has.
async fn bring_version(
    client: &Client,
    sought: &Sought,
    candidates: &[Candidate],
    missing: Failure,
    screen: &Screen,
) -> Result<()> {
    let offers = offers(client).await;
    let names = sought.wanted.names();
    let fits = |offer: &AvailablePackage| {
        let mut packages = candidates.iter().map(|(package, _)| package);
        packages.any(|package| offer.language == *package)
            || offer_names(offer).any(|known| names.contains(&known))
    };
    let mut offers = offers.unwrap_or_default().into_iter();
    let offer = offers.find(|offer| !offer.installed && fits(offer));
    let Some(offer) = offer else {
        return Err(missing
            .next("see what is installed with `piston package list`")
            .into());
    };
    let failure = missing
        .next(format!(
            "install it: `piston package install '{}@{}'`",
            offer.language, sought.range
        ))
        .next("or see what is installed with `piston package list`");
    let source = Source::Repository {
        package: offer.language,
        name: offer.repository,
    };
    bring(client, &source, sought, failure, screen).await
}

/// Brings what is missing, if that is agreed to; else it is the failure that it would be.
async fn bring(
    client: &Client,
    source: &Source,
    sought: &Sought,
    failure: Failure,
    screen: &Screen,
) -> Result<()> {
    let question = match source {
        Source::Repository { package, name } if sought.range == "*" => {
            format!("{failure}; install {package} from the repository `{name}`?")
        }
        Source::Repository { package, .. } => {
            format!("{failure}; install {package} {}?", sought.range)
        }
        Source::Host(name) => format!("{failure}; make {name} of what the daemon's machine has?"),
    };
    if !screen.agreed(sought.consent, question) {
        return Err(failure.into());
    }
    match source {
        Source::Repository { package, .. } => {
            let reply = packages::bring(client, "all", package, &sought.range, screen).await?;
            screen.progress(packages::install_text(&reply));
        }
        Source::Host(name) => {
            let name = name.parse().expect("the table's names are valid");
            client.make(&MakeRequest::host(name)).await?;
        }
    }
    Ok(())
}

/// What can bring a language: a repository before the daemon's own machine.
fn source(wanted: &[&str], offers: &[AvailablePackage]) -> Option<Source> {
    let fits = |offer: &&AvailablePackage, name: &str| {
        offer_names(offer).any(|known| known.eq_ignore_ascii_case(name))
    };
    let offer = wanted.iter().find_map(|name| {
        let fitting = offers.iter().filter(|offer| fits(offer, name));
        // Of several that can run it the one that is called like it.
        fitting.max_by_key(|offer| offer.language.as_str() == *name)
    });
    if let Some(offer) = offer {
        return Some(Source::Repository {
            package: offer.language.clone(),
            name: offer.repository.clone(),
        });
    }
    maker(wanted).map(Source::Host)
}

/// What the daemon can make of its own machine for a language.
fn maker(wanted: &[&str]) -> Option<&'static str> {
    let fits = |names: &[&str]| wanted.iter().any(|name| names.contains(name));
    let (maker, _) = FROM_HOST.iter().find(|(_, names)| fits(names))?;
    Some(maker)
}

/// The error of a language that nothing provides: the likeliest advice first.
fn missing_language(
    wanted: &[&str],
    runtimes: &[Runtime],
    offers: Option<&[AvailablePackage]>,
) -> Failure {
    let name = wanted[0];
    let mut failure = Failure::new(format!("language `{name}` is not installed"));
    let known = runtimes.iter().flat_map(names);
    let offered = offers.unwrap_or_default();
    let meant = nearest(name, known.chain(offered.iter().flat_map(offer_names)));
    let source = source(wanted, offered).filter(|_| offers.is_some());
    if let (None, Some(meant)) = (&source, meant) {
        failure = failure.next(format!("did you mean `{meant}`?"));
    }
    if let Some(Source::Repository { package, .. }) = &source {
        failure = failure.next(format!(
            "install it: `piston package install {package}`, or say -y"
        ));
    }
    if let (Some(_), Some(maker)) = (offers, maker(wanted)) {
        failure = failure.next(format!(
            "make it of what this machine has: `piston package from-host {maker} --install`"
        ));
    }
    match (offers, source) {
        (None, _) => failure = failure.next("ask whoever runs the daemon to install it"),
        (Some(_), None) => {
            failure = failure.next("see what can be installed: `piston repo packages --sync`");
        }
        (Some(_), Some(_)) => {}
    }
    let installed: BTreeSet<&str> = runtimes.iter().map(|r| r.language.as_str()).collect();
    if !installed.is_empty() {
        let installed: Vec<&str> = installed.into_iter().collect();
        failure = failure.next(format!("installed are: {}", installed.join(", ")));
    }
    failure
}

#[cfg(test)]
mod tests;
