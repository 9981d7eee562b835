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

/// Most namespaces that wait to be lent again.
const MAX_CLEAN: usize = 32;

/// The namespaces of a launcher.
#[derive(Debug)]
pub(super) struct Networks {
    /// The launcher's own.
    home: OwnedFd,
    /// What a new one tells of itself.
    new: Vec<u8>,
    /// Ready to be lent.
    clean: Vec<OwnedFd>,
    /// Where they come back.
    returns: OwnedFd,
}

/// Where an init gives its network namespace back.
#[derive(Debug)]
pub(super) struct Returns(OwnedFd);

impl Networks {
    /// None yet, and where they come back. Moves this process into a network namespace of its own,
    /// save where jobs see the daemon's: then there are none.
    pub(super) fn new(network: Network) -> Result<(Option<Self>, Returns), Failure> {
        let (returns, theirs) = message::pair().step("network")?;
        if network == Network::Host {
            return Ok((None, Returns(theirs)));
        }
        make().step("network namespace")?;
        let networks = Self {
            home: own_namespace().step("network namespace")?,
            new: telltales().step("network namespace")?,
            clean: Vec::new(),
            returns,
        };
        Ok((Some(networks), Returns(theirs)))
    }

    /// One for a sandbox: unused ones first.
    pub(super) fn lend(&mut self) -> Result<OwnedFd, Failure> {
        while self.clean.is_empty() && self.take_back().step("network namespace")? {}
        if let Some(clean) = self.clean.pop() {
            return Ok(clean);
        }
        let made = make().and_then(|()| own_namespace());
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
            // No room for its descriptor.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(true),
            Err(error) => return Err(error),
        };
        for network in fds {
            if self.clean.len() < MAX_CLEAN && self.reads_as_new(&network)? {
                self.clean.push(network);
            }
        }
        Ok(true)
    }

    fn reads_as_new(&self, network: &OwnedFd) -> io::Result<bool> {
        let told = enter(network).and_then(|()| telltales());
        enter(&self.home)?;
        Ok(told.is_ok_and(|told| told == self.new))
    }
}

impl Returns {
    /// Gives back a namespace in which no process of a job is left.
    pub(super) fn give_back(&self, network: &OwnedFd) -> io::Result<()> {
        message::send_bytes(&self.0, b"network", &[network.as_fd()])
    }
}

/// Moves this process into a new network namespace with its loopback up.
pub(super) fn make() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()
}

/// Moves this process into a network namespace.
pub(super) fn enter(network: &OwnedFd) -> io::Result<()> {
    Ok(nix::sched::setns(network, CloneFlags::CLONE_NEWNET)?)
}

/// The network namespace of this process.
fn own_namespace() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        flags,
        Mode::empty(),
    )?)
}

/// What the kernel tells of the network namespace of this process.
fn telltales() -> io::Result<Vec<u8>> {
    let mut told = Vec::new();
    for name in TELLTALES {
        match std::fs::File::open(format!("/proc/thread-self/net/{name}")) {
            Ok(mut file) => {
                io::Read::read_to_end(&mut file, &mut told)?;
            }
            // A kernel without that protocol.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(told)
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
