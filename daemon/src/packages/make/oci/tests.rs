//! Images written here part by part: good ones in every form, and what is refused of others.

mod layers;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::*;
use crate::packages::make::oci::manifest::Platform;
use crate::packages::make::plan::{Content, Item, Plan};

/// An entry of a layer: kind, path, link's target, bytes.
type Entered<'a> = (EntryType, &'a str, &'a str, &'a [u8]);

const FILE: EntryType = EntryType::Regular;

fn tar_of(entries: &[Entered<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, link, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_mtime(5);
        header.set_size(bytes.len().try_into().expect("a length"));
        // The crate refuses what is tried here, so the names are written past it.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).expect("written");
    }
    tar.into_inner().expect("written")
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    encoder.read_to_end(&mut packed).expect("packed");
    packed
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("packed")
}

/// An image in the making: what its index, manifest and configuration say can be made wrong.
struct Written {
    folder: tempfile::TempDir,
    config: Value,
    manifest: Value,
    descriptor: Value,
}

impl Written {
    /// An image of these layers, packed as they are to be found.
    fn new(layers: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(folder.path().join("blobs/sha256")).expect("a directory");
        let here = Platform::here();
        let mut image = Self {
            folder,
            config: json!({"architecture": here.architecture, "os": here.os,
                "config": {"Env": ["SHELL_VERSION=5.2"], "Cmd": ["/bin/shell"]}}),
            manifest: json!({"schemaVersion": 2}),
            descriptor: json!({"annotations": {"org.opencontainers.image.ref.name": "x/shell:5"}}),
        };
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let blobs = layers.iter().map(|(_, packed)| image.blob(kind, packed));
        let blobs: Vec<Value> = blobs.collect();
        let ids: Vec<String> = layers.iter().map(|(plain, _)| sha256(plain)).collect();
        image.manifest["layers"] = json!(blobs);
        image.config["rootfs"] = json!({"type": "layers", "diff_ids": ids});
        image
    }

    fn plain(layers: &[&[Entered<'_>]]) -> Self {
        let tars = layers.iter().map(|entries| tar_of(entries));
        Self::new(
            &tars
                .map(|tar| (tar.clone(), gzip(&tar)))
                .collect::<Vec<_>>(),
        )
    }

    /// Stores a blob and describes it.
    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        let name = digest.replace(':', "/");
        fs::write(self.folder.path().join("blobs").join(name), bytes).expect("written");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Writes what describes it; an index around it `nested` times.
    fn describe(&mut self, nested: usize) {
        if self.manifest.get("config").is_none() {
            let config = self.config.to_string();
            self.manifest["config"] = self.blob(
                "application/vnd.oci.image.config.v1+json",
                config.as_bytes(),
            );
        }
        let manifest = self.manifest.to_string();
        let mut inner = self.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.as_bytes(),
        );
        for _ in 0..nested {
            let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
            inner = self.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
        }
        for (key, value) in inner.as_object().expect("a descriptor").clone() {
            self.descriptor
                .as_object_mut()
                .expect("one")
                .entry(key)
                .or_insert(value);
        }
        let index = json!({"schemaVersion": 2, "manifests": [self.descriptor]});
        fs::write(self.folder.path().join("index.json"), index.to_string()).expect("written");
    }

    fn draft(&self) -> Result<Draft, String> {
        draft_of(&self.folder.path().display().to_string())
    }
}

fn asked(image: &str) -> FromOci {
    FromOci {
        image: image.parse().expect("an image"),
        credentials: None,
        auth_file: None,
        name: None,
        version: None,
        run: None,
        compile: None,
        aliases: Vec::new(),
        layering: Layering::Merged,
        installed: None,
        shown: None,
    }
}

/// Drafts the image; whatever it holds, nothing is left.
fn draft_of(image: &str) -> Result<Draft, String> {
    let what = asked(image);
    let out = tempfile::tempdir().expect("a directory");
    let work = Work::new(out.path()).expect("a place");
    let drafted = draft(&what, &Steps::of(&what), &work).map(|mut draft| {
        // The contents are in files that go with the place.
        draft.plan = inlined(&draft.plan);
        draft
    });
    drop(work);
    let left = fs::read_dir(out.path()).expect("listed").count();
    assert_eq!(left, 0, "{image}");
    drafted.map_err(|error| error.to_string())
}

fn inlined(plan: &Plan) -> Plan {
    let mut inlined = Plan::default();
    for (path, item) in plan.items() {
        let item = match item {
            Item::File {
                content: Content::Host(file),
                executable,
            } => Item::File {
                content: Content::Bytes(fs::read(file).expect("kept")),
                executable: *executable,
            },
            other => other.clone(),
        };
        inlined.add(path, item);
    }
    inlined
}

/// Files of a draft with what is in them, and where links lead.
fn shown(draft: &Draft) -> BTreeMap<String, String> {
    let show = |(path, item): (&str, &Item)| {
        let text = match item {
            Item::Directory => return None,
            Item::Symlink(target) => format!("-> {target}"),
            Item::File {
                content: Content::Bytes(bytes),
                ..
            } => String::from_utf8_lossy(bytes).into_owned(),
            Item::File { content, .. } => panic!("{content:?}"),
        };
        Some((path.to_owned(), text))
    };
    draft.plan.items().filter_map(show).collect()
}

const LOWER: &[Entered<'_>] = &[
    (EntryType::Directory, "./", "", b""),
    (FILE, "bin/shell", "", b"shell"),
    (FILE, "etc/gone", "", b"lower"),
    (FILE, "var/all/one", "", b"1"),
    (EntryType::Char, "dev/null", "", b""),
];
const UPPER: &[Entered<'_>] = &[
    (FILE, "etc/.wh.gone", "", b""),
    (FILE, "var/all/.wh..wh..opq", "", b""),
    (FILE, "var/all/two", "", b"2"),
    (EntryType::Link, "bin/sh", "bin/shell", b""),
    (EntryType::Symlink, "bin/up", "../../../etc/passwd", b""),
];

/// What a program sees of the two.
fn expected() -> BTreeMap<String, String> {
    let rows = [
        ("/bin/sh", "shell"),
        ("/bin/shell", "shell"),
        ("/bin/up", "-> ../../../etc/passwd"),
        ("/var/all/two", "2"),
    ];
    rows.map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

#[test]
fn layers_in_every_packing_become_one_tree() {
    let (lower, upper) = (tar_of(LOWER), tar_of(UPPER));
    for packed in [
        [lower.clone(), upper.clone()],
        [gzip(&lower), zstd(&upper)],
        [zstd(&lower), gzip(&upper)],
    ] {
        let [one, two] = packed;
        let mut image = Written::new(&[(lower.clone(), one), (upper.clone(), two)]);
        image.describe(2);
        let draft = image.draft().expect("a draft");
        assert_eq!(shown(&draft), expected());
        let description = &draft.description;
        assert_eq!(description.package.to_string(), "shell-5.2.0");
        let notes = draft.notes.join("\n");
        assert!(
            notes.contains("made of /")
                && notes.contains("1 devices")
                && notes.contains("/bin/shell"),
            "{notes}"
        );
    }
}

/// The image as `docker save` had it, of these layers.
fn saved(layers: &[&[Entered<'_>]], name: &str) -> Vec<u8> {
    let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar_of(entries)).collect();
    let here = Platform::here();
    let ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
    let config = json!({"architecture": here.architecture, "os": here.os,
        "config": {"Entrypoint": ["/bin/shell"]}, "rootfs": {"diff_ids": ids}});
    let config = config.to_string();
    let file = name.replace("HEX", &sha256(config.as_bytes())[7..]);
    let names: Vec<String> = (0..tars.len())
        .map(|number| format!("{number}/layer.tar"))
        .collect();
    let list = json!([{"Config": file, "RepoTags": ["x/shell:5.1"], "Layers": names}]).to_string();
    let mut members: Vec<Entered<'_>> = vec![
        (FILE, "manifest.json", "", list.as_bytes()),
        (FILE, &file, "", config.as_bytes()),
    ];
    members.extend(
        names
            .iter()
            .zip(&tars)
            .map(|(name, tar)| (FILE, name.as_str(), "", &tar[..])),
    );
    tar_of(&members)
}

#[test]
fn archives_of_layouts_and_of_docker_are_read_packed_or_not() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut layout = Written::plain(&[LOWER, UPPER]);
    layout.describe(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_dir_all(".", layout.folder.path())
        .expect("written");
    let layout = archive.into_inner().expect("written");
    let docker = saved(&[LOWER, UPPER], "HEX.json");
    for (bytes, version) in [
        (layout.clone(), "5.2.0"),
        (gzip(&layout), "5.2.0"),
        (docker.clone(), "5.1.0"),
        (zstd(&docker), "5.1.0"),
    ] {
        let path = folder.path().join("shell.tar");
        fs::write(&path, bytes).expect("written");
        let draft = draft_of(&path.display().to_string()).expect("a draft");
        assert_eq!(shown(&draft), expected());
        assert_eq!(
            draft.description.package.to_string(),
            format!("shell-{version}")
        );
        for name in ["x/shell:5.1", "5.1", "x/shell:5", "5"] {
            let named = draft_of(&format!("{}:{name}", path.display()));
            let own = if version == "5.2.0" { "5" } else { "5.1" };
            assert_eq!(named.is_ok(), name.ends_with(own), "{name} of {version}");
        }
    }
    let path = folder.path().join("wrong.tar");
    fs::write(&path, saved(&[LOWER], &format!("{}.json", "0".repeat(64)))).expect("written");
    let text = draft_of(&path.display().to_string()).expect_err("another configuration");
    assert!(
        text.contains("wrong.tar") && text.contains("not what its name says"),
        "{text}"
    );
}

#[test]
fn a_hostile_layer_is_refused_by_the_images_and_the_layers_name() {
    let good: &[Entered<'_>] = &[(FILE, "bin/shell", "", b"shell")];
    let rows: [(&[Entered<'_>], &str); 9] = [
        (&[(FILE, "../evil", "", b"x")], "`../evil`, which leads out"),
        (
            &[(FILE, "/etc/evil", "", b"x")],
            "`/etc/evil`, which has an absolute path",
        ),
        (&[(FILE, "a/../../evil", "", b"x")], "leads out"),
        (
            &[(EntryType::Link, "x", "../../etc/shadow", b"")],
            "leads out",
        ),
        (&[(EntryType::Link, "x", "/etc/shadow", b"")], "absolute"),
        (&[(EntryType::Link, "x", "etc/shadow", b"")], "not there"),
        (&[(EntryType::Symlink, "x", "", b"")], "leads nowhere"),
        (
            &[
                (EntryType::Symlink, "a", "b", b""),
                (EntryType::Symlink, "b", "a", b""),
                (FILE, "a/x", "", b"x"),
            ],
            "too many links",
        ),
        (&[(EntryType::GNUSparse, "x", "", b"")], "unknown kind"),
    ];
    for (layer, reason) in rows {
        let mut image = Written::plain(&[good, layer]);
        image.describe(0);
        let text = image.draft().err().unwrap_or_else(|| panic!("{reason}"));
        let folder = image.folder.path().display().to_string();
        assert!(
            text.contains(&folder) && text.contains("layer 2 (sha256:") && text.contains(reason),
            "{reason}: {text}"
        );
    }
}

#[test]
fn links_out_of_the_image_stay_inside_of_it() {
    let lower: &[Entered<'_>] = &[
        (EntryType::Symlink, "up", "../../../../..", b""),
        (EntryType::Symlink, "abs", "/etc", b""),
        (FILE, "bin/shell", "", b"shell"),
    ];
    let upper: &[Entered<'_>] = &[(FILE, "up/tmp/x", "", b"1"), (FILE, "abs/y", "", b"2")];
    let mut image = Written::plain(&[lower, upper]);
    image.describe(0);
    let tree = shown(&image.draft().expect("a draft"));
    assert_eq!(tree.get("/tmp/x").map(String::as_str), Some("1"));
    assert_eq!(tree.get("/etc/y").map(String::as_str), Some("2"));
}

/// Makes something of an image wrong.
type Change<'a> = &'a dyn Fn(&mut Written);

/// Each change has to be refused for its reason, with the image's name and without what is in it.
fn refused(changes: &[(&str, Change<'_>)]) {
    for (reason, change) in changes {
        let mut image = Written::plain(&[&[(FILE, "bin/shell", "", b"shell")]]);
        change(&mut image);
        image.describe(0);
        image.is_refused(reason);
    }
}

impl Written {
    fn is_refused(&self, reason: &str) {
        let text = self.draft().err().unwrap_or_else(|| panic!("{reason}"));
        let folder = self.folder.path().display().to_string();
        assert!(
            text.contains(&folder) && text.contains(reason),
            "{reason}: {text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    /// Where its layer lies.
    fn layer(&self) -> PathBuf {
        let digest = self.manifest["layers"][0]["digest"].as_str();
        let digest = digest.expect("a layer").replace(':', "/");
        self.folder.path().join("blobs").join(digest)
    }
}

#[test]
fn a_layer_that_is_not_what_it_should_be_is_refused() {
    refused(&[
        ("layer 1 (sha256:", &|image| {
            let mut bytes = fs::read(image.layer()).expect("a layer");
            bytes[30] ^= 1;
            fs::write(image.layer(), bytes).expect("written");
        }),
        ("is not there", &|image| {
            fs::remove_file(image.layer()).expect("removed");
        }),
        ("3 are said", &|image| {
            image.manifest["layers"][0]["size"] = json!(3);
        }),
        ("over 16 GiB", &|image| {
            image.manifest["layers"][0]["size"] = json!(u64::MAX);
        }),
        ("not what the configuration says", &|image| {
            image.config["rootfs"]["diff_ids"][0] = json!(sha256(b"another"));
        }),
        ("has 1 layers, its configuration names 2", &|image| {
            image.config["rootfs"]["diff_ids"] = json!([sha256(b"1"), sha256(b"2")]);
        }),
        ("it has no layers", &|image| {
            image.manifest["layers"] = json!([]);
            image.config["rootfs"]["diff_ids"] = json!([]);
        }),
    ]);
}

#[test]
fn what_describes_an_image_is_refused_where_it_is_wrong() {
    refused(&[
        ("it is for linux/mips", &|image| {
            image.config["architecture"] = json!("mips");
        }),
        ("it is for linux/mips", &|image| {
            image.descriptor["platform"] = json!({"os": "linux", "architecture": "mips"});
        }),
        ("its configuration is 9000000 bytes long", &|image| {
            image.manifest["config"] = image.blob("", b"{}");
            image.manifest["config"]["size"] = json!(9_000_000);
        }),
        ("its configuration is no JSON", &|image| {
            image.manifest["config"] = image.blob("", b"root:$y$secret:");
        }),
        ("its manifest sha256:", &|image| {
            image.descriptor["digest"] = json!(sha256(b"nothing"));
        }),
    ]);
    let mut image = Written::plain(&[&[(FILE, "bin/shell", "", b"shell")]]);
    image.describe(6);
    image.is_refused("over and over");
    let index = image.folder.path().join("index.json");
    let most = usize::try_from(manifest::MAX_MANIFEST_BYTES).expect("a length");
    fs::write(&index, vec![b'x'; most + 1]).expect("written");
    image.is_refused("bytes long");
    fs::remove_file(&index).expect("removed");
    image.is_refused("neither an image layout");
}

#[test]
fn a_layer_that_unpacks_to_too_much_is_given_up() {
    let plain = tar_of(&[(FILE, "bin/shell", "", b"shell")]);
    // Zeros behind the end of a tar unpack to nothing that is kept.
    let zeros = gzip(&vec![0; 8 << 20]);
    let bomb = [gzip(&plain), zeros].concat();
    assert!(bomb.len() < 100_000);
    let mut written = Written::new(&[(plain, bomb)]);
    written.describe(0);
    let what = asked(&written.folder.path().display().to_string());
    let out = tempfile::tempdir().expect("a directory");
    let work = Work::new(out.path()).expect("a place");
    let mut image = Image::find(&what, &work).expect("an image");
    let mut laying = Laying::new(&work, Budget::new(4 << 20, 1000));
    let text = laying.lay(&mut image, 0).expect_err("a bomb");
    let text = text.to_string();
    assert!(
        text.contains("layer 1") && text.contains("more than 4 MiB"),
        "{text}"
    );
}

#[test]
fn variables_of_a_recipe_stand_in_the_place_of_the_image_s() {
    let below = "export A='1'\nexport AB='2'\nexport C='x=y'\n";
    for (above, expected) in [
        ("", below),
        (
            "export A='new'\n",
            "export AB='2'\nexport C='x=y'\nexport A='new'\n",
        ),
        (
            "export C=''\n",
            "export A='1'\nexport AB='2'\nexport C=''\n",
        ),
    ] {
        assert_eq!(overlaid(below, above), expected);
    }
}
