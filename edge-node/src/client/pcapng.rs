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

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(interface: &str, outbound: bool, bytes: &[u8]) -> CapturedPacket {
        CapturedPacket {
            time_ns: 0x0001_0203_0405_0607,
            interface: interface.into(),
            outbound,
            verdict: "drop.policy".into(),
            length: 1500,
            ethernet: true,
            bytes: bytes.to_vec(),
        }
    }

    /// Type and body of each block; panics when lengths do not agree.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        while !bytes.is_empty() {
            let total = number(&bytes[4..]) as usize;
            assert_eq!(total % 4, 0);
            assert_eq!(number(&bytes[total - 4..]) as usize, total);
            all.push((number(bytes), bytes[8..total - 4].to_vec()));
            bytes = &bytes[total..];
        }
        all
    }

    #[test]
    fn each_interface_is_told_once_before_its_first_packet() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, 256).expect("begun");
        for (interface, outbound) in [("guest-a/eth0", true), ("wan0", false), ("guest-a/eth0", false)] {
            writer
                .packet(&packet(interface, outbound, &[1, 2, 3, 4, 5]))
                .expect("written");
        }
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, INTERFACE, PACKET, PACKET]);
        let numbers: Vec<u8> = blocks
            .iter()
            .filter(|(kind, _)| *kind == PACKET)
            .map(|(_, body)| body[0])
            .collect();
        assert_eq!(numbers, [0, 1, 0]);
    }

    #[test]
    fn bytes_of_a_packet_block() {
        let mut file = Vec::new();
        Writer::new(&mut file, 256)
            .expect("begun")
            .packet(&packet("wan0", false, &[1, 2, 3, 4, 5]))
            .expect("written");
        let (_, body) = blocks(&file).pop().expect("a packet");
        let expected: Vec<u8> = [
            &0_u32.to_le_bytes()[..],
            &0x0001_0203_u32.to_le_bytes(),
            &0x0405_0607_u32.to_le_bytes(),
            &5_u32.to_le_bytes(),
            &1500_u32.to_le_bytes(),
            &[1, 2, 3, 4, 5, 0, 0, 0],
            &[1, 0, 11, 0],
            b"drop.policy\0",
            &[2, 0, 4, 0, 2, 0, 0, 0],
            &[0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(body, expected);
    }
}
