//! The `rust` package: the host's Rust compiler, the standard library for this machine, and what links
//! programs.
//!
//! The compiler says itself where its toolchain is: what is on `PATH` is often rustup's, which starts
//! the one that somebody chose. How programs are compiled is what the recipe says. Left out: Cargo,
//! documentation, other targets, sanitizers.

use std::fs;
use std::path::{Path, PathBuf};

use piston_client::ids::Version;

use super::super::error::MakeError;
use super::super::package::{Draft, home};
use super::collect::{Collector, Relocation, reading};
use super::gcc::driver::Driver;
use super::gcc::parts::is_start;
use super::{Host, Needs, ask, base, semver, toolchain};

/// Its name.
pub(in super::super) const NAME: &str = "rust";

const RUSTC: Needs = Needs {
    fedora: "rust",
    alpine: "rust",
    arch: "rust",
    ..Needs::of("rustc")
};

/// What the compiler says of itself.
#[derive(Debug)]
struct Toolchain {
    version: Version,
    /// Where it is, links followed.
    sysroot: PathBuf,
    /// What it compiles for unless it is told otherwise.
    target: String,
}

/// Plans the package for the Rust compiler on the host's `PATH`, or for another one.
pub(in super::super) fn draft(host: &Host, program: Option<&Path>) -> Result<Draft, MakeError> {
    let toolchain = Toolchain::told(&host.program(program, &RUSTC)?)?;
    let Toolchain {
        version, sysroot, ..
    } = &toolchain;
    let driver = Driver::find(host, None)?;
    let home = home(NAME, version);
    let relocation = (!sysroot.starts_with("/usr")).then(|| Relocation {
        from: sysroot.clone(),
        to: format!("{home}/toolchain"),
    });
    let mut collector = Collector::new(Vec::from_iter(relocation))?;
    toolchain.collect(&mut collector)?;
    driver.linker(&mut collector, host, &is_start)?;
    // What the compiler calls, whatever the driver's file is called.
    let linker = driver.program.to_string_lossy();
    collector.plan.symlink("/usr/bin/cc", &linker);
    let at = collector.place(sysroot).ok_or_else(|| MakeError::Answer {
        program: sysroot.clone(),
        reason: "it has no place in a package".to_owned(),
    })?;
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    Ok(Draft {
        description: toolchain::describe((NAME, "/usr"), host, toolchain.version, &at)?,
        plan: collector.plan,
        notes: collector.notes,
    })
}

impl Toolchain {
    /// Asks a compiler, or what stands for it.
    fn told(program: &Path) -> Result<Self, MakeError> {
        let wrong = |what: &str| MakeError::Answer {
            program: program.to_owned(),
            reason: format!("it does not tell {what}"),
        };
        let (said, _) = ask(program, &["-vV"])?;
        let value = |key: &str| {
            let said = said.lines().filter_map(|line| line.split_once(": "));
            let mut values = said.filter_map(|(name, value)| (name == key).then_some(value));
            values.next()
        };
        let version = value("release").ok_or_else(|| wrong("its version"))?;
        let is_name = |name: &&str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            !name.is_empty() && name.chars().all(fits)
        };
        let target = value("host").filter(is_name);
        let target = target.ok_or_else(|| wrong("what it compiles for"))?;
        let (sysroot, _) = ask(program, &["--print", "sysroot"])?;
        let sysroot = Path::new(sysroot.trim());
        if !sysroot.is_absolute() {
            return Err(wrong("where it is installed"));
        }
        Ok(Self {
            version: semver(&program.display().to_string(), version)?,
            sysroot: fs::canonicalize(sysroot).map_err(reading(sysroot))?,
            target: target.to_owned(),
        })
    }

    /// The compiler itself, the libraries for its own target, and the linker that newer ones bring.
    fn collect(&self, collector: &mut Collector) -> Result<(), MakeError> {
        let rustc = self.sysroot.join("bin/rustc");
        collector.program(&rustc, None)?;
        let own = self.sysroot.join("lib/rustlib").join(&self.target);
        collector.tree(&own, &is_taken)?;
        for name in ["rust-lld", "gcc-ld/ld.lld"] {
            collector.program_if_there(&own.join("bin").join(name));
        }
        let incomplete = collector.libraries_below(&own, &is_taken, Some(&rustc));
        incomplete.map(drop)
    }
}

/// Whether a path of the target's folder is taken: the linker is added as a program.
fn is_taken(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_sanitizer = name.starts_with("librustc-") && name.contains("_rt.");
    !(is_sanitizer || path.starts_with("bin"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::super::package::Step;
    use super::*;

    #[test]
    fn of_a_target_s_folder_only_what_programs_need_is_taken() {
        for (path, expected) in [
            ("lib", true),
            ("lib/libstd-d1237ef7159db0a2.rlib", true),
            ("lib/libcore-120cbae4e86ec454.rmeta", true),
            ("lib/librustc_demangle-146c3f1190dee2e2.rlib", true),
            ("lib/librustc-stable_rt.asan.a", false),
            ("lib/librustc-nightly_rt.tsan.a", false),
            ("codegen-backends/librustc_codegen_llvm-llvm.so", true),
            ("bin", false),
            ("bin/wasm-component-ld", false),
        ] {
            assert_eq!(is_taken(Path::new(path)), expected, "{path}");
        }
    }

    /// A toolchain in a folder, and a program elsewhere that answers for it, as rustup's do.
    fn chosen(said: &str) -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().expect("a directory");
        let sysroot = top.path().join("toolchains/stable");
        let lib = sysroot.join("lib/rustlib/here-linux/lib");
        for folder in [
            &lib,
            &sysroot.join("bin"),
            &sysroot.join("lib/rustlib/other/lib"),
        ] {
            fs::create_dir_all(folder).expect("made");
        }
        for name in ["libstd.rlib", "librustc-stable_rt.asan.a"] {
            fs::write(lib.join(name), "x").expect("written");
        }
        fs::write(sysroot.join("lib/rustlib/other/lib/libstd.rlib"), "x").expect("written");
        let said = said.replace("HERE", &sysroot.display().to_string());
        let proxy = top.path().join("rustc");
        for program in [
            &proxy,
            &sysroot.join("bin/rustc"),
            &sysroot.join("bin/cargo"),
        ] {
            fs::write(program, format!("#!/bin/sh\n{said}\n")).expect("written");
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        (top, proxy)
    }

    #[test]
    fn the_toolchain_that_was_chosen_gets_a_place_of_its_own() {
        let said = "case $1 in -vV) printf 'release: 1.99.2-nightly\\nhost: here-linux\\n' ;; \
                    *) echo HERE ;; esac";
        let (_top, program) = chosen(said);
        let draft = draft(&Host::read(), Some(&program)).expect("a draft (Debian: gcc)");
        assert_eq!(draft.description.package.to_string(), "rust-1.99.2");
        let at = "/piston/packages/rust/1.99.2/toolchain";
        let has = |path: &str| draft.plan.contains(&format!("{at}/{path}"));
        assert!(has("bin/rustc") && has("lib/rustlib/here-linux/lib/libstd.rlib"));
        assert!(!has("bin/cargo") && !has("lib/rustlib/other"));
        assert!(!has("lib/rustlib/here-linux/lib/librustc-stable_rt.asan.a"));
        assert!(draft.plan.contains("/usr/bin/cc") && draft.plan.contains("/usr/bin/ld"));
        let headers = draft
            .plan
            .items()
            .any(|(path, _)| path.ends_with("/stdio.h"));
        assert!(!headers, "programs are only linked");
        let Some(Step::Command(compile)) = draft.description.compile else {
            panic!("rust compiles by a command");
        };
        assert_eq!(compile[0], format!("{at}/bin/rustc"));
    }

    #[test]
    fn a_program_that_says_nothing_of_itself_is_no_compiler() {
        for (said, what) in [
            ("echo", "its version"),
            ("echo 'release: 1.99.2'", "what it compiles for"),
            (
                "echo 'release: 1.99.2'; echo 'host: ../..'",
                "what it compiles for",
            ),
            (
                "echo 'release: 1.99.2'; echo 'host: here'",
                "where it is installed",
            ),
            ("echo no toolchain >&2; exit 1", "no toolchain"),
        ] {
            let (_top, program) = chosen(said);
            let error = draft(&Host::read(), Some(&program)).expect_err(said);
            let text = error.to_string();
            assert!(text.contains("/rustc") && text.contains(what), "{text}");
        }
    }
}
