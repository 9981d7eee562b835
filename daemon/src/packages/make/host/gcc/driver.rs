//! GNU's compiler driver as far as it links programs: itself, what it starts for that, and what programs
//! are linked with. Compilers of other languages have it link theirs.
//!
//! Where things are is asked of the driver itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::super::error::MakeError;
use super::super::collect::{Collector, reading};
use super::super::{Host, Needs, ask};
use super::parts::{LIBC, OPTIONAL_PASSES};

const C: Needs = Needs {
    program: "gcc",
    debian: "gcc libc6-dev",
    fedora: "gcc glibc-devel",
    alpine: "gcc musl-dev",
    arch: "gcc",
};

/// The driver.
#[derive(Debug)]
pub(in super::super) struct Driver {
    /// The program, which is C's compiler.
    pub(in super::super) program: PathBuf,
    /// Its own directory, of libgcc and start files.
    pub(super) directory: PathBuf,
}

impl Driver {
    /// The host's `gcc`, or the one that is asked for.
    pub(in super::super) fn find(host: &Host, program: Option<&Path>) -> Result<Self, MakeError> {
        let mut driver = Self {
            program: host.program(program, &C)?,
            directory: PathBuf::new(),
        };
        check(&driver.program)?;
        // Other compilers that are called gcc (clang) have no such part.
        if driver.part("collect2").is_none() {
            let reason = "it is no GNU compiler: it has no collect2".to_owned();
            return Err(MakeError::Unsupported {
                program: driver.program,
                reason,
            });
        }
        let libgcc = driver.file("libgcc.a");
        let directory = libgcc.as_deref().and_then(Path::parent);
        driver.directory = directory
            .map(Path::to_owned)
            .ok_or_else(|| driver.wrong("it does not know where its libgcc.a is"))?;
        Ok(driver)
    }

    fn wrong(&self, reason: &str) -> MakeError {
        MakeError::Answer {
            program: self.program.clone(),
            reason: reason.to_owned(),
        }
    }

    /// A program that the driver runs: none when it would have to search `PATH` for it.
    fn part(&self, name: &str) -> Option<PathBuf> {
        self.asked(&format!("-print-prog-name={name}"))
    }

    /// A library or start file, as the linker would find it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.asked(&format!("-print-file-name={name}"))
    }

    fn asked(&self, question: &str) -> Option<PathBuf> {
        let (answer, _) = ask(&self.program, &[question]).ok()?;
        let path = PathBuf::from(answer.trim());
        Some(path).filter(|path| path.is_absolute() && path.exists())
    }

    /// Adds all that links programs, and the `keep` of the driver's own directory.
    pub(in super::super) fn linker(
        &self,
        collector: &mut Collector,
        host: &Host,
        keep: &dyn Fn(&Path) -> bool,
    ) -> Result<(), MakeError> {
        collector.program(&self.program, None)?;
        self.pass(collector, "collect2")?;
        for name in OPTIONAL_PASSES {
            let part = self.part(name).or_else(|| self.file(name));
            if let Some(part) = part {
                collector.program_if_there(&part);
            }
        }
        self.tool(collector, "ld")?;
        self.tool_if_there(collector, "ld.bfd");
        self.runtime(collector, keep)?;
        self.libc(collector, host)
    }

    /// Adds a compiler that the driver runs.
    pub(super) fn pass(&self, collector: &mut Collector, name: &str) -> Result<(), MakeError> {
        let part = self.part(name);
        let part = part.ok_or_else(|| self.wrong(&format!("its part {name} is missing")))?;
        collector.program(&part, None).map(drop)
    }

    /// Adds a tool that the driver runs, where its search of `PATH` finds it.
    pub(super) fn tool(&self, collector: &mut Collector, name: &str) -> Result<(), MakeError> {
        let usual = usual(name);
        let tool = self.part(name).unwrap_or_else(|| usual.clone());
        let at = collector.program(&tool, None)?;
        collector.plan.symlink(&usual.to_string_lossy(), &at);
        Ok(())
    }

    /// Adds a tool that people may want.
    pub(super) fn tool_if_there(&self, collector: &mut Collector, name: &str) {
        let tool = self.part(name).unwrap_or_else(|| usual(name));
        collector.program_if_there(&tool);
    }

    /// The driver's own libraries and start files.
    fn runtime(
        &self,
        collector: &mut Collector,
        keep: &dyn Fn(&Path) -> bool,
    ) -> Result<(), MakeError> {
        collector.tree(&self.directory, keep)?;
        for library in linked_libraries(&self.directory, keep)? {
            collector.program_if_there(&library);
        }
        Ok(())
    }

    /// What programs are linked with: libc's start files, linker scripts and static libraries.
    fn libc(&self, collector: &mut Collector, host: &Host) -> Result<(), MakeError> {
        if self.file("crt1.o").is_none() {
            let needs = Needs {
                program: "C library to compile against",
                ..C
            };
            return Err(host.not_installed(&needs));
        }
        LIBC.iter()
            .try_for_each(|name| self.library(collector, name))
    }

    /// Adds a library that programs are linked with, if there is one, and what it leads to.
    pub(super) fn library(&self, collector: &mut Collector, name: &str) -> Result<(), MakeError> {
        let Some(path) = self.file(name) else {
            return Ok(());
        };
        if collector.is_elf(&path) {
            collector.program(&path, None)?;
        } else {
            collector.take(&path)?;
        }
        for named in named_by_script(&path) {
            collector.take_if_there(&named);
        }
        Ok(())
    }
}

/// Refuses a compiler that lies where nothing is taken from.
pub(super) fn check(program: &Path) -> Result<(), MakeError> {
    let real = fs::canonicalize(program).map_err(reading(program))?;
    if real.starts_with("/usr") {
        return Ok(());
    }
    Err(MakeError::Unsupported {
        program: program.to_owned(),
        reason: "only compilers below /usr can be packed".to_owned(),
    })
}

/// Where tools are looked for by those who search `PATH`.
fn usual(name: &str) -> PathBuf {
    Path::new("/usr/bin").join(name)
}

/// Shared libraries that links in the driver's directory lead to: programs that are linked
/// with them need them to run.
fn linked_libraries(
    directory: &Path,
    keep: &dyn Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, MakeError> {
    let entries = fs::read_dir(directory).map_err(reading(directory))?;
    let wanted =
        |path: &PathBuf| path.is_symlink() && keep(Path::new(path.file_name().unwrap_or_default()));
    let mut links: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(wanted)
        .collect();
    links.sort();
    // The name that programs ask for has the library's major version: libstdc++.so.6.
    let targets = links
        .iter()
        .filter_map(|link| Some(link.parent()?.join(fs::read_link(link).ok()?)));
    Ok(targets.collect())
}

/// Absolute paths that a linker script names (`libc.so` is a text).
fn named_by_script(path: &Path) -> Vec<PathBuf> {
    let short = fs::metadata(path).is_ok_and(|metadata| metadata.len() < 4096);
    let text = if short {
        fs::read(path).unwrap_or_default()
    } else {
        Vec::new()
    };
    let text = String::from_utf8(text).unwrap_or_default();
    let words = text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && *word != "/*");
    words
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .collect()
}
