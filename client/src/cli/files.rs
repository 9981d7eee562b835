//! The files of a job: which are sent, under which names.
//!
//! Owns reading files and folders, and their bounds. The first file starts the program; the others
//! are found as they lie beside it. Of a folder, what is hidden or was generated is left out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::api::InputFile;

use super::failure::Failure;
use super::languages;
use super::suggest::nearest;

/// Most that is sent of one file or of standard input.
const MAX_INPUT: u64 = 64 << 20;

/// Most files of a folder.
const MAX_FILES: usize = 1000;

/// Folders that tools fill.
const GENERATED: [&str; 2] = ["__pycache__", "node_modules"];

/// What is sent, and the path of the file that starts the program.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) main: PathBuf,
    pub(super) files: Vec<InputFile>,
}

impl Sent {
    /// Reads what `paths` name, of which the first is the program or a folder with it.
    pub(super) fn gather(paths: &[PathBuf], language: Option<&str>) -> Result<Self, Failure> {
        let (first, others) = paths.split_first().expect("a program was named");
        let main = if first.is_dir() {
            main_of(first, language)?
        } else {
            first.clone()
        };
        let file = InputFile::new(base_name(&main)?, &read_file(&main)?);
        if let Some(missing) = others.iter().find(|path| !path.exists()) {
            return Err(absent(missing).next("arguments of the program stand after `--`"));
        }
        // A folder that starts with its main file is sent whole.
        let rest = if first.is_dir() { paths } else { others };
        Self::beside(main, file, rest)
    }

    /// The same with a program that was read already; the first path only stands for it.
    pub(super) fn with_main(file: InputFile, paths: &[PathBuf]) -> Result<Self, Failure> {
        let (first, others) = paths.split_first().expect("a program was named");
        Self::beside(first.clone(), file, others)
    }

    fn beside(main: PathBuf, file: InputFile, others: &[PathBuf]) -> Result<Self, Failure> {
        let mut files = vec![file];
        for other in others {
            let paths = if other.is_dir() {
                below(other)?
            } else {
                vec![other.clone()]
            };
            for path in paths {
                if tidy(&path) == tidy(&main) {
                    continue;
                }
                let bytes = read_file(&path)?;
                files.push(InputFile::new(name_beside(&main, &path)?, &bytes));
            }
        }
        Ok(Self { main, files })
    }
}

/// The file of a folder that starts the program: `main.*`, else the only one in the language.
fn main_of(folder: &Path, language: Option<&str>) -> Result<PathBuf, Failure> {
    let fits = |path: &PathBuf| {
        let names = languages::of_file(path);
        names.is_some_and(|names| language.is_none_or(|wanted| names.contains(&wanted)))
    };
    let programs: Vec<PathBuf> = below(folder)?
        .into_iter()
        .filter(|path| path.parent() == Some(folder) && fits(path))
        .collect();
    let is_main = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == "main");
    let mut mains = programs.iter().filter(is_main);
    match (mains.next(), mains.next(), &programs[..]) {
        (Some(main), None, _) => Ok(main.clone()),
        (None, _, [only]) => Ok(only.clone()),
        _ => {
            let folder = folder.display();
            let text = format!("can't tell which file of {folder} starts the program");
            Err(Failure::new(text).next(format!(
                "call it main with the language's ending, or name it first: \
                 `piston run {folder}/FILE {folder}`"
            )))
        }
    }
}

/// The files in a folder and in those below it, in order.
pub(super) fn below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let unreadable = |error: io::Error| {
            Failure::new(format!("can't list {}", next.display())).because(error)
        };
        for entry in fs::read_dir(&next).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || GENERATED.contains(&&*name) {
                continue;
            }
            // A link to a folder might lead around in a circle: it is not followed.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().is_file() {
                found.push(entry.path());
            }
            if found.len() > MAX_FILES {
                let text = format!("{} holds more than {MAX_FILES} files", folder.display());
                return Err(Failure::new(text).next("name those that the program needs"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The main file, and those that are sent along.
pub(super) fn with_others(
    main: InputFile,
    file: &Path,
    others: &[PathBuf],
) -> Result<Vec<InputFile>, Failure> {
    Ok(Sent::beside(file.to_owned(), main, others)?.files)
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failure = || Failure::new(format!("can't read {}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent(path),
        io::ErrorKind::PermissionDenied => failure()
            .because(error)
            .next(format!("allow it: `chmod u+r {}`", path.display())),
        _ => failure().because(error),
    })?;
    let bytes = bounded(file).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            Failure::new(format!("{} is a directory", path.display())).next("name a file of it")
        }
        _ => failure().because(error),
    })?;
    bytes.ok_or_else(|| too_large(&path.display().to_string()))
}

/// A file that is not there, with the one that was probably meant.
pub(super) fn absent(path: &Path) -> Failure {
    let failure = Failure::new(format!("there is no file {}", path.display()));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let names: Vec<String> = fs::read_dir(folder.unwrap_or(Path::new(".")))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match nearest(&name, names.iter().map(String::as_str)) {
        Some(meant) => {
            let meant = path.with_file_name(meant);
            failure.next(format!("did you mean {}?", meant.display()))
        }
        None => failure.next("check the file's name"),
    }
}

pub(super) fn read_stdin(stdin: impl Read) -> Result<Vec<u8>, Failure> {
    let bytes =
        bounded(stdin).map_err(|error| Failure::new("can't read standard input").because(error))?;
    bytes.ok_or_else(|| too_large("standard input"))
}

fn too_large(what: &str) -> Failure {
    Failure::new(format!("{what} is over {} MiB", MAX_INPUT >> 20))
        .next("a job's input is sent whole: give it less")
}

/// Everything there is to read; none when that is over the bound.
fn bounded(reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = reader.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(length).is_ok_and(|length| length <= MAX_INPUT)).then_some(bytes))
}

pub(super) fn base_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{} has no name that can be sent", path.display())))
}

/// Where a further file is found by the program: as it lies from the main file's directory, or,
/// when it is not below that, as it was named, or by its last name alone.
fn name_beside(main: &Path, other: &Path) -> Result<String, Failure> {
    let directory = tidy(main.parent().unwrap_or(Path::new("")));
    let tidied = tidy(other);
    let below = tidied.strip_prefix(&directory).unwrap_or(&tidied);
    let inside = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match below.to_str() {
        Some(name) if inside && !name.is_empty() => Ok(name.to_owned()),
        _ => base_name(other),
    }
}

/// A path without `.` parts.
fn tidy(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, each empty.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("a folder");
            fs::write(path, "").expect("a file");
        }
        folder
    }

    fn sent(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
        let names = |file: InputFile| file.name.expect("named");
        Ok(Sent::gather(paths, None)?
            .files
            .into_iter()
            .map(names)
            .collect())
    }

    #[test]
    fn a_folder_is_sent_whole_and_starts_with_its_main_file() {
        let files = [
            "a.py",
            "main.py",
            "lib/b.py",
            ".git/x",
            "__pycache__/y",
            "data",
        ];
        let folder = folder(&files);
        let names = sent(&[folder.path().to_owned()]).expect("files");
        assert_eq!(names, ["main.py", "a.py", "data", "lib/b.py"]);
        let named = [folder.path().join("a.py"), folder.path().to_owned()];
        let names = sent(&named).expect("files");
        assert_eq!(names, ["a.py", "data", "lib/b.py", "main.py"]);
    }

    #[test]
    fn a_folder_without_one_program_says_how_to_name_it() {
        for names in [
            &["a.py", "b.py"][..],
            &["main.py", "main.c"],
            &["data"],
            &[],
        ] {
            let folder = folder(names);
            sent(&[folder.path().to_owned()]).expect_err("several or none");
        }
        let both = folder(&["main.py", "main.c"]);
        let sent = Sent::gather(&[both.path().to_owned()], Some("c")).expect("told apart");
        assert_eq!(sent.main, both.path().join("main.c"));
    }

    #[test]
    fn more_files_lie_as_they_do_beside_the_program() {
        let check = |main: &str, other: &str, expected: &str| {
            let name = name_beside(Path::new(main), Path::new(other)).expect("a name");
            assert_eq!(name, expected, "{main} {other}");
        };
        check("main.py", "util.py", "util.py");
        check("main.py", "lib/util.py", "lib/util.py");
        check("src/main.py", "src/lib/util.py", "lib/util.py");
        check("./src/main.py", "src/util.py", "util.py");
        check("src/main.py", "data/in.txt", "data/in.txt");
        check("/a/main.py", "/a/b/c", "b/c");
        check("/a/main.py", "/b/c", "c");
        check("src/main.py", "../c", "c");
        check("-", "lib/util.py", "lib/util.py");
    }
}
