//! Polls a connection again on the spot when it woke itself.
//!
//! hyper reads a body only after a handler has asked for it, and the handler asks while the
//! connection is being polled: so each request with a body wakes the connection from within. The
//! runtime takes that for work that another thread could do and wakes one: two system calls and
//! a change of processor, more than the whole rest of an answer from the cache takes (measured:
//! p50 of such an answer 52 us with it, a request without a body 22 us).
//!
//! Invariant: no wake is lost. One that comes while the future is polled leads to another poll,
//! one that comes at any other time goes to the task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls on the spot before others have their turn.
const ROUNDS: usize = 4;

/// Nobody polls.
const IDLE: u8 = 0;
/// The future is being polled.
const POLLED: u8 = 1;
/// It was woken since that began.
const WOKEN: u8 = 2;

/// What polls a future.
#[derive(Debug)]
pub(super) struct InPlace {
    wakes: Arc<Wakes>,
    waker: Waker,
}

#[derive(Debug)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .compare_exchange(POLLED, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if noted == Err(IDLE) {
            self.task.wake();
        }
    }
}

impl InPlace {
    pub(super) fn new() -> Self {
        let wakes = Arc::new(Wakes {
            state: AtomicU8::new(IDLE),
            task: AtomicWaker::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&wakes)),
            wakes,
        }
    }

    /// Polls `future`, which has to be the same one each time.
    pub(super) fn poll<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        task: &Context<'_>,
    ) -> Poll<F::Output> {
        self.wakes.task.register(task.waker());
        for _ in 0..ROUNDS {
            self.wakes.state.store(POLLED, Ordering::Release);
            let polled = future.as_mut().poll(&mut Context::from_waker(&self.waker));
            let state = self.wakes.state.swap(IDLE, Ordering::AcqRel);
            if polled.is_ready() || state != WOKEN {
                return polled;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    async fn in_place<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let polls = InPlace::new();
        poll_fn(|task| polls.poll(future.as_mut(), task)).await
    }

    #[tokio::test]
    async fn a_future_that_wakes_itself_is_polled_again_at_once_and_often_enough() {
        let mut left = 3;
        let polls = InPlace::new();
        let mut future = pin!(poll_fn(|context| {
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        let task = Context::from_waker(Waker::noop());
        assert_eq!(polls.poll(future.as_mut(), &task), Poll::Ready(()));
        // Also one that does so more often than others should have to wait.
        in_place(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_of_another_thread_is_lost() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let sending = tokio::spawn(async move {
            for number in 0..20_000_u32 {
                sender.send(number).await.expect("somebody receives");
            }
        });
        let receiving = in_place(async {
            let mut expected = 0;
            while let Some(number) = receiver.recv().await {
                assert_eq!(number, expected);
                expected += 1;
            }
            expected
        });
        let received = tokio::time::timeout(Duration::from_mins(1), receiving).await;
        assert_eq!(received, Ok(20_000));
        sending.await.expect("sent");
    }
}
