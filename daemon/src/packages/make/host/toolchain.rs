//! Languages whose programs come in a folder of their own, with all that they need: Java's development
//! kit, Go.
//!
//! A toolchain says itself which version it is and where its folder is; how it compiles and runs is what
//! its recipe says, with that folder in the place of Debian's. Documentation, sources of the toolchain
//! itself and parts for programs with a screen are left out.

use std::fs;
use std::path::{Path, PathBuf};

use piston_client::ids::{PackageRef, Version};

use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home};
use super::super::recipe;
use super::collect::{Collector, Relocation, reading};
use super::{Host, Needs, ask, base, semver};

/// A toolchain.
#[derive(Debug)]
pub(in super::super) struct Toolchain {
    /// The language, and the package's name.
    pub(in super::super) name: &'static str,
    /// Words that people may use for it.
    pub(in super::super) words: &'static [&'static str],
    needs: Needs,
    /// Arguments by which it tells its version and its folder.
    question: &'static [&'static str],
    /// How the two are called in the answer; where they are not, they are its lines.
    keys: Option<[&'static str; 2]>,
    /// Its programs in that folder.
    programs: &'static [&'static str],
    /// Which paths in the folder are taken.
    keep: fn(&Path) -> bool,
    /// A part of the folder that may lie in the host's configuration.
    configuration: Option<&'static str>,
    /// What the recipe calls the folder.
    of_recipe: &'static str,
}

/// The toolchains that are known.
pub(in super::super) const ALL: [Toolchain; 2] = [
    Toolchain {
        name: "java",
        words: &["jdk", "javac", "openjdk"],
        needs: Needs {
            program: "javac",
            debian: "default-jdk-headless",
            fedora: "java-latest-openjdk-devel",
            alpine: "openjdk21-jdk",
            arch: "jdk-openjdk",
        },
        question: &["-J-XshowSettings:properties", "-version"],
        keys: Some(["java.version", "java.home"]),
        programs: &["bin/java", "bin/javac"],
        keep: of_java,
        configuration: Some("lib/jvm.cfg"),
        of_recipe: "/usr/lib/jvm/default-java",
    },
    Toolchain {
        name: "go",
        words: &["golang"],
        needs: Needs {
            debian: "golang-go",
            fedora: "golang",
            ..Needs::of("go")
        },
        question: &["env", "GOVERSION", "GOROOT"],
        keys: None,
        programs: &["bin/go", "bin/gofmt"],
        keep: of_go,
        configuration: None,
        of_recipe: "/usr",
    },
];

/// Manuals, modules to link programs from, and what needs a screen or speakers.
fn of_java(path: &Path) -> bool {
    const WITHOUT: [&str; 14] = [
        "demo",
        "docs",
        "include",
        "jmods",
        "legal",
        "man",
        "sample",
        "src.zip",
        "lib/src.zip",
        "lib/libatk-wrapper.so",
        "lib/libawt_xawt.so",
        "lib/libjawt.so",
        "lib/libjsound.so",
        "lib/libsplashscreen.so",
    ];
    !WITHOUT.iter().any(|out| path == Path::new(out))
}

/// Documentation, tests, and packages compiled in other ways than usual.
fn of_go(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let other_ways = ["_race", "_dynlink", "_shared"];
    let is_compiled = path.starts_with("pkg") && other_ways.iter().any(|way| name.ends_with(way));
    let without = ["api", "doc", "misc", "test"].map(Path::new);
    !(is_compiled || without.contains(&path) || name == "testdata" || name.ends_with("_test.go"))
}

/// Plans the package for the toolchain on the host's `PATH`, or for the one of another program.
pub(in super::super) fn draft(
    what: &Toolchain,
    host: &Host,
    program: Option<&Path>,
) -> Result<Draft, MakeError> {
    let program = host.program(program, &what.needs)?;
    let (version, folder) = told(what, &program)?;
    let home = home(what.name, &version);
    let mut collector = Collector::new(relocations(what, &folder, &home))?;
    let wrong = |reason: String| MakeError::Answer {
        program: program.clone(),
        reason,
    };
    for name in what.programs {
        collector.program(&folder.join(name), None)?;
    }
    // By its name, where it is on the usual paths.
    collector.take_if_there(&program);
    collect(what, &mut collector, &folder)?;
    let at = collector.place(&folder);
    let at = at.ok_or_else(|| wrong("its folder has no place in a package".to_owned()))?;
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    Ok(Draft {
        description: describe((what.name, what.of_recipe), host, version, &at)?,
        plan: collector.plan,
        notes: collector.notes,
    })
}

/// The version of a toolchain and its folder, links followed.
fn told(what: &Toolchain, program: &Path) -> Result<(Version, PathBuf), MakeError> {
    let (out, err) = ask(program, what.question)?;
    let lines: Vec<&str> = out.lines().chain(err.lines()).map(str::trim).collect();
    let value = |key: &str| {
        let said = lines.iter().filter_map(|line| line.split_once(" = "));
        said.into_iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    };
    let [version, folder] = match what.keys {
        Some(keys) => keys.map(value),
        None => [0, 1].map(|number| lines.get(number).copied()),
    };
    let version = version.unwrap_or_default();
    let version = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let version = semver(&program.display().to_string(), version)?;
    let folder = folder.map(Path::new).filter(|folder| folder.is_absolute());
    let folder = folder.ok_or_else(|| MakeError::Answer {
        program: program.to_owned(),
        reason: "it does not tell where it is installed".to_owned(),
    })?;
    let folder = fs::canonicalize(folder).map_err(reading(folder))?;
    Ok((version, folder))
}

/// A folder outside of the system's directories moves to the package's own, and so does what a
/// distribution has of it in `/etc`: of that only what the folder links to is taken.
fn relocations(what: &Toolchain, folder: &Path, home: &str) -> Vec<Relocation> {
    let mut all = Vec::new();
    if !folder.starts_with("/usr") {
        all.push(Relocation {
            from: folder.to_owned(),
            to: format!("{home}/toolchain"),
        });
    }
    let part = what.configuration.map(|part| folder.join(part));
    let part = part.and_then(|part| fs::canonicalize(part).ok());
    let top = part.and_then(|part| {
        let below = part.strip_prefix("/etc").ok()?.components().next()?;
        Some(Path::new("/etc").join(below))
    });
    all.extend(top.map(|from| Relocation {
        from,
        to: format!("{home}/etc"),
    }));
    all
}

/// The folder, with the folders that it links to (what is the same on every machine lies elsewhere in
/// distributions), and what its libraries need.
fn collect(what: &Toolchain, collector: &mut Collector, folder: &Path) -> Result<(), MakeError> {
    collector.tree(folder, &what.keep)?;
    for entry in fs::read_dir(folder).map_err(reading(folder))? {
        let path = entry.map_err(reading(folder))?.path();
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        if path.is_symlink() && path.is_dir() && (what.keep)(&name) {
            collector.tree(&path, &|below| (what.keep)(&name.join(below)))?;
        }
    }
    let loader = what.programs.first().map(|name| folder.join(name));
    let incomplete = collector.libraries_below(folder, &what.keep, loader.as_deref());
    incomplete.map(drop)
}

/// What the recipe of that name says, of this host's toolchain at the path `at` instead of the recipe's.
pub(super) fn describe(
    (name, of_recipe): (&'static str, &str),
    host: &Host,
    version: Version,
    at: &str,
) -> Result<Description, MakeError> {
    let below = Description::on_base(name, version.clone(), host)?;
    let recipe = recipe::builtin_for(name).ok_or_else(|| MakeError::Recipe {
        recipe: format!("`{name}`"),
        reason: "there is none".to_owned(),
    })??;
    let package = PackageRef::new(recipe.language.clone(), version);
    let described = recipe.describe(package);
    // `/usr` is no word of its own in a script.
    let bin = |text: &str| text.replace(&format!("{of_recipe}/bin/"), &format!("{at}/bin/"));
    let moved = |step: Step| match step {
        Step::Command(argv) => Step::Command(argv.iter().map(|word| bin(word)).collect()),
        Step::Script(text) => Step::Script(bin(&text)),
    };
    let environment = described.environment.lines();
    let quoted = format!("='{of_recipe}'");
    let environment = environment.map(|line| line.replace(&quoted, &format!("='{at}'")) + "\n");
    Ok(Description {
        platform: below.platform,
        dependencies: below.dependencies,
        run: described.run.map(moved),
        compile: described.compile.map(moved),
        environment: environment.collect(),
        ..described
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn known(name: &str) -> &'static Toolchain {
        let found = ALL.iter().find(|one| one.name == name);
        found.expect("a known toolchain")
    }

    #[test]
    fn of_a_folder_only_what_programs_need_is_taken() {
        for (name, path, expected) in [
            ("java", "lib/modules", true),
            ("java", "lib/server/libjvm.so", true),
            ("java", "jmods", false),
            ("java", "lib/src.zip", false),
            ("go", "src/fmt/print.go", true),
            ("go", "src/fmt/fmt_test.go", false),
            ("go", "src/image/testdata", false),
            ("go", "src/testing", true),
            ("go", "test", false),
            ("go", "pkg/linux_amd64", true),
            ("go", "pkg/linux_amd64_race", false),
        ] {
            assert_eq!(
                (known(name).keep)(Path::new(path)),
                expected,
                "{name}: {path}"
            );
        }
    }

    /// A toolchain in a folder of somebody's, whose program answers what is asked of it.
    fn unpacked(name: &str, program: &str, answer: &str) -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().expect("a directory");
        let folder = top.path().join("sdk");
        let shared = top.path().join("sdk/shared");
        fs::create_dir_all(folder.join("bin")).expect("made");
        fs::create_dir_all(&shared).expect("made");
        fs::write(shared.join("lib.txt"), "x").expect("written");
        std::os::unix::fs::symlink("shared", folder.join("linked")).expect("a link");
        let answer = answer.replace("HERE", &folder.display().to_string());
        let script = format!("#!/bin/sh\nprintf '%s\\n' {answer}\n");
        for one in known(name).programs {
            let file = folder.join(one);
            fs::write(&file, &script).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        (top, folder.join("bin").join(program))
    }

    #[test]
    fn a_toolchain_of_a_user_gets_a_place_of_its_own_and_the_recipe_s_scripts_name_it() {
        for (name, program, answer) in [
            ("go", "go", "go1.99.2 HERE"),
            (
                "java",
                "javac",
                "noise 'java.home = HERE' 'java.version = 1.99.2+8'",
            ),
        ] {
            let (_top, program) = unpacked(name, program, answer);
            let draft = draft(known(name), &Host::read(), Some(&program)).expect(name);
            assert_eq!(
                draft.description.package.to_string(),
                format!("{name}-1.99.2")
            );
            let at = format!("/piston/packages/{name}/1.99.2/toolchain");
            for file in ["bin", "shared/lib.txt", "linked"] {
                assert!(
                    draft.plan.contains(&format!("{at}/{file}")),
                    "{name}: {file}"
                );
            }
            let Some(Step::Script(compile)) = draft.description.compile else {
                panic!("{name} compiles by a script");
            };
            assert!(compile.contains(&format!("exec {at}/bin/")), "{compile}");
            assert!(!compile.contains("/usr/"), "{compile}");
            assert_eq!(draft.description.dependencies.len(), 1);
        }
    }

    #[test]
    fn a_program_that_says_nothing_of_itself_is_no_toolchain() {
        for answer in ["", "go1.99.2", "go1.99.2 relative/path", "no version HERE"] {
            let (_top, program) = unpacked("go", "go", answer);
            let error = draft(known("go"), &Host::read(), Some(&program)).expect_err(answer);
            assert!(error.to_string().contains("bin/go"), "{error}");
        }
    }
}
