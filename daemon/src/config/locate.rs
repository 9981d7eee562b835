//! Finds the line on which a key of a TOML file stands.
//!
//! Bounds are checked after all sources are merged, when positions are gone; so the position is
//! looked up again by key. Does not judge the file: a text that does not parse has no keys.

use toml::de::{DeTable, DeValue};

/// The line (from 1) of the byte `offset`.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// The line of the key with these sections, if the text has it.
pub fn find(text: &str, key: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let (last, sections) = key.split_last()?;
    for section in sections {
        match table.get(section.as_str())?.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
    let value = table.get(last.as_str())?;
    Some(line_of(text, value.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

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
