//! The network of a job: a namespace with a loopback that is up and nothing else, or the daemon's
//! own, with the files by which programs find names in it.
//!
//! Making a namespace takes the kernel as long as all the rest of a sandbox, so one that was not
//! used is used again. Invariant: a namespace is in one place only. The launcher lends it to an
//! init and forgets it; init gives it back when no process of the job is left, or it ends with
//! init. What comes back is lent again only when everything that the kernel tells of it reads as
//! in a new one: then no packet was ever sent in it, none refused, and no socket is left, so that
//! there is nothing that the next job could find.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use piston_client::api::Network;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::error::{Failure, Step as _};
use super::message;

/// `lo` is the first device of every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Length of the request: netlink header and `ifinfomsg`.
const REQUEST_LEN: usize = 32;

/// Files of the host that jobs of its network see in the place of those of their view; each is
/// taken anew for each job.
pub(super) const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Sets `lo` up in the network namespace of this process.
fn loopback_up() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    send(&socket, &request()?, SendFlags::empty())?;
    let mut reply = [0; 256];
    let (length, _) = recv(&socket, &mut reply, RecvFlags::empty())?;
    acknowledged(reply.get(..length).unwrap_or_default())
}

/// `RTM_NEWLINK` that changes one flag of one device and asks for an acknowledgement.
fn request() -> io::Result<[u8; REQUEST_LEN]> {
    let number = |value: i32| u32::try_from(value).map_err(io::Error::other);
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).map_err(io::Error::other)?;
    let up = number(libc::IFF_UP)?;
    let mut bytes = [0; REQUEST_LEN];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(0, &32_u32.to_ne_bytes()); // nlmsg_len
    put(4, &libc::RTM_NEWLINK.to_ne_bytes()); // nlmsg_type
    put(6, &flags.to_ne_bytes()); // nlmsg_flags
    put(20, &LOOPBACK_INDEX.to_ne_bytes()); // ifi_index
    put(24, &up.to_ne_bytes()); // ifi_flags
    put(28, &up.to_ne_bytes()); // ifi_change
    Ok(bytes)
}

/// Reads the answer: an `NLMSG_ERROR` whose error, after the header, is zero on success.
fn acknowledged(reply: &[u8]) -> io::Result<()> {
    let error = reply
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "short netlink reply"))?;
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error.saturating_neg()))
    }
}

/// What the kernel tells of a network namespace: traffic of its devices, counters of its
/// protocols, its Unix sockets. Whoever used it shows in one of them.
const TELLTALES: [&str; 5] = ["dev", "snmp", "snmp6", "netstat", "unix"];

/// Most namespaces that wait to be lent again. Every init has to close all of them.
const MAX_CLEAN: usize = 12;

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    /// By which it is entered.
    handle: OwnedFd,
    /// Files of [`TELLTALES`], which tell of it wherever they are read.
    telltales: Vec<OwnedFd>,
}

/// The namespaces of a launcher.
#[derive(Debug)]
pub(super) struct Networks {
    /// The launcher's own.
    home: OwnedFd,
    /// What a new one tells of itself.
    new: Vec<u8>,
    /// Ready to be lent.
    clean: Vec<Namespace>,
    /// Where they come back.
    returns: OwnedFd,
}

/// Where an init gives its network namespace back.
#[derive(Debug)]
pub(super) struct Returns(OwnedFd);

impl Namespace {
    /// The one of this process.
    fn own() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |path: &str| rustix::fs::open(path, flags, Mode::empty());
        let mut telltales = Vec::new();
        for name in TELLTALES {
            match open(&format!("/proc/thread-self/net/{name}")) {
                Ok(file) => telltales.push(file),
                // A kernel without that protocol.
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            handle: open("/proc/thread-self/ns/net")?,
            telltales,
        })
    }

    /// Moves this process into it.
    pub(super) fn enter(&self) -> io::Result<()> {
        enter(&self.handle)
    }

    /// What the kernel tells of it.
    fn told(&self) -> io::Result<Vec<u8>> {
        let mut told = Vec::new();
        let mut piece = vec![0; 16 << 10];
        for file in &self.telltales {
            let mut at = 0;
            loop {
                let count = rustix::io::pread(file, &mut piece, at)?;
                if count == 0 {
                    break;
                }
                told.extend_from_slice(piece.get(..count).unwrap_or_default());
                at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
        Ok(told)
    }
}

impl Networks {
    /// None yet, and where they come back. Moves this process into a network namespace of its own,
    /// save where jobs see the daemon's: then there are none.
    pub(super) fn new(network: Network) -> Result<(Option<Self>, Returns), Failure> {
        const STEP: &str = "network namespace";
        let (returns, theirs) = message::pair().step("network")?;
        if network == Network::Host {
            return Ok((None, Returns(theirs)));
        }
        make().step(STEP)?;
        let own = Namespace::own().step(STEP)?;
        let networks = Self {
            new: own.told().step(STEP)?,
            home: own.handle,
            clean: Vec::new(),
            returns,
        };
        Ok((Some(networks), Returns(theirs)))
    }

    /// One for a sandbox: unused ones first.
    pub(super) fn lend(&mut self) -> Result<Namespace, Failure> {
        while self.clean.is_empty() && self.take_back().step("network namespace")? {}
        if let Some(clean) = self.clean.pop() {
            return Ok(clean);
        }
        let made = make().and_then(|()| Namespace::own());
        enter(&self.home).step("network namespace")?;
        made.step("network namespace")
    }

    /// Readable when one has come back.
    pub(super) fn returned(&self) -> BorrowedFd<'_> {
        self.returns.as_fd()
    }

    /// Takes back one that is there; false when none is.
    pub(super) fn take_back(&mut self) -> io::Result<bool> {
        let fds = match message::receive_bytes(&self.returns, RecvFlags::DONTWAIT) {
            Ok(Some((_, fds))) => fds,
            // The other end is open here as well: this is not reached.
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // No room for its descriptors.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut fds = fds.into_iter();
        if let Some(handle) = fds.next() {
            let telltales = fds.collect();
            let network = Namespace { handle, telltales };
            let reads_as_new = network.told().is_ok_and(|told| told == self.new);
            if reads_as_new && self.clean.len() < MAX_CLEAN {
                self.clean.push(network);
            }
        }
        Ok(true)
    }
}

impl Returns {
    /// Gives back a namespace in which no process of a job is left.
    pub(super) fn give_back(&self, network: &Namespace) -> io::Result<()> {
        let mut fds = vec![network.handle.as_fd()];
        fds.extend(network.telltales.iter().map(OwnedFd::as_fd));
        message::send_bytes(&self.0, b"network", &fds)
    }
}

/// Moves this process into a new network namespace with its loopback up.
pub(super) fn make() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()
}

/// Moves this process into a network namespace.
fn enter(network: &OwnedFd) -> io::Result<()> {
    Ok(nix::sched::setns(network, CloneFlags::CLONE_NEWNET)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_kernel_is_its_errno() {
        let mut reply = [0; 36];
        acknowledged(&reply).unwrap();
        reply[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(
            acknowledged(&reply).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        assert!(acknowledged(&reply[..17]).is_err());
    }
}
