//! The `gcc` package: the host's GNU compilers for C and C++ with what they compile against.
//!
//! Where things are is asked of the compiler itself. Of `/usr/include`, which on a developer's
//! machine holds hundreds of libraries, only the headers of libc, of the kernel and of the
//! compiler are taken. Left out: link-time optimisation (a third large compiler), sanitizers,
//! other languages, plug-ins.

pub(super) mod driver;
pub(super) mod parts;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::driver::Driver;
use self::parts::{BINUTILS, PASSES, is_runtime, is_system_header};
use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home, owned};
use super::collect::{Collector, reading};
use super::{Host, Needs, ask, base, semver};

/// Its name.
pub(in super::super) const NAME: &str = "gcc";

const CXX: Needs = Needs {
    program: "g++",
    debian: "g++",
    fedora: "gcc-c++",
    alpine: "g++",
    arch: "gcc",
};

/// What the compiler says of itself.
#[derive(Debug)]
struct Compiler {
    driver: Driver,
    gxx: PathBuf,
    version: String,
}

/// Plans the package for the host's `gcc`, or for another one that has its `g++` beside it.
pub(in super::super) fn draft(host: &Host, program: Option<&Path>) -> Result<Draft, MakeError> {
    let compiler = Compiler::find(host, program)?;
    let program = &compiler.driver.program;
    let version = semver(&program.display().to_string(), &compiler.version)?;
    let mut collector = Collector::new(Vec::new())?;
    compiler.programs(&mut collector, host)?;
    compiler.headers(&mut collector)?;
    // What scripts and the compile step call, whatever the drivers' files are called.
    let (gcc, gxx) = (program.to_string_lossy(), compiler.gxx.to_string_lossy());
    for (name, driver) in [("gcc", &gcc), ("cc", &gcc), ("g++", &gxx), ("c++", &gxx)] {
        collector.plan.symlink(&format!("/usr/bin/{name}"), driver);
    }
    collector.plan.directory(&home(NAME, &version));
    collector.plan.subtract(&base::plan(host)?);
    let description = Description {
        provides: vec![
            ("c".to_owned(), owned(["gcc"])),
            ("c++".to_owned(), owned(["cpp", "g++"])),
        ],
        artifacts: owned(["a.out"]),
        compile: Some(Step::Script(compile_script(version.semver().major))),
        run: Some(Step::Command(owned(["/piston/job/a.out", "{args}"]))),
        ..Description::on_base(NAME, version, host)?
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}

/// The compile step with the newest language standards that this version knows by final name.
fn compile_script(major: u64) -> String {
    let c = if major >= 8 {
        "-std=gnu17"
    } else {
        "-std=gnu11"
    };
    let cxx = match major {
        10.. => "-std=gnu++20",
        8..=9 => "-std=gnu++17",
        _ => "-std=gnu++14",
    };
    let script = include_str!("gcc/compile.sh");
    script
        .replace("@C@", &format!("{c} -O2"))
        .replace("@CXX@", &format!("{cxx} -O2"))
}

impl Compiler {
    fn find(host: &Host, program: Option<&Path>) -> Result<Self, MakeError> {
        let driver = Driver::find(host, program)?;
        let gxx = match program {
            Some(program) => Self::beside(program)?,
            None => host.program(None, &CXX)?,
        };
        driver::check(&gxx)?;
        let (version, _) = ask(&driver.program, &["-dumpfullversion", "-dumpversion"])?;
        Ok(Self {
            driver,
            gxx,
            version: version.trim().to_owned(),
        })
    }

    /// The C++ compiler of a C compiler: gcc-12 has g++-12.
    fn beside(gcc: &Path) -> Result<PathBuf, MakeError> {
        let name = gcc.file_name().unwrap_or_default().to_string_lossy();
        let start = name.rfind("gcc").map(|at| name.split_at(at));
        let gxx = start.map(|(start, rest)| {
            gcc.with_file_name(start.to_owned() + &rest.replacen("gcc", "g++", 1))
        });
        gxx.filter(|gxx| gxx.exists())
            .ok_or_else(|| MakeError::Unsupported {
                program: gcc.to_owned(),
                reason: "there is no g++ of the same version beside it".to_owned(),
            })
    }

    fn programs(&self, collector: &mut Collector, host: &Host) -> Result<(), MakeError> {
        self.driver.linker(collector, host, &is_runtime)?;
        self.driver.library(collector, "libstdc++.so")?;
        collector.program(&self.gxx, None)?;
        for name in PASSES {
            self.driver.pass(collector, name)?;
        }
        self.driver.tool(collector, "as")?;
        for name in BINUTILS {
            self.driver.tool_if_there(collector, name);
        }
        Ok(())
    }

    /// The headers in the directories that the two compilers search.
    fn headers(&self, collector: &mut Collector) -> Result<(), MakeError> {
        let mut directories = BTreeSet::new();
        for (driver, language) in [(&self.driver.program, "c"), (&self.gxx, "c++")] {
            let (_, said) = ask(driver, &["-E", "-v", "-x", language, "/dev/null"])?;
            directories.extend(search_list(&said));
        }
        let own = &self.driver.directory;
        let own = fs::canonicalize(own).map_err(reading(own))?;
        for directory in directories {
            let Ok(directory) = fs::canonicalize(&directory) else {
                continue;
            };
            let compilers = directory.starts_with(&own)
                || directory.components().any(|part| part.as_os_str() == "c++");
            if compilers {
                collector.tree(&directory, &|_| true)?;
            } else if !directory.starts_with("/usr/local") {
                collector.tree(&directory, &is_system_header)?;
            }
        }
        Ok(())
    }
}

/// The directories between the two lines by which `gcc -v` marks its search list.
fn search_list(said: &str) -> Vec<PathBuf> {
    let lines = said
        .lines()
        .skip_while(|line| !line.starts_with("#include <...>"));
    let lines = lines.skip(1).take_while(|line| line.starts_with(' '));
    lines
        .map(|line| PathBuf::from(line.trim()))
        .filter(|path| path.is_absolute())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_gets_the_newest_standards_that_it_knows() {
        let check = |major, c: &str, cxx: &str| {
            let script = compile_script(major);
            assert!(
                script.contains(&format!("'gcc {c} -O2'")),
                "{major}: {script}"
            );
            assert!(
                script.contains(&format!("'g++ {cxx} -O2'")),
                "{major}: {script}"
            );
        };
        check(7, "-std=gnu11", "-std=gnu++14");
        check(9, "-std=gnu17", "-std=gnu++17");
        check(10, "-std=gnu17", "-std=gnu++20");
        check(15, "-std=gnu17", "-std=gnu++20");
    }

    #[test]
    fn the_search_list_is_read_from_what_the_compiler_prints() {
        let said = "ignoring\n#include \"...\" search starts here:\n#include <...> search starts here:\n \
            /usr/lib/gcc/12/include\n /usr/include\nEnd of search list.\n /not/this\n";
        let expected = ["/usr/lib/gcc/12/include", "/usr/include"].map(PathBuf::from);
        assert_eq!(search_list(said), expected);
        assert!(search_list("nonsense").is_empty());
    }

    #[test]
    fn the_cpp_compiler_is_the_one_beside_the_c_compiler() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in [
            "gcc-9",
            "g++-9",
            "x86_64-linux-gnu-gcc",
            "x86_64-linux-gnu-g++",
            "clang",
        ] {
            fs::write(path(name), "").expect("written");
        }
        for (c, cxx) in [
            ("gcc-9", "g++-9"),
            ("x86_64-linux-gnu-gcc", "x86_64-linux-gnu-g++"),
        ] {
            assert_eq!(Compiler::beside(&path(c)).expect(c), path(cxx));
        }
        for alone in ["gcc-10", "clang"] {
            Compiler::beside(&path(alone)).expect_err(alone);
        }
    }

    #[test]
    fn a_compiler_that_is_not_gcc_is_told_so() {
        let error = draft(&Host::read(), Some(Path::new("/bin/true"))).expect_err("no compiler");
        assert!(error.to_string().contains("/bin/true"), "{error}");
    }
}
