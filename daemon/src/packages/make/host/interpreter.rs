//! Languages that one interpreter of the host runs: Perl, JavaScript, Lua, Ruby.
//!
//! An interpreter says itself which version it is and where its own library is; that is all that the
//! package has. Modules that the host's administrator or users installed are left out.

use std::fs;
use std::path::Path;

use super::super::error::MakeError;
use super::super::package::{Description, Draft, Step, home, owned};
use super::collect::{Collector, Relocation, reading};
use super::{Host, Needs, ask, base, semver};

/// An interpreter.
#[derive(Debug)]
pub(in super::super) struct Interpreter {
    /// The language, and the package's name.
    pub(in super::super) name: &'static str,
    /// Other names of the language; people may ask for the package by them.
    pub(in super::super) aliases: &'static [&'static str],
    needs: Needs,
    /// Arguments by which it prints its version, then the directories of its library, one a line.
    question: &'static [&'static str],
    place: Place,
    limits: &'static [(&'static str, i64)],
}

/// Where an interpreter finds its library.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Where it was built for, so that it has to stay where it is.
    Fixed,
    /// In itself: from outside the system's directories it moves to the package's own.
    Anywhere,
}

/// The interpreters that are known.
pub(in super::super) const ALL: [Interpreter; 4] = [
    Interpreter {
        name: "perl",
        aliases: &["pl", "perl5"],
        needs: Needs::of("perl"),
        question: &[
            "-e",
            r#"printf "%vd\n", $^V; print "$_\n" for grep { -e "$_/strict.pm" || -e "$_/Config.pm" } @INC"#,
        ],
        place: Place::Fixed,
        limits: &[],
    },
    Interpreter {
        name: "javascript",
        aliases: &["js", "node", "nodejs", "node-javascript"],
        needs: Needs {
            program: "node",
            ..Needs::of("nodejs")
        },
        // Debian's loads what other distributions compile in.
        question: &[
            "-e",
            "console.log(process.version); for (const name of ['acorn', 'acorn-walk', \
             'cjs-module-lexer', 'undici']) { const at = '/usr/share/nodejs/' + name; \
             if (fs.existsSync(at)) console.log(at) }",
        ],
        place: Place::Anywhere,
        limits: &[("max_process_count", 128)],
    },
    Interpreter {
        name: "lua",
        aliases: &[],
        needs: Needs {
            debian: "lua5.4",
            ..Needs::of("lua")
        },
        question: &["-v"],
        place: Place::Fixed,
        limits: &[],
    },
    Interpreter {
        name: "ruby",
        aliases: &["rb"],
        needs: Needs::of("ruby"),
        question: &[
            "-e",
            "puts RUBY_VERSION, $LOAD_PATH.reject { |at| at.include?('site_ruby') || !File.directory?(at) }",
        ],
        place: Place::Fixed,
        limits: &[],
    },
];

/// Plans the package for the interpreter on the host's `PATH`, or for another one.
pub(in super::super) fn draft(
    what: &Interpreter,
    host: &Host,
    program: Option<&Path>,
) -> Result<Draft, MakeError> {
    let program = host.program(program, &what.needs)?;
    let (out, err) = ask(&program, what.question)?;
    // Old Luas say their version on the other stream.
    let answer = if out.is_empty() { err } else { out };
    let mut lines = answer.lines();
    let told = lines.next().unwrap_or_default();
    let told = told.trim_start_matches(|c: char| !c.is_ascii_digit());
    let version = semver(&program.display().to_string(), told)?;
    let home = home(what.name, &version);
    let mut collector = Collector::new(relocation(what.place, &program, &home)?)?;
    let run = collector.program(&program, None)?;
    for directory in lines.map(Path::new).filter(|line| line.is_absolute()) {
        library(&mut collector, directory, &program)?;
    }
    collector.plan.directory(&home);
    collector.plan.subtract(&base::plan(host)?);
    let limits = what.limits.iter();
    let description = Description {
        aliases: what.aliases.iter().map(ToString::to_string).collect(),
        limits: limits
            .map(|(name, limit)| ((*name).to_owned(), *limit))
            .collect(),
        run: Some(Step::Command(owned([&run, "{main}", "{args}"]))),
        ..Description::on_base(what.name, version, host)?
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}

/// Moves an interpreter that can be anywhere out of places that packages don't have.
fn relocation(place: Place, program: &Path, home: &str) -> Result<Vec<Relocation>, MakeError> {
    let program = fs::canonicalize(program).map_err(reading(program))?;
    let stays = program.starts_with("/usr") || program.starts_with("/bin");
    Ok(match (place, program.parent()) {
        (Place::Anywhere, Some(from)) if !stays => vec![Relocation {
            from: from.to_owned(),
            to: format!("{home}/bin"),
        }],
        _ => Vec::new(),
    })
}

/// A directory of the library, with what its compiled modules need.
fn library(collector: &mut Collector, top: &Path, program: &Path) -> Result<(), MakeError> {
    drop(collector.libraries_below(top, &|_| true, Some(program))?);
    // Manuals of modules, which programs don't read.
    let wanted = |path: &Path| path.extension().is_none_or(|end| end != "pod");
    collector.tree(top, &wanted)
}
