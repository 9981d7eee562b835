//! Python libraries from an index, as wheels: resolved, downloaded, checked and laid out by us.
//!
//! The way: `requirement` and `marker` (what is asked for) -> `page` and `tags` (what the index has
//! for this Python) -> `resolve` (which versions) -> `wheel` (checked, laid out). Nothing is built:
//! a library that has no wheel is an error that says so. Nothing of a library is run.

mod marker;
mod metadata;
mod page;
mod project;
mod requirement;
mod resolve;
mod tags;
mod wheel;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pep440_rs::{Version, VersionSpecifiers};
use piston_client::ids::Digest;

use self::marker::Environment;
use self::metadata::Metadata;
use self::page::Link;
use self::project::Project;
use self::requirement::Requirement;
use self::resolve::{Installed, Offer, Offers, Place};
use self::tags::{Fit, Tags, WheelName};
use self::wheel::{Layout, Wheel};
use super::super::super::fetch::{FetchError, Location};
use super::super::super::index::Checksum;
use super::super::plan::Plan;
use super::super::work::{Spool, Work};
use super::download::Downloads;
use super::python::Python;
use super::{Added, ExtendError};

/// The index that is asked when nobody names another.
pub const DEFAULT_INDEX: &str = "https://pypi.org/simple";
/// Longest metadata that comes alone.
const MAX_METADATA_BYTES: u64 = 32 << 20;

/// The names of the libraries that are asked for, in their normal form.
pub(super) fn names(wanted: &[String]) -> Result<Vec<String>, ExtendError> {
    let name = |text: &String| Ok(text.parse::<Requirement>()?.project.as_str().to_owned());
    wanted.iter().map(name).collect()
}

/// Plans libraries and what they need, from the index at `index`.
pub(super) fn add(
    wanted: &[String],
    index: &str,
    python: &Python,
    plan: &mut Plan,
    work: &Work,
) -> Result<Added, ExtendError> {
    let wanted: Vec<Requirement> = wanted
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let version: Result<Version, _> = python.version.parse();
    let version = version
        .map_err(|_| ExtendError::requirement(&python.version, "it is no version of Python"))?;
    let environment = Environment {
        python: version,
        machine: std::env::consts::ARCH,
    };
    let installed = installed(python);
    let mut shelf = Shelf::new(
        index,
        python,
        &environment,
        Downloads::new(&work.folder("pip-downloads")?)?,
    )?;
    let chosen = resolve::resolve(&wanted, &environment, &installed, &mut shelf)?;
    let mut layout = Layout::new(python, plan, Spool::new(work.folder("pip")?));
    let mut libraries = Vec::new();
    for (project, version) in &chosen {
        shelf.wheel(project, version)?.unpack(&mut layout)?;
        libraries.push(format!("{project}=={version}"));
    }
    Ok(Added {
        libraries,
        notes: layout.notes,
    })
}

/// What the Python has already. What can't be understood counts as not there.
fn installed(python: &Python) -> BTreeMap<Project, Installed> {
    let mut found = BTreeMap::new();
    for (folder, libraries) in &python.libraries {
        let place = if *folder == python.site {
            Place::Ours
        } else {
            Place::Behind
        };
        for library in libraries {
            let Ok(metadata) = Metadata::parse(&library.metadata, &library.stem) else {
                continue;
            };
            let installed = Installed {
                version: metadata.version,
                requires: metadata.requires,
                place,
            };
            if place == Place::Ours || !found.contains_key(&metadata.project) {
                found.insert(metadata.project, installed);
            }
        }
    }
    found
}

/// An index, and what was got from it.
struct Shelf<'a> {
    index: Location,
    shown: String,
    tags: Tags,
    environment: &'a Environment,
    downloads: Downloads,
    pages: BTreeMap<Project, BTreeMap<Version, File>>,
    wheels: BTreeMap<PathBuf, PathBuf>,
}

/// The wheel of a version that fits best.
#[derive(Debug, Clone)]
struct File {
    link: Link,
    sha256: Digest,
    /// The page that names it.
    page: Location,
    fit: Fit,
}

impl<'a> Shelf<'a> {
    fn new(
        index: &str,
        python: &Python,
        environment: &'a Environment,
        downloads: Downloads,
    ) -> Result<Self, ExtendError> {
        Ok(Self {
            index: Location::of_folder(index).map_err(FetchError::from)?,
            shown: Location::without_password(index),
            tags: Tags {
                minor: python.minor,
                machine: std::env::consts::ARCH,
                glibc: python.glibc,
            },
            environment,
            downloads,
            pages: BTreeMap::new(),
            wheels: BTreeMap::new(),
        })
    }

    /// The versions of a library that fit, from its page.
    fn page(
        &mut self,
        project: &Project,
        by: &str,
    ) -> Result<&BTreeMap<Version, File>, ExtendError> {
        if !self.pages.contains_key(project) {
            let name = match self.index {
                Location::Web(_) => format!("{project}/"),
                Location::File(_) => format!("{project}/index.html"),
            };
            let at = self.index.join(&name).map_err(FetchError::from)?;
            let Some((text, at)) = self.downloads.page(&at, page::FORMS)? else {
                return Err(ExtendError::Unknown {
                    index: self.shown.clone(),
                    project: project.to_string(),
                    by: by.to_owned(),
                });
            };
            let links =
                page::links(&text).map_err(|reason| ExtendError::file(&at.to_string(), reason))?;
            let files = self.fitting(project, &links, &at)?;
            self.pages.insert(project.clone(), files);
        }
        Ok(&self.pages[project])
    }

    /// The best wheel of each version.
    fn fitting(
        &self,
        project: &Project,
        links: &[Link],
        page: &Location,
    ) -> Result<BTreeMap<Version, File>, ExtendError> {
        let mut best: BTreeMap<Version, File> = BTreeMap::new();
        let (mut wheels, mut others, mut unsigned) = (0, 0, 0);
        for link in links {
            let Some(name) = WheelName::parse(&link.file).filter(|n| n.project == *project) else {
                others += 1;
                continue;
            };
            wheels += 1;
            let Some(fit) = self
                .tags
                .fit(&name)
                .filter(|_| self.is_for_this_python(link))
            else {
                continue;
            };
            let Some(sha256) = link.sha256 else {
                unsigned += 1;
                continue;
            };
            let better = best.get(&name.version).is_none_or(|other| other.fit < fit);
            if better {
                let file = File {
                    link: link.clone(),
                    sha256,
                    page: page.clone(),
                    fit,
                };
                best.insert(name.version, file);
            }
        }
        if !best.is_empty() {
            return Ok(best);
        }
        let python = format!("Python 3.{} on {}", self.tags.minor, self.tags.machine);
        let reason = match (wheels, others, unsigned) {
            (0, 0, _) => "the index lists no file of it".to_owned(),
            (0, ..) => "the index has only its source (an sdist), which would have to be built; \
                        only wheels are taken"
                .to_owned(),
            (.., 1..) => "the index gives no sha256 of its files".to_owned(),
            _ if self.tags.glibc.is_none() => {
                format!("none of its wheels is for {python} without glibc")
            }
            _ => format!("none of its wheels is for {python}"),
        };
        Err(ExtendError::Clash(format!(
            "{project} can't be added: {reason}"
        )))
    }

    /// Whether a file is for this version of Python; one that says it in a way that is not
    /// understood is.
    fn is_for_this_python(&self, link: &Link) -> bool {
        let versions = link.python.as_deref().map(str::parse::<VersionSpecifiers>);
        match versions {
            Some(Ok(versions)) => versions.contains(&self.environment.python),
            _ => true,
        }
    }

    fn file(&mut self, project: &Project, version: &Version) -> Result<File, ExtendError> {
        let file = self.page(project, "")?.get(version).cloned();
        file.ok_or_else(|| ExtendError::Clash(format!("{project} {version} is not in the index")))
    }

    /// The wheel of a version, downloaded.
    fn wheel(&mut self, project: &Project, version: &Version) -> Result<Wheel, ExtendError> {
        let file = self.file(project, version)?;
        let key = Path::new(project.as_str()).join(version.to_string());
        if !self.wheels.contains_key(&key) {
            let from = file.page.join(&file.link.to).map_err(FetchError::from)?;
            let path = self.downloads.file(&from, &Checksum::Sha256(file.sha256))?;
            self.wheels.insert(key.clone(), path);
        }
        Wheel::open(&self.wheels[&key], &file.link.file)
    }

    fn metadata(&mut self, project: &Project, version: &Version) -> Result<Metadata, ExtendError> {
        let File { link, page, .. } = self.file(project, version)?;
        let Some(sha256) = link.metadata else {
            return self.wheel(project, version)?.metadata();
        };
        let from = page
            .join(&format!("{}.metadata", link.to))
            .map_err(FetchError::from)?;
        let path = self.downloads.file(&from, &Checksum::Sha256(sha256))?;
        let bytes = super::super::super::files::read_bounded(&path, MAX_METADATA_BYTES)?;
        Metadata::parse(&String::from_utf8_lossy(&bytes), &link.file)
    }
}

impl Offers for Shelf<'_> {
    fn versions(&mut self, project: &Project, by: &str) -> Result<Vec<Offer>, ExtendError> {
        let page = self.page(project, by)?;
        let newest_first = page.iter().rev().map(|(version, file)| Offer {
            version: version.clone(),
            yanked: file.link.yanked,
        });
        Ok(newest_first.collect())
    }

    fn requires(
        &mut self,
        project: &Project,
        version: &Version,
    ) -> Result<Vec<Requirement>, ExtendError> {
        let metadata = self.metadata(project, version)?;
        if metadata.project != *project || metadata.version != *version {
            let file = self.file(project, version)?.link.file;
            let reason = format!(
                "its metadata is of {} {}",
                metadata.project, metadata.version
            );
            return Err(ExtendError::file(&file, reason));
        }
        Ok(metadata.requires)
    }
}
