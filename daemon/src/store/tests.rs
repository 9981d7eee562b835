//! State that survives, damage that is named.

use proptest::prelude::*;

use super::*;
use records::PackageSettings;

fn record(name: &str, version: &str) -> PackageRecord {
    PackageRecord {
        package: PackageRef::new(name.parse().unwrap(), version.parse().unwrap()),
        info: "{}".to_owned(),
        image: piston_client::ids::Digest::from_bytes([1; 32]),
        original: None,
        image_bytes: 10,
        content_bytes: 20,
        file: piston_client::ids::Digest::from_bytes([2; 32]),
        repository: Some("local".to_owned()),
        signed_by: None,
        requested: true,
        run: Some(vec![0, 255, 10]),
        compile: None,
        own_environment: vec![("A".to_owned(), "b".to_owned())],
        environment: Vec::new(),
        dependencies: Vec::new(),
        layers: Vec::new(),
        notes: Vec::new(),
        installed_at: 7,
        settings: PackageSettings::default(),
    }
}

fn repository(name: &str, position: u64) -> RepositoryRecord {
    RepositoryRecord::new(name, "file:///x", position)
}

#[test]
fn packages_survive_a_restart_sorted_by_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (old, new) = (record("python", "3.9.0"), record("python", "3.11.0"));
    {
        let store = Store::open(&path).unwrap();
        let changes = Changes {
            put: vec![&new, &old],
            remove: Vec::new(),
        };
        store.apply(&changes).unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.packages().unwrap(), vec![old, new]);
}

#[test]
fn a_change_adds_and_removes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    let (a, b) = (record("a", "1.0.0"), record("b", "1.0.0"));
    let put = |record| Changes {
        put: vec![record],
        remove: Vec::new(),
    };
    store.apply(&put(&a)).unwrap();
    let both = Changes {
        put: vec![&b],
        remove: vec![&a.package],
    };
    store.apply(&both).unwrap();
    assert_eq!(store.packages().unwrap(), vec![b]);
}

#[test]
fn repositories_keep_their_order_and_take_their_index_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    store
        .put_repository(&repository("z", 0), Some(b"index"))
        .unwrap();
    store.put_repository(&repository("a", 1), None).unwrap();
    let names = |store: &Store| -> Vec<String> {
        let records = store.repositories().unwrap();
        records.into_iter().map(|record| record.name).collect()
    };
    assert_eq!(names(&store), ["z", "a"]);
    assert_eq!(store.index("z").unwrap().unwrap(), b"index");
    store.put_repository(&repository("z", 0), None).unwrap();
    assert_eq!(store.index("z").unwrap().unwrap(), b"index", "kept");
    store.remove_repository("z").unwrap();
    assert_eq!(names(&store), ["a"]);
    assert_eq!(store.index("z").unwrap(), None);
}

#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    drop(Store::open(&path).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_file_that_is_no_database_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let text = Store::open(&path).unwrap_err().to_string();
    assert!(
        text.contains("damaged") && text.contains("pistond repair"),
        "{text}"
    );
}

#[test]
fn what_a_killed_creation_left_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    fs::write(path.with_extension("redb.new"), b"half").unwrap();
    assert!(Store::open(&path).unwrap().packages().unwrap().is_empty());
}

#[test]
fn a_cut_or_flipped_database_never_panics_and_never_lies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let original = record("python", "3.11.2");
    let changes = Changes {
        put: vec![&original],
        remove: Vec::new(),
    };
    Store::open(&path).unwrap().apply(&changes).unwrap();
    let whole = fs::read(&path).unwrap();
    let bad = dir.path().join("bad.redb");
    for step in 0..120 {
        let mut bytes = whole.clone();
        let at = step * whole.len() / 120;
        if step % 3 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at..(at + 64).min(whole.len())].fill(0xA5);
        }
        fs::write(&bad, bytes).unwrap();
        let Ok(store) = Store::open(&bad) else {
            continue;
        };
        if let Ok(records) = store.packages() {
            assert!(
                records.is_empty() || records == [original.clone()],
                "step {step}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_row_decodes_only_as_it_was_written(
        at in 0_usize..400, flip in 1_u8..=255, text in ".{0,40}"
    ) {
        let mut written = record("python", "3.11.2");
        written.info = text;
        let mut row = records::encode(&written);
        prop_assert_eq!(&records::decode::<PackageRecord>(&row).unwrap(), &written);
        let at = at % row.len();
        row[at] ^= flip;
        prop_assert!(records::decode::<PackageRecord>(&row).is_err());
    }
}
