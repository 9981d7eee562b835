//! What goes to the terminal: tables, JSON, notes, failures, the bytes of programs.
//!
//! The only place that writes to standard output and standard error. Invariant: colours only on a
//! terminal that wants them; text that came from elsewhere can't move the cursor.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::{Account, account, of_stdout};

/// Where things are shown, and how.
#[derive(Debug)]
pub(super) struct Screen {
    json: bool,
    output: Paint,
    errors: Paint,
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
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !unwanted {
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

impl Screen {
    /// Standard output and standard error.
    pub(super) fn of_this_process(json: bool) -> Self {
        Self {
            json,
            output: Paint::of(&io::stdout()),
            errors: Paint::of(&io::stderr()),
        }
    }

    /// A screen without colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self {
            json: false,
            output: Paint::Plain,
            errors: Paint::Plain,
        }
    }

    /// Whether programs, rather than people, read standard output.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// Who watches standard error.
    pub(super) fn watcher(&self) -> Watcher {
        match self.errors {
            _ if self.json => Watcher::Program,
            Paint::Ansi => Watcher::Person,
            Paint::Plain => Watcher::Log,
        }
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
        if !self.json && io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Says something beside the result.
    pub(super) fn note(&self, text: impl Display) {
        let head = self.errors.apply(Tone::Warning, "piston:");
        // Nobody is left to be told that standard error is closed.
        let _closed = write_line(&mut io::stderr().lock(), &format!("{head} {}", clean(text)));
    }

    /// Says what failed and what to do next.
    pub(super) fn failure(&self, error: &anyhow::Error) {
        let account = account(error);
        let text = if self.json {
            account.json().to_string()
        } else {
            failure_text(&account, self.errors)
        };
        let _closed = write_line(&mut io::stderr().lock(), &text);
    }

    /// Text in a tone, for standard output.
    pub(super) fn tone(&self, tone: Tone, text: &str) -> String {
        self.output.apply(tone, text)
    }

    /// A table with aligned columns.
    pub(super) fn table(&self, table: &Table) -> String {
        table.text(self.output)
    }
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

fn failure_text(account: &Account, paint: Paint) -> String {
    let mut lines = vec![format!(
        "{} {}",
        paint.apply(Tone::Bad, "error:"),
        clean(&account.error)
    )];
    for (at, advice) in account.next.iter().enumerate() {
        let head = if at == 0 { "next:" } else { "     " };
        lines.push(format!(
            " {} {}",
            paint.apply(Tone::Good, head),
            clean(advice)
        ));
    }
    lines.join("\n")
}

/// Text from elsewhere without what a terminal acts on.
pub(super) fn clean(text: impl Display) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.to_string().chars().map(harmless).collect()
}

/// Rows under heads, or labelled lines.
#[derive(Debug, Default)]
pub(super) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(super) fn new<const N: usize>(heads: [&'static str; N]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(
            cells
                .iter()
                .map(|cell| clean(cell).replace('\n', " "))
                .collect(),
        );
    }

    fn text(&self, paint: Paint) -> String {
        let heads: Vec<String> = self.heads.iter().map(|&head| head.to_owned()).collect();
        let lines = || {
            std::iter::once(&heads)
                .filter(|heads| !heads.is_empty())
                .chain(&self.rows)
        };
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            lines()
                .filter_map(|row| row.get(column))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in lines().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}", width = *width))
                .collect();
            let line = cells.join("  ");
            let is_head = number == 0 && !heads.is_empty();
            let line = line.trim_end();
            text.push_str(&if is_head {
                paint.apply(Tone::Head, line)
            } else {
                line.to_owned()
            });
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let mut table = Table::new(["LANGUAGE", "VERSION", "SIZE"]);
        table.row(&["c++".into(), "12.2.0".into(), "90 MiB".into()]);
        table.row(&["javascript".into(), "20.0.0-rc.1".into(), String::new()]);
        insta::assert_snapshot!(table.text(Paint::Plain), @"
        LANGUAGE    VERSION      SIZE
        c++         12.2.0       90 MiB
        javascript  20.0.0-rc.1
        ");
    }

    #[test]
    fn heads_are_bold_on_a_terminal_only() {
        let mut table = Table::new(["A"]);
        table.row(&["x".into()]);
        assert_eq!(table.text(Paint::Plain), "A\nx\n");
        assert_eq!(table.text(Paint::Ansi), "\u{1b}[1mA\u{1b}[0m\nx\n");
    }

    #[test]
    fn text_from_elsewhere_can_not_act_on_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\r\u{7}\tc\nd"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd} c\nd"
        );
        let mut table = Table::new(["A"]);
        table.row(&["x\ny\x1b[1m".into()]);
        assert_eq!(table.text(Paint::Plain), "A\nx y\u{fffd}[1m\n");
    }

    #[test]
    fn a_failure_is_a_line_and_what_to_do() {
        let account = Account {
            error: "language `pyton` is not installed".into(),
            next: vec!["did you mean `python`?".into(), "or install it".into()],
            problem: None,
        };
        insta::assert_snapshot!(failure_text(&account, Paint::Plain), @"
        error: language `pyton` is not installed
         next: did you mean `python`?
               or install it
        ");
    }
}
