//! Control's side of the packet path: starting the process, connecting to it, talking to it. Plain descriptors, no
//! runtime; [`Link`] is `AsRawFd`, so an async runtime can watch it.
//!
//! Life of a link: [`connect`] (and when nobody answers, [`spawn`], then connect); the first message is
//! [`Up::Hello`], followed by one [`Event::Descriptors`](crate::control::Event::Descriptors) for each thing held;
//! then [`Change::Resync`](crate::control::Change::Resync), the full state, `Commit`; then changes as they come.
//! When [`Link::receive`] says `UnexpectedEof` (or `ConnectionReset`) the process is gone: spawn, connect, and send
//! the full state with descriptors.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{
    channel::{self, Channel},
    control::{Down, Up},
    port::GuestPort,
    worker::{BurstLoop, Ending},
};

/// Control's end: sends [`Down`], receives [`Up`].
pub type Link = Channel<Down, Up>;

/// Number of the user that the packet path runs as unless told otherwise ("nobody").
pub const NOBODY: u32 = 65_534;

/// How to start the packet path.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// The binary, usually `/proc/self/exe`.
    pub binary: PathBuf,
    /// Arguments that lead to [`crate::process::run`], such as `dataplane`. `--uid` and `--gid` are added.
    pub arguments: Vec<String>,
    /// Where it listens; what is there is replaced.
    pub socket: PathBuf,
    /// User it changes to.
    pub uid: u32,
    /// Group it changes to.
    pub gid: u32,
}

/// Starts the packet path. It listens before this returns, so that [`connect`] succeeds at once; it outlives the
/// caller, and is in a process group of its own, so that Ctrl-C does not reach it.
///
/// # Errors
/// The socket cannot be made, or the binary not be started.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn spawn(spawn: &Spawn) -> io::Result<Child> {
    command(spawn, listen(&spawn.socket)?).spawn()
}

/// The command that [`spawn`] starts, with the listening socket as its standard input.
pub fn command(spawn: &Spawn, listener: OwnedFd) -> Command {
    let mut command = Command::new(&spawn.binary);
    command
        .args(&spawn.arguments)
        .args(["--uid", &spawn.uid.to_string(), "--gid", &spawn.gid.to_string()])
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .process_group(0);
    command
}

/// A listening socket at `path`, mode 0600; what was there is removed.
///
/// # Errors
/// The directory is not there or not writable, or the path is too long for a socket (107 bytes).
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, 8)?;
    Ok(socket)
}

/// Connects to the packet path that listens at `path`. It ends any earlier connection.
///
/// # Errors
/// `NotFound` or `ConnectionRefused`: it does not run.
pub fn connect(path: &Path) -> io::Result<Link> {
    let socket = socket()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(Link::new(socket))
}

/// Process id of the other end of a connection made by [`connect`], before it has said anything: to end one that
/// speaks another version.
///
/// # Errors
/// Those of the kernel.
pub fn peer_pid(link: &Link) -> io::Result<u32> {
    let credentials = rustix::net::sockopt::socket_peercred(link)?;
    Ok(credentials.pid.as_raw_nonzero().get().cast_unsigned())
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // Room for the state of a whole node on the way down.
    crate::sys::sockopt::set_buffers(std::os::fd::AsFd::as_fd(&socket), 4 << 20, 4 << 20);
    Ok(socket)
}

/// The packet path on a thread of this process, without sandbox: for tests and benches.
#[derive(Debug)]
pub struct Local {
    thread: Option<JoinHandle<io::Result<Ending>>>,
    stop: Arc<AtomicBool>,
}

impl Local {
    /// Starts it. `memory` are the doors of ports whose attachment is `Memory`, by the port's number.
    ///
    /// # Errors
    /// No descriptors or threads left.
    pub fn start(memory: Vec<(crate::control::PortId, Box<dyn GuestPort + Send>)>) -> io::Result<(Self, Link)> {
        let (link, end) = channel::pair()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut burst_loop = BurstLoop::connected(end)?;
        for (id, port) in memory {
            burst_loop.offer_memory_port(id, port);
        }
        let flag = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("dataplane".into())
            .spawn(move || burst_loop.run_until(&flag))?;
        Ok((
            Self {
                thread: Some(thread),
                stop,
            },
            link,
        ))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it and says how it ended.
    ///
    /// # Errors
    /// The loop failed, or its thread panicked.
    pub fn stop(mut self) -> io::Result<Ending> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("the packet path panicked")),
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
