//! What goes to the terminal: tables, JSON, notes, failures, the bytes of programs.
//!
//! The only place that writes to standard output and standard error. Invariant: colours only on a
//! terminal that wants them; text that came from elsewhere can't move the cursor. `table` lays rows
//! out, [`crate::wrap`] breaks what is longer than a line of the terminal.

mod table;

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;
use serde::Serialize;

use crate::wrap;

use super::failure::{Account, account, of_stdout};

pub(super) use table::Table;

/// Where things are shown, and how.
#[derive(Debug)]
pub(super) struct Screen {
    json: bool,
    output: Paint,
    errors: Paint,
    watcher: Watcher,
    /// Columns of the terminal that standard output is.
    columns: Option<usize>,
    /// And of the one that standard error is.
    error_columns: Option<usize>,
    /// Whether standard output is a terminal.
    is_terminal: bool,
}

/// Who watches what takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watcher {
    /// A person at a terminal whose cursor may be moved.
    Person,
    /// Whoever reads lines.
    Log,
    /// A program that reads JSON, and nothing else.
    Program,
}

/// Whether something may be done that was not asked for in so many words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// It may (`--yes`).
    Given,
    /// When a person at the terminal says so.
    Asked,
}

/// Whether a stream takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    /// A file, a pipe, or a terminal of somebody who wants none.
    Plain,
    /// A terminal.
    Ansi,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Column heads and labels.
    Head,
    /// All is well.
    Good,
    /// Something to look at.
    Warning,
    /// Something failed.
    Bad,
}

impl Paint {
    fn of(stream: &impl IsTerminal) -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stream.is_terminal() && !unwanted && !dumb() {
            Self::Ansi
        } else {
            Self::Plain
        }
    }

    fn apply(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Head => "1",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Whether the terminal is one on which nothing but text may be written.
fn dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The columns of a terminal; none of what is none, or does not know.
fn columns(stream: &impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

impl Screen {
    /// Standard output and standard error.
    pub(super) fn of_this_process(json: bool) -> Self {
        let watcher = match json {
            true => Watcher::Program,
            false if io::stderr().is_terminal() && !dumb() => Watcher::Person,
            false => Watcher::Log,
        };
        Self {
            json,
            output: Paint::of(&io::stdout()),
            errors: Paint::of(&io::stderr()),
            watcher,
            columns: columns(&io::stdout()),
            error_columns: columns(&io::stderr()),
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// A screen without colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self {
            json: false,
            output: Paint::Plain,
            errors: Paint::Plain,
            watcher: Watcher::Log,
            columns: None,
            error_columns: None,
            is_terminal: false,
        }
    }

    /// Whether programs, rather than people, read standard output.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// Who watches standard error.
    pub(super) fn watcher(&self) -> Watcher {
        self.watcher
    }

    /// The columns of the terminal that standard error is.
    pub(super) fn columns_of_errors(&self) -> Option<usize> {
        self.error_columns
    }

    /// Whether standard output is a terminal, which bytes that are no text may upset.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows a result: itself as JSON, or as the text that `people` makes of it.
    pub(super) fn show<T: Serialize + ?Sized>(
        &self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(value)?
        } else {
            people(value)
        };
        Ok(write_line(&mut io::stdout().lock(), text.trim_end()).map_err(of_stdout)?)
    }

    /// Says what takes its time, to a person who waits.
    pub(super) fn progress(&self, text: impl Display) {
        if io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Whether something may be done: asks the person, where there is one.
    pub(super) fn agreed(&self, consent: Consent, question: impl Display) -> bool {
        let person = !self.json && io::stdin().is_terminal() && io::stderr().is_terminal();
        match consent {
            Consent::Given => true,
            Consent::Asked => person && self.ask(question),
        }
    }

    /// Yes unless something else is said; the end of the input says no.
    fn ask(&self, question: impl Display) -> bool {
        let head = self.errors.apply(Tone::Warning, "piston:");
        let mut errors = io::stderr().lock();
        let asked = write!(errors, "{head} {} [Y/n] ", clean(question));
        let mut answer = String::new();
        let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
        if !answer.ends_with('\n') {
            // Nobody is left to be shown where the next line begins.
            let _closed = writeln!(errors);
        }
        matches!(read, Ok(1..)) && is_yes(&answer)
    }

    /// Says something beside the result, which a program reads alone.
    pub(super) fn note(&self, text: impl Display) {
        if self.json {
            return;
        }
        let head = self.errors.apply(Tone::Warning, "piston:");
        let text = wrap::hanging("piston: ".len(), &clean(text), self.error_columns);
        // Nobody is left to be told that standard error is closed.
        let _closed = write_line(&mut io::stderr().lock(), &format!("{head} {text}"));
    }

    /// Says what failed and what to do next.
    pub(super) fn failure(&self, error: &anyhow::Error) {
        let account = account(error);
        let text = if self.json {
            account.json().to_string()
        } else {
            failure_text(&account, self.errors, self.error_columns)
        };
        let _closed = write_line(&mut io::stderr().lock(), &text);
    }

    /// Text in a tone, for standard output.
    pub(super) fn tone(&self, tone: Tone, text: &str) -> String {
        self.output.apply(tone, text)
    }

    /// Text for standard output whose first line goes on behind `indent` characters, and whose
    /// further lines begin below that.
    pub(super) fn hanging(&self, indent: usize, text: &str) -> String {
        wrap::hanging(indent, text, self.columns)
    }

    /// A table with aligned columns.
    pub(super) fn table(&self, table: &Table) -> String {
        table.text(self.output, self.columns)
    }
}

fn is_yes(answer: &str) -> bool {
    ["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// Passes on what a program printed.
pub(super) fn pass(stdout: &[u8], stderr: &[u8]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output
        .write_all(stdout)
        .and_then(|()| output.flush())
        .map_err(of_stdout)?;
    let _closed = io::stderr().lock().write_all(stderr);
    Ok(())
}

fn write_line(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.write_all(b"\n")?;
    stream.flush()
}

fn failure_text(account: &Account, paint: Paint, columns: Option<usize>) -> String {
    let text = |text: &str| wrap::hanging("error: ".len(), &clean(text), columns);
    let head = paint.apply(Tone::Bad, "error:");
    let mut lines = vec![format!("{head} {}", text(&account.error))];
    for (at, advice) in account.next.iter().enumerate() {
        let head = if at == 0 { "next:" } else { "     " };
        lines.push(format!(
            " {} {}",
            paint.apply(Tone::Good, head),
            text(advice)
        ));
    }
    lines.join("\n")
}

/// Text from elsewhere without what a terminal acts on.
pub(super) fn clean(text: impl Display) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        // A terminal without UTF-8 shows this as well.
        c if c.is_control() => '?',
        c => c,
    };
    text.to_string().chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_can_not_act_on_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\u{7}\tc\nd"), "a?[2Jb?? c\nd");
    }

    #[test]
    fn a_failure_is_a_line_and_what_to_do() {
        let account = Account {
            error: "language `pyton` is not installed".into(),
            next: vec!["did you mean `python`?".into(), "or install it".into()],
            problem: None,
        };
        insta::assert_snapshot!(failure_text(&account, Paint::Plain, None), @"
        error: language `pyton` is not installed
         next: did you mean `python`?
               or install it
        ");
        insta::assert_snapshot!(failure_text(&account, Paint::Plain, Some(30)), @"
        error: language `pyton` is not
               installed
         next: did you mean `python`?
               or install it
        ");
    }
}
