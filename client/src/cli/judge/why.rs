//! Why a case is not accepted, in a few words: where its output differs first, the last that the
//! program said on standard error, or the limit that ended it.
//!
//! The verdict is the daemon's; this only finds what to show of it, by the same rules.

use crate::api::{BatchCase, CaseResult, Compare, Limits, Status, Stdin, Verdict};

use super::super::ending;

/// Most characters that are shown of a line or word.
const LONGEST: usize = 32;

/// Characters that are shown before the first one that differs.
const BEFORE: usize = 8;

/// Why a case that was run got its verdict, where there is something to say; `limits` are those of
/// all cases.
pub(super) fn why(result: &CaseResult, case: &BatchCase, limits: &Limits) -> Option<String> {
    let run = result.run.as_ref()?;
    let found = match (result.verdict?, &case.expected_stdout) {
        (Verdict::WrongAnswer, Some(Stdin::Text(expected))) if !result.omitted => {
            difference(expected, &run.stdout, case.compare)
        }
        (Verdict::Ended(Status::RuntimeError | Status::Signalled), _) => last_line(&run.stderr),
        _ => None,
    };
    let ended = || ending::why(run, &ending::over(case.limits, *limits));
    found.or_else(ended).or_else(|| run.message.clone())
}

/// The last line that says something.
fn last_line(text: &str) -> Option<String> {
    const LONGEST_LINE: usize = 80;
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(LONGEST_LINE).collect())
}

/// Where two outputs differ first; nowhere in what can be shown as text, perhaps.
fn difference(expected: &str, printed: &str, compare: Compare) -> Option<String> {
    let (unit, wanted, got) = match compare {
        Compare::Exact => ("line", lines(expected), lines(printed)),
        Compare::Trim => ("line", trimmed(expected), trimmed(printed)),
        Compare::Tokens => ("word", words(expected), words(printed)),
    };
    let at = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let number = at + 1;
    match (wanted.get(at), got.get(at)) {
        (Some(wanted), Some(got)) => {
            let same = wanted.chars().zip(got.chars());
            let same = same.take_while(|(a, b)| a == b).count();
            let from = if same > LONGEST / 2 { same - BEFORE } else { 0 };
            let (wanted, got) = (shown(wanted, from), shown(got, from));
            Some(format!("{unit} {number} is {got}, expected {wanted}"))
        }
        (Some(wanted), None) => Some(format!("{unit} {number} is missing: {}", shown(wanted, 0))),
        (None, Some(got)) => Some(format!("{unit} {number} is too much: {}", shown(got, 0))),
        (None, None) => None,
    }
}

/// Lines with their ends, which count.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Lines without whitespace at their ends, up to the last that is not empty.
fn trimmed(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A piece of a text in quotes, with dots where something is left out.
fn shown(text: &str, from: usize) -> String {
    let piece: String = text.chars().skip(from).take(LONGEST).collect();
    let before = if from > 0 { "..." } else { "" };
    let after = if text.chars().count() > from + LONGEST {
        "..."
    } else {
        ""
    };
    format!("{before}{piece:?}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_first_by_the_rules_that_were_asked_for() {
        use Compare::{Exact, Tokens, Trim};
        let check = |compare, expected: &str, printed: &str, said: Option<&str>| {
            let found = difference(expected, printed, compare);
            assert_eq!(found.as_deref(), said, "{expected:?} {printed:?}");
        };
        check(Trim, "5\n", "20\n", Some(r#"line 1 is "20", expected "5""#));
        check(
            Trim,
            "1\n2\n",
            "1 \n3\n",
            Some(r#"line 2 is "3", expected "2""#),
        );
        check(Trim, "1\n\n", "1", None);
        check(Trim, "1\n2", "1\n", Some(r#"line 2 is missing: "2""#));
        check(Trim, "", "1\n", Some(r#"line 1 is too much: "1""#));
        check(Exact, "1\n", "1", Some(r#"line 1 is "1", expected "1\n""#));
        check(
            Tokens,
            "1 2\n3",
            "1\n2 4",
            Some(r#"word 3 is "4", expected "3""#),
        );
        check(Tokens, "1 2", "1\n2\n", None);
    }

    #[test]
    fn of_a_long_line_the_place_is_shown() {
        let (expected, printed) = (
            "x".repeat(60),
            format!("{}y{}", "x".repeat(40), "x".repeat(40)),
        );
        let said = difference(&expected, &printed, Compare::Trim).expect("they differ");
        let shown = format!(
            "line 1 is ...\"{0}y{1}\"..., expected ...\"{2}\"",
            "x".repeat(8),
            "x".repeat(23),
            "x".repeat(28)
        );
        assert_eq!(said, shown);
    }

    #[test]
    fn what_a_program_said_last_is_a_line_with_something_in_it() {
        let text = "Traceback:\n  x\nValueError: no  \n\n";
        assert_eq!(last_line(text).as_deref(), Some("ValueError: no"));
        assert_eq!(last_line("\n \n"), None);
    }
}
