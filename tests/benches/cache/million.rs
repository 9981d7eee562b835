//! A million entries beside a thousand: what looking one up takes at the client, what the daemon's
//! memory is, how long it starts.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use piston_client::ids::{Digest, PackageRef};
use piston_tests::{Daemon, Who, packages};
use pistond::store::cache::{CacheChange, CacheRow, CacheStore};
use sha2::{Digest as _, Sha256};

use super::load::{Connection, Times};
use super::output;

/// Entries that are looked up, in both daemons.
const ASKED: usize = 1000;
/// Entries besides.
const OTHERS: u64 = 999_000;
/// Bytes of one of them.
const LENGTH: usize = 400;

pub(crate) fn million() {
    let config = "[cache]\nsize = \"4G\"\n";
    let (mut small, mut large) = (
        Daemon::start_with(Who::Root, config, &[]),
        Daemon::start_with(Who::Root, config, &[]),
    );
    for daemon in [&small, &large] {
        packages::install(daemon, &["bash"]);
        let mut connection = Connection::open(&daemon.socket());
        for number in 0..ASKED {
            connection.exchange(&output(number));
        }
    }
    let bash = daemon_package(&large);
    for daemon in [&mut small, &mut large] {
        daemon.stop(Signal::SIGTERM);
    }
    fill(&large, &bash);
    let started = [&mut small, &mut large].map(|daemon| {
        let begun = Instant::now();
        daemon.restart();
        begun.elapsed()
    });
    let (mut few, mut many) = (
        Connection::open(&small.socket()),
        Connection::open(&large.socket()),
    );
    // Once each for the way from the disk, then as often for the way from memory.
    let (first_few, first_many) = ask(&mut few, &mut many, 1);
    let (few, many) = ask(&mut few, &mut many, 10);
    println!("1,000,000 entries beside 1,000; {ASKED} of them are asked for");
    println!("  first time, 1,000      {}", first_few.show());
    println!("  first time, 1,000,000  {}", first_many.show());
    println!("  again, 1,000           {}", few.show());
    println!("  again, 1,000,000       {}", many.show());
    println!(
        "  ratios of the medians: {:.2} and {:.2} (promised: at most 1.5)",
        first_many.median() / first_few.median(),
        many.median() / few.median()
    );
    let [less, more] = [&small, &large].map(memory);
    println!(
        "  memory {less} KiB and {more} KiB: {} bytes an entry",
        (more - less) * 1024 / OTHERS
    );
    println!("  restart to ready {:?} and {:?}\n", started[0], started[1]);
}

fn ask(few: &mut Connection, many: &mut Connection, rounds: usize) -> (Times, Times) {
    let (mut of_few, mut of_many) = (Times::default(), Times::default());
    for _ in 0..rounds {
        for number in 0..ASKED {
            let request = output((number * 619) % ASKED);
            of_few.measure(|| few.exchange(&request).len());
            of_many.measure(|| many.exchange(&request).len());
        }
    }
    (of_few, of_many)
}

fn daemon_package(daemon: &Daemon) -> PackageRef {
    let found = daemon.get("/api/v3/packages/bash").json();
    let version = found[0]["version"].as_str().expect("a version");
    PackageRef::new(
        "bash".parse().expect("a name"),
        version.parse().expect("a version"),
    )
}

fn fill(daemon: &Daemon, package: &PackageRef) {
    let store = CacheStore::open(&daemon.data().join("cache.redb")).expect("the database");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_secs();
    let package = std::sync::Arc::new(package.clone());
    let numbers: Vec<u64> = (0..OTHERS).collect();
    for part in numbers.chunks(50_000) {
        let rows: Vec<(CacheRow, Vec<u8>)> = part
            .iter()
            .map(|number| {
                let key: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
                let value = key.repeat(LENGTH / 32 + 1)[..LENGTH].to_vec();
                let row = CacheRow {
                    key,
                    package: std::sync::Arc::clone(&package),
                    digest: Digest::from_bytes(Sha256::digest(&value).into()),
                    length: u64::try_from(LENGTH).expect("small"),
                    created: now,
                    used: now,
                    is_file: false,
                };
                (row, value)
            })
            .collect();
        let changes: Vec<_> = rows
            .iter()
            .map(|(row, value)| CacheChange::Put(row, Some(value)))
            .collect();
        store.apply(&changes).expect("written");
    }
}

/// What is resident, in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a number")
}
