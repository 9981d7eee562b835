//! What a Debian package depends on: groups of alternatives with bounds of their versions.
//!
//! Reads `Depends`, `Pre-Depends` and `Provides`. What can't be read is a relation that nothing
//! satisfies, so that an error names it.

use std::cmp::Ordering;

use super::version::compare;

/// A bound of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound<'a> {
    /// Any version will do.
    None,
    /// Before it.
    Before(&'a str),
    /// It, or before it.
    AtMost(&'a str),
    /// Exactly it.
    Exactly(&'a str),
    /// It, or after it.
    AtLeast(&'a str),
    /// After it.
    After(&'a str),
    /// None will: the operator is unknown.
    Never,
}

/// A package by name, with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relation<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Which versions of it.
    pub(super) bound: Bound<'a>,
}

impl<'a> Relation<'a> {
    /// Reads `name:arch (>= version)`.
    pub(super) fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let end = text
            .find(|c: char| c.is_whitespace() || "([<:".contains(c))
            .unwrap_or(text.len());
        let bound = text[end..].split_once('(').map(|(_, rest)| rest);
        let bound = bound.and_then(|rest| rest.split_once(')'));
        Self {
            name: &text[..end],
            bound: bound.map_or(Bound::None, |(bound, _)| Bound::parse(bound)),
        }
    }
}

impl<'a> Bound<'a> {
    fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let end = text
            .find(|c| !matches!(c, '<' | '>' | '='))
            .unwrap_or(text.len());
        let (operator, version) = text.split_at(end);
        let version = version.trim();
        match operator {
            "<<" => Self::Before(version),
            "<=" | "<" => Self::AtMost(version),
            "=" => Self::Exactly(version),
            ">=" | ">" => Self::AtLeast(version),
            ">>" => Self::After(version),
            _ => Self::Never,
        }
    }

    /// Whether a version is within it.
    pub(super) fn holds(self, version: &str) -> bool {
        match self {
            Self::None => true,
            Self::Before(bound) => compare(version, bound) == Ordering::Less,
            Self::AtMost(bound) => compare(version, bound) != Ordering::Greater,
            Self::Exactly(bound) => compare(version, bound) == Ordering::Equal,
            Self::AtLeast(bound) => compare(version, bound) != Ordering::Less,
            Self::After(bound) => compare(version, bound) == Ordering::Greater,
            Self::Never => false,
        }
    }
}

/// The groups of a field; one of each group's relations has to hold.
pub(super) fn groups(field: &str) -> impl Iterator<Item = &str> {
    field
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
}

/// The alternatives of a group, the preferred one first.
pub(super) fn alternatives(group: &str) -> impl Iterator<Item = Relation<'_>> {
    group.split('|').map(Relation::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_groups_of_alternatives() {
        let field = "libc6 (>= 2.34), default-mta | mail-transport-agent, python3:any (<< 3.12),";
        let groups: Vec<Vec<_>> = groups(field).map(|g| alternatives(g).collect()).collect();
        let names: Vec<Vec<&str>> = groups
            .iter()
            .map(|group| group.iter().map(|relation| relation.name).collect())
            .collect();
        assert_eq!(
            names,
            [
                vec!["libc6"],
                vec!["default-mta", "mail-transport-agent"],
                vec!["python3"]
            ]
        );
        assert_eq!(groups[0][0].bound, Bound::AtLeast("2.34"));
        assert_eq!(groups[2][0].bound, Bound::Before("3.12"));
    }

    #[test]
    fn a_bound_holds_for_the_versions_that_it_says() {
        let check = |text, version, expected| {
            let bound = Relation::parse(text).bound;
            assert_eq!(bound.holds(version), expected, "{text} {version}");
        };
        for (text, low, same, high) in [
            ("a (<< 2)", true, false, false),
            ("a (<= 2)", true, true, false),
            ("a(=2)", false, true, false),
            ("a (>= 2)", false, true, true),
            ("a (>> 2)", false, false, true),
            ("a", true, true, true),
            ("a (? 2)", false, false, false),
        ] {
            check(text, "1", low);
            check(text, "2", same);
            check(text, "3", high);
        }
    }
}
