//! The `bash` package: the language, run by the shell that the base package has.

use std::fs;
use std::path::Path;

use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home, owned};
use super::collect::{Collector, Relocation, reading};
use super::{Host, Needs, ask, base, semver};

/// Its name.
pub(in super::super) const NAME: &str = "bash";

/// Where scripts expect the shell.
const USUAL: &str = "/bin/bash";

const NEEDS: Needs = Needs::of("bash");

/// Plans the package for the host's bash, or for another one.
pub(in super::super) fn draft(host: &Host, program: Option<&Path>) -> Result<Draft, MakeError> {
    let program = host.program(program, &NEEDS)?;
    let question = ["--norc", "--noprofile", "-c", "echo \"$BASH_VERSION\""];
    let (answer, _) = ask(&program, &question)?;
    let version = semver(&program.display().to_string(), answer.trim())?;
    let home = home(NAME, &version);
    let program = fs::canonicalize(&program).map_err(reading(&program))?;
    // A shell outside the system's directories gets a place of its own.
    let moves = !program.starts_with("/usr") && !program.starts_with("/bin");
    let to = format!("{home}/bin/bash");
    let relocation = Relocation {
        from: program.clone(),
        to,
    };
    let mut collector = Collector::new(moves.then_some(relocation).into_iter().collect())?;
    let placed = collector.program(&program, None)?;
    let usual = fs::canonicalize(USUAL).is_ok_and(|usual| usual == program);
    let run = if usual { USUAL.to_owned() } else { placed };
    // Often all of it is in the base package: then this directory is the whole image.
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    let description = Description {
        aliases: vec!["sh".to_owned()],
        run: Some(Step::Command(owned([&run, "{main}", "{args}"]))),
        ..Description::on_base(NAME, version, host)?
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}
