//! The UDP shell: owns the sockets, the clock and the seed, and nothing of the protocol.
//!
//! A reader for each socket hands datagrams over; one loop gives the machine all that wait, then asks it what to
//! send. The machine commits its store before it answers, so a burst of Map-Registers shares one commit. A reply
//! leaves from the address its request came to, also where a socket listens on all of them.
#![allow(clippy::disallowed_methods, reason = "this is where clock, tasks and sockets live")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Instant, SystemTime},
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    Command, ConfigError, Counters, Event, MapServer, MapServerConfig, RegistrationStatus, Transmit, store::Store,
};

mod socket;

use socket::{Datagram, MAX_PAYLOAD, Socket};

/// Datagrams read but not yet worked on; beyond that the kernel's buffer fills, and then it drops.
const QUEUE: usize = 4096;
/// Datagrams that share one commit at most.
const BATCH: usize = 512;

/// What a running Map-Server is asked. Closing the channel stops it.
#[derive(Debug)]
pub enum Control {
    /// Do this; the answer says whether it was accepted.
    Command(Box<Command>, oneshot::Sender<Result<(), Vec<ConfigError>>>),
    /// Say how it is.
    Status(oneshot::Sender<Status>),
}

/// How a Map-Server is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Addresses it listens on, ports filled in.
    pub listening: Vec<SocketAddr>,
    /// Registrations that have not run out.
    pub registrations: Vec<RegistrationStatus>,
    /// What happened so far.
    pub counters: Counters,
}

/// Why a Map-Server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error("the configuration is refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// Nothing to listen on.
    #[error("no address to listen on")]
    NoAddress,
    /// The kernel gave no random seed.
    #[error("no random seed from the kernel")]
    Seed,
}

/// A Map-Server whose sockets are bound.
pub struct Server {
    machine: MapServer,
    sockets: Vec<Arc<Socket>>,
    listening: Vec<SocketAddr>,
    refusals: LogBudget,
}

/// Anybody can send what is refused: the log says a few of them, the counters all.
struct LogBudget {
    since: Instant,
    left: u32,
}

/// Refusals logged in a second at most.
const REFUSALS_A_SECOND: u32 = 5;

/// Binds and runs until `control` is closed.
pub async fn serve(
    config: MapServerConfig,
    store: Box<dyn Store>,
    listen: &[SocketAddr],
    control: mpsc::Receiver<Control>,
) -> Result<(), ServeError> {
    Server::bind(config, store, listen)?.run(control).await;
    Ok(())
}

impl Server {
    /// Binds the sockets; port 0 is for tests. The addresses listened on become own addresses of the machine.
    /// Must be called within a tokio runtime.
    pub fn bind(mut config: MapServerConfig, store: Box<dyn Store>, listen: &[SocketAddr]) -> Result<Self, ServeError> {
        let mut sockets = Vec::new();
        let mut listening = Vec::new();
        for address in listen {
            let bind = |error| ServeError::Bind {
                address: *address,
                error,
            };
            let socket = Socket::bind(*address).map_err(bind)?;
            listening.push(socket.local_address().map_err(bind)?);
            sockets.push(Arc::new(socket));
        }
        if sockets.is_empty() {
            return Err(ServeError::NoAddress);
        }
        add_own(&mut config, &listening);
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| ServeError::Seed)?;
        let machine =
            MapServer::new(config, store, seed, Instant::now(), SystemTime::now()).map_err(ServeError::Config)?;
        Ok(Self {
            machine,
            sockets,
            listening,
            refusals: LogBudget {
                since: Instant::now(),
                left: REFUSALS_A_SECOND,
            },
        })
    }

    /// Addresses it listens on, ports filled in.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Serves until `control` is closed; what was acknowledged is in the store by then.
    pub async fn run(mut self, mut control: mpsc::Receiver<Control>) {
        let (sender, mut datagrams) = mpsc::channel(QUEUE);
        let mut readers = JoinSet::new();
        for socket in &self.sockets {
            readers.spawn(read(Arc::clone(socket), sender.clone()));
        }
        let mut batch: Vec<Datagram> = Vec::with_capacity(BATCH);
        loop {
            let wake = self.machine.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                biased;
                asked = control.recv() => match asked {
                    Some(asked) => self.answer(asked),
                    None => break,
                },
                () = until(wake) => {}
                _ = datagrams.recv_many(&mut batch, BATCH) => {}
            }
            let now = Instant::now();
            for datagram in batch.drain(..) {
                self.machine
                    .handle_datagram(now, datagram.from, datagram.to, &datagram.payload);
            }
            if self.machine.poll_timeout().is_some_and(|(at, _)| at <= now) {
                self.machine.handle_timeout(now);
            }
            self.flush().await;
        }
        // The last writes; the peers of what is not sent any more will ask again.
        self.flush().await;
    }

    fn answer(&mut self, asked: Control) {
        let now = Instant::now();
        match asked {
            Control::Command(command, answer) => {
                let command = match *command {
                    Command::Reconfigure(mut config) => {
                        add_own(&mut config, &self.listening);
                        Command::Reconfigure(config)
                    }
                    other => other,
                };
                let done = self.machine.handle_command(now, command);
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(done);
            }
            Control::Status(answer) => {
                let status = Status {
                    listening: self.listening.clone(),
                    registrations: self.machine.registrations(now),
                    counters: *self.machine.counters(),
                };
                let _ = answer.send(status);
            }
        }
    }

    async fn flush(&mut self) {
        // The first poll commits: the only call that waits for a disk.
        let mut next = blocking(|| self.machine.poll_transmit());
        while let Some(transmit) = next {
            send(self.socket_for(&transmit).cloned(), &transmit).await;
            next = self.machine.poll_transmit();
        }
        while let Some(event) = self.machine.poll_event() {
            if !matches!(event, Event::Refused { .. }) || self.refusals.may_log(Instant::now()) {
                log(&event);
            }
        }
    }

    /// The socket bound to the source address, else one bound to all addresses, else any of the family.
    fn socket_for(&self, transmit: &Transmit) -> Option<&Arc<Socket>> {
        let family = || {
            let all = self.sockets.iter().zip(&self.listening);
            all.filter(|(_, local)| local.is_ipv4() == transmit.destination.is_ipv4())
        };
        let exact = family().find(|(_, local)| Some(local.ip()) == transmit.source);
        let wildcard = || family().find(|(_, local)| local.ip().is_unspecified());
        exact
            .or_else(wildcard)
            .or_else(|| family().next())
            .map(|(socket, _)| socket)
    }
}

impl LogBudget {
    fn may_log(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since).as_secs() >= 1 {
            *self = Self {
                since: now,
                left: REFUSALS_A_SECOND,
            };
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

async fn send(socket: Option<Arc<Socket>>, transmit: &Transmit) {
    let Some(socket) = socket else {
        tracing::debug!(destination = %transmit.destination, "no socket of this family");
        return;
    };
    let mut sent = socket.send(transmit).await;
    if sent.is_err() && transmit.source.is_some() {
        // The address is not ours any more: a Map-Notify about a registration of an earlier life.
        sent = socket
            .send(&Transmit {
                source: None,
                ..transmit.clone()
            })
            .await;
    }
    if let Err(error) = sent {
        tracing::debug!(destination = %transmit.destination, %error, "a datagram was not sent");
    }
}

/// Hands datagrams over until the other end goes away.
async fn read(socket: Arc<Socket>, to: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        match socket.receive(&mut buffer).await {
            Ok(datagram) => {
                if to.send(datagram).await.is_err() {
                    return;
                }
            }
            // ICMP errors of earlier sends turn up here; the socket is as good as before.
            Err(error) => {
                tracing::debug!(%error, "receiving failed");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells a multi-threaded runtime that this thread waits for a disk.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn add_own(config: &mut MapServerConfig, listening: &[SocketAddr]) {
    let new: Vec<IpAddr> = listening
        .iter()
        .map(SocketAddr::ip)
        .filter(|address| !config.addresses.contains(address))
        .collect();
    config.addresses.extend(new);
}

fn log(event: &Event) {
    match event {
        Event::Refused { reason, from } => tracing::warn!(reason, %from, "message refused"),
        Event::StoreFailed { error } => tracing::error!(error, "the store failed; nothing was acknowledged"),
        Event::NotifyUnanswered { destination } => {
            tracing::warn!(%destination, "no answer to a Map-Notify about moved prefixes");
        }
        Event::Moved {
            prefix,
            former,
            current,
        } => tracing::info!(eid = %prefix, %former, %current, "prefix moved"),
        Event::Registered { prefix, site, from } => tracing::info!(eid = %prefix, site, %from, "registered"),
        Event::Deregistered { prefix, site, from } => tracing::info!(eid = %prefix, site, %from, "deregistered"),
        Event::Expired { prefix } => tracing::info!(eid = %prefix, "registration ran out"),
    }
}
