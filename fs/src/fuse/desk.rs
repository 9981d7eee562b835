//! Where the answers come from.
//!
//! Every request is a panic boundary: a panic is that request's EIO. An error is logged here and
//! nowhere else: a damaged file once, what callers do wrong not at all.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::{Errno, ReplyData};

use super::convert::errno;
use super::pending::{Overdue, Pending, UnderWay};
use super::requesters::Requesters;
use crate::crew::{Crew, Step};
use crate::error::FsError;
use crate::ino::Ino;
use crate::stats::Asked;
use crate::vfs::{Reading, Scratch, Vfs};

thread_local! {
    /// The buffers of a thread that reads.
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What answers requests.
#[derive(Debug)]
pub(crate) struct Desk {
    vfs: Arc<Vfs>,
    crew: Arc<Crew>,
    pending: Arc<Pending>,
    requesters: Requesters,
}

impl Desk {
    /// A desk for a filesystem.
    pub(crate) fn new(vfs: Arc<Vfs>, crew: Arc<Crew>) -> Self {
        Self {
            vfs,
            crew,
            pending: Arc::default(),
            requesters: Requesters::new(),
        }
    }

    /// One look of the watchdog: refuses the reads that take too long, and has others done in
    /// their place. False when a request hangs that can't be refused.
    pub(crate) fn look(self: &Arc<Self>) -> bool {
        let refused = match self.pending.look() {
            Overdue::Refused(refused) => refused,
            Overdue::Lost => return false,
        };
        if !refused.is_empty() {
            self.vfs.counters().late(refused.len());
            let reads = refused.len();
            tracing::error!(
                reads,
                "reading takes too long: is the disk of an image gone?"
            );
        }
        for ticket in refused {
            self.crew.give_up(ticket);
        }
        true
    }

    /// Counts a request.
    pub(super) fn count(&self, asked: Asked) {
        self.vfs.counters().request(asked);
    }

    /// Answers a request of the kernel, which touches memory only.
    pub(super) fn ask<T>(
        &self,
        (asked, ino): (Asked, Ino),
        question: impl FnOnce(&Vfs) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        self.count(asked);
        let _under_way = self.pending.watch();
        self.find_out(ino, question)
    }

    /// Asks the filesystem, whatever happens there.
    fn find_out<T>(
        &self,
        ino: Ino,
        question: impl FnOnce(&Vfs) -> Result<T, FsError>,
    ) -> Result<T, Errno> {
        let answer = catch_unwind(AssertUnwindSafe(|| question(&self.vfs)));
        let answer = answer.unwrap_or_else(|panic| Err(FsError::Panicked(panic_text(&*panic))));
        answer.map_err(|error| {
            self.log(ino, &error);
            errno(&error)
        })
    }

    /// Has something read that has to be loaded, when it is the turn of who asks: a user and one of
    /// his threads.
    pub(super) fn submit(
        self: &Arc<Self>,
        (uid, thread): (u32, u32),
        reply: ReplyData,
        place: (Ino, u64, u32),
    ) {
        let under_way = self.pending.hold(reply);
        let who = self.requesters.of(uid, thread);
        let ticket = under_way.ticket;
        let desk = Arc::clone(self);
        let mut reading = Reading::new(place);
        let read = move || desk.read(&under_way, &mut reading);
        self.crew.submit(who, ticket, Box::new(read));
    }

    /// Reads the next block of what has to be loaded, and answers after the last one unless that
    /// took too long.
    fn read(&self, under_way: &UnderWay, reading: &mut Reading) -> Step {
        if under_way.is_refused() {
            return Step::Last;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let bytes = self.find_out(reading.ino(), |vfs| vfs.read_on(reading, scratch));
            let bytes = match bytes {
                Ok(None) => return Step::More,
                Ok(Some(bytes)) => Ok(bytes),
                Err(errno) => Err(errno),
            };
            if let Some(reply) = under_way.reply() {
                match bytes {
                    Ok(bytes) => reply.data(&bytes),
                    Err(errno) => reply.error(errno),
                }
            }
            Step::Last
        })
    }

    fn log(&self, ino: Ino, error: &FsError) {
        match error {
            FsError::Image(cause) => {
                self.vfs.counters().error();
                if let Some(file) = self.vfs.first_damage(ino) {
                    let cause: &dyn std::error::Error = &**cause;
                    tracing::error!(%ino, file, cause, "a file of a package is damaged");
                }
            }
            FsError::Inconsistent(reason) => {
                self.vfs.counters().error();
                if let Some(file) = self.vfs.first_damage(ino) {
                    tracing::error!(%ino, file, reason, "a file of a package is damaged");
                }
            }
            FsError::Panicked(text) => {
                self.vfs.counters().error();
                tracing::error!(%ino, text, "a filesystem request panicked");
            }
            FsError::Gone
            | FsError::Stale
            | FsError::NotDirectory
            | FsError::IsDirectory
            | FsError::WrongKind
            | FsError::NoAttribute
            | FsError::Range
            | FsError::ReadOnly
            | FsError::Late
            | FsError::NotNeeded => tracing::trace!(%ino, %error, "refused"),
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::owners::Owners;

    #[test]
    fn a_panic_is_an_input_output_error_of_its_request_alone() {
        let vfs = Vfs::new(0, Duration::from_mins(1), Owners::of_this_process());
        let desk = Desk::new(Arc::new(vfs), Arc::new(Crew::new(3, 1)));
        let asked = (Asked::Other, Ino::ROOT);
        let answer = desk.ask(asked, |_| -> Result<(), FsError> { panic!("a bug") });
        assert_eq!(answer.unwrap_err().code(), 5);
        let stat = desk.ask(asked, |vfs| vfs.getattr(Ino::ROOT)).unwrap();
        assert_eq!(stat.ino, Ino::ROOT);
        let stats = desk.vfs.stats();
        assert_eq!((stats.requests, stats.errors), (2, 1));
    }
}
