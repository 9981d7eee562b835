//! Names of entries of archives.

/// Longest path and longest name in it, as in the kernel.
const MAX_PATH_BYTES: usize = 4095;
const MAX_NAME_BYTES: usize = 255;

/// Whether a name of an entry stays in its place.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let path = name.strip_suffix('/').unwrap_or(name);
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.contains(['\\', '\0', '\n']) {
        return Err("has a name with a backslash, a NUL or a line break");
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').any(|part| part.len() > MAX_NAME_BYTES) {
        return Err("has too long a name");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has a name with `..`, `.` or nothing in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_in_their_place_are_taken() {
        let (long, deep) = ("a".repeat(255), "a/".repeat(2047));
        for good in ["a", "a/b", "a/", "..a/.b", "é/ü", &long, &deep] {
            check_name(good).expect(good);
        }
        let (too_long, too_deep) = ("a".repeat(256), "a/".repeat(2049));
        for bad in [
            "", "/", "/a", "a//b", "a/./b", "..", "../a", "a/..", "a\\b", "a\0b", "a\nb",
            &too_long, &too_deep,
        ] {
            check_name(bad).expect_err(bad);
        }
    }
}
