//! When what a program printed is what it had to print.

use super::{Compare, Expected};

impl Expected {
    /// Whether `printed` is what is expected.
    pub(super) fn is(&self, printed: &[u8]) -> bool {
        match self.compare {
            Compare::Exact => self.stdout == printed,
            Compare::Trim => lines(&self.stdout).eq(lines(printed)),
            Compare::Tokens => tokens(&self.stdout).eq(tokens(printed)),
        }
    }
}

/// Lines without the whitespace at their ends, less the empty ones at the end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.trim_ascii_end().split(|&byte| byte == b'\n');
    lines.map(<[u8]>::trim_ascii_end)
}

fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_as_asked() {
        for (expected, printed, exact, trim, tokens) in [
            ("", "", true, true, true),
            ("a b\n", "a b\n", true, true, true),
            ("a b\n", "a b", false, true, true),
            ("a b\n", "a b \r\n\n \n", false, true, true),
            ("a b\n", "a  b\n", false, false, true),
            ("a b\n", " a b\n", false, false, true),
            ("a\nb\n", "a b\n", false, false, true),
            ("a\n\nb", "a\nb", false, false, true),
            ("", "\n\n", false, true, true),
            ("ab", "a b", false, false, false),
            ("a", "a a", false, false, false),
            ("A", "a", false, false, false),
        ] {
            let by = |compare| {
                let stdout = expected.into();
                Expected { stdout, compare }.is(printed.as_bytes())
            };
            let is = [Compare::Exact, Compare::Trim, Compare::Tokens].map(by);
            assert_eq!(is, [exact, trim, tokens], "{expected:?} {printed:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_too() {
        let expected = Expected {
            stdout: vec![0xff, 0, b'\n'],
            compare: Compare::Trim,
        };
        assert!(expected.is(&[0xff, 0]));
        assert!(!expected.is(&[0xfe, 0]));
    }
}
