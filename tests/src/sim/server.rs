//! The Map-Server under test, and its disk: what was committed survives `kill -9`, what was not is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use lisp::wire::AuthAlgorithm;
use lisp::{CONTROL_PORT, EidPrefix, InstanceId};
use mapserver::{
    MapServer, MapServerConfig, NonceKey, Registration, RegistrationKey, SealedInstance, Secret, Site, SiteKey,
    SitePrefix, WallMillis,
    store::{Changes, MemoryStore, Snapshot, Store, StoreError, Table, Upsert},
};

use super::{
    Datagram,
    world::{SERVER_V4, SERVER_V6},
};

/// Virtual wall time at the virtual start: well after 1970.
const WALL_AT_START: Duration = Duration::from_secs(1_800_000_000);

/// The machine and its disk.
pub struct Server {
    machine: MapServer,
    config: MapServerConfig,
    disk: Arc<Mutex<Disk>>,
    start: Instant,
}

/// What is on the disk.
#[derive(Debug, Default)]
struct Disk {
    registrations: BTreeMap<RegistrationKey, Registration>,
    nonces: BTreeMap<NonceKey, u64>,
}

/// A write that is not committed.
#[derive(Debug)]
enum Write {
    Put(RegistrationKey, Box<Registration>),
    Delete(RegistrationKey),
    Nonce(NonceKey, u64),
}

/// An engine with a disk of its own making: commits reach it, nothing else does.
#[derive(Debug)]
struct DiskStore {
    memory: MemoryStore,
    uncommitted: Vec<Write>,
    disk: Arc<Mutex<Disk>>,
}

impl Server {
    /// A Map-Server whose one site may register everything inside `space`.
    /// With `sealed`, registrations in those Instance-IDs carry bindings.
    pub fn new(
        now: Instant,
        seed: [u8; 32],
        space: &[EidPrefix],
        secret: &[u8],
        sealed: BTreeMap<InstanceId, SealedInstance>,
    ) -> Self {
        let prefixes = space
            .iter()
            .map(|prefix| SitePrefix {
                prefix: *prefix,
                accept_more_specifics: true,
            })
            .collect();
        let key = SiteKey {
            key_id: 1,
            secret: Secret::new(secret),
            algorithms: vec![AuthAlgorithm::HmacSha256_128],
        };
        let site = Site {
            name: "mesh".to_owned(),
            keys: vec![key],
            prefixes,
            allow_proxy_reply: true,
            force_proxy_reply: false,
        };
        let config = MapServerConfig {
            sites: vec![site],
            addresses: vec![SERVER_V4, SERVER_V6],
            sealed,
            ..MapServerConfig::default()
        };
        let disk = Arc::default();
        let machine = machine(&config, &disk, seed, now, now);
        Self {
            machine,
            config,
            disk,
            start: now,
        }
    }

    /// `kill -9` and a new start.
    pub fn restart(&mut self, now: Instant, seed: [u8; 32]) {
        self.machine = machine(&self.config, &self.disk, seed, now, self.start);
    }

    /// A datagram arrives.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &Datagram) {
        if datagram.to.port() == CONTROL_PORT {
            self.machine
                .handle_datagram(now, datagram.from, datagram.to.ip(), &datagram.payload);
        }
    }

    /// Its time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
    }

    /// When that is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().map(|(at, _)| at)
    }

    /// What it wants to send.
    pub fn drain(&mut self) -> Vec<Datagram> {
        while self.machine.poll_event().is_some() {}
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit() {
            let source = transmit.source.unwrap_or(if transmit.destination.is_ipv4() {
                SERVER_V4
            } else {
                SERVER_V6
            });
            datagrams.push(Datagram {
                from: SocketAddr::new(source, CONTROL_PORT),
                to: transmit.destination,
                payload: transmit.payload,
            });
        }
        datagrams
    }

    /// What is registered, and where.
    pub fn registered(&self, now: Instant) -> BTreeMap<EidPrefix, BTreeSet<IpAddr>> {
        let mut registered: BTreeMap<EidPrefix, BTreeSet<IpAddr>> = BTreeMap::new();
        for one in self
            .machine
            .registrations(now)
            .into_iter()
            .filter(|one| !one.superseded)
        {
            let addresses = one.record.locators.iter().filter_map(|locator| locator.rloc.ip());
            registered.entry(one.prefix).or_default().extend(addresses);
        }
        registered
    }

    /// Its counters, for messages.
    pub fn counters(&self) -> mapserver::Counters {
        *self.machine.counters()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("counters", self.machine.counters())
            .finish_non_exhaustive()
    }
}

/// A machine over what the disk holds.
fn machine(
    config: &MapServerConfig,
    disk: &Arc<Mutex<Disk>>,
    seed: [u8; 32],
    now: Instant,
    start: Instant,
) -> MapServer {
    let mut memory = MemoryStore::default();
    let held = lock(disk);
    for (key, registration) in &held.registrations {
        memory
            .upsert_if_newer(*key, registration.clone())
            .expect("memory does not fail");
    }
    for (key, nonce) in &held.nonces {
        memory.raise_nonce(*key, *nonce).expect("memory does not fail");
    }
    drop(held);
    let store = DiskStore {
        memory,
        uncommitted: Vec::new(),
        disk: Arc::clone(disk),
    };
    let wall = SystemTime::UNIX_EPOCH + WALL_AT_START + (now - start);
    MapServer::new(config.clone(), Box::new(store), seed, now, wall).expect("a valid configuration")
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for DiskStore {
    fn table(&self) -> &Table {
        self.memory.table()
    }

    fn upsert_if_newer(&mut self, key: RegistrationKey, registration: Registration) -> Result<Upsert, StoreError> {
        let outcome = self.memory.upsert_if_newer(key, registration.clone())?;
        if outcome == Upsert::Stored {
            self.uncommitted.push(Write::Put(key, Box::new(registration)));
        }
        Ok(outcome)
    }

    fn delete(&mut self, key: &RegistrationKey) -> Result<bool, StoreError> {
        self.uncommitted.push(Write::Delete(*key));
        self.memory.delete(key)
    }

    fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> Result<bool, StoreError> {
        let raised = self.memory.raise_nonce(key, nonce)?;
        if raised {
            self.uncommitted.push(Write::Nonce(key, nonce));
        }
        Ok(raised)
    }

    fn sweep(&mut self, now: WallMillis) -> Vec<RegistrationKey> {
        self.memory.sweep(now)
    }

    fn snapshot(&self) -> Snapshot {
        self.memory.snapshot()
    }

    fn changes_since(&self, sequence: u64) -> Changes {
        self.memory.changes_since(sequence)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.memory.commit()?;
        let mut disk = lock(&self.disk);
        for write in self.uncommitted.drain(..) {
            match write {
                Write::Put(key, registration) => {
                    disk.registrations.insert(key, *registration);
                }
                Write::Delete(key) => {
                    disk.registrations.remove(&key);
                }
                Write::Nonce(key, nonce) => {
                    disk.nonces.insert(key, nonce);
                }
            }
        }
        Ok(())
    }
}
