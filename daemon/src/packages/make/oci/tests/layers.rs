//! A package for each layer: what it holds, what it stands on, and what is not made again.

use super::*;
use crate::packages::archive;
use crate::packages::make::TargetLayer;

/// The packages of a stack, lowest first: what each is called, what it stands on, and its files.
fn stacked(image: &Written) -> Vec<(String, Vec<String>, BTreeMap<String, String>)> {
    let what = asked(&image.folder.path().display().to_string());
    let out = tempfile::tempdir().expect("a directory");
    let work = Work::new(out.path()).expect("a place");
    let stack = stack::drafts(&what, &work).expect("a stack");
    let all = stack.layers.into_iter().chain([stack.image]);
    let described = all.map(|mut draft| {
        draft.plan = inlined(&draft.plan);
        let below = draft.description.dependencies.keys().cloned().collect();
        (draft.description.package.to_string(), below, shown(&draft))
    });
    described.collect()
}

#[test]
fn each_layer_becomes_a_package_on_the_one_below_and_images_share_what_they_have_in_common() {
    let mut image = Written::plain(&[LOWER, UPPER]);
    image.describe(0);
    let stack = stacked(&image);
    let [lower, upper, top] = &stack[..] else {
        panic!("{stack:?}");
    };
    assert!(
        lower.0.starts_with("layer-") && lower.1.is_empty(),
        "{lower:?}"
    );
    assert!(lower.2.contains_key("/etc/gone"));
    assert!(lower.0.starts_with(&upper.1[0]) && upper.0 != lower.0);
    let gained: Vec<&str> = upper.2.keys().map(String::as_str).collect();
    let expected = [
        "/bin/sh",
        "/bin/up",
        "/etc/.wh.gone",
        "/var/all/.wh.one",
        "/var/all/two",
    ];
    assert_eq!(gained, expected);
    assert!(top.0 == "shell-5.2.0" && top.2.is_empty() && upper.0.starts_with(&top.1[0]));
    // Another image on the same base; the same layer on another one is another package.
    let other: &[Entered<'_>] = &[(FILE, "bin/other", "", b"other")];
    let packages = |layers: &[&[Entered<'_>]]| {
        let mut image = Written::plain(layers);
        image.describe(0);
        let stack = stacked(&image).into_iter();
        stack.map(|(name, ..)| name).collect::<Vec<_>>()
    };
    let others = packages(&[LOWER, other]);
    assert!(others[0] == lower.0 && others[1] != upper.0);
    assert_ne!(packages(&[other, LOWER, UPPER])[2], upper.0);
}

#[test]
fn the_packages_of_layers_are_files_in_the_order_of_their_installation() {
    let mut image = Written::plain(&[LOWER, UPPER]);
    image.describe(0);
    let what = FromOci {
        layering: Layering::Each,
        ..asked(&image.folder.path().display().to_string())
    };
    let write = || {
        let out = tempfile::tempdir().expect("a directory");
        let made = make(&what, out.path()).expect("made");
        assert_eq!(made.package.to_string(), "shell-5.2.0");
        let files = made.below.into_iter().chain([made.file]);
        let files: Vec<Vec<u8>> = files.map(|file| fs::read(file).expect("a file")).collect();
        assert_eq!(fs::read_dir(out.path()).expect("listed").count(), 3);
        files
    };
    assert!(write() == write(), "the same bytes");
}

#[test]
fn a_layer_that_is_installed_is_not_looked_for_and_the_packages_above_are_the_same() {
    let lower = tar_of(LOWER);
    let packed = gzip(&lower);
    let upper = tar_of(UPPER);
    let mut image = Written::new(&[(lower, packed.clone()), (upper.clone(), gzip(&upper))]);
    image.describe(0);
    let what = FromOci {
        layering: Layering::Each,
        ..asked(&image.folder.path().display().to_string())
    };
    let out = ["first", "again", "unpacked"].map(|name| image.folder.path().join(name));
    fs::create_dir(&out[2]).expect("a directory");
    let first = make(&what, &out[0]).expect("made");
    // Installed, as the daemon tells of it, and nowhere else.
    let contents = archive::read(&first.below[0], &out[2]).expect("a package file");
    let index = out[2].join("index");
    let bounds = piston_fs::image::verify::Bounds::default();
    piston_fs::image::verify::verify(&contents.image, &index, &bounds).expect("sane");
    let info = String::from_utf8(contents.info_json).expect("text");
    let mut installed = InstalledLayers::default();
    let layer = TargetLayer {
        image: contents.image,
        index,
        mount: "/".to_owned(),
    };
    installed.add(InstalledLayers::chain_id(&info).expect("a layer"), layer);
    let list = out[2].join("layers.json");
    fs::write(&list, serde_json::to_vec(&installed).expect("JSON")).expect("written");
    let blob = sha256(&packed).replace(':', "/");
    fs::remove_file(image.folder.path().join("blobs").join(blob)).expect("removed");

    let what = FromOci {
        installed: Some(list),
        ..what
    };
    let again = make(&what, &out[1]).expect("made");
    assert_eq!(again.below.len(), 1);
    let same = [
        (&again.below[0], &first.below[1]),
        (&again.file, &first.file),
    ];
    for (again, first) in same {
        let bytes = |file| fs::read(file).expect("a file");
        assert!(bytes(again) == bytes(first), "{}", first.display());
    }
    let told = "1 of its 2 layers are installed already";
    let told = |notes: &[String]| notes.iter().any(|note| note.starts_with(told));
    assert!(told(&again.notes) && !told(&first.notes));
    assert!(InstalledLayers::chain_id(r#"{"language": "x"}"#).is_none());
}
