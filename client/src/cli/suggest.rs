//! "Did you mean": the known word that is nearest to a mistyped one.

/// The candidate that `word` was probably meant to be; none when all are far.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A third of the letters wrong is another word; one wrong letter never is.
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= bound && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop, replace or swap with their neighbour to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, a) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let replaced = row[j] + usize::from(a != b);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && last == Some(b) && a == to[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        last = Some(a);
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_mistakes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("python", "python", 0),
            ("pyton", "python", 1),
            ("pyhton", "python", 1),
            ("pythonn", "python", 1),
            ("kitten", "sitting", 3),
            ("h\u{e9}", "he", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["python", "bash", "c", "c++", "javascript"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("pyhton", Some("python"));
        check("Python", Some("python"));
        check("bahs", Some("bash"));
        check("javascrpit", Some("javascript"));
        check("c+", Some("c++"));
        check("cobol", None);
        check("x", None);
        check("", None);
    }

    proptest::proptest! {
        #[test]
        fn a_distance_is_that_of_the_way_back(a in "[a-e+]{0,8}", b in "[a-e+]{0,8}") {
            proptest::prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            proptest::prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
