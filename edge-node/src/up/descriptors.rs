//! Descriptors of what the packet path works with. Control opens them and keeps them all, so that another packet path
//! can have them: TAPs, AF_PACKET sockets, the uplinks' UDP sockets, the local exit's TUN.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use dataplane::{
    control::{Attachment, Change, Held, Hello, PortId, UplinkConfig, UplinkId},
    port::uplink_sockets::{interface_of, open_uplink},
};
use rtnetlink::Handle;

use super::{desired::Desired, exit::Exit, interfaces, names, packets::Carried, uplinks::Interfaces};
use crate::intent::{Attach, Intent};

/// All of them.
#[derive(Debug)]
pub struct Descriptors {
    ports: BTreeMap<PortId, Port>,
    uplinks: BTreeMap<UplinkId, Uplink>,
    exit: Exit,
}

#[derive(Debug)]
struct Port {
    fd: OwnedFd,
    /// How it was attached; unknown when it was taken over from a packet path that ran before us.
    attach: Option<Attach>,
    /// Index of the veth that it is tied to; none for a TAP.
    index: Option<u32>,
}

#[derive(Debug)]
struct Uplink {
    /// Index of the interface that its sockets are tied to.
    index: u32,
    source_ports: u8,
    sockets: BTreeMap<IpAddr, Sockets>,
}

/// Sockets of one RLOC.
#[derive(Debug)]
struct Sockets {
    receiving: OwnedFd,
    sending: Vec<OwnedFd>,
}

impl Sockets {
    fn open(address: IpAddr, source_ports: u8, interface: &str) -> io::Result<Self> {
        let mut all = open_uplink(&[address], source_ports, Some(interface))?.into_iter();
        let receiving = all.next().ok_or_else(|| io::Error::other("no socket was opened"))?;
        Ok(Self {
            receiving,
            sending: all.collect(),
        })
    }
}

impl Descriptors {
    /// None yet.
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            ports: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            exit: Exit::new(runtime_dir),
        }
    }

    /// Closes all of them, and takes back what was done to the host for them.
    pub fn end(&mut self) {
        self.ports.clear();
        self.uplinks.clear();
        self.exit.close();
    }

    /// Takes back what a running packet path holds, as far as it is not here already.
    pub fn adopt(&mut self, hello: &Hello, held: Vec<(Held, Vec<OwnedFd>)>, interfaces: &Interfaces) {
        for (what, mut descriptors) in held {
            match what {
                Held::Port(id) => {
                    if let Some(fd) = descriptors.pop() {
                        let config = hello.ports.iter().find(|port| port.id == id);
                        let index = config.and_then(|port| match &port.attachment {
                            Attachment::Packet { interface, .. } => {
                                interfaces.get(interface).map(|interface| interface.index)
                            }
                            _ => None,
                        });
                        self.ports.entry(id).or_insert(Port {
                            fd,
                            attach: None,
                            index,
                        });
                    }
                }
                Held::Uplink(id) => {
                    let Some(config) = hello.uplinks.iter().find(|uplink| uplink.id == id) else {
                        continue;
                    };
                    if let Some(uplink) = Uplink::sorted(config, descriptors) {
                        self.uplinks.entry(id).or_insert(uplink);
                    }
                }
                Held::LocalExit => self.exit.adopt(descriptors.pop()),
            }
        }
    }

    /// Changes with the descriptors that they carry.
    pub fn carry(&self, changes: Vec<Change>) -> Vec<Carried> {
        changes
            .into_iter()
            .map(|change| {
                let descriptors = self.of(&change);
                (change, descriptors)
            })
            .collect()
    }

    fn of(&self, change: &Change) -> Vec<OwnedFd> {
        let borrowed: Vec<&OwnedFd> = match change {
            Change::PutPort(port) => self.ports.get(&port.id).map(|port| &port.fd).into_iter().collect(),
            Change::PutUplink(config) => self
                .uplinks
                .get(&config.id)
                .map(|uplink| uplink.ordered(config))
                .unwrap_or_default(),
            Change::PutLocalExit(_) => self.exit.tun().into_iter().collect(),
            _ => Vec::new(),
        };
        borrowed.into_iter().filter_map(|fd| fd.try_clone().ok()).collect()
    }

    /// What has to be closed, here and in the packet path, before `desired` can be opened: what goes, and what holds a
    /// name or an address that is to be opened anew.
    pub fn stale(&self, intent: &Intent, desired: &Desired, interfaces: &Interfaces) -> Vec<Change> {
        let mut stale = Vec::new();
        let attach = |id: &PortId| {
            let mut nics = intent
                .guests
                .iter()
                .flat_map(|(guest, spec)| spec.nics.iter().map(move |nic| (guest, nic)));
            nics.find(|(guest, nic)| names::port(guest, &nic.name) == *id)
                .map(|(_, nic)| &nic.attach)
        };
        for (id, port) in &self.ports {
            let wanted = attach(id);
            let same = port.attach.is_none() || port.attach.as_ref() == wanted;
            let there = match wanted {
                Some(Attach::Veth { interface }) => {
                    interfaces.get(interface).map(|interface| interface.index) == port.index
                }
                _ => true,
            };
            if !desired.ports.contains_key(id) || !same || !there {
                stale.push(Change::RemovePort(*id));
            }
        }
        for (id, uplink) in &self.uplinks {
            let wanted = desired.uplinks.get(id);
            let same = wanted.is_some_and(|config| {
                let index = interfaces.get(&config.name).map_or(0, |interface| interface.index);
                config.source_ports == uplink.source_ports && index == uplink.index
            });
            let elsewhere = |address: &IpAddr| {
                desired
                    .uplinks
                    .values()
                    .any(|other| other.id != *id && other.addresses.contains(address))
            };
            if !same || uplink.sockets.keys().any(elsewhere) {
                stale.push(Change::RemoveUplink(*id));
            }
        }
        if desired.exit.is_none() && self.exit.tun().is_some() {
            stale.push(Change::RemoveLocalExit);
        }
        stale
    }

    /// Closes what [`Descriptors::stale`] named.
    pub fn close(&mut self, stale: &[Change]) {
        for change in stale {
            match change {
                Change::RemovePort(id) => drop(self.ports.remove(id)),
                Change::RemoveUplink(id) => drop(self.uplinks.remove(id)),
                Change::RemoveLocalExit => self.exit.close(),
                _ => {}
            }
        }
    }

    /// The interface behind a port is gone.
    pub fn port_failed(&mut self, id: PortId) {
        self.ports.remove(&id);
    }

    /// An uplink's socket does not work any more.
    pub fn uplink_failed(&mut self, id: UplinkId) {
        self.uplinks.remove(&id);
    }

    /// Opens what `desired` needs and is not open. What cannot be opened is left out of `desired` and told about.
    pub async fn open(
        &mut self,
        handle: &Handle,
        intent: &Intent,
        interfaces: &Interfaces,
        resolvers: &[SocketAddr],
        desired: &mut Desired,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        self.open_uplinks(interfaces, desired, &mut failures);
        self.open_ports(handle, intent, desired, &mut failures).await;
        if desired.exit.is_some() {
            let uplinks = intent
                .node
                .iter()
                .flat_map(|node| &node.uplinks)
                .map(|uplink| uplink.interface.as_str());
            if let Err(reason) = self.exit.open(handle, uplinks, resolvers).await {
                failures.push(format!("local networks: {reason}"));
                desired.exit = None;
            }
        }
        failures
    }

    async fn open_ports(
        &mut self,
        handle: &Handle,
        intent: &Intent,
        desired: &mut Desired,
        failures: &mut Vec<String>,
    ) {
        for (guest, spec) in &intent.guests {
            for nic in &spec.nics {
                let id = names::port(guest, &nic.name);
                let Some(port) = desired.ports.get(&id) else { continue };
                if let Some(open) = self.ports.get_mut(&id) {
                    open.attach = Some(nic.attach.clone());
                    continue;
                }
                match interfaces::open(handle, nic, port.gateway.mtu).await {
                    Ok((fd, index)) => {
                        let attach = Some(nic.attach.clone());
                        self.ports.insert(id, Port { fd, attach, index });
                    }
                    Err(reason) => {
                        failures.push(format!("Guest/{guest}, NIC `{}`: {reason}", nic.name));
                        desired.ports.remove(&id);
                    }
                }
            }
        }
    }

    /// Addresses that were there before keep their sockets: a new one disturbs no traffic of the others.
    fn open_uplinks(&mut self, interfaces: &Interfaces, desired: &mut Desired, failures: &mut Vec<String>) {
        for (id, config) in &mut desired.uplinks {
            let index = interfaces.get(&config.name).map_or(0, |interface| interface.index);
            let uplink = self.uplinks.entry(*id).or_insert_with(|| Uplink {
                index,
                source_ports: config.source_ports,
                sockets: BTreeMap::new(),
            });
            uplink.sockets.retain(|address, _| config.addresses.contains(address));
            config.addresses.retain(|address| {
                if uplink.sockets.contains_key(address) {
                    return true;
                }
                match Sockets::open(*address, config.source_ports, &config.name) {
                    Ok(sockets) => {
                        uplink.sockets.insert(*address, sockets);
                        true
                    }
                    Err(error) => {
                        failures.push(format!(
                            "uplink `{}`: RLOC {address} cannot be used: {error}",
                            config.name
                        ));
                        false
                    }
                }
            });
        }
        desired.uplinks.retain(|id, config| {
            let usable = !config.addresses.is_empty();
            if !usable {
                self.uplinks.remove(id);
            }
            usable
        });
    }
}

impl Uplink {
    /// From sockets in the order that [`UplinkConfig`] describes.
    fn sorted(config: &UplinkConfig, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let senders = usize::from(config.source_ports);
        if descriptors.len() != config.addresses.len().checked_mul(senders.checked_add(1)?)? {
            return None;
        }
        let mut all = descriptors.into_iter();
        let receiving: Vec<OwnedFd> = all.by_ref().take(config.addresses.len()).collect();
        let mut sockets = BTreeMap::new();
        for (address, receiving) in config.addresses.iter().zip(receiving) {
            let sending = all.by_ref().take(senders).collect();
            sockets.insert(*address, Sockets { receiving, sending });
        }
        Some(Self {
            index: tied_to(&sockets),
            source_ports: config.source_ports,
            sockets,
        })
    }

    /// In the order that [`UplinkConfig`] describes.
    fn ordered(&self, config: &UplinkConfig) -> Vec<&OwnedFd> {
        let sockets = || config.addresses.iter().filter_map(|address| self.sockets.get(address));
        let receiving = sockets().map(|sockets| &sockets.receiving);
        receiving
            .chain(sockets().flat_map(|sockets| &sockets.sending))
            .collect()
    }
}

/// Index of the interface that all of these sockets are tied to: they say so themselves, since another interface may
/// have their name by now. 0, which no interface has, when they are not of one mind.
fn tied_to(sockets: &BTreeMap<IpAddr, Sockets>) -> u32 {
    let mut indices = sockets.iter().flat_map(|(address, sockets)| {
        let all = std::iter::once(&sockets.receiving).chain(&sockets.sending);
        all.map(|socket| interface_of(socket.as_fd(), *address).unwrap_or(0))
    });
    let first = indices.next().unwrap_or(0);
    if indices.all(|index| index == first) { first } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("/dev/null").into()
    }

    fn raw(fds: &[&OwnedFd]) -> Vec<i32> {
        fds.iter().map(|fd| std::os::fd::AsRawFd::as_raw_fd(*fd)).collect()
    }

    fn config(addresses: &[&str], source_ports: u8) -> UplinkConfig {
        UplinkConfig {
            id: UplinkId(1),
            name: "wan0".into(),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            source_ports,
            mtu: 1500,
        }
    }

    #[test]
    fn sockets_keep_the_order_of_the_contract() {
        let config = config(&["192.0.2.1", "2001:db8::1"], 2);
        let fds: Vec<OwnedFd> = (0..6).map(|_| null()).collect();
        let order = raw(&fds.iter().collect::<Vec<_>>());
        let uplink = Uplink::sorted(&config, fds).expect("six sockets");
        assert_eq!(raw(&uplink.ordered(&config)), order);
    }

    #[test]
    fn a_wrong_number_of_sockets_is_not_taken_over() {
        assert!(Uplink::sorted(&config(&["192.0.2.1"], 2), vec![null()]).is_none());
        assert!(Uplink::sorted(&config(&["192.0.2.1"], 0), vec![null()]).is_some());
    }

    #[test]
    fn what_an_uplink_does_not_need_any_more_is_left_out() {
        let both = config(&["192.0.2.1", "2001:db8::1"], 0);
        let uplink = Uplink::sorted(&both, vec![null(), null()]).expect("two sockets");
        assert_eq!(uplink.ordered(&config(&["2001:db8::1"], 0)).len(), 1);
    }

    #[test]
    fn an_interface_that_was_made_anew_needs_new_sockets() {
        let wan = config(&["192.0.2.1"], 0);
        let mut descriptors = Descriptors::new(Path::new("/nonexistent"));
        let mut uplink = Uplink::sorted(&wan, vec![null()]).expect("one socket");
        uplink.index = 3;
        descriptors.uplinks.insert(wan.id, uplink);
        let mut desired = Desired::default();
        desired.uplinks.insert(wan.id, wan.clone());
        let interface = |index| {
            let interface = super::super::uplinks::Interface {
                index,
                mtu: 1500,
                running: true,
                addresses: wan.addresses.clone(),
            };
            Interfaces::from([("wan0".to_owned(), interface)])
        };
        let stale = |index| descriptors.stale(&Intent::default(), &desired, &interface(index));
        assert_eq!(stale(3), Vec::new());
        assert_eq!(stale(4), vec![Change::RemoveUplink(wan.id)]);
    }

    #[test]
    fn adopted_sockets_are_tied_to_what_they_say_and_not_to_what_has_the_name_now() {
        let loopback = UplinkConfig {
            name: "lo".into(),
            ..config(&["127.76.49.1"], 1)
        };
        // An address of the loopback block that no other test takes.
        let sockets = open_uplink(&loopback.addresses, 1, Some("lo")).expect("sockets on the loopback interface");
        let hello = Hello {
            pid: 1,
            version: String::new(),
            generation: dataplane::control::Generation(1),
            sequence: 0,
            ports: Vec::new(),
            uplinks: vec![loopback.clone()],
            local_exit: None,
            sas: Vec::new(),
        };
        let of = |index| {
            let interface = super::super::uplinks::Interface {
                index,
                mtu: 1500,
                running: true,
                addresses: loopback.addresses.clone(),
            };
            Interfaces::from([("lo".to_owned(), interface)])
        };
        let mut descriptors = Descriptors::new(Path::new("/nonexistent"));
        // The name has gone to an interface with another index before we came.
        descriptors.adopt(&hello, vec![(Held::Uplink(loopback.id), sockets)], &of(77));
        let mut desired = Desired::default();
        desired.uplinks.insert(loopback.id, loopback.clone());
        let stale = |index| descriptors.stale(&Intent::default(), &desired, &of(index));
        assert_eq!(stale(77), vec![Change::RemoveUplink(loopback.id)]);
        assert_eq!(stale(1), Vec::new(), "lo is number 1 in every namespace");
    }

    #[test]
    fn a_veth_that_is_gone_or_another_one_is_noticed() {
        let mut intent = Intent::default();
        let nic = crate::intent::Nic {
            name: "eth0".into(),
            network: "plant".into(),
            attach: Attach::Veth { interface: "vb".into() },
            mac: [2, 0, 0, 0, 0, 1],
            key: None,
            addresses: Vec::new(),
            routed: Vec::new(),
        };
        let guest = crate::intent::Guest {
            labels: BTreeMap::new(),
            nics: vec![nic.clone()],
        };
        intent.guests.insert("g".into(), guest);
        let network = crate::intent::Network {
            kind: crate::intent::NetworkKind::Local(crate::intent::Local {
                nat44: true,
                nat66: true,
            }),
            domain: "plant.weft".into(),
            names: BTreeMap::new(),
            mtu: None,
            ipv4: None,
        };
        intent.networks.insert("plant".into(), network);
        let desired = Desired::new(&intent, &Interfaces::new(), &[], &crate::policy::nothing_known);
        let id = names::port("g", "eth0");
        let mut descriptors = Descriptors::new(Path::new("/nonexistent"));
        let port = Port {
            fd: null(),
            attach: Some(nic.attach),
            index: Some(5),
        };
        descriptors.ports.insert(id, port);
        let stale = |interfaces: &Interfaces| descriptors.stale(&intent, &desired, interfaces);
        let veth = |index| {
            let interface = super::super::uplinks::Interface {
                index,
                mtu: 1500,
                running: true,
                addresses: Vec::new(),
            };
            Interfaces::from([("vb".to_owned(), interface)])
        };
        assert_eq!(stale(&veth(5)), Vec::new());
        assert_eq!(stale(&veth(6)), vec![Change::RemovePort(id)]);
        assert_eq!(stale(&Interfaces::new()), vec![Change::RemovePort(id)]);
    }
}
