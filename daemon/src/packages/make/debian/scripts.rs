//! What maintainer scripts do when Debian installs a package, done to a plan instead.
//!
//! Nothing of a package is run. Of the scripts only calls of `update-alternatives` with plain
//! words are read; the bundle of certificates and the links for `ld.so.conf.d` are made from what
//! the plan holds. What else a script would do, recipes say.

use std::collections::BTreeMap;

use super::super::plan::{Item, Plan};
use super::assemble::text;
use super::deb::Contents;

/// Where the bundle of certificates goes, and where its parts are.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const AUTHORITIES: &str = "/usr/share/ca-certificates/";
/// Directories that ld.so searches by itself, and where the links go.
const LIBRARY_TOP: &str = "/usr/lib/";

/// Most values that a variable of a script may have.
const MOST_VALUES: usize = 256;

/// One alternative: what a generic name leads to, and how it ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    /// The generic link, its name among the alternatives, and the file it leads to.
    names: Vec<(String, String, String)>,
    priority: i64,
}

/// Does to the plan what the packages' scripts would have done; the answer is what they would
/// have done besides, as far as it can be told.
pub(super) fn apply(plan: &mut Plan, packages: &[(String, Contents)]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut best: BTreeMap<String, Alternative> = BTreeMap::new();
    for (name, contents) in packages {
        for call in calls(contents.postinst.as_deref().unwrap_or_default()) {
            let Some(alternative) = Alternative::parse(&call) else {
                notes.push(format!(
                    "{name}: an alternative is not taken: {}",
                    call.join(" ")
                ));
                continue;
            };
            let key = alternative.names[0].1.clone();
            match best.get(&key) {
                Some(other) if other.priority >= alternative.priority => {}
                _ => drop(best.insert(key, alternative)),
            }
        }
    }
    for alternative in best.values() {
        alternative.apply(plan);
    }
    certificates(plan);
    library_links(plan);
    notes
}

/// The words of each call of `update-alternatives --install` in a script, once for each value of
/// the variables that it names.
fn calls(script: &str) -> Vec<Vec<String>> {
    let joined = script.replace("\\\n", " ");
    let mut variables = BTreeMap::new();
    let mut calls = Vec::new();
    for line in joined.lines() {
        if let Some((name, values)) = assignment(line) {
            variables.insert(name.to_owned(), values);
        }
        if line.contains("--install") {
            calls.extend(
                filled_in(line, &variables)
                    .iter()
                    .filter_map(|line| call(line)),
            );
        }
    }
    calls
}

/// `name=value`, or `for name in value...; do`, where the values are plain.
fn assignment(line: &str) -> Option<(&str, Vec<String>)> {
    let line = line.trim();
    let (name, values) = match line.strip_prefix("for ") {
        Some(rest) => {
            let (name, rest) = rest.split_once(" in ")?;
            (name, rest.split(';').next()?)
        }
        None => line.split_once('=')?,
    };
    let plain = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
    };
    let values = values.trim_matches('"');
    if !plain(name, "") || !plain(values, " \t/.+-:") {
        return None;
    }
    let values: Vec<String> = values.split_whitespace().map(ToOwned::to_owned).collect();
    (1..=MOST_VALUES)
        .contains(&values.len())
        .then_some((name, values))
}

/// A line for each value of the variables in it.
fn filled_in(line: &str, variables: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut lines = vec![line.to_owned()];
    // Longer names first: `$a` is also the beginning of `$ab`.
    let mut names: Vec<&String> = variables.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        let (plain, braced) = (format!("${name}"), format!("${{{name}}}"));
        if !line.contains(&plain) && !line.contains(&braced) {
            continue;
        }
        let fill =
            |line: &String, value: &String| line.replace(&braced, value).replace(&plain, value);
        let values = &variables[name];
        lines = lines
            .iter()
            .flat_map(|line| values.iter().map(move |value| fill(line, value)))
            .take(MOST_VALUES)
            .collect();
    }
    lines
}

fn call(line: &str) -> Option<Vec<String>> {
    let words: Vec<String> = line
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'', ';']).to_owned())
        .collect();
    let mut programs = words.iter();
    programs.find(|word| word.ends_with("update-alternatives"))?;
    let at = words.iter().position(|word| word == "--install")?;
    Some(words[at..].to_vec())
}

impl Alternative {
    /// Reads `--install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]...`; none where a word
    /// is not plain, i.e. something that a shell would fill in.
    fn parse(words: &[String]) -> Option<Self> {
        let plain = |word: &&String| word.starts_with('/') && !word.contains(['$', '*', '`']);
        let mut names = Vec::new();
        let mut priority = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let kind = word.as_str();
            if !matches!(kind, "--install" | "--slave") {
                // The rest of the line is the shell's: `|| true`, `>/dev/null`, `;;`.
                break;
            }
            let link = words.next().filter(plain)?;
            let name = words.next().filter(|name| !name.contains(['$', '/']))?;
            let path = words.next().filter(plain)?;
            names.push((link.clone(), name.clone(), path.clone()));
            if kind == "--install" {
                priority = Some(words.next()?.parse().ok()?);
            }
        }
        Some(Self {
            names,
            priority: priority?,
        })
    }

    fn apply(&self, plan: &mut Plan) {
        for (link, name, path) in &self.names {
            let (link, path) = (below_usr(link), below_usr(path));
            // Manuals are left out, and so is what leads to them.
            if plan.contains(&path) && is_path(&link) {
                let choice = format!("/etc/alternatives/{name}");
                plan.symlink(&choice, &path);
                plan.symlink(&link, &choice);
            }
        }
    }
}

fn is_path(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")))
}

fn ends(path: &str, ending: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, own)| own == ending)
}

fn below_usr(path: &str) -> String {
    let top = path.split('/').nth(1).unwrap_or_default();
    if super::assemble::MERGED.contains(&top) {
        format!("/usr{path}")
    } else {
        path.to_owned()
    }
}

/// One file of all certificates of authorities, as `update-ca-certificates` writes it.
fn certificates(plan: &mut Plan) {
    let files: Vec<String> = plan
        .items()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with(AUTHORITIES) && ends(path, "crt"))
        .map(ToOwned::to_owned)
        .collect();
    let mut bundle = Vec::new();
    for file in &files {
        bundle.extend(text(plan, file).unwrap_or_default());
        if bundle.last().is_some_and(|last| *last != b'\n') {
            bundle.push(b'\n');
        }
        let name = file.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".crt").unwrap_or(name);
        plan.symlink(&format!("/etc/ssl/certs/{name}.pem"), file);
    }
    if !bundle.is_empty() {
        plan.bytes(BUNDLE, bundle);
        // Where OpenSSL looks by default.
        plan.symlink("/usr/lib/ssl/cert.pem", BUNDLE);
    }
}

/// Links to the libraries of directories that `ld.so.conf.d` names: a view has no `ld.so.cache`,
/// which would lead there.
fn library_links(plan: &mut Plan) {
    let configured: Vec<String> = plan
        .items()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with("/etc/ld.so.conf.d/") && ends(path, "conf"))
        .filter_map(|path| String::from_utf8(text(plan, path)?).ok())
        .flat_map(|text| {
            text.lines()
                .map(|line| below_usr(line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    let multiarch = format!("{LIBRARY_TOP}{}-linux-gnu", std::env::consts::ARCH);
    for directory in configured {
        let searched = [multiarch.as_str(), "/usr/lib"].contains(&directory.as_str());
        if searched || !is_path(&directory) {
            continue;
        }
        let inside = format!("{directory}/");
        let libraries: Vec<String> = plan
            .items()
            .filter(|(path, item)| {
                path.strip_prefix(&inside)
                    .is_some_and(|name| !name.contains('/') && name.contains(".so"))
                    && **item != Item::Directory
            })
            .map(|(path, _)| path.to_owned())
            .collect();
        for library in libraries {
            let name = library.rsplit('/').next().unwrap_or_default();
            plan.symlink(&format!("{multiarch}/{name}"), &library);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, postinst: &str) -> (String, Contents) {
        let contents = Contents {
            postinst: Some(postinst.to_owned()),
            entries: Vec::new(),
        };
        (name.to_owned(), contents)
    }

    fn target(plan: &Plan, path: &str) -> Option<String> {
        match plan.item(path)? {
            Item::Symlink(target) => Some(target.clone()),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn the_best_alternative_is_linked_with_what_goes_with_it() {
        let mut plan = Plan::default();
        for path in ["/usr/bin/lua5.4", "/usr/bin/lua5.3", "/usr/bin/luac5.4"] {
            plan.bytes(path, "x");
        }
        let packages = [
            package(
                "lua5.3",
                "update-alternatives --install /usr/bin/lua lua-interpreter /usr/bin/lua5.3 110\n",
            ),
            package(
                "lua5.4",
                "if [ \"$1\" = configure ]; then\n  update-alternatives --quiet \\\n    --install /usr/bin/lua \
                 lua-interpreter /usr/bin/lua5.4 140 \\\n    --slave /usr/bin/luac lua-compiler \"/usr/bin/luac5.4\" \
                 \\\n --slave /usr/share/man/man1/lua.1.gz lua-manual /usr/share/man/man1/lua5.4.1.gz || true\nfi\n",
            ),
        ];
        assert_eq!(apply(&mut plan, &packages), Vec::<String>::new());
        let choice = "/etc/alternatives/lua-interpreter";
        assert_eq!(target(&plan, "/usr/bin/lua").as_deref(), Some(choice));
        assert_eq!(target(&plan, choice).as_deref(), Some("/usr/bin/lua5.4"));
        assert!(plan.contains("/usr/bin/luac") && !plan.contains("/usr/share/man"));
    }

    #[test]
    fn what_a_shell_would_fill_in_is_told_and_not_taken() {
        let mut plan = Plan::default();
        plan.bytes("/usr/bin/java", "x");
        let hostile = [
            "update-alternatives --install /usr/bin/$i $i $dir/bin/$i 1711",
            "update-alternatives --install /usr/bin/../../x x /usr/bin/java 1",
            "update-alternatives --install relative x /usr/bin/java 1",
            "update-alternatives --install /usr/bin/x ../../x /usr/bin/java 1",
            "update-alternatives --install /usr/bin/x x /usr/bin/java",
        ];
        let before = plan.clone();
        for script in hostile {
            drop(apply(&mut plan, &[package("java", script)]));
            assert!(plan == before || !script.contains('$'), "{script}");
            assert!(plan.items().all(|(path, _)| is_path(path)), "{script}");
        }
        let notes = apply(&mut plan, &[package("java", hostile[0])]);
        assert!(
            notes[0].contains("java") && notes[0].contains("$dir"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_loop_over_plain_words_is_followed() {
        let mut plan = Plan::default();
        for path in ["/usr/bin/php8.2", "/usr/bin/phar8.2"] {
            plan.bytes(path, "x");
        }
        let script = "base=/usr/bin\nfor binary in php phar; do\n  update-alternatives --install \
                      ${base}/${binary} ${binary} $base/${binary}8.2 82\ndone\n";
        assert!(apply(&mut plan, &[package("php8.2-cli", script)]).is_empty());
        assert_eq!(
            target(&plan, "/etc/alternatives/phar").as_deref(),
            Some("/usr/bin/phar8.2")
        );
        assert!(plan.contains("/usr/bin/php"));
    }

    #[test]
    fn certificates_are_bundled() {
        let mut plan = Plan::default();
        plan.bytes("/usr/share/ca-certificates/mozilla/One.crt", "one");
        plan.bytes("/usr/share/ca-certificates/mozilla/Two.crt", "two\n");
        assert!(apply(&mut plan, &[]).is_empty());
        assert_eq!(text(&plan, BUNDLE).as_deref(), Some(&b"one\ntwo\n"[..]));
        assert!(plan.contains("/etc/ssl/certs/One.pem"));
    }

    #[test]
    fn libraries_of_configured_directories_are_found_without_a_cache() {
        let mut plan = Plan::default();
        plan.bytes(
            "/etc/ld.so.conf.d/fake.conf",
            "# head\n/usr/lib/fake\n/lib/more\n",
        );
        plan.bytes("/usr/lib/fake/libfake.so.0", "x");
        plan.bytes("/usr/lib/fake/data", "x");
        plan.bytes("/usr/lib/more/libmore.so.1", "x");
        assert!(apply(&mut plan, &[]).is_empty());
        let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let fake = format!("{multiarch}/libfake.so.0");
        assert_eq!(
            target(&plan, &fake).as_deref(),
            Some("/usr/lib/fake/libfake.so.0")
        );
        assert!(plan.contains(&format!("{multiarch}/libmore.so.1")));
        assert!(!plan.contains(&format!("{multiarch}/data")));
    }
}
