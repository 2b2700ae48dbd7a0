//! The underlay by UDP sockets: runs of datagrams in by `UDP_GRO`, out by `UDP_SEGMENT`.
//!
//! Each of our RLOCs has one receiving socket on port 4341 and some sending sockets on other ports, so that the
//! outer source port tells flows apart (RFC 9300, section 5.3: "a source port … computed from a hash of the inner
//! 5-tuple"). A flow keeps to one socket.
//!
//! Linux computes the UDP checksum: it refuses `UDP_SEGMENT` on sockets that send zero, which RFC 9300 (section 5.3)
//! would rather see, and a checksum left to the device costs nothing.
//!
//! A kernel without `UDP_GRO` gives runs of one datagram. One without `UDP_SEGMENT`, or a route over a device that
//! cannot do without checksum offload, fails the first send: that run, and on some errors all later ones, leave by
//! `sendmmsg`, a datagram each.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{TooSmall, UplinkPort};
use crate::{
    buffer::{DatagramRun, Pool},
    control::UplinkConfig,
    sys::mmsg,
};

/// Bytes of an outer IPv4 header and UDP.
const OUTER_V4: usize = 20 + 8;
/// Bytes of an outer IPv6 header and UDP.
const OUTER_V6: usize = 40 + 8;

/// Runs that may wait for room in a socket; each may be 64 KiB.
const WAITING: usize = 128;

/// Sockets of one uplink, opened by [`super::uplink_sockets::open_uplink`].
#[derive(Debug)]
pub struct UdpUplink {
    config: UplinkConfig,
    rlocs: Vec<OwnRloc>,
    segmentation: bool,
    /// Runs that wait for room, oldest first.
    waiting: Vec<DatagramRun>,
    /// Datagrams of the first waiting run that have left already.
    partial: usize,
    blocked: Option<Door>,
    failed: u64,
}

/// One of our own RLOCs.
#[derive(Debug)]
struct OwnRloc {
    address: IpAddr,
    receive: OwnedFd,
    send: Vec<OwnedFd>,
}

/// A socket by its place: own RLOC, and which of its sending sockets (none: the receiving one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Door {
    rloc: usize,
    sender: Option<usize>,
}

/// What became of a try to send.
enum Progress {
    /// So many runs are done with.
    Runs(usize),
    /// No room in this socket.
    Blocked(Door),
}

impl UdpUplink {
    /// Takes the sockets over, in the order that [`UplinkConfig`] describes.
    ///
    /// # Errors
    /// Too few or too many sockets for `config`.
    pub fn new(config: UplinkConfig, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let expected = sockets_of(&config);
        if sockets.len() != expected {
            let (name, got) = (&config.name, sockets.len());
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("uplink {name} needs {expected} sockets, {got} came"),
            ));
        }
        let mut sockets = sockets.into_iter();
        let mut rlocs: Vec<OwnRloc> = config
            .addresses
            .iter()
            .zip(sockets.by_ref())
            .map(|(&address, receive)| OwnRloc {
                address,
                receive,
                send: Vec::new(),
            })
            .collect();
        for rloc in &mut rlocs {
            rloc.send
                .extend(sockets.by_ref().take(usize::from(config.source_ports)));
        }
        Ok(Self {
            config,
            rlocs,
            segmentation: true,
            waiting: Vec::new(),
            partial: 0,
            blocked: None,
            failed: 0,
        })
    }

    /// What it was opened as.
    pub fn config(&self) -> &UplinkConfig {
        &self.config
    }

    /// Says what else is known of it now; `config` must need the same sockets.
    pub fn set_config(&mut self, config: UplinkConfig) {
        self.config = config;
    }

    /// All sockets, in the order in which [`UdpUplink::new`] took them.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let receive = self.rlocs.iter().map(|rloc| rloc.receive.as_fd());
        let send = self.rlocs.iter().flat_map(|rloc| rloc.send.iter().map(AsFd::as_fd));
        receive.chain(send).collect()
    }

    /// Whether sends may hold several datagrams (`UDP_SEGMENT` has not failed yet).
    pub fn has_segmentation(&self) -> bool {
        self.segmentation
    }

    fn door(&self, run: &DatagramRun) -> Option<Door> {
        let rloc = self
            .rlocs
            .iter()
            .position(|rloc| rloc.address == run.local && rloc.address.is_ipv4() == run.remote.is_ipv4())?;
        let senders = self.rlocs.get(rloc)?.send.len();
        let sender = (run.flow_hash as usize).checked_rem(senders).filter(|_| !run.data_port);
        Some(Door { rloc, sender })
    }

    fn socket(&self, door: Door) -> Option<BorrowedFd<'_>> {
        let rloc = self.rlocs.get(door.rloc)?;
        match door.sender {
            Some(sender) => rloc.send.get(sender).map(AsFd::as_fd),
            None => Some(rloc.receive.as_fd()),
        }
    }

    /// Sends what it can of the runs from `first` on that share a socket with the first.
    fn send_some(&mut self, first: usize, sent: &mut usize, too_small: &mut Vec<TooSmall>) -> Progress {
        let Some(run) = self.waiting.get(first) else {
            return Progress::Runs(0);
        };
        if run.is_empty() {
            return Progress::Runs(1);
        }
        let Some(door) = self.door(run) else {
            self.failed += run.count() as u64;
            return Progress::Runs(1);
        };
        if self.partial > 0 || (run.count() > 1 && !self.segmentation) {
            return self.send_singly(first, door, sent, too_small);
        }
        let together = self.waiting[first..]
            .iter()
            .take(mmsg::BATCH)
            .take_while(|run| {
                !run.is_empty() && (self.segmentation || run.count() <= 1) && self.door(run) == Some(door)
            })
            .count();
        let (Some(socket), Some(runs)) = (self.socket(door), self.waiting.get(first..first + together)) else {
            return Progress::Runs(1);
        };
        match mmsg::send(socket, runs) {
            Ok(count) => {
                *sent += runs.iter().take(count).map(DatagramRun::count).sum::<usize>();
                Progress::Runs(count.max(1))
            }
            Err(error) => self.refused(first, door, &error, sent, too_small),
        }
    }

    /// The kernel refused the run at `first` as a whole.
    fn refused(
        &mut self,
        first: usize,
        door: Door,
        error: &io::Error,
        sent: &mut usize,
        too_small: &mut Vec<TooSmall>,
    ) -> Progress {
        let Some(run) = self.waiting.get(first) else {
            return Progress::Runs(1);
        };
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Progress::Blocked(door),
            Some(libc::EINTR) => Progress::Runs(0),
            // A device without checksum offload, or a kernel that does not know UDP_SEGMENT: never again.
            Some(libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP) if run.count() > 1 => {
                self.segmentation = false;
                Progress::Runs(0)
            }
            // Some kernels say EINVAL when a segment is larger than the path allows: single datagrams tell.
            Some(libc::EINVAL | libc::EMSGSIZE) if run.count() > 1 => self.send_singly(first, door, sent, too_small),
            Some(libc::EMSGSIZE) => {
                too_small.push(refused_size(run, run.len()));
                Progress::Runs(1)
            }
            _ => {
                self.failed += run.count() as u64;
                Progress::Runs(1)
            }
        }
    }

    fn send_singly(&mut self, first: usize, door: Door, sent: &mut usize, too_small: &mut Vec<TooSmall>) -> Progress {
        let Some(run) = self.waiting.get(first) else {
            return Progress::Runs(1);
        };
        let mut refused = None;
        while self.partial < run.count() {
            let Some(socket) = self.socket(door) else { break };
            match mmsg::send_singly(socket, run, self.partial) {
                Ok(count) => {
                    self.partial += count.max(1);
                    *sent += count;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Progress::Blocked(door),
                    Some(libc::EINTR) => {}
                    Some(libc::EMSGSIZE) => {
                        // The last may be shorter than the others, and then it may fit.
                        let left = run.len().saturating_sub(self.partial * run.stride);
                        refused = refused.or(Some(refused_size(run, left.min(run.stride))));
                        self.partial += 1;
                    }
                    _ => {
                        self.failed += 1;
                        self.partial += 1;
                    }
                },
            }
        }
        too_small.extend(refused);
        self.partial = 0;
        Progress::Runs(1)
    }

    /// Lets the new runs wait behind the others; drops what is beyond [`WAITING`].
    fn queue(&mut self, pool: &mut Pool, runs: &mut Vec<DatagramRun>) {
        let room = if self.waiting.is_empty() {
            runs.len()
        } else {
            WAITING.saturating_sub(self.waiting.len())
        };
        for run in runs.drain(room.min(runs.len())..) {
            self.failed += run.count() as u64;
            pool.recycle_run(run);
        }
        self.waiting.append(runs);
    }

    fn recycle_front(&mut self, pool: &mut Pool, count: usize) {
        for run in self.waiting.drain(..count.min(self.waiting.len())) {
            pool.recycle_run(run);
        }
    }
}

/// How many sockets an uplink has.
pub fn sockets_of(config: &UplinkConfig) -> usize {
    config.addresses.len() * (1 + usize::from(config.source_ports))
}

fn refused_size(run: &DatagramRun, payload: usize) -> TooSmall {
    let outer = if run.remote.is_ipv4() { OUTER_V4 } else { OUTER_V6 };
    TooSmall {
        remote: run.remote,
        size: u32::try_from(payload + outer).unwrap_or(u32::MAX),
    }
}

impl UplinkPort for UdpUplink {
    fn rx_burst(&mut self, pool: &mut Pool, runs: &mut Vec<DatagramRun>, limit: usize) -> io::Result<()> {
        let mut gone = Ok(());
        for rloc in &self.rlocs {
            let mut left = limit;
            while left > 0 {
                let start = runs.len();
                let asked = left.min(mmsg::BATCH);
                runs.extend((0..asked).map(|_| pool.run()));
                let fresh = runs.get_mut(start..).unwrap_or_default();
                let received = match mmsg::receive(rloc.receive.as_fd(), fresh) {
                    Ok(received) => received,
                    Err(error) => {
                        match error.raw_os_error() {
                            Some(libc::EAGAIN | libc::EINTR) => {}
                            Some(libc::EBADF | libc::ENOTSOCK) => gone = Err(error),
                            // What the network reported is not the socket's end, and asking has cleared it.
                            _ => self.failed += 1,
                        }
                        0
                    }
                };
                for run in runs.drain(start + received..) {
                    pool.recycle_run(run);
                }
                let mut index = start;
                while let Some(run) = runs.get_mut(index) {
                    if run.is_empty() {
                        self.failed += 1;
                        pool.recycle_run(runs.remove(index));
                    } else {
                        run.uplink = self.config.id;
                        run.local = rloc.address;
                        index += 1;
                    }
                }
                left -= received;
                if received < asked {
                    break;
                }
            }
        }
        gone
    }

    fn tx_burst(
        &mut self,
        pool: &mut Pool,
        runs: &mut Vec<DatagramRun>,
        too_small: &mut Vec<TooSmall>,
    ) -> io::Result<usize> {
        self.queue(pool, runs);
        self.blocked = None;
        let mut done = 0;
        let mut sent = 0;
        while done < self.waiting.len() {
            match self.send_some(done, &mut sent, too_small) {
                Progress::Runs(count) => done += count,
                Progress::Blocked(door) => {
                    self.blocked = Some(door);
                    break;
                }
            }
        }
        self.recycle_front(pool, done);
        Ok(sent)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.rlocs.iter().map(|rloc| rloc.receive.as_fd()).collect()
    }

    fn blocked(&self) -> Option<BorrowedFd<'_>> {
        self.blocked.and_then(|door| self.socket(door))
    }

    fn abandon(&mut self, pool: &mut Pool) -> usize {
        let dropped = self
            .waiting
            .iter()
            .map(DatagramRun::count)
            .sum::<usize>()
            .saturating_sub(self.partial);
        self.partial = 0;
        self.blocked = None;
        self.recycle_front(pool, self.waiting.len());
        dropped
    }

    fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot open a socket fails")]
mod tests {
    use super::*;
    use crate::{control::UplinkId, port::uplink_sockets::open_uplink};

    /// An uplink on a loopback address of its own.
    fn uplink(address: &str, source_ports: u8) -> UdpUplink {
        let address: IpAddr = address.parse().unwrap();
        let sockets = open_uplink(&[address], source_ports, None).unwrap();
        let config = UplinkConfig {
            id: UplinkId(3),
            name: "lo".into(),
            addresses: vec![address],
            source_ports,
            mtu: 65_536,
        };
        UdpUplink::new(config, sockets).unwrap()
    }

    fn run(from: &UdpUplink, to: &UdpUplink, stride: usize, length: usize, fill: u8) -> DatagramRun {
        let mut run = DatagramRun::new();
        run.room_mut()[..length].fill(fill);
        run.set_len(length);
        run.stride = stride;
        run.local = from.config.addresses[0];
        run.remote = (to.config.addresses[0], 4341).into();
        run
    }

    fn send(from: &mut UdpUplink, runs: Vec<DatagramRun>) -> usize {
        let mut too_small = Vec::new();
        let sent = from
            .tx_burst(&mut Pool::default(), &mut { runs }, &mut too_small)
            .unwrap();
        assert!(too_small.is_empty() && from.blocked().is_none());
        sent
    }

    fn received(by: &mut UdpUplink) -> Vec<DatagramRun> {
        let mut runs = Vec::new();
        by.rx_burst(&mut Pool::default(), &mut runs, 32).unwrap();
        runs
    }

    #[test]
    fn a_run_arrives_as_a_run_with_its_ttl_and_tos() {
        let (mut a, mut b) = (uplink("127.77.1.1", 4), uplink("127.77.1.2", 0));
        let mut run = run(&a, &b, 100, 250, 7);
        (run.ttl, run.tos, run.flow_hash) = (17, 0xba, 6);
        assert_eq!(send(&mut a, vec![run]), 3);
        let [run] = &received(&mut b)[..] else {
            panic!("one run")
        };
        assert_eq!((run.stride, run.bytes()), (100, &[7; 250][..]));
        assert_eq!(
            (run.ttl, run.tos, run.uplink, run.local),
            (17, 0xba, UplinkId(3), b.config.addresses[0])
        );
        assert_eq!(run.remote.ip(), a.config.addresses[0]);
        assert!(run.remote.port() >= 49_152, "from a sending socket: {}", run.remote);
    }

    #[test]
    fn a_flow_keeps_its_source_port_and_flows_differ() {
        let (mut a, mut b) = (uplink("127.77.2.1", 4), uplink("127.77.2.2", 4));
        let mut ports = Vec::new();
        for hash in [0, 1, 2, 3, 4, 0] {
            let mut run = run(&a, &b, 10, 10, 0);
            run.flow_hash = hash;
            assert_eq!(send(&mut a, vec![run]), 1);
            ports.extend(received(&mut b).iter().map(|run| run.remote.port()));
        }
        assert_eq!((ports[0], ports[0]), (ports[4], ports[5]));
        let mut different = ports[..4].to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 4);
        // Without sending sockets packets leave from the data port itself.
        let mut c = uplink("127.77.2.3", 0);
        let run = run(&c, &b, 10, 10, 0);
        send(&mut c, vec![run]);
        assert_eq!(received(&mut b)[0].remote.port(), 4341);
    }

    #[test]
    fn without_segmentation_every_datagram_leaves_singly() {
        let (mut a, mut b) = (uplink("127.77.3.1", 1), uplink("127.77.3.2", 1));
        a.segmentation = false;
        // More than one call takes, then another run: order must hold.
        let runs = vec![run(&a, &b, 100, 100 * 20 + 1, 1), run(&a, &b, 50, 50, 2)];
        assert_eq!(send(&mut a, runs), 22);
        let bytes: Vec<u8> = received(&mut b).iter().flat_map(|run| run.bytes().to_vec()).collect();
        assert_eq!(bytes, [vec![1; 2001], vec![2; 50]].concat());
    }

    #[test]
    fn many_runs_in_one_burst_keep_their_order() {
        let (mut a, mut b) = (uplink("127.77.4.1", 1), uplink("127.77.4.2", 1));
        let runs: Vec<DatagramRun> = (0..40)
            .map(|index| run(&a, &b, 10, 10 + usize::from(index % 2) * 10, index))
            .collect();
        assert_eq!(send(&mut a, runs), 60);
        let mut seen: Vec<u8> = Vec::new();
        loop {
            let runs = received(&mut b);
            if runs.is_empty() {
                break;
            }
            seen.extend(runs.iter().filter_map(|run| run.bytes().first()));
        }
        assert_eq!(seen, (0..40).collect::<Vec<u8>>());
    }

    #[test]
    fn what_cannot_leave_is_counted() {
        let (mut a, b) = (uplink("127.77.5.1", 1), uplink("127.77.5.2", 1));
        let mut foreign = run(&a, &b, 10, 25, 0);
        foreign.local = "127.77.5.9".parse().unwrap();
        let mut other_family = run(&a, &b, 10, 10, 0);
        other_family.remote = "[::1]:4341".parse().unwrap();
        assert_eq!(send(&mut a, vec![foreign, other_family]), 0);
        assert_eq!((a.take_failed(), a.take_failed()), (4, 0));
    }

    #[test]
    fn the_number_of_sockets_must_fit() {
        let config = uplink("127.77.6.1", 2).config;
        assert_eq!(sockets_of(&config), 3);
        let error = UdpUplink::new(config, Vec::new()).err().unwrap();
        assert!(error.to_string().contains("needs 3 sockets, 0 came"), "{error}");
    }
}
