//! The network of a job: a namespace with a loopback that is up and nothing else, or the daemon's
//! own, with the files by which programs find names in it.

use std::io;

use nix::sched::CloneFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `lo` is the first device of every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Length of the request: netlink header and `ifinfomsg`.
const REQUEST_LEN: usize = 32;

/// Files of the host that jobs of its network see in the place of those of their view; each is
/// taken anew for each job.
pub(super) const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Moves this process into a network namespace of its own, with a loopback.
pub(super) fn own() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()
}

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
