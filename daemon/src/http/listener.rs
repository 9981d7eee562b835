//! Sockets: where clients come in, and with which role.
//!
//! The Unix socket is bound under another name, given its mode and group, and then renamed into
//! place: it is never there with wrong permissions. A socket that nobody answers on is the rest of
//! a dead daemon and is replaced; one that answers is left alone.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Group;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::access::{Arrival, Door, Gate};
use super::hangup::{Stream, Transport};
use crate::config::exposure::{Listening, Place, SocketPlace};
use crate::config::{Home, Server, SocketGroup};
use crate::job::queue::Requester;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Why a socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon answers there.
    #[error("another daemon answers on {path}; stop it, or choose another --socket")]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something else than a socket is there.
    #[error("{path} is there and is not a socket; remove it, or choose another --socket")]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The directory of the socket belongs to somebody else.
    #[error(
        "{path} belongs to another user, who could replace the socket; remove it, or choose another --socket"
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The configured group does not exist.
    #[error("there is no group `{group}`; create it, or change the `socket_group` that names it")]
    NoGroup {
        /// The group.
        group: String,
    },
    /// A step failed.
    #[error("cannot {action} {path}")]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A TCP address can't be listened on.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A socket that clients connect to, and what it grants them.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    door: Arc<Door>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// The file of a Unix socket; removed on drop, when it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Listens on the operator's Unix socket.
    pub async fn operators(server: &Server, home: Home) -> Result<Self, ListenError> {
        Ok(Self {
            socket: Socket::unix(&server.socket, home).await?,
            door: Arc::new(Door::operators(server.socket_page)),
        })
    }

    /// Listens on another one.
    pub async fn open(listening: &Listening, home: Home) -> Result<Self, ListenError> {
        let (socket, transport) = match &listening.place {
            Place::Unix(place) => (Socket::unix(place, home).await?, Transport::Unix),
            Place::Tcp(address) => (Socket::tcp(*address)?, Transport::Tcp),
        };
        let door = Door {
            role: listening.role,
            tokens: listening.tokens,
            quota: listening.quota,
            gate: match transport {
                Transport::Unix => Gate::Socket,
                Transport::Tcp => Gate::Network,
            },
            page: listening.page,
        };
        Ok(Self {
            socket,
            door: Arc::new(door),
        })
    }

    /// Waits for the next connection, and says who it is.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Arrival, Transport)> {
        let arrival = |from| Arrival {
            door: Arc::clone(&self.door),
            from,
        };
        match &self.socket {
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().map(|peer| Requester::User(peer.uid()));
                let from = user.unwrap_or(Requester::Unknown);
                Ok((Stream::new(stream), arrival(from), Transport::Unix))
            }
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let from = Requester::Address(address.ip().to_canonical());
                Ok((Stream::new(stream), arrival(from), Transport::Tcp))
            }
        }
    }

    /// Where it listens, in words.
    pub fn name(&self) -> String {
        match &self.socket {
            Socket::Unix(_, file) => file.path.display().to_string(),
            Socket::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "tcp".to_owned(), |address| address.to_string()),
        }
    }
}

impl Socket {
    async fn unix(place: &SocketPlace, home: Home) -> Result<Self, ListenError> {
        make_directory(&place.path, home)?;
        clear(&place.path).await?;
        let (listener, file) = bind(place)?;
        Ok(Self::Unix(listener, file))
    }

    fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        let listen = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        listen()
            .map(Self::Tcp)
            .map_err(|source| ListenError::Tcp { address, source })
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |source| ListenError::Path {
        action,
        path,
        source,
    }
}

/// Makes the socket's directory: open to all as root, where the socket's own mode decides, private
/// otherwise. One in a shared place such as /tmp that somebody else made is refused.
fn make_directory(socket: &Path, home: Home) -> Result<(), ListenError> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let mode = match home {
        Home::System => 0o755,
        Home::User => 0o700,
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory);
    made.map_err(at("create", directory))?;
    let owner = std::fs::metadata(directory)
        .map_err(at("look at", directory))?
        .uid();
    // Seen from a user namespace, the host's root is the overflow id, as is every other user.
    let foreign = owner != 0 && owner != nix::unistd::geteuid().as_raw();
    if foreign && directory.starts_with("/tmp") {
        return Err(ListenError::ForeignDirectory {
            path: directory.to_owned(),
        });
    }
    Ok(())
}

/// Removes the socket of a dead daemon.
async fn clear(path: &Path) -> Result<(), ListenError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match tokio::net::UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket of a dead daemon");
            std::fs::remove_file(path).map_err(at("remove", path))
        }
        // A full backlog is an answer too.
        Ok(_) | Err(_) => Err(ListenError::Live {
            path: path.to_owned(),
        }),
    }
}

fn bind(place: &SocketPlace) -> Result<(UnixListener, SocketFile), ListenError> {
    let path = &place.path;
    let mut unready = path.as_os_str().to_owned();
    unready.push(".new");
    let unready = PathBuf::from(unready);
    match std::fs::remove_file(&unready) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at("remove", &unready)(error)),
    }
    let listen = || {
        let socket = UnixSocket::new_stream()?;
        socket.bind(&unready)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().map_err(at("listen on", path))?;
    let mode = std::fs::Permissions::from_mode(place.mode);
    std::fs::set_permissions(&unready, mode).map_err(at("set the mode of", path))?;
    if let Some(group) = group(&place.group)? {
        std::os::unix::fs::chown(&unready, None, Some(group))
            .map_err(at("set the group of", path))?;
    }
    let inode = std::fs::symlink_metadata(&unready)
        .map_err(at("look at", path))?
        .ino();
    std::fs::rename(&unready, path).map_err(at("create", path))?;
    Ok((
        listener,
        SocketFile {
            path: path.to_owned(),
            inode,
        },
    ))
}

fn group(group: &SocketGroup) -> Result<Option<u32>, ListenError> {
    let find = |name: &str| {
        Group::from_name(name)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw())
    };
    match group {
        SocketGroup::Own => Ok(None),
        SocketGroup::IfPresent(name) => Ok(find(name)),
        SocketGroup::Required(name) => match find(name) {
            Some(id) => Ok(Some(id)),
            None => Err(ListenError::NoGroup {
                group: name.clone(),
            }),
        },
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(socket: PathBuf) -> Server {
        let host = crate::config::paths::Host {
            home: Home::User,
            uid: 0,
            cpus: 1,
            variables: std::collections::BTreeMap::new(),
        };
        let flags = crate::config::Flags {
            socket: Some(socket),
            ..Default::default()
        };
        crate::config::load(&flags, &host)
            .expect("defaults")
            .config
            .server
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().expect("a directory");
        let server = server(directory.path().join("new/piston.sock"));
        let listener = Listener::operators(&server, Home::User)
            .await
            .expect("listens");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&server.socket.path), 0o660);
        assert_eq!(mode(&directory.path().join("new")), 0o700);
        drop(listener);
        assert!(!server.socket.path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let server = server(directory.path().join("piston.sock"));
        drop(std::os::unix::net::UnixListener::bind(&server.socket.path).expect("bound"));
        let live = Listener::operators(&server, Home::User)
            .await
            .expect("replaces it");
        let error = Listener::operators(&server, Home::User)
            .await
            .expect_err("live");
        assert!(matches!(error, ListenError::Live { .. }), "{error}");
        assert!(server.socket.path.exists());
        drop(live);
        std::fs::write(&server.socket.path, "").expect("written");
        let error = Listener::operators(&server, Home::User)
            .await
            .expect_err("a file");
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
    }
}
