//! A steady beat between two hosts: how long was the longest silence?
//!
//! UDP shows what the network did; TCP shows that a connection lived, and how long it stalled. Every beat of TCP
//! carries a block of data whose content is checked, so the beat is a running transfer as well.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{LabError, Namespace, Result, wait};

/// Bytes of a TCP beat: 16 KiB every 10 ms are 13 Mbit/s.
const BLOCK: usize = 16 * 1024;

/// What carries the beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams; a lost one stays lost.
    Udp,
    /// One connection, kept for the whole time.
    Tcp,
}

/// A beat under way.
#[derive(Debug)]
pub struct Heartbeat {
    shared: Arc<Shared>,
    sender: Option<thread::JoinHandle<Result<Result<()>>>>,
    receiver: Option<thread::JoinHandle<Result<Result<()>>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    stopped_sending: AtomicBool,
    sent: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

impl Shared {
    fn arrived(&self) {
        if let Ok(mut arrivals) = self.arrivals.lock() {
            arrivals.push(Instant::now());
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || super::interrupted()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Beats {
    /// Beats sent.
    pub sent: u64,
    /// Beats that arrived.
    pub received: u64,
    /// The longest time without an arrival, up to the moment of stopping.
    pub longest_gap: Duration,
    /// When each arrived.
    pub arrivals: Vec<Instant>,
}

impl Beats {
    /// The longest silence between `from` and `until`, a silence under way at `until` included.
    #[must_use]
    pub fn longest_gap_between(&self, from: Instant, until: Instant) -> Duration {
        let inside = self.arrivals.iter().copied().filter(|at| *at >= from && *at <= until);
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in inside.chain([until]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }
}

impl Heartbeat {
    /// Starts a beat from `from` to `to`, which listens on `address` (its own). Returns when the first beat arrived.
    ///
    /// # Errors
    /// When `address` cannot be bound, or no beat arrives within `within`.
    pub fn start(
        transport: Transport,
        from: &Namespace,
        to: &Namespace,
        address: SocketAddr,
        every: Duration,
        within: Duration,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let receiver = {
            let shared = Arc::clone(&shared);
            match transport {
                Transport::Udp => {
                    let socket = to
                        .within(move || UdpSocket::bind(address))?
                        .map_err(|error| cannot("bind", address, error))?;
                    to.inside(move || receive_udp(&socket, &shared))
                }
                Transport::Tcp => {
                    let socket = to
                        .within(move || TcpListener::bind(address))?
                        .map_err(|error| cannot("bind", address, error))?;
                    to.inside(move || receive_tcp(&socket, &shared))
                }
            }
        };
        let sender = {
            let shared = Arc::clone(&shared);
            from.inside(move || {
                let result = match transport {
                    Transport::Udp => send_udp(address, every, &shared),
                    Transport::Tcp => send_tcp(address, every, within, &shared),
                };
                shared.stopped_sending.store(true, Ordering::Relaxed);
                result
            })
        };
        let beat = Self {
            shared,
            sender: Some(sender),
            receiver: Some(receiver),
        };
        wait::until(&format!("a first {transport:?} beat reaches {address}"), within, || {
            if transport == Transport::Tcp && beat.shared.stopped_sending.load(Ordering::Relaxed) {
                return Err(LabError::unexpected(format!(
                    "the connection to {address} did not come about"
                )));
            }
            Ok((beat.received() > 0).then_some(()))
        })?;
        Ok(beat)
    }

    /// Beats that have arrived so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.arrivals.lock().map_or(0, |arrivals| arrivals.len() as u64)
    }

    /// Whether the sender is still at it: a TCP connection that broke ends it.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.shared.stopped_sending.load(Ordering::Relaxed)
    }

    /// Waits for `count` further beats.
    ///
    /// # Errors
    /// When they do not arrive in time.
    pub fn more(&self, count: u64, within: Duration) -> Result<()> {
        let goal = self.received().saturating_add(count);
        wait::until(&format!("{count} more beats"), within, || {
            Ok((self.received() >= goal).then_some(()))
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the TCP connection broke, or data came in another order than it was sent.
    pub fn stop(mut self) -> Result<Beats> {
        let stopped = Instant::now();
        self.shared.stop.store(true, Ordering::Relaxed);
        for end in [self.sender.take(), self.receiver.take()].into_iter().flatten() {
            end.join()
                .map_err(|_| LabError::unexpected("a heartbeat thread panicked"))???;
        }
        let arrivals = self
            .shared
            .arrivals
            .lock()
            .map(|arrivals| arrivals.clone())
            .unwrap_or_default();
        let mut beats = Beats {
            sent: self.shared.sent.load(Ordering::Relaxed),
            received: arrivals.len() as u64,
            longest_gap: Duration::ZERO,
            arrivals,
        };
        if let Some(first) = beats.arrivals.first().copied() {
            beats.longest_gap = beats.longest_gap_between(first, stopped);
        }
        Ok(beats)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn cannot(what: &str, address: SocketAddr, source: std::io::Error) -> LabError {
    LabError::Io {
        what: format!("{what} {address}"),
        source,
    }
}

const READ_TIMEOUT: Duration = Duration::from_millis(50);

fn send_udp(to: SocketAddr, every: Duration, shared: &Shared) -> Result<()> {
    let any: SocketAddr = if to.is_ipv6() {
        ([0u16; 8], 0).into()
    } else {
        ([0u8; 4], 0).into()
    };
    let socket = UdpSocket::bind(any).map_err(|error| cannot("bind", any, error))?;
    let mut due = Instant::now();
    while !shared.stopping() {
        let number = shared.sent.load(Ordering::Relaxed);
        // "No route" and the like while a cable moves are silence, not an end.
        let _ = socket.send_to(&number.to_be_bytes(), to);
        shared.sent.store(number.saturating_add(1), Ordering::Relaxed);
        due = pause_until(due, every);
    }
    Ok(())
}

fn receive_udp(socket: &UdpSocket, shared: &Shared) -> Result<()> {
    socket
        .set_read_timeout(Some(READ_TIMEOUT))
        .map_err(|source| LabError::Io {
            what: "set a timeout".into(),
            source,
        })?;
    let mut buffer = [0; 64];
    while !shared.stopping() {
        if socket.recv_from(&mut buffer).is_ok() {
            shared.arrived();
        }
    }
    Ok(())
}

fn send_tcp(to: SocketAddr, every: Duration, within: Duration, shared: &Shared) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, within).map_err(|error| cannot("connect to", to, error))?;
    let broken = |error| cannot("keep the connection to", to, error);
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(30))))
        .map_err(broken)?;
    let mut due = Instant::now();
    while !shared.stopping() {
        let number = shared.sent.load(Ordering::Relaxed);
        stream.write_all(&block(number)).map_err(broken)?;
        shared.sent.store(number.saturating_add(1), Ordering::Relaxed);
        due = pause_until(due, every);
    }
    Ok(())
}

fn receive_tcp(listener: &TcpListener, shared: &Shared) -> Result<()> {
    let failed = |source| LabError::Io {
        what: "receive".into(),
        source,
    };
    listener.set_nonblocking(true).map_err(failed)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if shared.stopping() {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(failed(error)),
        }
    };
    stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(READ_TIMEOUT)))
        .map_err(failed)?;
    let mut buffer = vec![0; BLOCK];
    let mut filled = 0;
    let mut expected = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                // Read what is under way; the end comes when the sender closes.
                if shared.stopping() && shared.stopped_sending.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) => return Err(failed(error)),
        }
        if filled == BLOCK {
            if buffer != block(expected) {
                return Err(LabError::unexpected(format!(
                    "block {expected} came with other bytes than were sent"
                )));
            }
            expected += 1;
            filled = 0;
            shared.arrived();
        }
    }
}

/// The content of block `number`: no two blocks are alike.
fn block(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(BLOCK / 8)
}

/// Keeps the pace; after a stall the pace starts anew instead of catching up in one burst.
fn pause_until(due: Instant, every: Duration) -> Instant {
    let now = Instant::now();
    let next = (due + every).max(now);
    thread::sleep(next - now);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_at_either_end_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let beats = Beats {
            sent: 4,
            received: 4,
            longest_gap: Duration::ZERO,
            arrivals: vec![at(100), at(110), at(150), at(160)],
        };
        assert_eq!(beats.longest_gap_between(at(0), at(165)), Duration::from_millis(100));
        assert_eq!(beats.longest_gap_between(at(105), at(165)), Duration::from_millis(40));
        assert_eq!(beats.longest_gap_between(at(150), at(400)), Duration::from_millis(240));
    }
}
