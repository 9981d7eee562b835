//! The trees of several packages as one plan: what dpkg and the packages' scripts would have left.
//!
//! Directories that are links in the whole (`/bin`, `/lib` since the merge of /usr; links to
//! directories that other packages ship) are followed, so that no path of the plan runs through
//! a link. `scripts` does what maintainer scripts do. What nobody runs (manuals, services,
//! translations) is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::{Content, Item, Plan, names};
use super::deb::{Contents, Entry, Kind};
use super::error::DebianError;

/// Directories of the root that are links into /usr.
pub(super) const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Links that one path may run through, as in the kernel.
const MOST_LINKS: u32 = 40;

/// What is left out, wherever packages have it: no program of a job reads it.
const LEFT_OUT: [&str; 32] = [
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/usr/share/bug",
    "/usr/share/doc-base",
    "/usr/share/menu",
    "/usr/share/applications",
    "/usr/share/icons",
    "/usr/share/pixmaps",
    "/usr/share/apport",
    "/usr/share/bash-completion",
    "/usr/share/zsh",
    "/usr/share/debhelper",
    "/usr/share/gtk-doc",
    "/usr/share/help",
    "/usr/lib/systemd",
    "/lib/systemd",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/sysusers.d",
    "/etc/init.d",
    "/etc/default",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/logrotate.d",
    "/etc/pam.d",
    "/var/backups",
    "/var/cache",
    "/var/local",
    "/var/lock",
    "/var/log",
    "/var/mail",
];

/// Whether an entry of a package belongs into an image.
pub(super) fn wanted(path: &str) -> bool {
    let below = |top: &str| {
        path.strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Licences stay with what they are of.
    let documentation = below("/usr/share/doc") && !path.ends_with("/copyright");
    !documentation && !LEFT_OUT.into_iter().any(below)
}

/// Plans the trees of packages, each with its name. Of two files at one path the first one stays.
pub(super) fn plan(packages: &[(String, Contents)]) -> Result<Plan, DebianError> {
    let links = Links::of(packages);
    let mut plan = Plan::default();
    for (name, contents) in packages {
        let refused = |path: &str, reason| DebianError::Entry {
            package: name.clone(),
            entry: path.chars().take(80).collect(),
            reason,
        };
        let files = files(contents);
        for Entry { path, kind } in &contents.entries {
            let at = links
                .followed(path)
                .map_err(|reason| refused(path, reason))?;
            let Some(at) = at else { continue };
            match kind {
                Kind::Directory if links.leads(&at) => {}
                Kind::Directory => plan.directory(&at),
                Kind::Symlink(_) if links.directories.contains(&at) => {}
                Kind::Symlink(target) => plan.symlink(&at, &merged(target)),
                Kind::File { .. } => add_file(&mut plan, &at, kind),
                Kind::Hardlink(to) => {
                    let reason = "is a link to a file that the package does not hold";
                    let file = files.get(&**to).ok_or_else(|| refused(path, reason))?;
                    add_file(&mut plan, &at, file);
                }
            }
        }
    }
    Ok(plan)
}

fn add_file(plan: &mut Plan, at: &str, file: &Kind) {
    if let Kind::File {
        content,
        executable,
        mtime,
    } = file
    {
        plan.host_file(at, content.clone(), *executable, *mtime);
    }
}

/// The files of a package by their paths in it: what its hard links lead to.
fn files(contents: &Contents) -> BTreeMap<&str, &Kind> {
    let files = contents.entries.iter();
    files
        .filter(|entry| matches!(entry.kind, Kind::File { .. }))
        .map(|entry| (&*entry.path, &entry.kind))
        .collect()
}

/// A path within a directory that has moved into /usr; others stay as they are.
pub(super) fn merged(target: &str) -> String {
    let top = target
        .strip_prefix('/')
        .and_then(|rest| rest.split('/').next());
    match top {
        Some(top) if MERGED.contains(&top) => format!("/usr{target}"),
        _ => target.to_owned(),
    }
}

/// The links and the directories of the whole, by their paths.
struct Links<'a> {
    links: BTreeMap<String, &'a str>,
    directories: BTreeSet<String>,
}

impl<'a> Links<'a> {
    fn of(packages: &'a [(String, Contents)]) -> Self {
        let mut all = Self {
            links: BTreeMap::new(),
            directories: BTreeSet::new(),
        };
        let entries = || packages.iter().flat_map(|(_, contents)| &contents.entries);
        for Entry { path, kind } in entries() {
            let Some(path) = into_usr(path) else { continue };
            match kind {
                Kind::Directory => drop(all.directories.insert(path)),
                Kind::Symlink(target) => {
                    all.links.entry(path).or_insert(target);
                }
                _ => {}
            }
        }
        // A directory that one package ships is none of another's link.
        all.links.retain(|path, _| !all.directories.contains(path));
        all
    }

    fn leads(&self, path: &str) -> bool {
        self.links.contains_key(path)
    }

    /// Where an entry lands: its directory with all links on the way followed. Nowhere for the
    /// directories of the root that are links themselves.
    fn followed(&self, path: &str) -> Result<Option<String>, &'static str> {
        let Some(path) = into_usr(path) else {
            return Ok(None);
        };
        let Some((directory, name)) = path.rsplit_once('/') else {
            return Ok(None);
        };
        let mut left = MOST_LINKS;
        let mut pending: Vec<String> = names(directory);
        let mut at = String::new();
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let here = format!("{at}/{name}");
            let here = into_usr(&here).unwrap_or_else(|| format!("/usr{here}"));
            match self.links.get(&here) {
                None => at = here,
                Some(target) => {
                    left = left.checked_sub(1).ok_or("runs through too many links")?;
                    if target.starts_with('/') {
                        at.clear();
                    }
                    pending.extend(names(target));
                }
            }
        }
        Ok(Some(format!("{at}/{name}")))
    }
}

/// The path after the merge of /usr; none for what is a link then.
fn into_usr(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let (top, below) = rest.split_once('/').unwrap_or((rest, ""));
    if !MERGED.contains(&top) {
        return Some(path.to_owned());
    }
    (!below.is_empty()).then(|| format!("/usr{path}"))
}

/// The text of a planned file that a package brought.
pub(super) fn text(plan: &Plan, path: &str) -> Option<Vec<u8>> {
    match plan.item(path)? {
        Item::File {
            content: Content::Host(file),
            ..
        } => std::fs::read(file).ok(),
        Item::File {
            content: Content::Bytes(bytes),
            ..
        } => Some(bytes.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn package(entries: &[(&str, Kind)]) -> (String, Contents) {
        let entries = entries.iter().map(|(path, kind)| Entry {
            path: (*path).to_owned(),
            kind: kind.clone(),
        });
        let contents = Contents {
            postinst: None,
            entries: entries.collect(),
        };
        ("some".to_owned(), contents)
    }

    fn file(from: &str) -> Kind {
        Kind::File {
            content: PathBuf::from(from),
            executable: false,
            mtime: 1,
        }
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink(target.to_owned())
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let show = |(path, item): (&str, &Item)| match item {
            Item::Directory => format!("{path}/"),
            Item::Symlink(target) => format!("{path} -> {target}"),
            Item::File { content, .. } => format!("{path} = {content:?}"),
        };
        plan.items().map(show).collect()
    }

    #[test]
    fn what_lies_in_the_root_moves_into_usr() {
        let one = package(&[
            ("/lib", Kind::Directory),
            ("/lib/x86_64-linux-gnu", Kind::Directory),
            ("/lib/x86_64-linux-gnu/libc.so.6", file("1")),
            ("/bin/sh", link("/bin/dash")),
            ("/usr/bin/dash", link("../lib/dash")),
        ]);
        let plan = plan(&[one]).expect("a plan");
        let shown = shown(&plan);
        let expected = [
            "/usr/",
            "/usr/bin/",
            "/usr/bin/dash -> ../lib/dash",
            "/usr/bin/sh -> /usr/bin/dash",
            "/usr/lib/",
            "/usr/lib/x86_64-linux-gnu/",
        ];
        assert_eq!(shown[..6], expected);
        assert!(shown[6].starts_with("/usr/lib/x86_64-linux-gnu/libc.so.6 ="));
    }

    #[test]
    fn a_path_through_another_packages_link_lands_where_that_leads() {
        let one = package(&[
            ("/usr/share/a", link("../lib/b")),
            ("/usr/share/c", link("/usr/share/a/d")),
        ]);
        let two = package(&[("/usr/share/a/x", file("1")), ("/usr/share/c/y", file("2"))]);
        for order in [[one.clone(), two.clone()], [two, one]] {
            let plan = plan(&order).expect("a plan");
            assert!(
                plan.contains("/usr/lib/b/x") && plan.contains("/usr/lib/b/d/y"),
                "{:?}",
                shown(&plan)
            );
        }
    }

    #[test]
    fn a_directory_wins_over_another_packages_link() {
        let one = package(&[("/usr/share/a", link("b"))]);
        let two = package(&[
            ("/usr/share/a", Kind::Directory),
            ("/usr/share/a/x", file("1")),
        ]);
        let plan = plan(&[one, two]).expect("a plan");
        assert!(plan.contains("/usr/share/a/x"));
        assert_eq!(plan.item("/usr/share/a"), Some(&Item::Directory));
    }

    #[test]
    fn a_hard_link_is_the_file_it_leads_to() {
        let one = package(&[
            ("/usr/bin/perl5", Kind::Hardlink("/usr/bin/perl".to_owned())),
            ("/usr/bin/perl", file("7")),
        ]);
        let plan = plan(&[one]).expect("a plan");
        assert_eq!(plan.item("/usr/bin/perl5"), plan.item("/usr/bin/perl"));
    }

    #[test]
    fn links_that_lead_nowhere_good_are_refused_or_stay_inside() {
        let ring = package(&[
            ("/usr/a", link("b")),
            ("/usr/b", link("a")),
            ("/usr/a/x", file("1")),
        ]);
        let text = plan(&[ring]).expect_err("a ring").to_string();
        assert!(
            text.contains("some") && text.contains("/usr/a/x") && text.contains("links"),
            "{text}"
        );
        let dangling = package(&[("/usr/x", Kind::Hardlink("/etc/shadow".to_owned()))]);
        let text = plan(&[dangling]).expect_err("no such file").to_string();
        assert!(text.contains("/usr/x"), "{text}");
        let out = package(&[
            ("/usr/up", link("../../../..")),
            ("/usr/up/etc/x", file("1")),
        ]);
        let plan = plan(&[out]).expect("the root is the end");
        assert!(plan.contains("/etc/x"));
    }

    #[test]
    fn manuals_and_services_stay_out_and_licences_stay() {
        for path in [
            "/usr/share/doc/lua/copyright",
            "/usr/bin/lua",
            "/usr/share/manpages",
            "/etc/php/8.2/cli/php.ini",
        ] {
            assert!(wanted(path), "{path}");
        }
        for path in [
            "/usr/share/doc/lua/README",
            "/usr/share/doc",
            "/usr/share/man",
            "/usr/share/man/man1/lua.1",
            "/etc/init.d/x",
            "/var/cache/x",
        ] {
            assert!(!wanted(path), "{path}");
        }
    }
}
