//! `piston run --watch`: runs a program again whenever one of its files changes.
//!
//! Files are looked at again and again rather than watched by the kernel: that works on every
//! filesystem, and for a file that an editor replaces. Ctrl-C ends it, and with it the job.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use tokio::time::sleep;

use super::exit::Exit;
use super::failure::Failure;
use super::files;
use super::flags::Run;
use super::plan::{Plan, Surroundings, understand};
use super::render::Screen;
use super::{Job, Session};

/// How often files are looked at.
const AGAIN: Duration = Duration::from_millis(150);

/// What tells one state of a file from another.
type Prints = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Runs it now and after every change, for as long as nobody interrupts.
pub(super) async fn watch(session: &Session, flags: Run, screen: &Screen) -> Result<Exit> {
    let around = Surroundings::kept()?;
    let mut paths = understand(flags.words.clone())?.paths;
    paths.extend(flags.stdin.clone());
    let mut before = prints(&paths);
    // What is wrong from the start is no matter of a file that is just being written.
    let first = Plan::new(flags.clone(), &around)?;
    let mut plan: Result<Plan, Failure> = Ok(first);
    loop {
        let run = async {
            match plan {
                Ok(plan) => session.perform(&Job::Run(Box::new(plan)), screen).await,
                Err(failure) => Err(failure.into()),
            }
        };
        tokio::select! {
            done = run => {
                report(&done, screen);
                changed(&paths, &before).await;
            }
            () = changed(&paths, &before) => {}
        }
        before = settled(&paths).await;
        screen.note("a file changed, running it again");
        plan = Plan::new(flags.clone(), &around);
    }
}

fn report(done: &Result<Exit>, screen: &Screen) {
    match done {
        Ok(exit) => {
            let code = exit.code();
            screen.note(format!("exit code {code}; waiting for a file to change"));
        }
        Err(error) => screen.failure(error),
    }
}

async fn changed(paths: &[PathBuf], before: &Prints) {
    while prints(paths) == *before {
        sleep(AGAIN).await;
    }
}

/// The state of the files once nobody writes to them any more.
async fn settled(paths: &[PathBuf]) -> Prints {
    let mut state = prints(paths);
    loop {
        sleep(AGAIN).await;
        let next = prints(paths);
        if next == state {
            return next;
        }
        state = next;
    }
}

/// The state of all files below paths, as far as they are there.
fn prints(paths: &[PathBuf]) -> Prints {
    let all = paths.iter().flat_map(|path| {
        if path.is_dir() {
            files::below(path).unwrap_or_default()
        } else {
            vec![path.clone()]
        }
    });
    all.filter_map(|path| Some((path.clone(), print(&path)?)))
        .collect()
}

fn print(path: &Path) -> Option<(Option<SystemTime>, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_file_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir(&inside).expect("a folder");
        fs::write(&outside, "").expect("a file");
        let paths = [inside.clone(), outside.clone()];
        let mut seen = prints(&paths);
        let mut check = |what: &str| {
            let now = prints(&paths);
            assert_ne!(now, seen, "{what}");
            seen = now;
        };
        fs::write(inside.join("a"), "1").expect("a file");
        check("one more");
        fs::write(inside.join("a"), "22").expect("a file");
        check("longer");
        fs::rename(inside.join("a"), inside.join("b")).expect("moved");
        check("another name");
        fs::remove_file(&outside).expect("removed");
        check("gone");
    }
}
