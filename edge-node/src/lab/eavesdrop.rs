//! Somebody on the underlay who sees every packet: what is there for him to read?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use etherparse::{SlicedPacket, TransportSlice};
use lisp::{
    CONTROL_PORT, DATA_PORT,
    wire::{DataHeader, Message},
};
use pnet::datalink::{self, Channel, Config};

use super::{LabError, Namespace, Result};

/// Longest packet: the kernel hands over what it would segment later.
const LONGEST: usize = 1 << 17;
/// Bytes that the kernel may hold back for a slow reader.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// A reader of everything that passes an interface.
#[derive(Debug)]
pub struct Eavesdropper {
    stop: Arc<AtomicBool>,
    reader: thread::JoinHandle<Result<Overheard>>,
}

/// What was there to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overheard {
    /// Data packets (UDP 4341); one that the kernel would segment later counts once.
    pub data_packets: u64,
    /// Bytes of them behind the UDP header.
    pub data_bytes: u64,
    /// Of those, sealed: with a key-id in the LISP header.
    pub sealed: u64,
    /// What was searched for and found in a data packet, by its name.
    pub found: BTreeMap<String, u64>,
    /// Control messages in clear (UDP 4342), by their name.
    pub control: BTreeMap<String, u64>,
    /// Other packets.
    pub others: u64,
}

impl Eavesdropper {
    /// Begins to read what passes `interface`, and to search data packets for the bytes of `needles`, each with a name.
    ///
    /// # Errors
    /// When the interface cannot be read.
    pub fn start(namespace: &Namespace, interface: &str, needles: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let name = interface.to_owned();
        let receiver = namespace.within(move || {
            let found = datalink::interfaces().into_iter().find(|found| found.name == name);
            let found = found.ok_or_else(|| LabError::unexpected(format!("there is no interface {name}")))?;
            let config = Config {
                read_buffer_size: LONGEST,
                read_timeout: Some(READ_TIMEOUT),
                ..Config::default()
            };
            match datalink::channel(&found, config) {
                Ok(Channel::Ethernet(_, receiver)) => Ok(receiver),
                Ok(_) => Err(LabError::unexpected(format!("{name} is no Ethernet"))),
                Err(error) => Err(LabError::unexpected(format!("{name} cannot be read: {error}"))),
            }
        })?;
        let mut receiver = receiver?;
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut overheard = Overheard::default();
                loop {
                    match receiver.next() {
                        Ok(frame) => overheard.read(frame, &needles),
                        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                            // Nothing more is under way.
                            if stop.load(Ordering::Relaxed) {
                                return Ok(overheard);
                            }
                        }
                        Err(error) => return Err(LabError::unexpected(format!("reading packets: {error}"))),
                    }
                }
            })
        };
        Ok(Self { stop, reader })
    }

    /// Ends; what was there to read.
    ///
    /// # Errors
    /// When reading failed.
    pub fn stop(self) -> Result<Overheard> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.reader.join();
        joined.map_err(|_| LabError::unexpected("the reading thread panicked"))?
    }
}

impl Overheard {
    fn read(&mut self, frame: &[u8], needles: &[(String, Vec<u8>)]) {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            self.others += 1;
            return;
        };
        let Some(TransportSlice::Udp(udp)) = packet.transport else {
            self.others += 1;
            return;
        };
        let payload = udp.payload();
        match (udp.source_port(), udp.destination_port()) {
            (_, DATA_PORT) => self.data(payload, needles),
            (CONTROL_PORT, _) | (_, CONTROL_PORT) => self.control(payload),
            _ => self.others += 1,
        }
    }

    fn data(&mut self, payload: &[u8], needles: &[(String, Vec<u8>)]) {
        self.data_packets += 1;
        self.data_bytes += payload.len() as u64;
        let header = payload
            .first_chunk()
            .and_then(|header: &[u8; DataHeader::LEN]| DataHeader::decode(header).ok());
        self.sealed += u64::from(header.is_some_and(|header| header.key_id.0 != 0));
        for (name, needle) in needles {
            let times = payload.windows(needle.len()).filter(|window| window == needle).count();
            if times > 0 {
                *self.found.entry(name.clone()).or_default() += times as u64;
            }
        }
    }

    fn control(&mut self, payload: &[u8]) {
        let name = match Message::decode(payload) {
            Ok(Message::Ecm(ecm)) => match Message::decode(&ecm.payload) {
                Ok(inner) => format!("encapsulated {}", name(&inner)),
                Err(_) => "unreadable".to_owned(),
            },
            Ok(message) => name(&message).to_owned(),
            Err(_) => "unreadable".to_owned(),
        };
        *self.control.entry(name).or_default() += 1;
    }

    /// The names of what was found, sorted.
    #[must_use]
    pub fn names_found(&self) -> BTreeSet<&str> {
        self.found.keys().map(String::as_str).collect()
    }
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::MapRequest(request) if request.smr => "SMR",
        Message::MapRequest(request) if request.probe => "Map-Request to a locator",
        Message::MapRequest(_) => "Map-Request",
        Message::MapReply(_) => "Map-Reply",
        Message::MapRegister(_) => "Map-Register",
        Message::MapNotify(_) => "Map-Notify",
        Message::MapNotifyAck(_) => "Map-Notify-Ack",
        _ => "another message",
    }
}
