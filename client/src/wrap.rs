//! Text that is longer than a line of the terminal: broken between words, not within them.
//!
//! What `piston` and `pistond` show people is laid out by it; it asks no terminal how wide it is.
//! Invariant: a command in backticks is one word, however long: in one piece it can be copied.

/// Fewer columns than this are left to the terminal to break.
const NARROWEST: usize = 20;

/// Text behind `indent` characters of its first line; further lines begin below where it does.
pub fn hanging(indent: usize, text: &str, columns: Option<usize>) -> String {
    let Some(width) = columns.filter(|_| has_room(indent, columns)) else {
        return text.to_owned();
    };
    let width = width - indent;
    let lines: Vec<String> = text.lines().flat_map(|line| wrapped(line, width)).collect();
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Whether text fits in behind `indent` characters of a line.
pub fn has_room(indent: usize, columns: Option<usize>) -> bool {
    columns.is_none_or(|columns| columns >= indent + NARROWEST)
}

/// A line in lines of at most `width` characters, but for single words that are longer.
pub(crate) fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(line) {
        let room = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= width;
        match lines.last_mut().filter(room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// The words of a line.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let between = move |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    };
    line.split(between).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_in_a_command() {
        let check = |text: &str, width, expected: &[&str]| {
            assert_eq!(wrapped(text, width), expected, "{text} in {width}");
        };
        check("", 5, &[""]);
        check("one two", 7, &["one two"]);
        check("one two", 6, &["one", "two"]);
        check("overlong a b", 3, &["overlong", "a b"]);
        check("do `a b c d`, then e", 8, &["do", "`a b c d`,", "then e"]);
        check("\u{e9}\u{e9} \u{e9}", 4, &["\u{e9}\u{e9} \u{e9}"]);
    }

    #[test]
    fn lines_go_on_below_the_first_where_there_is_room() {
        let text = "twenty characters and some more";
        let broken = "twenty characters\n    and some more";
        assert_eq!(hanging(4, text, Some(24)), broken);
        for columns in [None, Some(23), Some(3), Some(80)] {
            assert_eq!(hanging(4, text, columns), text, "{columns:?}");
        }
    }
}
