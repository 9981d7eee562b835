//! Entries that live, end, survive and are damaged.

use std::fs;

use piston_client::api::CacheOutcome;

use super::*;
use crate::job::outcome::StageOutcome;
use crate::sandbox::WorkspaceFile;

pub(super) const SETTINGS: Settings = Settings {
    size: Bytes::mib(8),
    time_to_live: Duration::from_hours(1),
    max_entry: Bytes::mib(1),
    // Small ones are at hand, large ones are read each time.
    memory: Bytes::kib(1400),
};

/// More than a row may have.
pub(super) const LARGE: usize = 200_000;

pub(super) fn package(name: &str) -> PackageRef {
    PackageRef::new(name.parse().unwrap(), "1.0.0".parse().unwrap())
}

pub(super) fn key(number: u8) -> Key {
    Key([number; 32])
}

/// An artifact of so many bytes.
pub(super) fn kept(number: u8, length: usize) -> Kept {
    let file = WorkspaceFile {
        path: "binary".parse().unwrap(),
        mode: 0o755,
        bytes: vec![number; length],
    };
    Kept {
        compile: Some(StageOutcome {
            code: Some(0),
            stdout: format!("compiled {number}").into_bytes(),
            ..StageOutcome::default()
        }),
        run: None,
        files: vec![file],
    }
}

async fn put(cache: &Arc<Cache>, number: u8, length: usize) {
    cache.keep(key(number), &package("gcc"), Arc::new(kept(number, length)));
    while cache.find(key(number), None).await.is_none() {
        tokio::task::yield_now().await;
    }
}

/// A cache in `folder`, with a small entry 1 and a large entry 2 on disk.
async fn two_on_disk(folder: &Path) -> Arc<Cache> {
    let cache = Cache::open(folder, SETTINGS).unwrap();
    put(&cache, 1, 10).await;
    put(&cache, 2, LARGE).await;
    cache.flushed().await;
    cache
}

/// The writer lets go of the database a moment after the cache has been dropped.
async fn close(cache: Arc<Cache>, folder: &Path) {
    drop(cache);
    let path = folder.join("cache.redb");
    while CacheStore::open(&path).is_err() {
        tokio::task::yield_now().await;
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("cache")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn what_was_kept_is_found_before_and_after_it_is_written_and_by_the_next_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let cache = two_on_disk(folder.path()).await;
    assert_eq!(files(folder.path()).len(), 1, "the large one");
    for _ in 0..2 {
        assert_eq!(cache.find(key(1), None).await, Some(Arc::new(kept(1, 10))));
        assert!(cache.find(key(2), None).await == Some(Arc::new(kept(2, LARGE))));
        assert_eq!(cache.find(key(3), None).await, None);
    }
    close(cache, folder.path()).await;
    let cache = Cache::open(folder.path(), SETTINGS).unwrap();
    assert_eq!(cache.find(key(1), None).await, Some(Arc::new(kept(1, 10))));
    assert_eq!(
        cache.find(key(2), None).await,
        Some(Arc::new(kept(2, LARGE)))
    );
    assert_eq!(cache.troubles(), Troubles::default());
}

#[tokio::test]
async fn entries_end_with_their_time_their_package_and_by_purge() {
    let folder = tempfile::tempdir().unwrap();
    let cache = two_on_disk(folder.path()).await;
    cache.keep(key(3), &package("rust"), Arc::new(kept(3, 10)));
    assert_eq!(cache.usage(Some(&package("rust"))).0.entries, 1);
    cache.sweep(&[(package("rust"), None)].into());
    cache.flushed().await;
    assert_eq!(cache.usage(None).0.entries, 1, "gcc has gone");
    assert_eq!(files(folder.path()).len(), 0);
    assert_eq!(cache.purge(Some(&package("gcc"))).entries, 0);
    assert_eq!(cache.purge(None).entries, 1);
    assert_eq!(cache.find(key(3), None).await, None);
    put(&cache, 1, 10).await;
    cache.flushed().await;
    close(cache, folder.path()).await;
    let over = Settings {
        time_to_live: Duration::ZERO,
        ..SETTINGS
    };
    let cache = Cache::open(folder.path(), over).unwrap();
    assert_eq!(cache.usage(None).0.entries, 1);
    assert_eq!(cache.find(key(1), None).await, None, "over its time");
    assert_eq!(cache.usage(None).0.entries, 0);
    assert_eq!(cache.troubles(), Troubles::default());
}

#[tokio::test]
async fn what_was_used_longest_ago_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings {
        size: Bytes::kib(500),
        ..SETTINGS
    };
    let cache = Cache::open(folder.path(), small).unwrap();
    put(&cache, 1, LARGE).await;
    put(&cache, 2, LARGE).await;
    assert!(cache.find(key(1), None).await.is_some());
    put(&cache, 3, LARGE).await;
    // Room is made by who keeps an entry, just after it can be found.
    while cache.find(key(2), None).await.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(cache.find(key(1), None).await.is_some());
    cache.flushed().await;
    assert_eq!(files(folder.path()).len(), 2);
    cache.keep(key(4), &package("gcc"), Arc::new(kept(4, 20)));
    let off = Cache::open(
        &folder.path().join("off"),
        Settings {
            size: Bytes(0),
            ..small
        },
    )
    .unwrap();
    off.keep(key(4), &package("gcc"), Arc::new(kept(4, 20)));
    assert_eq!(off.find(key(4), None).await, None);
}

#[tokio::test]
async fn a_damaged_or_missing_file_is_dropped_and_can_be_kept_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = two_on_disk(folder.path()).await;
    let path = files(folder.path()).remove(0);
    let good = fs::read(&path).unwrap();
    for (damaged, at) in [0, good.len() / 2, good.len() - 1].into_iter().enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(cache.find(key(2), None).await, None, "byte {at}");
        assert_eq!(
            cache.troubles().damaged,
            u64::try_from(damaged).unwrap() + 1
        );
        put(&cache, 2, LARGE).await;
        cache.flushed().await;
        assert_eq!(fs::read(&path).unwrap(), good);
    }
    fs::write(&path, &good[1..]).unwrap();
    assert_eq!(cache.find(key(2), None).await, None, "cut short");
    put(&cache, 2, LARGE).await;
    cache.flushed().await;
    fs::remove_file(&path).unwrap();
    assert_eq!(cache.find(key(2), None).await, None, "missing");
    assert_eq!(cache.find(key(1), None).await, Some(Arc::new(kept(1, 10))));
}

#[tokio::test]
async fn a_foreign_empty_or_truncated_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    close(two_on_disk(folder.path()).await, folder.path()).await;
    let path = folder.path().join("cache.redb");
    let good = fs::read(&path).unwrap();
    for bytes in [
        &b"not a database"[..],
        b"",
        &good[..good.len() / 3],
        &good[..100],
    ] {
        fs::write(&path, bytes).unwrap();
        let cache = Cache::open(folder.path(), SETTINGS).unwrap();
        assert_eq!(cache.troubles().set_aside, 1, "{} bytes", bytes.len());
        assert_eq!(cache.find(key(1), None).await, None);
        assert_eq!(files(folder.path()).len(), 0, "files go with their rows");
        put(&cache, 1, 10).await;
        cache.flushed().await;
        close(cache, folder.path()).await;
        let cache = Cache::open(folder.path(), SETTINGS).unwrap();
        assert_eq!(
            cache.find(key(1), None).await,
            Some(Arc::new(kept(1, 10))),
            "the new one works"
        );
        close(cache, folder.path()).await;
    }
}

/// Every byte that a page holds, flipped where the file has any: what is found is right or nothing.
#[tokio::test]
async fn a_flipped_byte_in_the_database_never_gives_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let cache = two_on_disk(folder.path()).await;
    for number in 3..20 {
        put(&cache, number, 300).await;
    }
    cache.flushed().await;
    close(cache, folder.path()).await;
    let path = folder.path().join("cache.redb");
    let good = fs::read(&path).unwrap();
    let used = (0..good.len()).filter(|at| good[*at] != 0);
    let mut lost = 0;
    for at in used.step_by(97) {
        let copy = tempfile::tempdir().unwrap();
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        fs::write(copy.path().join("cache.redb"), bytes).unwrap();
        let cache = Cache::open(copy.path(), SETTINGS).unwrap();
        for number in [1].into_iter().chain(3..20) {
            let length = if number == 1 { 10 } else { 300 };
            match cache.find(key(number), None).await {
                Some(found) => assert_eq!(*found, kept(number, length), "byte {at}"),
                None => lost += 1,
            }
        }
        // And it goes on.
        put(&cache, 50, 10).await;
        cache.flushed().await;
    }
    assert!(lost > 0, "no byte that matters was flipped");
}

#[tokio::test]
async fn how_jobs_fared_is_counted_for_each_package() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), SETTINGS).unwrap();
    cache.tally(&package("gcc")).count(CacheOutcome::Miss);
    cache.tally(&package("gcc")).count(CacheOutcome::Binary);
    cache.tally(&package("bash")).count(CacheOutcome::Output);
    let gcc = Counters {
        binary_hits: 1,
        output_hits: 0,
        misses: 1,
    };
    assert_eq!(cache.usage(Some(&package("gcc"))).1, gcc);
    let all = Counters {
        output_hits: 1,
        ..gcc
    };
    assert_eq!(cache.usage(None).1, all);
}
