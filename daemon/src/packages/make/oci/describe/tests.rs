//! Configurations as official images have them, and what becomes of them.

use super::*;
use crate::packages::make::oci::ImageSource;
use crate::packages::make::unpack::{Entry, Kind};

fn tree(files: &[&str]) -> Merged {
    let file = |path: &&str| Entry {
        path: (*path).to_owned(),
        kind: Kind::File {
            content: "/".into(),
            executable: true,
            mtime: 0,
        },
    };
    let entries: Vec<Entry> = files.iter().map(file).collect();
    let mut tree = Merged::default();
    tree.lay(&entries).expect("a tree");
    tree
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// An image of that name and tag, its variables, its entry point and its command.
fn image(name: &str, tag: Option<&str>, env: &[&str], start: [&str; 2]) -> Image {
    let mut image = Image::empty();
    image.name = Some(name.to_owned());
    image.tag = tag.map(ToOwned::to_owned);
    image.config.env = env.iter().map(|&line| line.to_owned()).collect();
    image.config.entrypoint = words(start[0]);
    image.config.cmd = words(start[1]);
    image
}

fn asked() -> FromOci {
    FromOci {
        image: ImageSource::Path("/image".into()),
        credentials: None,
        auth_file: None,
        name: None,
        version: None,
        run: None,
        compile: None,
        aliases: Vec::new(),
        layering: crate::packages::make::Layering::Merged,
        installed: None,
        shown: None,
    }
}

const PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

#[test]
fn the_command_of_an_image_runs_programs() {
    for (name, start, expected) in [
        (
            "python",
            ["", "python3"],
            Some("/usr/local/bin/python3 {main} {args}"),
        ),
        (
            "node",
            ["docker-entrypoint.sh", "node"],
            Some("/usr/local/bin/docker-entrypoint.sh node {main} {args}"),
        ),
        ("x", ["./start", ""], Some("/srv/start {main} {args}")),
        (
            "x",
            ["/usr/bin/lua -W", ""],
            Some("/usr/bin/lua -W {main} {args}"),
        ),
        ("x", ["/bin/sh -c", "echo hi"], None),
        ("x", ["", "gone"], None),
        ("x", ["", ""], None),
    ] {
        let mut tree = tree(&[
            "/usr/local/bin/python3",
            "/usr/local/bin/docker-entrypoint.sh",
            "/usr/bin/lua",
            "/bin/sh",
            "/srv/start",
        ]);
        let mut image = image(name, Some("3.12-slim"), &[PATH], start);
        image.config.working_directory = "/srv".to_owned();
        let (described, notes) =
            describe(&asked(), &Steps::of(&asked()), &image, &mut tree).expect("described");
        let run = expected.map(|text| Step::Command(words(text)));
        assert_eq!(described.run, run, "{start:?}");
        assert_eq!(notes.len(), 1, "{notes:?}");
        let says = if expected.is_some() {
            "runs programs with"
        } else {
            "`--run`"
        };
        assert!(notes[0].contains(says), "{notes:?}");
        assert_eq!(described.package.to_string(), format!("{name}-3.12.0"));
    }
}

#[test]
fn what_is_asked_for_wins() {
    let what = FromOci {
        name: Some("py".parse().expect("a name")),
        version: Some("1.2.3".parse().expect("a version")),
        run: Some(words("python3 -I {main}")),
        compile: Some(words("/usr/bin/cc {files}")),
        aliases: words("python3 snake"),
        ..asked()
    };
    let image = image("python", None, &[PATH], ["", "bash"]);
    let mut tree = tree(&["/usr/bin/python3"]);
    let (described, notes) =
        describe(&what, &Steps::of(&what), &image, &mut tree).expect("described");
    assert_eq!(described.package.to_string(), "py-1.2.3");
    assert_eq!(
        described.run,
        Some(Step::Command(words("/usr/bin/python3 -I {main}")))
    );
    assert_eq!(
        described.compile,
        Some(Step::Command(words("/usr/bin/cc {files}")))
    );
    assert_eq!(described.aliases, ["python3", "snake"]);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_version_is_found_where_images_have_it() {
    for (tag, env, label, expected) in [
        (
            Some("3.12-slim"),
            "PYTHON_VERSION=3.12.4",
            "22.04",
            Some("3.12.4"),
        ),
        (Some("v3.12"), "X_VERSION=1", "22.04", Some("3.12.0")),
        (Some("bookworm"), "X=1", "22.04", Some("22.4.0")),
        (None, "PYTHON_VERSION=latest", "7", Some("7.0.0")),
        (Some("latest"), "X=1", "", None),
    ] {
        let mut image = image("python", tag, &[env], ["", ""]);
        image
            .config
            .labels
            .insert(VERSION_LABEL.to_owned(), label.to_owned());
        let found = version(&asked(), &image);
        if let Some(expected) = expected {
            assert_eq!(found.expect(expected).to_string(), expected);
        } else {
            let text = found.expect_err("no version").to_string();
            assert!(text.contains("`--version`"), "{text}");
        }
    }
}

#[test]
fn variables_become_an_environment_that_is_read_as_they_were() {
    let mut notes = Vec::new();
    let variables = [
        "PATH=/opt/bin:/bin",
        "QUOTED=it's $HOME; `id` \\ \"x\"",
        "EMPTY=",
        "HOME=/root",
        "LINES=a\nb",
        "A-B=c",
        "LANG=C.UTF-8",
        "LANG=C",
    ];
    let text = environment(&variables.map(str::to_owned), &mut notes);
    let read = crate::packages::environment::parse(text.as_bytes(), "/x").expect("an environment");
    let read: Vec<(&str, &str)> = read
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        read,
        [
            ("EMPTY", ""),
            ("LANG", "C"),
            ("PATH", "/opt/bin:/bin"),
            ("QUOTED", "it's $HOME; `id` \\ \"x\""),
        ]
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
}
