//! Tables: rows under heads, and labelled lines, made to fit the terminal.
//!
//! A table that is too wide gets its longest columns wrapped. Where even that is not enough each
//! row becomes a block of labelled lines.

use crate::wrap::{hanging, words, wrapped};

use super::{Paint, Tone, clean};

/// What stands between two columns.
const GAP: &str = "  ";

/// A column that is no wider than this is never wrapped.
const NARROW: usize = 16;

/// Rows under heads, or labelled lines.
#[derive(Debug, Default)]
pub(in crate::cli) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(in crate::cli) fn new<const N: usize>(heads: [&'static str; N]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(in crate::cli) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(
            cells
                .iter()
                .map(|cell| clean(cell).replace('\n', " "))
                .collect(),
        );
    }

    /// The table, on a terminal of so many columns.
    pub(super) fn text(&self, paint: Paint, columns: Option<usize>) -> String {
        let widths = self.widths();
        if self.heads.is_empty() {
            return self.labelled(&widths, columns);
        }
        match self.fitted(widths, columns) {
            Some(widths) => self.aligned(&widths, paint),
            None => self.blocks(paint, columns),
        }
    }

    /// How wide each column is by itself.
    fn widths(&self) -> Vec<usize> {
        self.columns(|cell| cell.chars().count())
    }

    /// The most of something in each column, its head included.
    fn columns(&self, most: impl Fn(&str) -> usize) -> Vec<usize> {
        let count = self.rows.iter().map(Vec::len).max();
        let column = |number: usize| {
            let head = self.heads.get(number).map(|head| most(head));
            let cells = self.rows.iter().filter_map(|row| row.get(number));
            cells.map(|cell| most(cell)).chain(head).max().unwrap_or(0)
        };
        (0..count.unwrap_or(self.heads.len())).map(column).collect()
    }

    /// Widths with which the table fits; none when its words are too long for that.
    fn fitted(&self, mut widths: Vec<usize>, columns: Option<usize>) -> Option<Vec<usize>> {
        let Some(columns) = columns else {
            return Some(widths);
        };
        let longest =
            self.columns(|cell| words(cell).map(|w| w.chars().count()).max().unwrap_or(0));
        let floor = |column: usize, width: usize| longest[column].max(width.min(NARROW));
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        loop {
            let all = widths.iter().sum::<usize>() + gaps;
            let excess = all.saturating_sub(columns);
            if excess == 0 {
                return Some(widths);
            }
            let shrinkable = widths.iter().enumerate();
            let shrinkable = shrinkable.map(|(at, &width)| (width, floor(at, width), at));
            let (width, floor, at) = shrinkable.filter(|(width, floor, _)| width > floor).max()?;
            widths[at] = width.saturating_sub(excess).max(floor);
        }
    }

    /// Heads and rows with their columns below each other, and nothing behind the last one.
    fn aligned(&self, widths: &[usize], paint: Paint) -> String {
        let heads: Vec<String> = self.heads.iter().map(|&head| head.to_owned()).collect();
        let mut text = String::new();
        for line in lines(&heads, widths) {
            text.push_str(&paint.apply(Tone::Head, &line));
            text.push('\n');
        }
        for line in self.rows.iter().flat_map(|row| lines(row, widths)) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// Labels with what they are about, which alone is wrapped.
    fn labelled(&self, widths: &[usize], columns: Option<usize>) -> String {
        let indent: usize = widths
            .iter()
            .rev()
            .skip(1)
            .map(|width| width + GAP.len())
            .sum();
        let line = |row: &Vec<String>| {
            let (last, labels) = row.split_last()?;
            let labels = labels.iter().zip(widths);
            let labels = labels.map(|(cell, &width)| format!("{cell:width$}{GAP}"));
            let labels: Vec<String> = labels.collect();
            let line = labels.concat() + &hanging(indent, last, columns);
            Some(format!("{}\n", line.trim_end()))
        };
        self.rows.iter().filter_map(line).collect()
    }

    fn blocks(&self, paint: Paint, columns: Option<usize>) -> String {
        let width = self.heads.iter().map(|head| head.chars().count()).max();
        let width = width.unwrap_or(0);
        let block = |row: &Vec<String>| {
            let cells = self
                .heads
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_empty());
            let line = |(head, cell): (&&str, &String)| {
                let head = paint.apply(Tone::Head, &format!("{head:width$}"));
                format!("{head}{GAP}{}\n", hanging(width + GAP.len(), cell, columns))
            };
            cells.map(line).collect::<String>()
        };
        let blocks: Vec<String> = self.rows.iter().map(block).collect();
        blocks.join("\n")
    }
}

/// The lines of a row whose cells are wrapped to their columns.
fn lines(row: &[String], widths: &[usize]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row
        .iter()
        .zip(widths)
        .map(|(cell, &width)| wrapped(cell, width))
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |number: usize| {
        let pieces: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, &width)| {
                let piece = cell.get(number).map_or("", String::as_str);
                format!("{piece:width$}")
            })
            .collect();
        pieces.join(GAP).trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let mut table = Table::new(["LANGUAGE", "VERSION", "SIZE"]);
        table.row(&["c++".into(), "12.2.0".into(), "90 MiB".into()]);
        table.row(&["javascript".into(), "20.0.0-rc.1".into(), String::new()]);
        insta::assert_snapshot!(table.text(Paint::Plain, None), @"
        LANGUAGE    VERSION      SIZE
        c++         12.2.0       90 MiB
        javascript  20.0.0-rc.1
        ");
    }

    #[test]
    fn a_table_without_rows_is_its_heads() {
        let table = Table::new(["LANGUAGE", "SIZE"]);
        assert_eq!(table.text(Paint::Plain, Some(80)), "LANGUAGE  SIZE\n");
    }

    #[test]
    fn the_longest_column_is_wrapped_where_the_terminal_is_narrow() {
        let mut table = Table::new(["CASE", "TIME", ""]);
        let why = "line 1 is \"20\", expected \"21\"";
        table.row(&["1".into(), "12 ms".into(), why.into()]);
        table.row(&["2".into(), "9 ms".into(), String::new()]);
        insta::assert_snapshot!(table.text(Paint::Plain, Some(30)), @r#"
        CASE  TIME
        1     12 ms  line 1 is "20",
                     expected "21"
        2     9 ms
        "#);
    }

    #[test]
    fn a_table_whose_words_are_wider_than_the_terminal_becomes_blocks() {
        let mut table = Table::new(["LANGUAGE", "SIZE", ""]);
        table.row(&["c++".into(), "90 MiB".into(), String::new()]);
        table.row(&["javascript".into(), "1 MiB".into(), "note".into()]);
        let widest = "javascript  1 MiB   note".len();
        let same = table.text(Paint::Plain, None);
        assert_eq!(table.text(Paint::Plain, Some(widest)), same);
        insta::assert_snapshot!(table.text(Paint::Plain, Some(widest - 1)), @"
        LANGUAGE  c++
        SIZE      90 MiB

        LANGUAGE  javascript
        SIZE      1 MiB
                  note
        ");
    }

    #[test]
    fn what_a_label_is_about_goes_on_below_itself() {
        let mut table = Table::default();
        table.row(&["label".into(), "a value of many words".into()]);
        table.row(&["l".into(), String::new()]);
        assert_eq!(
            table.text(Paint::Plain, Some(27)),
            "label  a value of many\n       words\nl\n"
        );
        let whole = "label  a value of many words\nl\n";
        assert_eq!(table.text(Paint::Plain, Some(3)), whole);
    }

    #[test]
    fn heads_are_bold_on_a_terminal_only() {
        let mut table = Table::new(["A"]);
        table.row(&["x\ny\x1b[1m".into()]);
        assert_eq!(table.text(Paint::Plain, None), "A\nx y?[1m\n");
        let bold = "\u{1b}[1mA\u{1b}[0m\nx y?[1m\n";
        assert_eq!(table.text(Paint::Ansi, None), bold);
    }
}
