//! Shutdown: drain first, then end; and the tasks that have to finish before the process may.
//!
//! Phases only go forward: running, draining (no new work, what runs goes on), ending (what still
//! runs is killed). Invariant: every task that outlives the request that started it is spawned
//! through [`Shutdown::spawn`], so that [`Shutdown::idle`] knows of it.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Where the shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Ending,
}

/// What everybody else sees of the shutdown; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
    tasks: watch::Sender<usize>,
}

/// What brings the shutdown about. Dropping it ends everything.
#[derive(Debug)]
pub struct Trigger {
    phase: watch::Sender<Phase>,
}

/// A trigger and what it triggers.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    let tasks = watch::Sender::new(0);
    (
        Trigger { phase: sender },
        Shutdown {
            phase: receiver,
            tasks,
        },
    )
}

impl Trigger {
    /// No new work from here on.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// What still runs is killed.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Ending);
    }
}

impl Shutdown {
    /// Whether no new work may start.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining || self.phase.has_changed().is_err()
    }

    /// Returns when no new work may start.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns when everything has to end.
    pub async fn ending(&self) {
        self.reached(Phase::Ending).await;
    }

    async fn reached(&self, phase: Phase) {
        // An error means that the trigger is gone, which ends everything.
        drop(self.phase.clone().wait_for(|now| *now >= phase).await);
    }

    /// Spawns a task that is waited for.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(
        &self,
        task: F,
    ) -> tokio::task::JoinHandle<F::Output> {
        let counted = Counted::new(self.tasks.clone());
        tokio::spawn(async move {
            let _counted = counted;
            task.await
        })
    }

    /// Returns when no task is left.
    pub async fn idle(&self) {
        let mut tasks = self.tasks.subscribe();
        drop(tasks.wait_for(|count| *count == 0).await);
    }
}

/// One task in the count, until it is dropped.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(tasks: watch::Sender<usize>) -> Self {
        tasks.send_modify(|count| *count += 1);
        Self(tasks)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The signals that ask for a shutdown.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over. From here on they end nothing by themselves.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The first signal drains; a second one, or the end of the time to drain, ends.
    pub async fn drive(mut self, trigger: Trigger, shutdown: Shutdown, drain: Duration) {
        let name = self.next().await;
        tracing::info!(signal = name, "shutting down, waiting for what runs");
        trigger.drain();
        tokio::select! {
            name = self.next() => tracing::info!(signal = name, "ending at once"),
            () = tokio::time::sleep(drain) => tracing::warn!("jobs still run, ending them"),
            () = shutdown.idle() => {}
        }
        trigger.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn phases_go_forward_and_tasks_are_waited_for() {
        let (trigger, shutdown) = channel();
        assert!(shutdown.draining().now_or_never().is_none());
        trigger.drain();
        shutdown.draining().await;
        assert!(shutdown.is_draining());
        assert!(shutdown.ending().now_or_never().is_none());
        let until_end = shutdown.clone();
        shutdown.spawn(async move { until_end.ending().await });
        assert!(shutdown.idle().now_or_never().is_none());
        trigger.end();
        shutdown.idle().await;
    }

    #[tokio::test]
    async fn a_lost_trigger_ends_everything() {
        let (trigger, shutdown) = channel();
        drop(trigger);
        assert!(shutdown.is_draining());
        shutdown.ending().await;
    }
}
