//! What a stage executes: argv and environment, from the package's entry and the request.
//!
//! Pure. A placeholder is replaced once; what is put in its place is never looked at again.

use std::collections::BTreeMap;

use super::request::Request;
use super::stage::StageKind;
use crate::packages::Entry;
use crate::packages::environment::DEFAULT_PATH;

/// The argv of a stage. A compile stage is given all code files, a run stage the main one and the
/// program's arguments.
pub fn argv(kind: StageKind, entry: &Entry, code: &[String], args: &[String]) -> Vec<String> {
    let main = code.first().cloned().unwrap_or_default();
    match entry {
        Entry::Command(template) => {
            let expand = |part: &String| match part.as_str() {
                "{files}" => code.to_vec(),
                "{args}" => args.to_vec(),
                part => vec![part.replace("{main}", &main)],
            };
            template.iter().flat_map(expand).collect()
        }
        Entry::Script(script) => script_argv(kind, std::slice::from_ref(script), code, args),
        Entry::BashScript(script) => {
            script_argv(kind, &["/bin/bash".to_owned(), script.clone()], code, args)
        }
    }
}

fn script_argv(kind: StageKind, start: &[String], code: &[String], args: &[String]) -> Vec<String> {
    match kind {
        StageKind::Compile => [start, code].concat(),
        StageKind::Run => [start, &code[..code.len().min(1)], args].concat(),
    }
}

/// The whole environment of a stage: the request's variables over the package's over the defaults.
pub fn environment(request: &Request) -> Vec<(String, String)> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    variables(request).into_iter().map(own).collect()
}

/// The same, borrowed.
pub fn variables(request: &Request) -> BTreeMap<&str, &str> {
    fn borrowed<'a>((name, value): (&'a String, &'a String)) -> (&'a str, &'a str) {
        (name, value)
    }
    let package = request.installed().environment.iter();
    let mut variables = BTreeMap::from([("PATH", DEFAULT_PATH), ("HOME", "/piston/job")]);
    variables.extend(package.map(|(name, value)| borrowed((name, value))));
    variables.insert("PISTON_LANGUAGE", request.language.as_str());
    variables.extend(request.env.iter().map(borrowed));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn scripts_and_commands_are_given_files_and_arguments() {
        let script = Entry::Script("/s".to_owned());
        let bash = Entry::BashScript("/s".to_owned());
        let command = Entry::Command(words("/py -u {main} {args} --in={main} {files}"));
        let check = |kind, entry: &Entry, expected: &str| {
            assert_eq!(
                argv(kind, entry, &words("m.x n.x"), &words("1 {main}")),
                words(expected)
            );
        };
        check(StageKind::Run, &script, "/s m.x 1 {main}");
        check(StageKind::Compile, &script, "/s m.x n.x");
        check(StageKind::Run, &bash, "/bin/bash /s m.x 1 {main}");
        check(StageKind::Compile, &bash, "/bin/bash /s m.x n.x");
        check(
            StageKind::Run,
            &command,
            "/py -u m.x 1 {main} --in=m.x m.x n.x",
        );
    }
}
