//! `piston daemon`: a daemon of one's own in the background, and its end; the offer to start one
//! where a job finds none.
//!
//! Nothing is kept of a daemon that was started: who listens at a socket is asked of the kernel.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Obstacle, TransportError};
use crate::{Client, Host};

use super::exit::Exit;
use super::failure::{Failure, host_option};
use super::flags::Daemon;
use super::local::pistond;
use super::render::{Consent, Screen};

/// Longest wait for a daemon to be ready; one with many packages needs a moment.
const READY: Duration = Duration::from_mins(1);

/// How often it is asked whether it is.
const AGAIN: Duration = Duration::from_millis(10);

/// Most that is read of a log for the reason of a failure.
const TAIL: u64 = 64 << 10;

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Daemon, screen: &Screen) -> Result<Exit> {
    match (command, client.host().socket()) {
        (Daemon::Start, Some(socket)) => {
            if let Some(pid) = listener(socket).await? {
                let pid = pid.as_raw_nonzero().get();
                let reply = json!({ "socket": socket, "pid": pid, "started": false });
                screen.show(&reply, |_| format!("one runs already, as process {pid}"))?;
                return Ok(Exit::Done);
            }
            let started = start(socket, screen).await?;
            let Started { pid, log, .. } = &started;
            let reply = json!({ "socket": socket, "pid": pid, "log": log, "started": true });
            screen.show(&reply, |_| started.text())?;
            Ok(Exit::Done)
        }
        (Daemon::Stop, Some(socket)) => stop(socket, screen).await,
        (_, None) => Err(
            Failure::new(format!("{} is no daemon of this machine", client.host()))
                .next("name its socket with --host, or leave --host and $PISTON_HOST out")
                .into(),
        ),
    }
}

/// Starts a daemon where a command failed because there is none, if that is agreed to: whether there
/// is one now.
pub(super) async fn was_started_for(
    error: &anyhow::Error,
    chosen: Option<&Host>,
    consent: Consent,
    screen: &Screen,
) -> Result<bool> {
    let Some(socket) = startable(error, chosen, Host::default_sockets()) else {
        return Ok(false);
    };
    let stop = stop_command(&socket);
    let question = format!("no daemon runs; start one? (`{stop}` ends it)");
    if !screen.agreed(consent, question) {
        return Ok(false);
    }
    let started = start(&socket, screen).await?;
    screen.progress(started.text());
    Ok(true)
}

/// Where a daemon can be started, if it is the lack of one that an error is about: at the socket
/// that was chosen, else at the first default one, even where the system's keeps us out.
fn startable(
    error: &anyhow::Error,
    chosen: Option<&Host>,
    defaults: Vec<PathBuf>,
) -> Option<PathBuf> {
    let error = error.downcast_ref::<Error>()?;
    let Error::Transport(TransportError::Unreachable { host, source, .. }) = error else {
        return None;
    };
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    let missing = absent.contains(&source.kind());
    if chosen.is_some() {
        return host.socket().filter(|_| missing).map(Path::to_owned);
    }
    let own = defaults.into_iter().next()?;
    let another = host.socket() != Some(&own);
    let kept_out = another && source.kind() == io::ErrorKind::PermissionDenied;
    (missing || kept_out).then_some(own)
}

/// A daemon that was started.
struct Started {
    pid: u32,
    log: PathBuf,
    /// What ends it.
    stop: String,
}

impl Started {
    fn text(&self) -> String {
        let Self { pid, log, stop } = self;
        let log = log.display();
        format!("started a daemon, process {pid}; it logs to {log}; `{stop}` ends it")
    }
}

/// The command that ends the daemon at a socket.
fn stop_command(socket: &Path) -> String {
    format!("piston daemon stop{}", host_option(socket))
}

/// Starts a daemon that outlives this process, and waits until it is ready.
async fn start(socket: &Path, screen: &Screen) -> Result<Started> {
    let program = pistond(env::current_exe().ok().as_deref());
    let path = log_file(geteuid().as_raw(), |name| {
        env::var_os(name).map(PathBuf::from)
    });
    let unwritable = |error| {
        Failure::new(format!("can't write the daemon's log {}", path.display()))
            .because(error)
            .next("start it in the foreground: `pistond serve`")
    };
    let log = open(&path).map_err(unwritable)?;
    let begins = log.metadata().map_err(unwritable)?.len();
    let errors = log.try_clone().map_err(unwritable)?;
    screen.progress(format!("starting {} ...", program.display()));
    let mut child = Command::new(&program)
        .arg("serve")
        .arg("--socket")
        .arg(socket)
        .env_remove("PISTON_TOKEN")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // A Ctrl-C of this terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|error| {
            Failure::new(format!("can't start {}", program.display()))
                .because(error)
                .next("install `pistond` beside `piston`, or on the PATH")
        })?;
    ready(&mut child, socket, &path, begins).await?;
    Ok(Started {
        pid: child.id(),
        log: path,
        stop: stop_command(socket),
    })
}

/// Waits until a daemon answers; its own words where it ends instead.
async fn ready(child: &mut Child, socket: &Path, log: &Path, begins: u64) -> Result<()> {
    let client = Client::new(Host::Unix(socket.to_owned()));
    let give_up = Instant::now() + READY;
    loop {
        // Before it is ready it answers no more than who it is.
        if client.runtimes().await.is_ok() {
            return Ok(());
        }
        let what = match child.try_wait()? {
            Some(_) => said(log, begins),
            None if Instant::now() > give_up => "it is not ready yet".to_owned(),
            None => {
                sleep(AGAIN).await;
                continue;
            }
        };
        return Err(Failure::new(format!("the daemon did not start: {what}"))
            .next("see what this machine lacks with `piston check`")
            .next(format!("its log is {}", log.display()))
            .into());
    }
}

/// Where a daemon logs to that was started here.
fn log_file(user: u32, variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if user == 0 {
        return "/var/log/pistond.log".into();
    }
    let directory = |name| variable(name).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").unwrap_or_else(|| {
        let home = directory("HOME").unwrap_or_else(|| "/".into());
        home.join(".local/state")
    });
    state.join("piston/pistond.log")
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

/// What a daemon said last of all.
fn said(log: &Path, begins: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(begins))?;
        file.take(TAIL).read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    match (read, last) {
        (Ok(_), Some(line)) => line.trim_start_matches("error: ").to_owned(),
        _ => "it did not say why".to_owned(),
    }
}

/// The process that listens at a socket; none where nobody does.
async fn listener(socket: &Path) -> Result<Option<Pid>> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(stream.peer_cred()?.pid().and_then(Pid::from_raw)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(Error::from(TransportError::Unreachable {
                host: Host::Unix(socket.to_owned()),
                obstacle: Obstacle::Connection,
                source: error,
            })
            .into()),
        },
    }
}

/// Ends the daemon that listens at a socket, and waits until it has.
async fn stop(socket: &Path, screen: &Screen) -> Result<Exit> {
    let Some(pid) = listener(socket).await? else {
        let reply = json!({ "socket": socket, "stopped": null });
        screen.show(&reply, |_| {
            format!("no daemon runs at {}", socket.display())
        })?;
        return Ok(Exit::Done);
    };
    let number = pid.as_raw_nonzero();
    let failure = |error: rustix::io::Errno| {
        Failure::new(format!("can't end the daemon, process {number}"))
            .because(io::Error::from(error))
            .next("end it as whoever started it; a service with its manager")
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failure)?;
    let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    if name.trim_end() != "pistond" {
        let text = format!("what listens at {} is no pistond", socket.display());
        return Err(Failure::new(text)
            .next("where a service manager listens for it, that one ends it")
            .into());
    }
    pidfd_send_signal(&process, Signal::TERM).map_err(failure)?;
    screen.progress("waiting for its jobs to end ...");
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    while poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
    let reply = json!({ "socket": socket, "stopped": number.get() });
    screen.show(&reply, |_| format!("stopped process {number}"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(host: &str, kind: io::ErrorKind) -> anyhow::Error {
        let host = host.parse().expect("an address");
        Error::from(TransportError::Unreachable {
            host,
            obstacle: Obstacle::Connection,
            source: kind.into(),
        })
        .into()
    }

    #[test]
    fn one_is_started_where_none_is_or_where_the_systems_keeps_us_out() {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut};
        let defaults = || vec![PathBuf::from("/own/s"), PathBuf::from("/system/s")];
        let check = |host: &str, kind, chosen: bool, expected: Option<&str>| {
            let error = unreachable(host, kind);
            let chosen = chosen.then(|| host.parse().expect("an address"));
            let found = startable(&error, chosen.as_ref(), defaults());
            assert_eq!(found, expected.map(PathBuf::from), "{host} {kind:?}");
        };
        check("/own/s", NotFound, false, Some("/own/s"));
        check("/own/s", ConnectionRefused, false, Some("/own/s"));
        check("/system/s", ConnectionRefused, false, Some("/own/s"));
        check("/system/s", PermissionDenied, false, Some("/own/s"));
        check("/own/s", PermissionDenied, false, None);
        check("/own/s", TimedOut, false, None);
        check("/chosen/s", NotFound, true, Some("/chosen/s"));
        check("/chosen/s", PermissionDenied, true, None);
        check("http://host:1", ConnectionRefused, true, None);
        let other = anyhow::Error::msg("something else");
        assert_eq!(startable(&other, None, defaults()), None);
    }

    #[test]
    fn the_log_is_where_logs_are() {
        let check = |user, set: &[(&str, &str)], expected: &str| {
            let found = log_file(user, |name| {
                let mut set = set.iter();
                set.find(|(known, _)| *known == name)
                    .map(|(_, path)| path.into())
            });
            assert_eq!(found, Path::new(expected));
        };
        let home = ("HOME", "/home/me");
        check(0, &[home], "/var/log/pistond.log");
        check(7, &[home], "/home/me/.local/state/piston/pistond.log");
        check(
            7,
            &[home, ("XDG_STATE_HOME", "/s")],
            "/s/piston/pistond.log",
        );
        check(
            7,
            &[home, ("XDG_STATE_HOME", "s")],
            "/home/me/.local/state/piston/pistond.log",
        );
    }

    #[test]
    fn what_a_daemon_said_last_is_the_last_line_since_its_start() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "error: old\n{}\nerror: in use\n\n").expect("written");
        assert_eq!(said(file.path(), 11), "in use");
        assert_eq!(said(file.path(), 1000), "it did not say why");
        assert_eq!(said(Path::new("/nowhere"), 0), "it did not say why");
    }
}
