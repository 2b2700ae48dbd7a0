//! Packet memory: one frame that may be a super-packet, and a run of equal-sized underlay datagrams.

/// What the virtio-net header of a frame means: how the kernel or the guest left segmentation and checksum to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Segmentation.
    pub segmentation: Segmentation,
    /// A transport checksum that is not computed yet: `(start, offset)` in bytes from the start of the frame;
    /// the field at `start + offset` holds the pseudo-header sum.
    pub checksum: Option<(u16, u16)>,
}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4: payload bytes in each segment; `ecn`: CWR on the first segment only.
    TcpV4 {
        /// Payload bytes of a segment.
        size: u16,
        /// The first segment carries CWR.
        ecn: bool,
    },
    /// TCP over IPv6.
    TcpV6 {
        /// Payload bytes of a segment.
        size: u16,
        /// The first segment carries CWR.
        ecn: bool,
    },
    /// UDP (`VIRTIO_NET_HDR_GSO_UDP_L4`), either family.
    Udp {
        /// Payload bytes of a segment.
        size: u16,
    },
}

/// Bytes kept free in front of every frame: room for an Ethernet header where the frame had none and for
/// growing headers in place.
pub const HEADROOM: usize = 128;

/// The largest frame a port hands over: a 64 KiB IP super-packet with its Ethernet header.
pub const MAX_FRAME: usize = 65_535 + 14 + 4;

/// One frame on the guest's side, possibly a super-packet. `bytes()` starts at the Ethernet header as it comes
/// from a guest port; stages move the start.
#[derive(Debug)]
pub struct PacketBuf {
    storage: Box<[u8]>,
    start: usize,
    len: usize,
    /// What the virtio-net header said.
    pub offload: Offload,
}

impl PacketBuf {
    /// An empty buffer with [`HEADROOM`] in front of room for [`MAX_FRAME`].
    pub fn new() -> Self {
        Self {
            storage: vec![0; HEADROOM + MAX_FRAME].into_boxed_slice(),
            start: HEADROOM,
            len: 0,
            offload: Offload::default(),
        }
    }

    /// A buffer with a copy of `frame`, for tests and answers built elsewhere. Longer frames are cut to [`MAX_FRAME`].
    pub fn from_frame(frame: &[u8]) -> Self {
        let mut packet = Self::new();
        let len = frame.len().min(MAX_FRAME);
        packet.room_mut()[..len].copy_from_slice(&frame[..len]);
        packet.set_len(len);
        packet
    }

    /// Empties the buffer for reuse.
    pub fn reset(&mut self) {
        self.start = HEADROOM;
        self.len = 0;
        self.offload = Offload::default();
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }

    /// The frame.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }

    /// Everything from the start of the frame to the end of the storage: where a port reads into, before `set_len`.
    pub fn room_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..]
    }

    /// Bytes of the frame.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the length after writing into [`PacketBuf::room_mut`]; clamped to the room.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.storage.len() - self.start);
    }

    /// Drops `count` bytes in front (a header was consumed); clamped to the length.
    pub fn pull(&mut self, count: usize) {
        let count = count.min(self.len);
        self.start += count;
        self.len -= count;
    }

    /// Makes `count` bytes of room in front and returns whether the headroom allowed it. Their content is whatever was there.
    #[must_use]
    pub fn push(&mut self, count: usize) -> bool {
        if count > self.start {
            return false;
        }
        self.start -= count;
        self.len += count;
        true
    }
}

impl Default for PacketBuf {
    fn default() -> Self {
        Self::new()
    }
}

/// Largest UDP payload run handed to one `UDP_SEGMENT` send.
pub const MAX_RUN: usize = 65_000;

/// A run of equal-sized UDP payloads (only the last may be shorter) between the same two underlay addresses, with
/// one TTL and one TOS: what one `UDP_SEGMENT` send takes and one `UDP_GRO` receive gives.
#[derive(Debug)]
pub struct DatagramRun {
    storage: Box<[u8]>,
    len: usize,
    /// Bytes of each payload but the last; 0 while empty.
    pub stride: usize,
    /// Which uplink it came from or goes to.
    pub uplink: crate::control::UplinkId,
    /// Our underlay address: destination on receive, source on send.
    pub local: std::net::IpAddr,
    /// The other end: source on receive, destination on send.
    pub remote: std::net::SocketAddr,
    /// Chooses the source port on send (a hash of the inner flow).
    pub flow_hash: u32,
    /// On send: from the data port itself. What speaks for a node as a whole does, so that answers find it, and a NAT
    /// on the way keeps that port open.
    pub data_port: bool,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer TOS or traffic class: DSCP and ECN.
    pub tos: u8,
}

impl DatagramRun {
    /// An empty run.
    pub fn new() -> Self {
        let unspecified = std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        Self {
            storage: vec![0; 65_536].into_boxed_slice(),
            len: 0,
            stride: 0,
            uplink: crate::control::UplinkId(0),
            local: unspecified,
            remote: std::net::SocketAddr::new(unspecified, 0),
            flow_hash: 0,
            data_port: false,
            ttl: 64,
            tos: 0,
        }
    }

    /// Empties the run for reuse.
    pub fn reset(&mut self) {
        self.len = 0;
        self.stride = 0;
        self.data_port = false;
    }

    /// All payloads, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[..self.len]
    }

    /// All payloads, one after the other.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }

    /// The whole storage: where a port or the encapsulation writes before `set_len`.
    pub fn room_mut(&mut self) -> &mut [u8] {
        &mut self.storage
    }

    /// Sets the bytes in use; clamped to the storage.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.storage.len());
    }

    /// Bytes of all payloads.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of payloads.
    pub fn count(&self) -> usize {
        if self.stride == 0 {
            usize::from(self.len > 0)
        } else {
            self.len.div_ceil(self.stride)
        }
    }

    /// The payloads.
    pub fn datagrams_mut(&mut self) -> std::slice::ChunksMut<'_, u8> {
        let stride = if self.stride == 0 { self.len.max(1) } else { self.stride };
        self.storage[..self.len].chunks_mut(stride)
    }
}

impl Default for DatagramRun {
    fn default() -> Self {
        Self::new()
    }
}

/// Free buffers, so that the packet path allocates only while it warms up.
#[derive(Debug, Default)]
pub struct Pool {
    packets: Vec<PacketBuf>,
    runs: Vec<DatagramRun>,
}

impl Pool {
    /// Free buffers kept of each kind; more are given back to the allocator.
    const KEPT: usize = 256;

    /// An empty frame buffer.
    pub fn packet(&mut self) -> PacketBuf {
        self.packets.pop().unwrap_or_default()
    }

    /// An empty run.
    pub fn run(&mut self) -> DatagramRun {
        self.runs.pop().unwrap_or_default()
    }

    /// Takes a frame buffer back.
    pub fn recycle_packet(&mut self, mut packet: PacketBuf) {
        if self.packets.len() < Self::KEPT {
            packet.reset();
            self.packets.push(packet);
        }
    }

    /// Takes a run back.
    pub fn recycle_run(&mut self, mut run: DatagramRun) {
        if self.runs.len() < Self::KEPT {
            run.reset();
            self.runs.push(run);
        }
    }
}
