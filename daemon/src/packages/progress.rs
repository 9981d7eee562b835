//! How far installations are, for those who watch them.
//!
//! One board for all: a row for each package that is being installed, whoever asked for it, so that
//! the second who asks sees what the first one's installation does. Invariants: a row goes with the
//! step that holds it; whoever watches slowly misses steps and costs nothing. Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use piston_client::api::{InstallPhase, PlannedPackage};
use piston_client::ids::PackageRef;
use tokio::sync::{oneshot, watch};

/// How far a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is done with it.
    pub phase: InstallPhase,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do, where that is known.
    pub total: Option<u64>,
}

/// Packages that are being installed.
pub type Steps = BTreeMap<PackageRef, Step>;

/// Where a plan is told as soon as there is one; an installation that fails before tells none.
#[derive(Debug, Default)]
pub struct Planned(Option<oneshot::Sender<Vec<PlannedPackage>>>);

impl Planned {
    /// A plan, and where to wait for it.
    pub fn channel() -> (Self, oneshot::Receiver<Vec<PlannedPackage>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Tells it.
    pub(super) fn tell(self, packages: impl FnOnce() -> Vec<PlannedPackage>) {
        if let Some(sender) = self.0 {
            // Whoever asked may be gone.
            drop(sender.send(packages()));
        }
    }
}

/// The board.
#[derive(Debug, Default)]
pub(super) struct Board(Arc<watch::Sender<Steps>>);

impl Board {
    /// What is on it, now and from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Steps> {
        self.0.subscribe()
    }

    /// A row for a package, which begins with a phase of so many bytes.
    pub(super) fn row(&self, package: &PackageRef, phase: InstallPhase, total: Option<u64>) -> Row {
        let row = Row {
            steps: Arc::clone(&self.0),
            package: package.clone(),
        };
        row.begin(phase, total);
        row
    }
}

/// A row of the board, taken off on drop.
#[derive(Debug)]
pub(super) struct Row {
    steps: Arc<watch::Sender<Steps>>,
    package: PackageRef,
}

impl Row {
    /// A phase begins.
    pub(super) fn begin(&self, phase: InstallPhase, total: Option<u64>) {
        let step = Step {
            phase,
            bytes: 0,
            total,
        };
        self.steps.send_modify(|steps| {
            steps.insert(self.package.clone(), step);
        });
    }

    /// So many bytes of the phase are done.
    pub(super) fn done(&self, bytes: u64) {
        self.steps.send_modify(|steps| {
            if let Some(step) = steps.get_mut(&self.package) {
                step.bytes = bytes;
            }
        });
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.steps.send_modify(|steps| {
            steps.remove(&self.package);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_there_as_long_as_its_step_and_everyone_sees_it() {
        let board = Board::default();
        let (first, second) = (board.watch(), board.watch());
        let package = PackageRef::new("lua".parse().unwrap(), "5.4.4".parse().unwrap());
        let row = board.row(&package, InstallPhase::Download, Some(10));
        row.done(4);
        let step = Step {
            phase: InstallPhase::Download,
            bytes: 4,
            total: Some(10),
        };
        for watcher in [&first, &second] {
            assert_eq!(watcher.borrow().get(&package), Some(&step));
        }
        drop(row);
        assert!(first.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_installation_that_ends_without_a_plan_tells_so() {
        let (planned, plan) = Planned::channel();
        drop(planned);
        plan.await.unwrap_err();
        // Nobody asked: nothing is made up for nobody.
        Planned::default().tell(|| unreachable!("a plan that nobody wants"));
    }
}
