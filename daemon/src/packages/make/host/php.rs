//! The `php` package: the interpreter with the extensions that it loads on this host.
//!
//! Which those are is asked of the interpreter. The host's configuration stays where it is: the package
//! has a file of its own that names the extensions, and PHP's defaults for the rest. `opcache` is left
//! out, which does nothing for programs that run once.

use std::fmt::Write as _;
use std::path::Path;

use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home, owned};
use super::collect::Collector;
use super::{Host, Needs, ask, base, semver};

/// Its name.
pub(in super::super) const NAME: &str = "php";

const NEEDS: Needs = Needs {
    debian: "php-cli",
    fedora: "php-cli",
    ..Needs::of("php")
};

/// Prints the version, where extensions lie, and those that are loaded, in the order of their needs.
const QUESTION: &str = r#"echo PHP_VERSION, "\n", ini_get("extension_dir"), "\n",
    strtolower(implode("\n", get_loaded_extensions())), "\n";"#;

/// Plans the package for the host's `php`, or for another one.
pub(in super::super) fn draft(host: &Host, program: Option<&Path>) -> Result<Draft, MakeError> {
    let program = host.program(program, &NEEDS)?;
    let (answer, _) = ask(&program, &["-r", QUESTION])?;
    let mut lines = answer.lines();
    let version = lines.next().unwrap_or_default();
    let version = semver(&program.display().to_string(), version)?;
    let directory = Path::new(lines.next().unwrap_or_default());
    let home = home(NAME, &version);
    let mut collector = Collector::new(Vec::new())?;
    let run = collector.program(&program, None)?;
    let mut extensions = String::new();
    for name in lines {
        // Most are built in.
        let file = directory.join(name).with_extension("so");
        if file.is_absolute() && file.is_file() {
            match collector.program(&file, Some(&program)) {
                Ok(at) => writeln!(extensions, "extension={at}").expect("a string grows"),
                Err(error) => collector.notes.push(error.to_string()),
            }
        }
    }
    collector
        .plan
        .bytes(&format!("{home}/extensions.ini"), extensions);
    collector.plan.subtract(&base::plan(host)?);
    let description = Description {
        run: Some(Step::Command(owned([&run, "{main}", "{args}"]))),
        environment: format!("export PHP_INI_SCAN_DIR={home}\n"),
        ..Description::on_base(NAME, version, host)?
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}
