//! Manifests as the OCI's specification and Docker write them, and what is refused of others.

use serde_json::{Value, json};

use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn blob(kind: &str) -> Value {
    json!({"mediaType": kind, "digest": SHA, "size": 7})
}

fn manifest(config: &str, layers: &[&str]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|kind| blob(kind)).collect();
    json!({"schemaVersion": 2, "config": blob(config), "layers": layers})
}

fn parsed(document: &Value) -> Result<Document, String> {
    Document::parse(document.to_string().as_bytes())
}

#[test]
fn manifests_of_both_makers_are_read() {
    for (config, layers) in [
        (
            "application/vnd.oci.image.config.v1+json",
            [
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.oci.image.layer.v1.tar+gzip",
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ],
        ),
        (
            "application/vnd.docker.container.image.v1+json",
            [
                "application/vnd.docker.image.rootfs.diff.tar",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ],
        ),
    ] {
        let read = parsed(&manifest(config, &layers)).expect(config);
        let Document::Manifest { layers, .. } = read else {
            panic!("{read:?}")
        };
        assert_eq!((layers.len(), layers[0].size), (3, 7));
    }
    let index = json!({"schemaVersion": 2, "manifests": [blob("x"), blob("y")]});
    let read = parsed(&index).expect("an index");
    assert!(matches!(read, Document::Index(list) if list.len() == 2));
}

#[test]
fn what_is_no_image_of_a_system_is_refused_with_what_it_is() {
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let config = CONFIGS[0];
    let mut both = manifest(config, &[layer]);
    both["manifests"] = json!([blob("x")]);
    let mut old = manifest(config, &[layer]);
    old["schemaVersion"] = json!(1);
    let mut weak = manifest(config, &[layer]);
    weak["layers"][0]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e");
    let mut negative = manifest(config, &[layer]);
    negative["layers"][0]["size"] = json!(-1);
    let many = vec![layer; MOST_LAYERS + 1];
    for (document, reason) in [
        (both, "an index as well"),
        (old, "of version 1"),
        (weak, "`md5:d41d8cd98f00b204e9800998ecf8427e` is no sha256"),
        (negative, "lacks something"),
        (json!({"schemaVersion": 2}), "neither layers nor manifests"),
        (json!(["a secret"]), "lacks something"),
        (
            manifest("application/vnd.cncf.helm.config.v1+json", &[]),
            "helm",
        ),
        (
            manifest(
                config,
                &["application/vnd.oci.image.layer.v1.tar+encrypted"],
            ),
            "encrypted",
        ),
        (
            manifest(config, &["application/wasm"]),
            "`application/wasm`",
        ),
        (
            manifest(
                config,
                &["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"],
            ),
            "not to be had",
        ),
        (manifest(config, &many), "513 layers"),
    ] {
        let text = parsed(&document).expect_err(reason);
        assert!(text.contains(reason), "{reason}: {text}");
        assert!(!text.contains("a secret"), "{text}");
    }
    let text = Document::parse(b"root:$y$secret:").expect_err("no JSON");
    assert_eq!(text, "its manifest is no JSON");
}

/// An index's entry: digits of a digest, the platform, its name.
fn entry(digit: char, platform: Option<(&str, &str, &str)>, name: Option<&str>) -> Descriptor {
    Descriptor {
        kind: String::new(),
        digest: digit.to_string().repeat(64).parse().expect("a digest"),
        size: 1,
        platform: platform.map(|(os, architecture, variant)| Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.to_owned(),
        }),
        names: name.map(ToOwned::to_owned).into_iter().collect(),
    }
}

fn chosen(list: &[Descriptor], name: Option<&str>) -> Result<char, String> {
    let here = Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: String::new(),
    };
    let chosen = choose(list, name, &here)?;
    Ok(chosen.digest.to_string().chars().next().expect("digits"))
}

#[test]
fn the_image_of_this_machine_is_chosen() {
    let amd64 = Some(("linux", "amd64", ""));
    let list = [
        entry('a', Some(("linux", "arm64", "v8")), None),
        entry('b', Some(("windows", "amd64", "")), None),
        entry('c', Some(("linux", "amd64", "v3")), None),
        entry('d', amd64, None),
        entry('e', Some(("unknown", "unknown", "")), None),
    ];
    assert_eq!(chosen(&list, None), Ok('d'));
    assert_eq!(chosen(&[entry('a', None, None)], None), Ok('a'));
    let text = chosen(&list[..2], None).expect_err("none fits");
    assert!(
        text.contains("linux/arm64, windows/amd64") && text.contains("is linux/amd64"),
        "{text}"
    );
    assert!(chosen(&[], None).expect_err("empty").contains("empty"));
}

#[test]
fn of_several_images_the_named_one_is_chosen() {
    let list = [
        entry('a', None, Some("3.11")),
        entry('b', None, Some("docker.io/library/python:3.12")),
    ];
    assert_eq!(chosen(&list, Some("3.11")), Ok('a'));
    assert_eq!(chosen(&list, Some("3.12")), Ok('b'));
    assert_eq!(chosen(&list, Some("python:3.12")), Ok('b'));
    for name in [None, Some("3.1"), Some("2")] {
        let text = chosen(&list, name).expect_err("which?");
        assert!(text.contains("`3.11`, `docker.io/"), "{text}");
    }
}

#[test]
fn a_docker_archives_image_is_chosen_by_its_tag() {
    let image =
        |config: &str, tags: &[&str]| json!({"Config": config, "RepoTags": tags, "Layers": []});
    let bytes = json!([
        image("1", &["python:3.11", "python:latest"]),
        image("2", &["bash:5"])
    ]);
    let list = saved(bytes.to_string().as_bytes()).expect("images");
    for (name, expected) in [("3.11", "1"), ("python:latest", "1"), ("bash:5", "2")] {
        let chosen = choose_saved(&list, Some(name)).expect(name);
        assert_eq!(chosen.config, expected, "{name}");
    }
    let text = choose_saved(&list, None).expect_err("two images");
    assert!(
        text.contains("python:3.11, python:latest, bash:5"),
        "{text}"
    );
    choose_saved(&list, Some("4")).expect_err("no such tag");
    let untagged = json!([{"Config": "1", "RepoTags": null, "Layers": ["x"]}]);
    let list = saved(untagged.to_string().as_bytes()).expect("an image");
    assert!(choose_saved(&list, None).is_ok_and(|image| image.layers == ["x"]));
}

#[test]
fn a_configuration_may_say_little() {
    let least = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let config = Config::parse(least.to_string().as_bytes()).expect("a configuration");
    assert!(config.env.is_empty() && config.cmd.is_empty());
    let nulls = json!({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [SHA]},
        "config": {"Env": null, "Cmd": ["sh"], "Entrypoint": null, "Labels": null, "User": "x"}});
    let config = Config::parse(nulls.to_string().as_bytes()).expect("a configuration");
    assert_eq!(
        (config.cmd, config.layers.len()),
        (vec!["sh".to_owned()], 1)
    );
}
