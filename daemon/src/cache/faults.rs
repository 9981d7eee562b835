//! Disks that fail, fill up and freeze, at every step of a write: entries are lost, answers are not
//! wrong, nobody waits.

use std::io::ErrorKind;

use super::tests::{LARGE, SETTINGS, kept, key, package};
use super::*;
use crate::store::faulty::{Faults, Trouble};

fn open(folder: &Path, faults: &Faults) -> Arc<Cache> {
    let faults = faults.clone();
    let open: Open = Box::new(move |path| CacheStore::open_faulty(path, &faults));
    Cache::open_on(folder, SETTINGS, open, Duration::ZERO).unwrap()
}

fn length(number: u8) -> usize {
    if number.is_multiple_of(3) {
        LARGE
    } else {
        10 * usize::from(number)
    }
}

/// Keeps an entry; a large one, too, before this returns.
fn keep(cache: &Cache, number: u8) {
    let kept = Arc::new(kept(number, length(number)));
    cache.insert(key(number), &package("gcc"), &kept);
}

/// What a daemon does with its cache: keeps small and large ones, replaces, removes, notes uses.
async fn live(cache: &Arc<Cache>) {
    for number in 1..=4 {
        keep(cache, number);
        cache.flushed().await;
    }
    check(cache).await;
    cache.keep(key(5), &package("rust"), Arc::new(kept(5, length(5))));
    cache.purge(Some(&package("rust")));
    keep(cache, 1);
    cache.flushed().await;
}

/// Whatever is found is what was kept under that key. Says how many are.
async fn check(cache: &Arc<Cache>) -> usize {
    let mut found = 0;
    for number in 1..=5 {
        if let Some(entry) = cache.find(key(number), None).await {
            assert_eq!(*entry, kept(number, length(number)), "entry {number}");
            found += 1;
        }
    }
    found
}

fn reopened(cache: Arc<Cache>, folder: &Path, faults: &Faults) -> Arc<Cache> {
    drop(cache);
    // The writer lets go of the database a moment later.
    faults.wait_for_close();
    Cache::open(folder, SETTINGS).unwrap()
}

/// Changes that the database sees when nothing goes wrong.
async fn changes_of_a_life() -> usize {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::new(Trouble::None);
    let cache = open(folder.path(), &faults);
    live(&cache).await;
    assert_eq!(cache.troubles(), Troubles::default());
    assert_eq!(check(&cache).await, 4);
    faults.changes()
}

#[tokio::test]
async fn a_disk_that_fails_at_any_change_costs_entries_and_never_gives_a_wrong_answer() {
    let changes = changes_of_a_life().await;
    assert!(changes > 20, "{changes}");
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for at in 0..changes {
            let folder = tempfile::tempdir().unwrap();
            let faults = Faults::new(Trouble::FailsOnce(at, kind));
            let cache = open(folder.path(), &faults);
            live(&cache).await;
            check(&cache).await;
            // How much is written at once is not the same each time: it may be still to come.
            while faults.changes() <= at {
                keep(&cache, 2);
                cache.flushed().await;
            }
            // The next one is kept as ever: the trouble is over.
            keep(&cache, 2);
            cache.flushed().await;
            let troubles = cache.troubles();
            assert!(troubles.set_aside <= 1, "{kind:?} at {at}: {troubles:?}");
            let cache = reopened(cache, folder.path(), &faults);
            assert!(check(&cache).await >= 1, "{kind:?} at {at}");
            assert_eq!(cache.troubles(), Troubles::default(), "{kind:?} at {at}");
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_broken_for_good_is_done_without_and_used_again_when_it_is_whole() {
    for at in [0, 1, 5, 9] {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::new(Trouble::FailsFrom(at, ErrorKind::StorageFull));
        let cache = open(folder.path(), &faults);
        live(&cache).await;
        check(&cache).await;
        assert!(
            cache.troubles().unwritten > 0,
            "at {at}: {:?}",
            cache.troubles()
        );
        assert!(cache.troubles().set_aside <= 2, "once, not at each write");
        faults.set(Trouble::None);
        live(&cache).await;
        assert_eq!(check(&cache).await, 4, "at {at}");
        let cache = reopened(cache, folder.path(), &faults);
        assert_eq!(check(&cache).await, 4, "at {at}");
    }
}

/// What is on the disk while a change is frozen is what a power cut would leave there.
#[tokio::test]
async fn nobody_waits_for_a_frozen_disk_and_what_is_on_it_then_is_right() {
    let changes = changes_of_a_life().await;
    for at in 1..changes {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::new(Trouble::None);
        let cache = open(folder.path(), &faults);
        faults.set(Trouble::Freezes(at));
        let living = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { live(&cache).await }
        });
        let frost = tokio::task::spawn_blocking({
            let faults = faults.clone();
            move || faults.wait_for_frost()
        });
        tokio::select! {
            frozen = frost => frozen.unwrap(),
            done = living => {
                // Opening took the changes that are missing here.
                done.unwrap();
                faults.set(Trouble::Freezes(0));
                cache.keep(key(7), &package("gcc"), Arc::new(kept(7, 1)));
                faults.wait_for_frost();
            }
        }
        // Replies go on: what is kept is found at once, and waiters get what a leader lands.
        cache.keep(key(8), &package("gcc"), Arc::new(kept(8, 80)));
        assert_eq!(
            cache.find(key(8), None).await.as_deref(),
            Some(&kept(8, 80))
        );
        let (Seat::Leader(leader), Seat::Waiter(waiter)) = (cache.join(key(9)), cache.join(key(9)))
        else {
            panic!("one leads, one waits");
        };
        cache.land(leader, &package("gcc"), Arc::new(kept(9, 90)));
        assert_eq!(waiter.landed().await.as_deref(), Some(&kept(9, 90)));
        check(&cache).await;
        let left = tempfile::tempdir().unwrap();
        copy(folder.path(), left.path());
        check(&Cache::open(left.path(), SETTINGS).unwrap()).await;
        faults.thaw();
        cache.flushed().await;
        check(&cache).await;
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), &target) {
            // A file under another name until it is whole may be gone.
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}
