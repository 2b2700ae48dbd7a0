//! The process `weft dataplane`: gives up every right it does not need, then runs the burst loop until it is told
//! to end.
//!
//! It starts with one descriptor, the listening socket that control made, as its standard input; everything else
//! arrives over connections to it. It outlives control, and hands what it holds to the next one. SIGTERM and SIGINT
//! end it as they end any process: there is nothing to save.

mod privileges;
mod sandbox;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use thiserror::Error;

use crate::worker::{BurstLoop, Ending};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;

/// As whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// User to change to.
    pub uid: u32,
    /// Group to change to.
    pub gid: u32,
}

/// Why the process cannot run.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It was not started by [`crate::link::spawn`].
    #[error("standard input is not a listening socket: `weft up` starts the dataplane, nobody else should")]
    NoListener(#[source] io::Error),
    /// Threads keep rights that others give up.
    #[error("{0} threads run already; rights are given up thread by thread")]
    Threads(usize),
    /// A right could not be given up.
    #[error("cannot give up {what}")]
    Privileges {
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Landlock or seccomp failed.
    #[error("cannot close the sandbox: {0}")]
    Sandbox(String),
    /// The sandbox has a hole.
    #[error("the sandbox has a hole: {0} was allowed")]
    Hole(&'static str),
    /// The loop failed.
    #[error("the burst loop failed")]
    Loop(#[from] io::Error),
}

/// Runs the packet path. Call it before the process has started any thread.
///
/// # Errors
/// See [`ProcessError`]; it never runs with more rights than it should.
pub fn run(options: &Options) -> Result<Ending, ProcessError> {
    let listener = listener().map_err(ProcessError::NoListener)?;
    let owner = rustix::process::geteuid().as_raw();
    privileges::check_single_thread()?;
    let mut burst_loop = BurstLoop::listening(listener, owner)?;
    privileges::give_up(options)?;
    let landlock = sandbox::landlock()?;
    sandbox::seccomp()?;
    sandbox::look_for_holes()?;
    burst_loop.state_fact("sandbox.landlock", u64::from(landlock));
    burst_loop.state_fact("sandbox.seccomp", 1);
    Ok(burst_loop.run()?)
}

fn listener() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if !rustix::net::sockopt::socket_acceptconn(stdin.as_fd())? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    // Once more, so that those who connect see this process as the other end, not the one that made the socket.
    rustix::net::listen(stdin.as_fd(), BACKLOG)?;
    stdin.as_fd().try_clone_to_owned()
}
