//! The xTR's shell: its sockets, its clock and its seed, and nothing of the protocol.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use lisp::{CONTROL_PORT, Nonce, XtrId};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};
use xtr::{Command, Config, Event, Status, Xtr};

use super::store;

/// Datagrams read but not yet worked on; beyond that the kernel's buffer fills, and then it drops.
const QUEUE: usize = 1024;
/// Longest UDP payload.
const MAX_PAYLOAD: usize = 65_535;

/// A datagram that came to one of our addresses.
#[derive(Debug)]
pub struct Datagram {
    from: SocketAddr,
    to: IpAddr,
    payload: Vec<u8>,
}

/// A datagram on its way out.
#[derive(Debug)]
pub struct Outgoing {
    socket: Arc<UdpSocket>,
    destination: SocketAddr,
    payload: Vec<u8>,
}

impl Outgoing {
    /// Sends it. A full socket buffer or an unreachable network is a lost datagram, which the machine expects.
    pub fn send(self) {
        if let Err(error) = self.socket.try_send_to(&self.payload, self.destination) {
            tracing::debug!(%error, destination = %self.destination, "a control message was not sent");
        }
    }
}

/// An xTR with its sockets.
#[derive(Debug)]
pub struct Shell {
    xtr: Xtr,
    sockets: BTreeMap<IpAddr, Bound>,
    arrivals: mpsc::Sender<Datagram>,
    nonce_file: PathBuf,
}

#[derive(Debug)]
struct Bound {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shell {
    /// An xTR that serves nothing yet, and where its datagrams come out.
    ///
    /// # Errors
    /// The state directory cannot be used, or the kernel gives no randomness.
    pub fn new(config: Config, state: &Path) -> io::Result<(Self, mpsc::Receiver<Datagram>)> {
        let nonce_file = state.join("nonce");
        let stored = match fs::read_to_string(&nonce_file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let message = format!(
                    "{} holds no number: the Map-Servers would refuse what we send",
                    nonce_file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| io::Error::other("no randomness from the kernel"))?;
        let (arrivals, receiver) = mpsc::channel(QUEUE);
        let xtr = Xtr::new(config, seed, Nonce(wall.max(stored)));
        Ok((
            Self {
                xtr,
                sockets: BTreeMap::new(),
                arrivals,
                nonce_file,
            },
            receiver,
        ))
    }

    /// Listens on these addresses and no others. Addresses that cannot be listened on come back with the reason.
    pub fn listen(&mut self, addresses: &[IpAddr]) -> Vec<(IpAddr, String)> {
        self.sockets.retain(|address, _| addresses.contains(address));
        let mut failed = Vec::new();
        for address in addresses {
            if self.sockets.contains_key(address) {
                continue;
            }
            match bind(*address) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let reader = tokio::spawn(read(Arc::clone(&socket), *address, self.arrivals.clone()));
                    self.sockets.insert(*address, Bound { socket, reader });
                }
                Err(error) => failed.push((*address, error.to_string())),
            }
        }
        failed
    }

    /// Gives the machine a command.
    pub fn command(&mut self, command: Command) {
        self.xtr.handle_command(Instant::now(), command);
    }

    /// Gives the machine a datagram.
    pub fn datagram(&mut self, datagram: &Datagram) {
        self.xtr
            .handle_datagram(Instant::now(), datagram.from, datagram.to, &datagram.payload);
    }

    /// Gives the machine a datagram that came inside the data plane.
    pub fn data_datagram(&mut self, from: SocketAddr, payload: &[u8]) {
        let to = self.sockets.keys().find(|address| address.is_ipv4() == from.is_ipv4());
        let Some(to) = to.copied() else { return };
        self.xtr.handle_datagram(Instant::now(), from, to, payload);
    }

    /// When [`Shell::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.xtr.poll_timeout().map(|(at, _)| at)
    }

    /// Tells the machine that time has come.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.deadline().is_some_and(|at| at <= now) {
            self.xtr.handle_timeout(now);
        }
    }

    /// What the machine has to say; to be taken before [`Shell::outgoing`]. Nonces are stored before they are used.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.xtr.poll_event() {
            match event {
                Event::NonceAdvanced(Nonce(nonce)) => {
                    if let Err(error) = store::replace(&self.nonce_file, nonce.to_string().as_bytes()) {
                        // A later start could then use a nonce twice, which the Map-Servers refuse.
                        tracing::error!(%error, file = %self.nonce_file.display(), "the nonce cannot be stored");
                    }
                }
                other => events.push(other),
            }
        }
        events
    }

    /// What the machine has to send.
    pub fn outgoing(&mut self) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        while let Some(transmit) = self.xtr.poll_transmit() {
            let family = transmit.destination.is_ipv4();
            let bound = transmit.source.and_then(|source| self.sockets.get(&source));
            let bound = bound.or_else(|| {
                self.sockets
                    .iter()
                    .find(|(ip, _)| ip.is_ipv4() == family)
                    .map(|(_, bound)| bound)
            });
            let Some(bound) = bound else { continue };
            outgoing.push(Outgoing {
                socket: Arc::clone(&bound.socket),
                destination: transmit.destination,
                payload: transmit.payload,
            });
        }
        outgoing
    }

    /// A picture of the machine.
    pub fn status(&self) -> Status {
        self.xtr.status(Instant::now())
    }
}

fn bind(address: IpAddr) -> io::Result<UdpSocket> {
    let at = SocketAddr::new(address, CONTROL_PORT);
    let socket = std::net::UdpSocket::bind(at).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message = format!("{at} is in use; a Map-Server on this machine needs an address of its own");
            io::Error::new(error.kind(), message)
        }
        _ => error,
    })?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn read(socket: Arc<UdpSocket>, to: IpAddr, arrivals: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let payload = buffer.get(..length).unwrap_or_default().to_vec();
                if arrivals.send(Datagram { from, to, payload }).await.is_err() {
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

/// The name of this xTR, made once.
///
/// # Errors
/// The state directory cannot be used.
pub fn xtr_id(state: &Path) -> io::Result<XtrId> {
    let file = state.join("xtr-id");
    if let Ok(bytes) = fs::read(&file)
        && let Ok(id) = <[u8; 16]>::try_from(bytes.as_slice())
    {
        return Ok(XtrId(id));
    }
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| io::Error::other("no randomness from the kernel"))?;
    store::replace(&file, &id)?;
    Ok(XtrId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            xtr_id: XtrId([7; 16]),
            site_id: lisp::SiteId(1),
            map_servers: Vec::new(),
            locators: Vec::new(),
            timers: xtr::Timers::default(),
            limits: xtr::Limits::default(),
            mesh: xtr::SealedMesh::default(),
        }
    }

    /// A Map-Server, a locator and something to register: the machine has to send a Map-Register with a nonce.
    fn busy() -> Config {
        let mut config = config();
        config.map_servers.push(xtr::MapServerPeer {
            address: "127.0.0.1:9".parse().expect("an address"),
            key_id: 1,
            secret: xtr::Secret::new("s3cret"),
            algorithm: lisp::wire::AuthAlgorithm::HmacSha256_128HkdfSha256,
            proxy_reply: false,
            want_map_notify: true,
        });
        config.locators.push(lisp::Locator::new(
            lisp::Rloc::new("127.0.0.1".parse().expect("an address")),
            1,
            100,
        ));
        config
    }

    fn stored(state: &Path) -> Option<u64> {
        fs::read_to_string(state.join("nonce"))
            .ok()
            .map(|text| text.parse().expect("a number"))
    }

    #[test]
    fn nonces_are_stored_before_they_are_used_and_never_used_again() {
        let state = tempfile::tempdir().expect("a directory");
        let register = |shell: &mut Shell| {
            shell.command(Command::Configure(busy()));
            let prefix = "[7]fd07::1/128".parse().expect("a prefix");
            shell.command(Command::SetDatabase(vec![xtr::DatabaseMapping::new(prefix)]));
            // No socket listens, so that nothing leaves; what matters is on the disk by then.
            shell.events();
            assert!(shell.outgoing().is_empty());
        };
        let (mut shell, _datagrams) = Shell::new(config(), state.path()).expect("a shell");
        register(&mut shell);
        let first = stored(state.path()).expect("a nonce is stored");
        // The clock went back a century.
        let far = first + 3_000_000_000_000_000_000;
        store::replace(&state.path().join("nonce"), far.to_string().as_bytes()).expect("written");
        let (mut shell, _datagrams) = Shell::new(config(), state.path()).expect("a shell");
        register(&mut shell);
        assert!(stored(state.path()) > Some(far));
    }

    #[test]
    fn a_broken_nonce_file_is_an_error_with_its_name() {
        let state = tempfile::tempdir().expect("a directory");
        fs::write(state.path().join("nonce"), "seven").expect("written");
        let error = Shell::new(config(), state.path()).expect_err("broken").to_string();
        assert!(error.contains("nonce") && error.contains("no number"), "{error}");
    }

    #[test]
    fn the_name_of_the_xtr_stays() {
        let state = tempfile::tempdir().expect("a directory");
        let first = xtr_id(state.path()).expect("made");
        assert_eq!(xtr_id(state.path()).expect("kept"), first);
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(xtr_id(other.path()).expect("made"), first);
    }
}
