//! The `environment` file of a package: `export NAME=value` lines, evaluated without a shell.
//!
//! Owns the parser, `$VAR` expansion and the merge of a package's variables with those of its
//! dependencies. Invariants: nothing is ever executed; what a shell would do and this does not
//! (command substitution, globs, arithmetic) is refused with its line number, never passed on
//! literally. Runs once, at install time. `HOME` and `PISTON_LANGUAGE` are added by the job.

use std::collections::HashMap;

/// Where programs are looked for when no package says otherwise; always the tail of `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest file.
const MAX_BYTES: usize = 64 << 10;
/// Most variables, and the longest value after expansion.
const MAX_VARIABLES: usize = 256;
const MAX_VALUE_BYTES: usize = 32 << 10;

/// Variables in the order they were first set.
pub type Variables = Vec<(String, String)>;

/// Why an `environment` file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment, line {line}: {reason}")]
pub struct EnvironmentError {
    line: usize,
    reason: String,
}

/// Evaluates a file; `directory` is what `$PWD` stands for.
pub fn parse(bytes: &[u8], directory: &str) -> Result<Variables, EnvironmentError> {
    let fail = |line, reason: &str| EnvironmentError {
        line,
        reason: reason.to_owned(),
    };
    if bytes.len() > MAX_BYTES {
        return Err(fail(1, "the file is over 64 KiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| fail(1, "the file is not UTF-8"))?;
    let mut scope = Scope::new(directory);
    for (index, line) in text.lines().enumerate() {
        scope.line(line).map_err(|reason| EnvironmentError {
            line: index + 1,
            reason,
        })?;
    }
    Ok(scope.exported)
}

/// Joins a package's variables with those of its dependencies, nearest first: a variable that is
/// set stays, lists of paths are joined, and `PATH` always ends in [`DEFAULT_PATH`].
pub fn merge<'a>(
    own: &[(String, String)],
    dependencies: impl Iterator<Item = &'a Variables>,
) -> Variables {
    let mut merged: Variables = Vec::new();
    absorb(&mut merged, own);
    for variables in dependencies {
        absorb(&mut merged, variables);
    }
    absorb(&mut merged, &[("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    merged
}

fn absorb(merged: &mut Variables, variables: &[(String, String)]) {
    for (name, value) in variables {
        match merged.iter_mut().find(|(there, _)| there == name) {
            None => merged.push((name.clone(), joined("", value, name))),
            Some((_, there)) if is_path_list(name) => *there = joined(there, value, name),
            Some(_) => {}
        }
    }
}

/// `PATH`, `LD_LIBRARY_PATH`, `PYTHONPATH`...: lists of directories.
fn is_path_list(name: &str) -> bool {
    name.ends_with("PATH") || matches!(name, "XDG_DATA_DIRS" | "XDG_CONFIG_DIRS" | "PERL5LIB")
}

/// Appends the entries of a list that are not there yet; anything else is taken as it is.
fn joined(there: &str, more: &str, name: &str) -> String {
    if !is_path_list(name) {
        return more.to_owned();
    }
    let mut entries: Vec<&str> = Vec::new();
    // `$PATH` of an empty PATH leaves empty entries, which would mean the current directory.
    for entry in there.split(':').chain(more.split(':')) {
        if !entry.is_empty() && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    entries.join(":")
}

/// Variables while a file is evaluated.
struct Scope {
    values: HashMap<String, String>,
    exported: Variables,
}

impl Scope {
    fn new(directory: &str) -> Self {
        let values = HashMap::from([("PWD".to_owned(), directory.to_owned())]);
        Self {
            values,
            exported: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.contains('\0') {
            return Err("holds a NUL character".to_owned());
        }
        let mut words = Words {
            rest: line.trim(),
            values: &self.values,
        };
        let mut exporting = false;
        let mut settings = Vec::new();
        while let Some(word) = words.next_word()? {
            match word {
                Word::End => exporting = false,
                Word::Name(name) if name == "export" && !exporting => exporting = true,
                Word::Name(name) if exporting => settings.push((name, None)),
                Word::Name(name) => {
                    return Err(format!(
                        "`{name}` is a command; only `export NAME=value` is read"
                    ));
                }
                Word::Setting(name, value) => {
                    settings.push((name.clone(), Some((value, exporting))));
                }
            }
        }
        for (name, setting) in settings {
            self.set(name, setting)?;
        }
        Ok(())
    }

    /// Sets, and exports when told or when it was exported before; `None` only exports.
    fn set(&mut self, name: String, setting: Option<(String, bool)>) -> Result<(), String> {
        let (value, exported) = match setting {
            Some(setting) => setting,
            None => match self.values.get(&name) {
                Some(value) => (value.clone(), true),
                None => return Ok(()),
            },
        };
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!("the value of `{name}` is over 32 KiB"));
        }
        self.values.insert(name.clone(), value.clone());
        if self.values.len() > MAX_VARIABLES {
            return Err(format!("sets more than {MAX_VARIABLES} variables"));
        }
        match self.exported.iter_mut().find(|(there, _)| *there == name) {
            Some((_, there)) => *there = value,
            None if exported => self.exported.push((name, value)),
            None => {}
        }
        Ok(())
    }
}

enum Word {
    /// `NAME=value`, expanded.
    Setting(String, String),
    /// A word without `=`.
    Name(String),
    /// `;`
    End,
}

/// Splits a line into words the way a shell does, refusing what it would execute.
struct Words<'a> {
    rest: &'a str,
    values: &'a HashMap<String, String>,
}

impl Words<'_> {
    fn next_word(&mut self) -> Result<Option<Word>, String> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() || self.rest.starts_with('#') {
            return Ok(None);
        }
        if let Some(rest) = self.rest.strip_prefix(';') {
            self.rest = rest;
            return Ok(Some(Word::End));
        }
        let length = name_length(self.rest);
        let (name, after) = self.rest.split_at(length);
        let name = name.to_owned();
        let Some(value) = after.strip_prefix('=') else {
            if name.is_empty() || !after.chars().next().is_none_or(ends_word) {
                let word: String = self.rest.chars().take(40).collect();
                return Err(format!("`{word}` is not `NAME=value`"));
            }
            self.rest = after;
            return Ok(Some(Word::Name(name)));
        };
        self.rest = value;
        let value = self.value()?;
        Ok(Some(Word::Setting(name, value)))
    }

    fn value(&mut self) -> Result<String, String> {
        let mut value = String::new();
        while let Some(c) = self.rest.chars().next().filter(|c| !ends_word(*c)) {
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '\'' => value.push_str(self.until_quote()?),
                '"' => self.double_quoted(&mut value)?,
                '\\' => match self.take() {
                    Some(escaped) => value.push(escaped),
                    None => return Err("ends in a backslash".to_owned()),
                },
                '$' => self.expand(&mut value)?,
                '`' => return Err(substitution()),
                '&' | '|' | '<' | '>' | '(' | ')' => {
                    return Err(format!(
                        "`{c}` needs a shell; quote it if it is meant literally"
                    ));
                }
                other => value.push(other),
            }
        }
        Ok(value)
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn until_quote(&mut self) -> Result<&str, String> {
        let (inside, after) = self.rest.split_once('\'').ok_or_else(unclosed)?;
        self.rest = after;
        Ok(inside)
    }

    fn double_quoted(&mut self, value: &mut String) -> Result<(), String> {
        loop {
            match self.take().ok_or_else(unclosed)? {
                '"' => return Ok(()),
                '`' => return Err(substitution()),
                '$' => self.expand(value)?,
                '\\' => match self.take().ok_or_else(unclosed)? {
                    c @ ('"' | '\\' | '$' | '`') => value.push(c),
                    other => value.extend(['\\', other]),
                },
                other => value.push(other),
            }
        }
    }

    /// What follows a `$`.
    fn expand(&mut self, value: &mut String) -> Result<(), String> {
        let name = if let Some(braced) = self.rest.strip_prefix('{') {
            let (name, after) = braced.split_once('}').ok_or("`${` is not closed")?;
            if name.is_empty() || name_length(name) != name.len() {
                return Err(format!("`${{{name}}}`: only plain ${{NAME}} is expanded"));
            }
            self.rest = after;
            name
        } else {
            if self.rest.starts_with('(') {
                return Err(substitution());
            }
            let (name, after) = self.rest.split_at(name_length(self.rest));
            if name.is_empty() {
                if self
                    .rest
                    .starts_with(|c: char| c.is_ascii_digit() || "@*#?-$!'\"".contains(c))
                {
                    return Err("only $NAME and ${NAME} are expanded".to_owned());
                }
                value.push('$');
                return Ok(());
            }
            self.rest = after;
            name
        };
        if let Some(set) = self.values.get(name) {
            value.push_str(set);
        }
        // Doubling a value line by line must not fill the memory before the line ends.
        if value.len() > MAX_VALUE_BYTES {
            return Err("a value is over 32 KiB".to_owned());
        }
        Ok(())
    }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || c == ';'
}

/// Bytes of the variable name that `text` starts with.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

fn substitution() -> String {
    "command substitution is not supported: nothing is executed at install time".to_owned()
}

fn unclosed() -> String {
    "a quote is not closed on its line".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIR: &str = "/piston/packages/python/3.11.2";

    fn values(text: &str) -> Vec<String> {
        let variables = parse(text.as_bytes(), DIR).unwrap();
        variables
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn lines_are_evaluated_as_a_shell_would() {
        for (text, expected) in [
            ("export A=b", vec!["A=b"]),
            ("export A=b C=d # comment", vec!["A=b", "C=d"]),
            ("# only a comment\n\n  export A=b  \r\n", vec!["A=b"]),
            ("export A='a $B \"c\"'", vec!["A=a $B \"c\""]),
            ("export A=\"x y\"'z'", vec!["A=x yz"]),
            (r#"export A="\$B \" \n""#, vec![r#"A=$B " \n"#]),
            (r"export A=a\ b", vec!["A=a b"]),
            ("export A=", vec!["A="]),
            (
                "export A=$PWD/bin",
                vec!["A=/piston/packages/python/3.11.2/bin"],
            ),
            ("export A=1\nexport B=${A}2$A", vec!["A=1", "B=121"]),
            ("A=1\nexport B=$A", vec!["B=1"]),
            ("A=1\nexport A", vec!["A=1"]),
            ("export A=1; export B=2;", vec!["A=1", "B=2"]),
            ("export A=1\nexport A=2", vec!["A=2"]),
            ("export A=$UNSET-x", vec!["A=-x"]),
            ("export A=5$", vec!["A=5$"]),
            ("export URL=http://x/#y", vec!["URL=http://x/#y"]),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_with_its_line() {
        for (line, reason) in [
            ("export A=$(id)", "command substitution"),
            ("export A=\"$(id)\"", "command substitution"),
            ("export A=`id`", "command substitution"),
            ("export A=\"`id`\"", "command substitution"),
            ("export A=${B:-c}", "only plain"),
            ("export A=$1", "only $NAME"),
            ("export A=b | cat", "not `NAME=value`"),
            ("export A=b|cat", "needs a shell"),
            ("export A=b > /etc/x", "not `NAME=value`"),
            ("rm -rf /", "is a command"),
            ("source x", "is a command"),
            ("export A='b", "not closed"),
            ("export A=\"b", "not closed"),
            ("export A=b\\", "backslash"),
            ("export 1A=b", "not `NAME=value`"),
            ("export Ä=b", "not `NAME=value`"),
            ("export A=\0", "NUL"),
        ] {
            let text = format!("export FINE=1\n{line}\n");
            let error = parse(text.as_bytes(), DIR).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.reason.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn doubling_a_value_again_and_again_is_bounded() {
        let mut text = "export A=0123456789\n".to_owned();
        text.push_str(&"export A=$A$A$A$A\n".repeat(100));
        parse(text.as_bytes(), DIR).unwrap_err();
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_package_wins_and_lists_are_joined_nearest_first() {
        let own = variables(&[("PATH", "/own/bin:"), ("LANG", "C"), ("PYTHONPATH", "/a")]);
        let near = variables(&[("PATH", "/near/bin:/bin"), ("LANG", "x"), ("NEAR", "1")]);
        let far = variables(&[("NEAR", "2"), ("PYTHONPATH", "/b:/a")]);
        let merged = merge(&own, [&near, &far].into_iter());
        let expected = variables(&[
            (
                "PATH",
                "/own/bin:/near/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin",
            ),
            ("LANG", "C"),
            ("PYTHONPATH", "/a:/b"),
            ("NEAR", "1"),
        ]);
        assert_eq!(merged, expected);
    }

    #[test]
    fn without_any_file_there_is_still_a_path() {
        assert_eq!(
            merge(&Vec::new(), std::iter::empty()),
            variables(&[("PATH", DEFAULT_PATH)])
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "[a-zA-Z$={}()'\"` \\\\;#\n]{0,80}", raw in ".*") {
            drop(parse(text.as_bytes(), DIR));
            drop(parse(raw.as_bytes(), DIR));
        }
    }
}
