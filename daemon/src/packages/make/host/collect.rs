//! Copies pieces of the host into a plan: files with the links that lead to them, directory
//! trees, programs with their libraries.
//!
//! Invariants: nothing is taken from outside [`AREA`] and the relocated prefixes, wherever links
//! lead (so no home directory, no `passwd`, no key); a path in the plan never runs through a
//! link, because links are planned where they are and what they lead to where it is; whatever is
//! planned could be read when it was planned. Does not know what makes up a package.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::AccessFlags;

use super::super::elf::ElfError;
use super::super::elf::search::{Closure, Found, Libraries, Library};
use super::super::error::MakeError;
use super::super::plan::Plan;

/// The parts of a host that hold software and nothing private.
const AREA: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
];
/// Links that one path may run through, as in the kernel.
const MOST_LINKS: u32 = 40;

/// A prefix outside the system's directories that gets another place in the package.
#[derive(Debug, Clone)]
pub(in super::super) struct Relocation {
    /// Where it is on the host, links followed.
    pub(in super::super) from: PathBuf,
    /// Where it is in the view.
    pub(in super::super) to: String,
}

/// Collects a plan from the host.
#[derive(Debug)]
pub(in super::super) struct Collector {
    /// What was collected.
    pub(in super::super) plan: Plan,
    /// What was left out, and why; for whoever makes the package.
    pub(in super::super) notes: Vec<String>,
    libraries: Libraries,
    relocations: Vec<Relocation>,
    library_directory: PathBuf,
}

/// A path of the host followed to its end: the links on the way, and the end.
struct Trail {
    links: Vec<(PathBuf, PathBuf)>,
    end: PathBuf,
}

impl Collector {
    /// An empty plan; what lies below a relocation's prefix will be placed where that says.
    pub(in super::super) fn new(relocations: Vec<Relocation>) -> Result<Self, MakeError> {
        let mut libraries = Libraries::of_host();
        let library_directory = library_directory(&mut libraries)?;
        let (plan, notes) = (Plan::default(), Vec::new());
        Ok(Self {
            plan,
            notes,
            libraries,
            relocations,
            library_directory,
        })
    }

    /// Adds the file or the (empty) directory that `path` leads to, with the links on the way;
    /// returns where it is in the view.
    pub(in super::super) fn take(&mut self, path: &Path) -> Result<String, MakeError> {
        let trail = follow(path).map_err(reading(path))?;
        let mut links = Vec::new();
        for (link, target) in &trail.links {
            // A link above a relocated prefix is not part of it.
            if let Some(at) = self.place(link) {
                links.push((at, self.retarget(link, target)?));
            }
        }
        let at = self.place(&trail.end).ok_or_else(|| outside(path))?;
        let metadata = fs::metadata(&trail.end).map_err(reading(&trail.end))?;
        self.add(&at, &trail.end, &metadata)?;
        for (at, target) in links {
            self.plan.symlink(&at, &target);
        }
        Ok(at)
    }

    /// Adds what `path` leads to, if it is there; what can't be packed is noted.
    pub(in super::super) fn take_if_there(&mut self, path: &Path) {
        match self.take(path) {
            Err(MakeError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            result => self.note(result.map(drop)),
        }
    }

    /// Adds a directory with everything below it that `keep` wants (asked with the path below
    /// the directory; a directory that is not kept is not entered).
    pub(in super::super) fn tree(
        &mut self,
        directory: &Path,
        keep: &dyn Fn(&Path) -> bool,
    ) -> Result<(), MakeError> {
        self.take(directory)?;
        let top = fs::canonicalize(directory).map_err(reading(directory))?;
        let mut pending = vec![top.clone()];
        while let Some(directory) = pending.pop() {
            for path in sorted_entries(&directory)? {
                let below = path.strip_prefix(&top).unwrap_or(&path);
                if !keep(below) {
                    continue;
                }
                let metadata = fs::symlink_metadata(&path).map_err(reading(&path))?;
                match self.place(&path) {
                    // It may dangle, or lead to a place that is not packed.
                    Some(_) if metadata.is_symlink() => self.take_if_there(&path),
                    Some(at) => {
                        self.add(&at, &path, &metadata)?;
                        pending.extend(metadata.is_dir().then_some(path));
                    }
                    None => self.notes.push(outside(&path).to_string()),
                }
            }
        }
        Ok(())
    }

    /// Adds a program (or a plug-in that `loader` loads) with its loader and libraries; returns
    /// where it is in the view.
    pub(in super::super) fn program(
        &mut self,
        path: &Path,
        loader: Option<&Path>,
    ) -> Result<String, MakeError> {
        // First the libraries: a program that lacks one is not added at all.
        self.libraries_of(path, loader)?;
        self.take(path)
    }

    /// Adds a program, if it is there and complete; what is wrong with it is noted.
    pub(in super::super) fn program_if_there(&mut self, path: &Path) {
        if path.exists() {
            let result = self.program(path, None);
            self.note(result.map(drop));
        }
    }

    /// Adds the loader and the libraries that `file` needs, not the file.
    pub(in super::super) fn libraries_of(
        &mut self,
        file: &Path,
        loader: Option<&Path>,
    ) -> Result<(), MakeError> {
        let closure = self.closure(file, loader)?;
        if let Some(interpreter) = &closure.interpreter {
            self.take(interpreter)?;
        }
        closure
            .libraries
            .iter()
            .try_for_each(|library| self.library(library))
    }

    /// Adds the libraries that the shared objects below a directory need, not those themselves; `keep`
    /// as in [`Collector::tree`]. What the host itself can't load is noted, and is the answer.
    pub(in super::super) fn libraries_below(
        &mut self,
        top: &Path,
        keep: &dyn Fn(&Path) -> bool,
        loader: Option<&Path>,
    ) -> Result<BTreeSet<PathBuf>, MakeError> {
        let mut incomplete = BTreeSet::new();
        for object in shared_objects(top, keep)? {
            if let Err(error) = self.libraries_of(&object, loader) {
                self.notes.push(error.to_string());
                incomplete.insert(object);
            }
        }
        Ok(incomplete)
    }

    /// Adds a library that programs open by name at run time, if the host has it, with what it
    /// needs itself.
    pub(in super::super) fn opened_library(&mut self, name: &str) {
        let path = self.library_directory.join(name);
        self.program_if_there(&path);
    }

    /// Where an entry of the host is placed: as it is, relocated, or nowhere.
    pub(in super::super) fn place(&self, path: &Path) -> Option<String> {
        let text = path.to_str()?;
        let relocated = self.relocations.iter().find_map(|relocation| {
            let below = path.strip_prefix(&relocation.from).ok()?;
            let below = below.to_str()?;
            let to = &relocation.to;
            Some(if below.is_empty() {
                to.clone()
            } else {
                format!("{to}/{below}")
            })
        });
        let in_area = || AREA.iter().any(|area| path.starts_with(area));
        relocated.or_else(|| in_area().then(|| text.to_owned()))
    }

    /// Whether `path` is an ELF file.
    pub(in super::super) fn is_elf(&mut self, path: &Path) -> bool {
        matches!(self.libraries.read(path), Ok(Some(_)))
    }

    fn closure(&mut self, file: &Path, loader: Option<&Path>) -> Result<Closure, ElfError> {
        // `$ORIGIN` is that of the real file, links followed.
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        self.libraries.closure(&file, loader)
    }

    /// Adds a library so that the loader finds it in the view, where there is neither
    /// `ld.so.cache` nor the host's search paths.
    fn library(&mut self, library: &Library) -> Result<(), MakeError> {
        if library.found == Found::System {
            // The loader's own directory may itself be a link (/lib): keep the way to it.
            return match self.take(&library.path) {
                Err(MakeError::Refused { .. }) => self.copy_into_library_directory(library),
                taken => taken.map(drop),
            };
        }
        let directory = library.path.parent().unwrap_or(Path::new("/"));
        let directory = fs::canonicalize(directory).map_err(reading(directory))?;
        let real = directory.join(library.path.file_name().unwrap_or_default());
        match self.place(&real) {
            Some(at) if Path::new(&at) != real => {
                self.take(&real)?;
                // What is found from where the file is moves along; a path does not.
                if library.found != Found::Origin {
                    self.link_into_library_directory(&library.name, &at);
                }
                Ok(())
            }
            Some(_) if library.found != Found::Configured => self.take(&library.path).map(drop),
            _ => self.copy_into_library_directory(library),
        }
    }

    fn link_into_library_directory(&mut self, name: &str, target: &str) {
        let name = name.rsplit('/').next().unwrap_or(name);
        if let Some(at) = self.place(&self.library_directory.join(name)) {
            self.plan.symlink(&at, target);
        }
    }

    fn copy_into_library_directory(&mut self, library: &Library) -> Result<(), MakeError> {
        let real = fs::canonicalize(&library.path).map_err(reading(&library.path))?;
        let metadata = fs::metadata(&real).map_err(reading(&real))?;
        let name = library.name.rsplit('/').next().unwrap_or(&library.name);
        let at = self.place(&self.library_directory.join(name));
        let at = at.ok_or_else(|| outside(&library.path))?;
        self.add(&at, &real, &metadata)
    }

    fn add(&mut self, at: &str, path: &Path, metadata: &Metadata) -> Result<(), MakeError> {
        if metadata.is_dir() {
            self.plan.directory(at);
            return Ok(());
        }
        if !metadata.is_file() {
            let reason = "it is neither a file nor a directory";
            return Err(MakeError::Refused {
                path: path.to_owned(),
                reason,
            });
        }
        nix::unistd::faccessat(
            nix::fcntl::AT_FDCWD,
            path,
            AccessFlags::R_OK,
            AtFlags::AT_EACCESS,
        )
        .map_err(|errno| reading(path)(errno.into()))?;
        let mtime = u32::try_from(metadata.mtime().max(0)).unwrap_or(u32::MAX);
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.plan.host_file(at, path.to_owned(), executable, mtime);
        Ok(())
    }

    /// The target that a link gets in the package; a link that leaves what is packed is refused.
    fn retarget(&self, link: &Path, target: &Path) -> Result<String, MakeError> {
        let parent = link.parent().unwrap_or(Path::new("/"));
        let there = lexical(&parent.join(target));
        let there = self.place(&there).ok_or_else(|| outside(link))?;
        let text = target.to_str().ok_or_else(|| outside(link))?;
        Ok(if target.is_absolute() {
            there
        } else {
            text.to_owned()
        })
    }

    fn note(&mut self, result: Result<(), MakeError>) {
        if let Err(error) = result {
            let source = std::error::Error::source(&error);
            let source = source
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            self.notes.push(format!("{error}{source}"));
        }
    }
}

/// The directory of the host's libc: where the loader looks without configuration.
fn library_directory(libraries: &mut Libraries) -> Result<PathBuf, MakeError> {
    let shell = Path::new("/bin/sh");
    let closure = libraries.closure(shell, None)?;
    let libc = closure
        .libraries
        .iter()
        .find(|library| library.name.starts_with("libc."));
    let unsupported = || MakeError::Unsupported {
        program: shell.to_owned(),
        reason: "the host's shell is not linked with a shared libc".to_owned(),
    };
    let directory = libc
        .and_then(|libc| libc.path.parent())
        .ok_or_else(unsupported)?;
    fs::canonicalize(directory).map_err(reading(directory))
}

/// Follows a path as the kernel does, and tells the links on the way.
fn follow(path: &Path) -> Result<Trail, IoError> {
    let absolute = std::path::absolute(path)?;
    let mut pending = components(&absolute);
    let (mut end, mut links, mut left) = (PathBuf::from("/"), Vec::new(), MOST_LINKS);
    while let Some(next) = pending.pop() {
        if next == Path::new("..") {
            end.pop();
            continue;
        }
        let here = end.join(&next);
        if !fs::symlink_metadata(&here)?.is_symlink() {
            end = here;
            continue;
        }
        let target = fs::read_link(&here)?;
        left = left
            .checked_sub(1)
            .ok_or_else(|| IoError::other("too many links"))?;
        if target.is_absolute() {
            end = PathBuf::from("/");
        }
        pending.extend(components(&target));
        links.push((here, target));
    }
    Ok(Trail { links, end })
}

/// The named components of a path, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let named = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named
        .map(|part| PathBuf::from(part.as_os_str()))
        .rev()
        .collect()
}

/// The path without `..`, by its text; exact where no component is a link.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

/// Shared objects below a directory, asked for as in [`Collector::tree`]; no link is followed.
fn shared_objects(top: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>, MakeError> {
    let top = fs::canonicalize(top).map_err(reading(top))?;
    let mut found = Vec::new();
    let mut pending = vec![top.clone()];
    while let Some(directory) = pending.pop() {
        for path in sorted_entries(&directory)? {
            if !keep(path.strip_prefix(&top).unwrap_or(&path)) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "so") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn sorted_entries(directory: &Path) -> Result<Vec<PathBuf>, MakeError> {
    let entries = fs::read_dir(directory).map_err(reading(directory))?;
    let entries: Result<Vec<_>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.map_err(reading(directory))?;
    entries.sort();
    Ok(entries)
}

fn outside(path: &Path) -> MakeError {
    let reason = match path.to_str() {
        Some(_) => "it is, or leads, outside the directories that hold software",
        None => "its name is not UTF-8",
    };
    MakeError::Refused {
        path: path.to_owned(),
        reason,
    }
}

/// For `map_err`: a file of the host can't be read.
pub(in super::super) fn reading(path: &Path) -> impl FnOnce(IoError) -> MakeError {
    let path = path.to_owned();
    move |source| MakeError::Read { path, source }
}

#[cfg(test)]
mod tests;
