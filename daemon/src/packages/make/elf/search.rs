//! Which libraries a program loads, found as ld.so(8) finds them.
//!
//! Order: `DT_RPATH` of the file and of what loaded it, `DT_RUNPATH` of the file, the directories
//! of `/etc/ld.so.conf`, the loader's own directories. `LD_LIBRARY_PATH` and the hardware
//! variants below `glibc-hwcaps` are left aside: a package is to run on other machines too.
//! Libraries that a program opens at run time are the makers' to name.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Elf, ElfError, Machine};

/// Most libraries of one program; large ones have some hundreds.
const MOST_LIBRARIES: usize = 4096;
/// How deep `include` lines may nest.
const DEEPEST_INCLUDE: u32 = 8;

/// How a library was found, which decides where it must sit in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Found {
    /// In a directory that the loader searches without being told to.
    System,
    /// In a directory of `/etc/ld.so.conf`, which holds on this host only.
    Configured,
    /// Through an absolute `DT_RPATH` or `DT_RUNPATH`.
    Path,
    /// Through `$ORIGIN`: beside the file that needs it.
    Origin,
    /// By a path instead of a name.
    Named,
}

/// A library of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Library {
    /// The name that the loader looks for.
    pub(in super::super) name: String,
    /// Where it was found: directory and name, links not followed.
    pub(in super::super) path: PathBuf,
    /// How.
    pub(in super::super) found: Found,
}

/// A program's loader and every library that it loads, directly or not.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Closure {
    /// The loader.
    pub(in super::super) interpreter: Option<PathBuf>,
    /// Libraries, nearest first.
    pub(in super::super) libraries: Vec<Library>,
}

/// Searches libraries; remembers what it has read.
#[derive(Debug)]
pub(in super::super) struct Libraries {
    configured: Vec<PathBuf>,
    system: Vec<PathBuf>,
    read: HashMap<PathBuf, Option<Rc<Elf>>>,
}

/// One file of a closure that is being worked out: what loaded it matters for `DT_RPATH`.
struct Loaded {
    path: PathBuf,
    elf: Rc<Elf>,
    parent: Option<Rc<Self>>,
}

impl Libraries {
    /// The search of this host.
    pub(in super::super) fn of_host() -> Self {
        let arch = std::env::consts::ARCH;
        let multiarch = format!("{arch}-linux-gnu");
        let system = [
            format!("/lib/{multiarch}"),
            format!("/usr/lib/{multiarch}"),
            "/lib64".to_owned(),
            "/usr/lib64".to_owned(),
            "/lib".to_owned(),
            "/usr/lib".to_owned(),
        ];
        Self::new(
            Path::new("/etc/ld.so.conf"),
            system.map(PathBuf::from).to_vec(),
        )
    }

    /// A search through the directories that `configuration` names, then through `system`.
    pub(in super::super) fn new(configuration: &Path, system: Vec<PathBuf>) -> Self {
        let mut configured = Vec::new();
        read_configuration(configuration, DEEPEST_INCLUDE, &mut configured);
        Self {
            configured,
            system,
            read: HashMap::new(),
        }
    }

    /// What `path` asks of the loader; none when it is no ELF file.
    pub(in super::super) fn read(&mut self, path: &Path) -> Result<Option<Rc<Elf>>, ElfError> {
        if let Some(known) = self.read.get(path) {
            return Ok(known.clone());
        }
        let elf = Elf::read(path)?.map(Rc::new);
        self.read.insert(path.to_owned(), elf.clone());
        Ok(elf)
    }

    /// Everything that the loader maps for `file`, besides the file itself: nothing for scripts
    /// and data. `loader` is the program that loads it, where `file` is a plug-in.
    pub(in super::super) fn closure(
        &mut self,
        file: &Path,
        loader: Option<&Path>,
    ) -> Result<Closure, ElfError> {
        let parent = match loader {
            Some(program) => self.loaded(program, None)?,
            None => None,
        };
        let Some(root) = self.loaded(file, parent)? else {
            return Ok(Closure::default());
        };
        let mut closure = Closure {
            interpreter: root.elf.interpreter.clone(),
            libraries: Vec::new(),
        };
        let mut seen = HashSet::new();
        let mut queue = VecDeque::from([root]);
        while let Some(file) = queue.pop_front() {
            for name in &file.elf.needed {
                if !seen.insert(name.clone()) {
                    continue;
                }
                if seen.len() > MOST_LIBRARIES {
                    let path = file.path.clone();
                    return Err(ElfError::TooMany {
                        path,
                        most: MOST_LIBRARIES,
                    });
                }
                let (library, elf) = self.find(name, &file)?;
                let path = library.path.clone();
                closure.libraries.push(library);
                queue.push_back(Rc::new(Loaded {
                    path,
                    elf,
                    parent: Some(Rc::clone(&file)),
                }));
            }
        }
        Ok(closure)
    }

    fn loaded(
        &mut self,
        path: &Path,
        parent: Option<Rc<Loaded>>,
    ) -> Result<Option<Rc<Loaded>>, ElfError> {
        let elf = self.read(path)?;
        Ok(elf.map(|elf| {
            Rc::new(Loaded {
                path: path.to_owned(),
                elf,
                parent,
            })
        }))
    }

    fn find(&mut self, name: &str, by: &Rc<Loaded>) -> Result<(Library, Rc<Elf>), ElfError> {
        for (path, found) in self.candidates(name, by) {
            if let Some(elf) = self.fitting(&path, by.elf.machine) {
                return Ok((
                    Library {
                        name: name.to_owned(),
                        path,
                        found,
                    },
                    elf,
                ));
            }
        }
        Err(ElfError::NoLibrary {
            name: name.to_owned(),
            needed_by: by.path.clone(),
        })
    }

    fn candidates(&self, name: &str, by: &Rc<Loaded>) -> Vec<(PathBuf, Found)> {
        if name.contains('/') {
            return vec![(PathBuf::from(name), Found::Named)];
        }
        let mut directories = Vec::new();
        let mut ancestor = Some(by).filter(|by| by.elf.runpath.is_empty());
        while let Some(file) = ancestor {
            directories.extend(
                file.elf
                    .rpath
                    .iter()
                    .flat_map(|dir| expand(dir, &file.path)),
            );
            ancestor = file.parent.as_ref();
        }
        directories.extend(by.elf.runpath.iter().flat_map(|dir| expand(dir, &by.path)));
        let system = |dir: &PathBuf| (dir.clone(), Found::System);
        let configured = |dir: &PathBuf| {
            let found = if self.is_system(dir) {
                Found::System
            } else {
                Found::Configured
            };
            (dir.clone(), found)
        };
        directories.extend(self.configured.iter().map(configured));
        directories.extend(self.system.iter().map(system));
        directories
            .into_iter()
            .map(|(dir, found)| (dir.join(name), found))
            .collect()
    }

    fn is_system(&self, dir: &Path) -> bool {
        self.system.iter().any(|known| known == dir)
    }

    /// The file as the loader would take it: there, ELF, and for the same processor. Anything
    /// else it passes over, and so do we.
    fn fitting(&mut self, path: &Path, machine: Machine) -> Option<Rc<Elf>> {
        if !path.is_file() {
            return None;
        }
        let elf = self.read(path).ok().flatten()?;
        Some(elf).filter(|elf| elf.machine == machine)
    }
}

/// A search path entry with `$ORIGIN`, `$LIB` and `$PLATFORM` filled in (`$LIB` has two readings).
fn expand(entry: &str, file: &Path) -> Vec<(PathBuf, Found)> {
    let arch = std::env::consts::ARCH;
    let origin = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let origin = origin
        .parent()
        .unwrap_or(Path::new("/"))
        .to_string_lossy()
        .into_owned();
    let fill = |text: &str, name: &str, value: &str| {
        text.replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value)
    };
    let at_origin = entry.contains("$ORIGIN") || entry.contains("${ORIGIN}");
    let found = if at_origin {
        Found::Origin
    } else {
        Found::Path
    };
    let entry = fill(&fill(entry, "ORIGIN", &origin), "PLATFORM", arch);
    let mut readings = vec![fill(&entry, "LIB", &format!("lib/{arch}-linux-gnu"))];
    if readings[0] != entry {
        readings.push(fill(&entry, "LIB", "lib64"));
    }
    // An entry that is relative to the working directory means nothing in a package.
    let absolute = readings
        .into_iter()
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    absolute.map(|dir| (dir, found)).collect()
}

/// Collects the directories that a loader configuration names. What can't be read is passed
/// over, as ldconfig does.
fn read_configuration(file: &Path, depth: u32, into: &mut Vec<PathBuf>) {
    let Ok(text) = std::fs::read_to_string(file) else {
        return;
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(patterns) = line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            let here = file.parent().unwrap_or(Path::new("/"));
            let included = patterns
                .split_whitespace()
                .flat_map(|pattern| matches(&here.join(pattern)));
            for file in included.take_while(|_| depth > 0) {
                read_configuration(&file, depth - 1, into);
            }
        } else if !line.starts_with("hwcap") {
            let entries = line.split([' ', '\t', ',', ':']);
            let dirs = entries.map(|entry| entry.split('=').next().unwrap_or(entry));
            into.extend(dirs.map(PathBuf::from).filter(|dir| dir.is_absolute()));
        }
    }
}

/// Files of a directory whose names match the pattern's last component, sorted.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let Ok(glob) = globset::Glob::new(&name.to_string_lossy()) else {
        return Vec::new();
    };
    let glob = glob.compile_matcher();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter(|entry| glob.is_match(entry.file_name()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    /// What `ldd` says: the libraries' names and where it finds them. Only tests run it.
    fn ldd(program: &Path) -> BTreeSet<(String, PathBuf)> {
        let output = Command::new("ldd").arg(program).output();
        let output = output.expect("ldd is there (Debian: libc-bin)");
        let text = String::from_utf8(output.stdout).expect("ldd prints UTF-8");
        let lines = text
            .lines()
            .filter_map(|line| line.trim().split_once(" => "));
        lines
            .map(|(name, rest)| {
                let path = rest.split(" (").next().expect("a path");
                let path = std::fs::canonicalize(path).expect("ldd names a file");
                (name.to_owned(), path)
            })
            .collect()
    }

    fn ours(program: &Path) -> BTreeSet<(String, PathBuf)> {
        let closure = Libraries::of_host()
            .closure(program, None)
            .expect("a valid program");
        let loader = closure
            .interpreter
            .as_ref()
            .and_then(|path| path.file_name());
        let loader = loader
            .expect("a program has a loader")
            .to_string_lossy()
            .into_owned();
        let libraries = closure.libraries.into_iter();
        // The loader itself is a library of libc; ldd prints it without an arrow.
        let libraries = libraries.filter(|library| library.name != loader);
        libraries
            .map(|library| {
                (
                    library.name,
                    std::fs::canonicalize(library.path).expect("it was found"),
                )
            })
            .collect()
    }

    #[test]
    fn the_closure_is_what_ldd_finds() {
        let programs = [
            "/bin/sh",
            "/bin/bash",
            "/usr/bin/python3",
            "/usr/bin/gcc",
            "/bin/ls",
        ];
        let optional = [
            "/usr/bin/node",
            "/usr/bin/git",
            "/usr/bin/curl",
            "/usr/bin/as",
        ];
        let optional = optional.into_iter().filter(|path| Path::new(path).exists());
        for program in programs.into_iter().chain(optional) {
            let program = Path::new(program);
            assert!(program.exists(), "{} is missing", program.display());
            assert_eq!(ours(program), ldd(program), "{}", program.display());
        }
    }

    #[test]
    fn a_library_that_is_nowhere_is_named_with_who_needs_it() {
        let mut nowhere = Libraries::new(Path::new("/nonexistent"), Vec::new());
        let error = nowhere
            .closure(Path::new("/bin/sh"), None)
            .expect_err("no directories");
        let text = error.to_string();
        assert!(text.contains("/bin/sh") && text.contains("libc"), "{text}");
    }

    #[test]
    fn a_script_needs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").expect("written");
        let closure = Libraries::of_host()
            .closure(&script, None)
            .expect("a script is fine");
        assert!(closure.libraries.is_empty() && closure.interpreter.is_none());
    }

    #[test]
    fn the_configuration_is_read_as_ldconfig_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        std::fs::create_dir(dir.path().join("d")).expect("made");
        write(
            "main",
            "# note\n/one # end\ninclude d/*.conf missing/*.conf\nhwcap 1 x\n/two:/three,/four=libc6\nrelative\n",
        );
        write("d/b.conf", "/b\ninclude ../main\n");
        write("d/a.conf", "/a\n");
        write("d/c.txt", "/c\n");
        let search = Libraries::new(&dir.path().join("main"), Vec::new());
        let text: Vec<_> = search
            .configured
            .iter()
            .map(|dir| dir.to_string_lossy())
            .collect();
        assert_eq!(
            text[..4],
            ["/one", "/a", "/b", "/one"],
            "includes nest, in order"
        );
        assert_eq!(text[text.len() - 3..], ["/two", "/three", "/four"]);
        assert!(!text.contains(&"/c".into()) && !text.contains(&"relative".into()));
    }

    #[test]
    fn names_in_search_paths_are_filled_in() {
        let file = Path::new("/nonexistent/bin/tool");
        let check = |entry: &str, expected: &[(&str, Found)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(dir, found)| (PathBuf::from(dir), *found))
                .collect();
            assert_eq!(expand(entry, file), expected, "{entry}");
        };
        check("/opt/lib", &[("/opt/lib", Found::Path)]);
        check(
            "$ORIGIN/../lib",
            &[("/nonexistent/bin/../lib", Found::Origin)],
        );
        check("${ORIGIN}", &[("/nonexistent/bin", Found::Origin)]);
        check("lib", &[]);
        assert_eq!(expand("/opt/$LIB", file).len(), 2);
    }
}
