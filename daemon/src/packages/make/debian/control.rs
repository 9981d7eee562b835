//! Control files: stanzas of `Name: value` fields, as sources, lists and releases have them.
//!
//! Invariant: nothing is copied but folded values that are asked for; a line that is no field is
//! passed over. Knows no field's meaning.

/// One stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stanza<'a>(&'a str);

/// The stanzas of a text; lines of comments belong to none.
pub(super) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    text.split("\n\n")
        .map(|part| Stanza(part.trim_matches('\n')))
        .filter(|stanza| !stanza.0.is_empty())
}

impl<'a> Stanza<'a> {
    /// The first line of a field, trimmed.
    pub(super) fn field(self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| value(line, name))
    }

    /// The words of a field, those of its further lines as well.
    pub(super) fn words(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.rows(name).flat_map(str::split_whitespace)
    }

    /// The lines of a field without those that are empty.
    pub(super) fn rows(self, name: &str) -> impl Iterator<Item = &'a str> {
        let mut lines = self.0.lines().skip_while({
            let name = name.to_owned();
            move |line| value(line, &name).is_none()
        });
        let first = lines.next().and_then(|line| line.split_once(':'));
        let further = lines
            .take_while(|line| line.starts_with([' ', '\t', '#']))
            .filter(|line| !line.starts_with('#'));
        first
            .map(|(_, value)| value)
            .into_iter()
            .chain(further)
            .map(str::trim)
            .filter(|row| !row.is_empty() && *row != ".")
    }
}

/// The value of a line that is this field.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (head, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(':')?;
    head.eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\nPackage: one\nDepends: a (>= 1),\n b | c\nDescription: short\n .\n long\n\n\n\
                        package: two\nEmpty:\n";

    #[test]
    fn stanzas_are_split_and_their_fields_found() {
        let all: Vec<_> = stanzas(TEXT).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].field("Package"), Some("one"));
        assert_eq!(all[1].field("Package"), Some("two"), "in any case");
        assert_eq!(all[0].field("Pack"), None, "not the start of a name");
        assert_eq!(all[1].field("Empty"), Some(""));
    }

    #[test]
    fn a_folded_field_is_whole() {
        let stanza = stanzas(TEXT).next().expect("one");
        assert_eq!(
            stanza.words("Depends").collect::<Vec<_>>(),
            ["a", "(>=", "1),", "b", "|", "c"]
        );
        assert_eq!(
            stanza.rows("Description").collect::<Vec<_>>(),
            ["short", "long"]
        );
        assert_eq!(stanza.rows("Nothing").count(), 0);
    }

    #[test]
    fn a_text_that_is_no_control_file_has_no_fields() {
        for text in ["", "\n\n\n", "no colon\n\u{e9}\u{e9}\u{e9}", ": x", " a: b"] {
            let found = stanzas(text).any(|stanza| stanza.field("a").is_some());
            assert!(!found, "{text:?}");
        }
    }
}
