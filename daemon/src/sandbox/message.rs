//! Messages between daemon, launcher and init, and the descriptors that travel with them.
//!
//! Every socket here is `SOCK_SEQPACKET`: one send is one message, and the end of the peer is an
//! empty read. Who says what:
//! - daemon to launcher, on the launcher's socket: one [`Setup`] (with the file of whose turn it is to
//!   look up a view), then only requests for sandboxes,
//!   each with init's end of the control socket of the one that is to be made;
//! - launcher to daemon on that socket: one [`Report`] (ready or failed) as the answer to the setup;
//! - daemon to init, on the control socket: one [`JobFds`], at most, and [`Order`]s; init to daemon:
//!   reports, the first of them before it has a job;
//! - init to launcher, on a socket of its own: its network namespace, to be used again.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use piston_client::api::Network;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::cgroup::Entry;
use super::error::Failure;
use super::spec::{Controllers, Ended, Over};

/// Longest message; reports are far shorter.
const MAX_MESSAGE: usize = 4096;

/// Descriptors that start every job, in this order in the message.
const JOB_FDS: usize = 5;

/// The most that a message carries: a job's, and those by which it enters its control group.
const MAX_FDS: usize = JOB_FDS + Entry::<OwnedFd>::MAX_FDS;

/// A job whose program is born in the group whose directory is the first descriptor after
/// [`JOB_FDS`]; those after it are of files to enter groups by.
const JOB_BORN_IN_GROUP: &[u8] = b"job in group";

/// A job where all descriptors after [`JOB_FDS`] are of files to enter groups by.
const JOB: &[u8] = b"job";

/// What a launcher has to know. Not in its arguments, which every job can read off `/proc/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Where the filesystem is mounted.
    pub(super) fs: PathBuf,
    /// First host id of the slots; none when all jobs share the daemon's.
    pub(super) ids: Option<u32>,
    /// Which network its jobs see.
    pub(super) network: Network,
    /// What the control groups of jobs limit and count, so that init does not.
    pub(super) controllers: Controllers,
}

/// What the daemon tells an init whose program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Kill the tree, then report.
    Kill,
    /// Send this signal to the program's process group.
    Signal(i32),
}

/// What is said on the way of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// From init: it exists, and here is its pidfd.
    Born,
    /// From init: it has its job. One that has not said so has not begun with it.
    Taken,
    /// From the launcher: it is ready. From init: the program runs, and here is the other side of
    /// its terminal, if it has one.
    Ready,
    /// A step failed; there will be no program.
    Failed(Failure),
    /// From init: the program has ended and every process is dead.
    Ended {
        /// How the program ended.
        ended: Ended,
        /// The limit for which init killed the tree.
        over: Option<Over>,
        /// Nanoseconds from exec to the end of the program.
        wall: u64,
        /// Nanoseconds of user and system time of the tree.
        cpu: u64,
        /// Those of them in the kernel.
        system: u64,
        /// Bytes at the peak of the tree.
        memory: u64,
    },
}

/// What the daemon hands over for one job.
#[derive(Debug)]
pub(super) struct JobFds<Fd> {
    /// Memfd with the spec as JSON.
    pub(super) spec: Fd,
    /// The workspace's detached mount.
    pub(super) workspace: Fd,
    /// The program's standard streams.
    pub(super) stdio: [Fd; 3],
    /// How the program enters its control group.
    pub(super) entry: Entry<Fd>,
}

impl JobFds<BorrowedFd<'_>> {
    /// Sends the job to an init that waits for one.
    pub(super) fn send(&self, init: impl AsFd) -> io::Result<()> {
        let [stdin, stdout, stderr] = self.stdio;
        let fds: [_; JOB_FDS] = [self.spec, self.workspace, stdin, stdout, stderr];
        let mut fds = fds.to_vec();
        fds.extend(self.entry.birth);
        fds.extend(&self.entry.files);
        let kind = self.entry.birth.map_or(JOB, |_| JOB_BORN_IN_GROUP);
        send_bytes(init, kind, &fds)
    }
}

impl JobFds<OwnedFd> {
    /// Receives the job: none when the daemon is gone or has none, an error for a message that is
    /// no job.
    pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Self>> {
        let Some((kind, fds)) = receive_bytes(socket, RecvFlags::empty())? else {
            return Ok(None);
        };
        let mut fds = fds.into_iter();
        let required: Vec<OwnedFd> = fds.by_ref().take(JOB_FDS).collect();
        let [spec, workspace, stdin, stdout, stderr] = <[OwnedFd; JOB_FDS]>::try_from(required)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"))?;
        let birth = if kind == JOB_BORN_IN_GROUP {
            fds.next()
        } else {
            None
        };
        let entry = Entry {
            birth,
            files: fds.collect(),
        };
        Ok(Some(Self {
            spec,
            workspace,
            stdio: [stdin, stdout, stderr],
            entry,
        }))
    }
}

/// Requests a sandbox of the launcher; `control` is init's end of its control socket.
pub(super) fn send_request(launcher: impl AsFd, control: impl AsFd) -> io::Result<()> {
    send_bytes(launcher, b"sandbox", &[control.as_fd()])
}

/// Receives the next request: none when the daemon is gone. Messages that are none are passed
/// over: their descriptors are closed, by which the daemon learns of it.
pub(super) fn receive_request(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        let order = match receive_bytes(&socket, RecvFlags::empty()) {
            Ok(Some((_, fds))) => fds.into_iter().next(),
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => return Err(error),
        };
        if order.is_some() {
            return Ok(order);
        }
    }
}

/// A connected pair of sockets, closed on exec.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(ends)
}

/// Sends a report, with descriptors.
pub(super) fn send(socket: impl AsFd, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(report)?, fds)
}

/// Receives a report with its descriptors; none when the peer is gone.
pub(super) fn receive(
    socket: impl AsFd,
    flags: RecvFlags,
) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = receive_bytes(socket, flags)? else {
        return Ok(None);
    };
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}

/// Sends an order.
pub(super) fn send_order(socket: impl AsFd, order: Order) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(&order)?, &[])
}

/// Receives the next order, without waiting; none when the daemon is gone.
pub(super) fn receive_order(socket: impl AsFd) -> io::Result<Option<Order>> {
    let Some((bytes, _)) = receive_bytes(socket, RecvFlags::DONTWAIT)? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Sends one message; never raises `SIGPIPE`.
pub(super) fn send_bytes(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    retry(|| {
        sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Receives one message with its descriptors; none when the peer is gone.
pub(super) fn receive_bytes(
    socket: impl AsFd,
    flags: RecvFlags,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry(|| {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        recvmsg(
            &socket,
            &mut slices,
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if message.bytes == 0 {
        return Ok(None);
    }
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message was cut off",
        ));
    }
    bytes.truncate(message.bytes);
    Ok(Some((bytes, fds)))
}

/// Calls again for as long as signals interrupt.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_report_arrives_whole_with_its_descriptors_and_the_end_is_seen() {
        let (here, there) = pair().unwrap();
        let failure = Failure {
            step: "mount proc".to_owned(),
            errno: 1,
        };
        send(&here, &Report::Failed(failure.clone()), &[here.as_fd()]).unwrap();
        let (report, fds) = receive(&there, RecvFlags::empty()).unwrap().unwrap();
        assert_eq!((report, fds.len()), (Report::Failed(failure), 1));
        drop((here, fds));
        assert!(receive(&there, RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn a_job_without_all_its_descriptors_is_an_error_and_not_a_job() {
        let (here, there) = pair().unwrap();
        send_bytes(&here, b"job", &[here.as_fd()]).unwrap();
        let error = JobFds::receive(&there).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_job_arrives_in_order() {
        let (here, there) = pair().unwrap();
        let files: Vec<_> = (0..8).map(|_| tempfile::tempfile().unwrap()).collect();
        let fd = |n: usize| files[n].as_fd();
        let job = JobFds {
            spec: fd(0),
            workspace: fd(1),
            stdio: [fd(2), fd(3), fd(4)],
            entry: Entry {
                birth: Some(fd(5)),
                files: vec![fd(6), fd(7)],
            },
        };
        job.send(&here).unwrap();
        let got = JobFds::receive(&there).unwrap().unwrap();
        let [stdin, stdout, stderr] = &got.stdio;
        let order = [
            &got.spec,
            &got.workspace,
            stdin,
            stdout,
            stderr,
            got.entry.birth.as_ref().unwrap(),
            &got.entry.files[0],
            &got.entry.files[1],
        ];
        for (file, fd) in files.iter().zip(order) {
            let sent = rustix::fs::fstat(file).unwrap();
            assert_eq!(rustix::fs::fstat(fd).unwrap().st_ino, sent.st_ino);
        }
    }
}
