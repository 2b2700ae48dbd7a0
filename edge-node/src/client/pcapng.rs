//! Writing pcapng (draft-ietf-opsawg-pcapng): a section, an interface block for each port, a packet block with its
//! verdict as comment for each packet.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use dataplane::control::CapturedPacket;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const RAW_IP: u16 = 101;
const OPTION_COMMENT: u16 = 1;
const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_FLAGS: u16 = 2;
/// `if_tsresol`: nanoseconds.
const NANOSECONDS: u8 = 9;

/// A file that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    snap_length: u32,
    interfaces: BTreeMap<(String, bool), u32>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn new(mut sink: W, snap_length: u32) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(u64::MAX.to_le_bytes());
        write_block(&mut sink, SECTION, &body)?;
        Ok(Self {
            sink,
            snap_length,
            interfaces: BTreeMap::new(),
        })
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn packet(&mut self, packet: &CapturedPacket) -> io::Result<()> {
        let interface = self.interface(packet)?;
        let mut body = Vec::new();
        body.extend(interface.to_le_bytes());
        let time = packet.time_ns;
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend(((time & 0xffff_ffff) as u32).to_le_bytes());
        body.extend(length(&packet.bytes).to_le_bytes());
        body.extend(packet.length.to_le_bytes());
        body.extend(&packet.bytes);
        pad(&mut body);
        option(&mut body, OPTION_COMMENT, packet.verdict.as_bytes());
        let direction: u32 = if packet.outbound { 1 } else { 2 };
        option(&mut body, OPTION_FLAGS, &direction.to_le_bytes());
        option(&mut body, 0, &[]);
        write_block(&mut self.sink, PACKET, &body)?;
        self.sink.flush()
    }

    fn interface(&mut self, packet: &CapturedPacket) -> io::Result<u32> {
        let key = (packet.interface.clone(), packet.ethernet);
        if let Some(number) = self.interfaces.get(&key) {
            return Ok(*number);
        }
        let number = length(self.interfaces.keys());
        let mut body = Vec::new();
        body.extend(if packet.ethernet { ETHERNET } else { RAW_IP }.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(self.snap_length.to_le_bytes());
        option(&mut body, OPTION_NAME, packet.interface.as_bytes());
        option(&mut body, OPTION_RESOLUTION, &[NANOSECONDS]);
        option(&mut body, 0, &[]);
        write_block(&mut self.sink, INTERFACE, &body)?;
        self.interfaces.insert(key, number);
        Ok(number)
    }
}

fn length(items: impl IntoIterator) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    while !body.len().is_multiple_of(4) {
        body.push(0);
    }
}

fn write_block(sink: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let total = length(body).saturating_add(12).to_le_bytes();
    sink.write_all(&kind.to_le_bytes())?;
    sink.write_all(&total)?;
    sink.write_all(body)?;
    sink.write_all(&total)
}
