//! Finds the line on which a key of a TOML file stands.
//!
//! Bounds are checked after all sources are merged, when positions are gone; so the position is
//! looked up again by key. Does not judge the file: a text that does not parse has no keys.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// The line (from 1) of the byte `offset`.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// A place in a text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

impl Position {
    /// The place of the byte `offset`.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: line_of(text, offset),
            column: line.chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The line of the key with these sections, if the text has it.
pub fn find(text: &str, key: &[String]) -> Option<usize> {
    position(text, key).map(|position| position.line)
}

/// Where the value of the key with these sections stands; a number is an index of an array.
pub fn position(text: &str, key: &[String]) -> Option<Position> {
    let document = DeTable::parse(text).ok()?;
    let (first, rest) = key.split_first()?;
    let mut value = document.get_ref().get(first.as_str())?;
    for section in rest {
        value = match value.get_ref() {
            DeValue::Table(table) => table.get(section.as_str())?,
            DeValue::Array(array) => array.get(section.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(Position::of(text, value.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_array_of_tables_is_found_with_its_column() {
        let text = "[[r]]\na = 1\n[[r]]\n  \"ä\" = [\"x\", \"y\"]\n[r.b]\nc = 2\n";
        let at = |key: &str| {
            let key: Vec<String> = key.split('.').map(str::to_owned).collect();
            position(text, &key).map(|at| (at.line, at.column))
        };
        assert_eq!(at("r.0.a"), Some((2, 5)));
        assert_eq!(at("r.1.ä.1"), Some((4, 15)));
        assert_eq!(at("r.1.b.c"), Some((6, 5)));
        assert_eq!((at("r.2"), at("r.x"), at("r.0.a.b")), (None, None, None));
    }

    #[test]
    fn a_key_is_found_on_its_line() {
        let text = "a = 1\n\n[b.c]\nd = \"x\"\n";
        let check = |key: &str, line| {
            let key: Vec<String> = key.split('.').map(str::to_owned).collect();
            assert_eq!(find(text, &key), line, "{key:?}");
        };
        check("a", Some(1));
        check("b.c.d", Some(4));
        check("b.x", None);
        check("a.x", None);
        assert_eq!(find("not toml", &["a".to_owned()]), None);
    }
}
