//! Makers that take a language from this host: what the host is, and how its programs are asked.
//!
//! One file for each package: [`base`] is what all others depend on. [`collect`] copies pieces of
//! the host into a plan, and is where the rule lives of what may be taken. Needs no root.

pub(super) mod base;
pub(super) mod bash;
pub(super) mod collect;
pub(super) mod gcc;
pub(super) mod interpreter;
pub(super) mod php;
pub(super) mod python;
pub(super) mod rust;
pub(super) mod toolchain;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use piston_client::ids::Version;

use super::error::MakeError;

/// What the host is, by its `os-release`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    id: String,
    like: String,
    version: String,
}

impl Host {
    /// Reads the host's `os-release`; a host without one is plain `linux`.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"));
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value
                .unwrap_or("")
                .trim_matches(['"', '\''])
                .to_ascii_lowercase()
        };
        let id = field("ID");
        // The id becomes part of `build_platform`: keep to what os-release(5) allows in it.
        let sane = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let id = if id.is_empty() || !id.chars().all(sane) {
            "linux".to_owned()
        } else {
            id
        };
        Self {
            id,
            like: field("ID_LIKE"),
            version: field("VERSION_ID"),
        }
    }

    /// The platform that packages made here are for, e.g. `debian-x86_64`.
    pub(super) fn platform(&self) -> String {
        format!("{}-{}", self.id, std::env::consts::ARCH)
    }

    /// The version of the base package: the distribution's, as semver (12 is 12.0.0, 24.04 is
    /// 24.4.0; a distribution without versions has 0.0.0).
    pub(super) fn base_version(&self) -> Result<Version, MakeError> {
        if self.version.is_empty() {
            return semver("the host", "0.0.0");
        }
        semver("the host's os-release", &self.version)
    }

    /// The command that installs a program here, by the distribution's package manager.
    fn install_command(&self, packages: &Needs) -> String {
        let is = |id: &str| self.id == id || self.like.split_whitespace().any(|like| like == id);
        if is("debian") || is("ubuntu") {
            format!("apt-get install {}", packages.debian)
        } else if is("fedora") || is("rhel") {
            format!("dnf install {}", packages.fedora)
        } else if is("alpine") {
            format!("apk add {}", packages.alpine)
        } else if is("arch") {
            format!("pacman -S {}", packages.arch)
        } else {
            format!("the package that has {}", packages.program)
        }
    }

    /// The program that was asked for, or the one of that name on `PATH` or in the usual places.
    pub(super) fn program(
        &self,
        asked: Option<&Path>,
        needs: &Needs,
    ) -> Result<PathBuf, MakeError> {
        if let Some(program) = asked {
            return asked_for(program).map_err(|source| MakeError::Read {
                path: program.to_owned(),
                source,
            });
        }
        on_path(needs.program).ok_or_else(|| self.not_installed(needs))
    }

    /// The error for what the host lacks.
    fn not_installed(&self, needs: &Needs) -> MakeError {
        let install = self.install_command(needs);
        MakeError::NotInstalled {
            program: needs.program.to_owned(),
            install,
        }
    }
}

/// A program that a maker needs, and the names of what brings it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// The program.
    pub(super) program: &'static str,
    debian: &'static str,
    fedora: &'static str,
    alpine: &'static str,
    arch: &'static str,
}

impl Needs {
    /// A program that every distribution has in a package of its name.
    const fn of(program: &'static str) -> Self {
        Self {
            program,
            debian: program,
            fedora: program,
            alpine: program,
            arch: program,
        }
    }
}

/// A program by its path, or by its name alone (`python3.12`) as a shell would find it.
fn asked_for(program: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(program)?;
    let found = fs::metadata(&path).map(|_| path);
    match program.to_str() {
        Some(name) if !name.contains('/') => on_path(name).map_or(found, Ok),
        _ => found,
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let dirs = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(usual);
    dirs.map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// A command of the host's program that answers the same for every caller: none of the variables
/// by which a user bends interpreters and compilers, and no message in another language.
fn question(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    let bending = [
        "PYTHON",
        "PERL",
        "NODE_",
        "LUA_",
        "RUBY",
        "GEM_",
        "PHP",
        "JAVA_",
        "JDK_",
        "_JAVA",
        "GO",
        "GCC_",
        "COMPILER_PATH",
        "LIBRARY_PATH",
        "LD_",
        "CPATH",
        "C_INCLUDE",
        "CPLUS_INCLUDE",
        "BASH_ENV",
        "ENV",
        "LC_",
        "LANG",
    ];
    for (name, _) in std::env::vars_os() {
        if bending
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

/// Runs a program of the host and returns what it prints to its two outputs.
fn ask<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Result<(String, String), MakeError> {
    let wrong = |reason: String| MakeError::Answer {
        program: program.to_owned(),
        reason,
    };
    let output = question(program).args(args).output();
    let output = output.map_err(|error| wrong(format!("it cannot be run: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok((text(&output.stdout), text(&output.stderr)));
    }
    let complaint = text(&output.stderr);
    let complaint = complaint.lines().last().unwrap_or("");
    Err(wrong(format!("{} {complaint}", output.status)))
}

/// The leading dotted numbers of a version as semver: `12` is 12.0.0, `5.2.15(1)-release` is
/// 5.2.15.
pub(super) fn semver(what: &str, text: &str) -> Result<Version, MakeError> {
    let wrong = || MakeError::Version {
        what: what.to_owned(),
        text: text.to_owned(),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let mut numbers = text[..end].split('.').filter(|part| !part.is_empty());
    let first: u64 = numbers
        .next()
        .and_then(|part| part.parse().ok())
        .ok_or_else(wrong)?;
    let mut next = || {
        numbers
            .next()
            .unwrap_or("0")
            .parse::<u64>()
            .map_err(|_| wrong())
    };
    let (second, third) = (next()?, next()?);
    format!("{first}.{second}.{third}")
        .parse()
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        program: "no-such-program",
        debian: "one",
        fedora: "two",
        alpine: "three",
        arch: "four",
    };

    #[test]
    fn a_version_of_the_host_becomes_semver() {
        let good = [
            ("12", "12.0.0"),
            ("24.04", "24.4.0"),
            ("3.19.1", "3.19.1"),
            ("5.2.15(1)-release", "5.2.15"),
            ("12.2.0", "12.2.0"),
            ("20240101", "20240101.0.0"),
            ("9.3.1.2", "9.3.1"),
        ];
        for (text, expected) in good {
            let version = semver("it", text).expect(text);
            assert_eq!(version.to_string(), expected);
        }
        for bad in ["", "rolling", "v3", "99999999999999999999", "."] {
            assert!(semver("it", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_platform_is_the_distribution_and_the_processor() {
        let host = Host::parse("NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n");
        assert_eq!(
            host.platform(),
            format!("debian-{}", std::env::consts::ARCH)
        );
        assert_eq!(
            host.base_version().expect("a version").to_string(),
            "12.0.0"
        );
        for odd in ["", "ID=\"../x\"\n", "ID=\n"] {
            let host = Host::parse(odd);
            assert!(host.platform().starts_with("linux-"), "{odd:?}");
            assert_eq!(host.base_version().expect("a version").to_string(), "0.0.0");
        }
    }

    #[test]
    fn a_missing_program_says_how_this_distribution_installs_it() {
        let rows = [
            ("ID=debian", "apt-get install one"),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"",
                "apt-get install one",
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"",
                "dnf install two",
            ),
            ("ID=alpine", "apk add three"),
            ("ID=arch", "pacman -S four"),
            ("ID=other", "the package that has no-such-program"),
        ];
        for (os_release, expected) in rows {
            let error = Host::parse(os_release)
                .program(None, &NEEDS)
                .expect_err("missing");
            let text = error.to_string();
            assert!(
                text.contains("no-such-program") && text.contains(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_program_that_was_asked_for_must_be_there() {
        let asked = Path::new("/nonexistent/python3");
        let error = Host::read()
            .program(Some(asked), &NEEDS)
            .expect_err("missing");
        assert!(
            error.to_string().contains("/nonexistent/python3"),
            "{error}"
        );
    }

    #[test]
    fn a_program_may_be_asked_for_by_its_name_alone() {
        let found = Host::read()
            .program(Some(Path::new("sh")), &NEEDS)
            .expect("a shell");
        assert!(
            found.is_absolute() && found.ends_with("sh"),
            "{}",
            found.display()
        );
        let relative = Path::new("Cargo.toml");
        let found = Host::read()
            .program(Some(relative), &NEEDS)
            .expect("tests run in the crate");
        assert!(found.is_absolute() && found.ends_with(relative));
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_complaint() {
        let complain = ["-c", "echo first >&2; echo complaint >&2; exit 3"];
        let error = ask(Path::new("/bin/sh"), &complain).expect_err("status 3");
        let text = error.to_string();
        assert!(text.contains("/bin/sh") && text.contains('3'), "{text}");
        assert!(
            text.contains("complaint") && !text.contains("first"),
            "{text}"
        );
    }
}
