//! The figures of the filesystem, measured against its rivals in one run: `contrib/bench/fs`.
//!
//! `set` has the packages, `subject` mounts them in each way, `work` is done to the mounts, `rows`
//! says what is measured and what it has to reach, `table` prints. `server` is our server in a
//! process of its own, which is this program started anew: so it can be mounted afresh for every
//! cold round, and its memory is not that of the measuring process.
//!
//! Cold rounds are equally cold for all: everything is mounted anew, then the kernel drops its
//! caches, and what starts the workload is run once. Writes nothing but the table.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod bare;
mod rows;
mod server;
mod set;
mod subject;
mod table;
mod work;

use std::path::Path;

use rows::ROWS;
use set::Set;
use table::Verdict;

/// Rounds of a cold row, when the environment says nothing else.
const ROUNDS: usize = 5;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    match arguments.split_first() {
        Some((word, rest)) if word == server::COMMAND => server::serve(rest),
        Some((word, rest)) if word == work::COMMAND => work::enter(rest),
        Some((folder, wanted)) => measure(Path::new(folder), wanted),
        None => println!("contrib/bench/fs runs this"),
    }
}

fn measure(folder: &Path, wanted: &[String]) {
    if wanted.iter().any(|word| word == "--list") {
        for row in ROWS {
            println!("{}", row.name);
        }
        return;
    }
    let rounds = std::env::var("PISTON_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS).max(1);
    let set = Set::prepare(folder);
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    table::print_head();
    let chosen = ROWS.iter().filter(|row| is_wanted(row.name));
    let verdict: Verdict = chosen.map(|row| row.run(&set, rounds)).collect();
    println!("{} targets met, {} missed", verdict.met, verdict.missed);
}
