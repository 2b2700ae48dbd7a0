//! A port over capture files: what a guest sends is read from one, what it would receive is written to another.
//! For tests and for `weft trace`-like replays; the classic pcap format, Ethernet only.

use std::{
    io::{self, Read, Write},
    os::fd::BorrowedFd,
};

use super::GuestPort;
use crate::buffer::{MAX_FRAME, PacketBuf, Pool};

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// Replays one capture, writes another.
#[derive(Debug)]
pub struct PcapPort<R, W> {
    source: R,
    swapped: bool,
    sink: W,
    written: u32,
}

impl<R: Read, W: Write> PcapPort<R, W> {
    /// Reads the header of `source` and writes that of `sink`.
    ///
    /// # Errors
    /// `source` is no Ethernet pcap, or reading or writing failed.
    pub fn new(mut source: R, mut sink: W) -> io::Result<Self> {
        let mut header = [0; 24];
        source.read_exact(&mut header)?;
        let magic = word(&header, 0, false);
        let swapped = match magic {
            MAGIC_MICROSECONDS | MAGIC_NANOSECONDS => false,
            _ if [MAGIC_MICROSECONDS, MAGIC_NANOSECONDS].contains(&magic.swap_bytes()) => true,
            _ => return Err(invalid("not a pcap file")),
        };
        if word(&header, 20, swapped) & 0x0fff_ffff != LINKTYPE_ETHERNET {
            return Err(invalid("not a capture of Ethernet frames"));
        }
        for value in [
            MAGIC_NANOSECONDS,
            u32::from_ne_bytes(version()),
            0,
            0,
            MAX_FRAME as u32,
            LINKTYPE_ETHERNET,
        ] {
            sink.write_all(&value.to_ne_bytes())?;
        }
        Ok(Self {
            source,
            swapped,
            sink,
            written: 0,
        })
    }

    /// What was written, with its end of the capture.
    pub fn into_sink(self) -> W {
        self.sink
    }

    fn read_frame(&mut self, pool: &mut Pool) -> io::Result<Option<PacketBuf>> {
        let mut header = [0; 16];
        match self.source.read(&mut header[..1])? {
            0 => return Ok(None),
            _ => self.source.read_exact(&mut header[1..])?,
        }
        let length = word(&header, 8, self.swapped) as usize;
        let mut packet = pool.packet();
        let Some(room) = packet.room_mut().get_mut(..length) else {
            return Err(invalid("a frame beyond 64 KiB"));
        };
        self.source.read_exact(room)?;
        packet.set_len(length);
        Ok(Some(packet))
    }
}

/// Version 2.4, major first.
fn version() -> [u8; 4] {
    let ([a, b], [c, d]) = (2u16.to_ne_bytes(), 4u16.to_ne_bytes());
    [a, b, c, d]
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let bytes = bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default();
    let value = u32::from_ne_bytes(bytes);
    if swapped { value.swap_bytes() } else { value }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read, W: Write> GuestPort for PcapPort<R, W> {
    fn rx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()> {
        for _ in 0..limit {
            let Some(packet) = self.read_frame(pool)? else { break };
            frames.push(packet);
        }
        Ok(())
    }

    /// Frames are stamped with their ordinal number in nanoseconds: order without a clock.
    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize> {
        let mut written = 0;
        for packet in frames.drain(..) {
            let length = packet.len() as u32;
            for value in [0, self.written, length, length] {
                self.sink.write_all(&value.to_ne_bytes())?;
            }
            self.sink.write_all(packet.bytes())?;
            self.written = self.written.wrapping_add(1);
            written += 1;
            pool.recycle_packet(packet);
        }
        Ok(written)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in [
            MAGIC_MICROSECONDS.swap_bytes(),
            0,
            0,
            0,
            0,
            LINKTYPE_ETHERNET.swap_bytes(),
        ] {
            bytes.extend(value.to_ne_bytes());
        }
        for frame in frames {
            let length = (frame.len() as u32).swap_bytes();
            for value in [0, 0, length, length] {
                bytes.extend(value.to_ne_bytes());
            }
            bytes.extend(*frame);
        }
        bytes
    }

    #[test]
    fn what_is_replayed_and_written_can_be_replayed_again() {
        let mut pool = Pool::default();
        let source = capture(&[&[1; 60], &[2; 1514]]);
        let Ok(mut port) = PcapPort::new(source.as_slice(), Vec::new()) else {
            panic!("foreign byte order")
        };
        let mut frames = Vec::new();
        assert!(port.rx_burst(&mut pool, &mut frames, 32).is_ok());
        assert_eq!(port.tx_burst(&mut pool, &mut frames).ok(), Some(2));
        let written = port.into_sink();
        let Ok(mut port) = PcapPort::new(written.as_slice(), Vec::new()) else {
            panic!("our own")
        };
        assert!(port.rx_burst(&mut pool, &mut frames, 32).is_ok());
        assert_eq!(frames.iter().map(PacketBuf::len).collect::<Vec<_>>(), [60, 1514]);
        assert_eq!(frames[1].bytes(), [2; 1514]);
    }

    #[test]
    fn other_files_and_cut_ones_are_errors() {
        assert!(PcapPort::new([0u8; 24].as_slice(), Vec::new()).is_err());
        let mut source = capture(&[&[1; 60]]);
        source.pop();
        let Ok(mut port) = PcapPort::new(source.as_slice(), Vec::new()) else {
            panic!("header is whole")
        };
        assert!(port.rx_burst(&mut Pool::default(), &mut Vec::new(), 32).is_err());
    }
}
