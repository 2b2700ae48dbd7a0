//! Capture files: pcap (microseconds and nanoseconds, either byte order) and pcapng, read as a stream.
//!
//! A reader of our own: the format is small, what is left of a file that was cut short must still be shown, and an
//! error must name the packet and the byte. (The crates at hand stop at the first odd block, or want a newer compiler
//! than this workspace.)

use std::{
    fmt,
    io::{self, Read},
};

/// Largest packet or block that is believed.
const LARGEST: usize = 64 * 1024 * 1024;

const PCAP_MICROSECONDS: u32 = 0xa1b2_c3d4;
const PCAP_NANOSECONDS: u32 = 0xa1b2_3c4d;
const PCAPNG_SECTION: u32 = 0x0a0d_0d0a;
const PCAPNG_BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// Nanoseconds since the Unix epoch; some blocks carry none.
    pub time: Option<i128>,
    /// Link type, as in the registry of tcpdump.
    pub link: u32,
    /// Its bytes, as far as they were kept.
    pub bytes: Vec<u8>,
    /// Its length when it was captured.
    pub length: usize,
}

/// Why a file cannot be read (further).
#[derive(Debug)]
pub enum FileError {
    /// It is neither pcap nor pcapng.
    NotACapture(&'static str),
    /// It ends in the middle of something.
    CutShort {
        /// In the packet or block behind this many packets.
        packets: u64,
        /// In what.
        within: &'static str,
    },
    /// A length or a field that cannot be.
    Damaged {
        /// Behind this many packets.
        packets: u64,
        /// What is wrong.
        what: String,
    },
    /// The file system's complaint.
    Io(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACapture(why) => write!(f, "this is no capture file (pcap or pcapng): {why}"),
            Self::CutShort { packets, within } => write!(f, "cut short behind packet {packets}, within {within}"),
            Self::Damaged { packets, what } => write!(f, "damaged behind packet {packets}: {what}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// Reads one capture.
pub struct Reader<R> {
    input: R,
    packets: u64,
    format: Format,
}

enum Format {
    Pcap {
        swapped: bool,
        nanoseconds: bool,
        link: u32,
    },
    PcapNg {
        swapped: bool,
        interfaces: Vec<Interface>,
    },
}

#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    snap_length: usize,
    /// Ticks a second.
    resolution: u128,
    /// Seconds to add.
    offset: i64,
}

impl<R: Read> Reader<R> {
    /// Finds out which format it is.
    ///
    /// # Errors
    /// When it is neither.
    pub fn new(mut input: R) -> Result<Self, FileError> {
        let mut magic = [0; 4];
        match read_up_to(&mut input, &mut magic)? {
            0 => return Err(FileError::NotACapture("it is empty")),
            4 => {}
            _ => return Err(FileError::NotACapture("it is shorter than 4 bytes")),
        }
        let mut reader = Self {
            input,
            packets: 0,
            format: Format::PcapNg {
                swapped: false,
                interfaces: Vec::new(),
            },
        };
        let number = u32::from_be_bytes(magic);
        let swapped = matches!(number.swap_bytes(), PCAP_MICROSECONDS | PCAP_NANOSECONDS);
        let native = if swapped { number.swap_bytes() } else { number };
        match native {
            PCAP_MICROSECONDS | PCAP_NANOSECONDS => {
                let header = reader.bytes(20, "the file header")?;
                let fields = Fields {
                    bytes: &header,
                    swapped,
                };
                reader.format = Format::Pcap {
                    swapped,
                    nanoseconds: native == PCAP_NANOSECONDS,
                    // The upper bits say whether a frame check sequence follows; it is behind the IP packet.
                    link: fields.u32(16).unwrap_or_default() & 0x0fff_ffff,
                };
            }
            PCAPNG_SECTION => reader.section()?,
            _ => {
                return Err(FileError::NotACapture(
                    "its first four bytes are of another kind of file",
                ));
            }
        }
        Ok(reader)
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// When the file is damaged or cut short here; nothing further can be read then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FileError> {
        match self.format {
            Format::Pcap {
                swapped,
                nanoseconds,
                link,
            } => self.pcap_record(swapped, nanoseconds, link),
            Format::PcapNg { .. } => self.pcapng_block(),
        }
    }

    fn pcap_record(&mut self, swapped: bool, nanoseconds: bool, link: u32) -> Result<Option<Frame>, FileError> {
        let Some(header) = self.start(16, "a packet header")? else {
            return Ok(None);
        };
        let fields = Fields {
            bytes: &header,
            swapped,
        };
        let field = |at| fields.u32(at).unwrap_or_default();
        let (seconds, fraction) = (i128::from(field(0)), i128::from(field(4)));
        let (kept, length) = (field(8) as usize, field(12) as usize);
        if kept > LARGEST {
            return Err(self.damaged(format!("a packet of {kept} bytes")));
        }
        let bytes = self.bytes(kept, "a packet")?;
        self.packets = self.packets.saturating_add(1);
        Ok(Some(Frame {
            number: self.packets,
            time: Some(seconds * 1_000_000_000 + if nanoseconds { fraction } else { fraction * 1000 }),
            link,
            bytes,
            length: length.max(kept),
        }))
    }

    /// Reads blocks up to one that holds a packet.
    fn pcapng_block(&mut self) -> Result<Option<Frame>, FileError> {
        loop {
            let Some(head) = self.start(4, "a block")? else {
                return Ok(None);
            };
            if head.as_slice() == PCAPNG_SECTION.to_be_bytes() {
                self.section()?;
                continue;
            }
            let swapped = self.swapped();
            let kind = Fields { bytes: &head, swapped }.u32(0).unwrap_or_default();
            let body = self.block_body()?;
            let fields = Fields { bytes: &body, swapped };
            match kind {
                1 => self.interface(&fields)?,
                2 | 3 | 6 => return self.packet(kind, &fields).map(Some),
                // Names, statistics, decryption secrets, custom blocks.
                _ => {}
            }
        }
    }

    fn swapped(&self) -> bool {
        matches!(
            self.format,
            Format::Pcap { swapped: true, .. } | Format::PcapNg { swapped: true, .. }
        )
    }

    /// What follows the type of a section header: interfaces begin anew.
    fn section(&mut self) -> Result<(), FileError> {
        let head = self.bytes(8, "a section header")?;
        let order = head.get(4..).unwrap_or_default();
        let swapped = match <[u8; 4]>::try_from(order).map(u32::from_be_bytes) {
            Ok(PCAPNG_BYTE_ORDER) => false,
            Ok(order) if order.swap_bytes() == PCAPNG_BYTE_ORDER => true,
            _ => return Err(FileError::NotACapture("a section without a byte-order mark")),
        };
        let total = Fields { bytes: &head, swapped }.u32(0).unwrap_or_default() as usize;
        let Some(rest) = total.checked_sub(12).filter(|rest| *rest <= LARGEST && rest % 4 == 0) else {
            return Err(self.damaged(format!("a section header of {total} bytes")));
        };
        self.bytes(rest, "a section header")?;
        self.format = Format::PcapNg {
            swapped,
            interfaces: Vec::new(),
        };
        Ok(())
    }

    fn block_body(&mut self) -> Result<Vec<u8>, FileError> {
        let swapped = self.swapped();
        let length = self.bytes(4, "a block")?;
        let total = Fields {
            bytes: &length,
            swapped,
        }
        .u32(0)
        .unwrap_or_default() as usize;
        let Some(rest) = total.checked_sub(12).filter(|rest| *rest <= LARGEST && rest % 4 == 0) else {
            return Err(self.damaged(format!("a block of {total} bytes")));
        };
        let body = self.bytes(rest, "a block")?;
        let again = self.bytes(4, "a block")?;
        if again != length {
            return Err(self.damaged("the two lengths of a block differ".into()));
        }
        Ok(body)
    }

    fn interface(&mut self, fields: &Fields<'_>) -> Result<(), FileError> {
        let Some(link) = fields.u16(0) else {
            return Err(self.damaged("an interface description without a link type".into()));
        };
        let mut interface = Interface {
            link: link.into(),
            snap_length: fields.u32(4).unwrap_or_default() as usize,
            resolution: 1_000_000,
            offset: 0,
        };
        let mut at = 8;
        while let (Some(code), Some(length)) = (fields.u16(at), fields.u16(at + 2)) {
            let value = fields.bytes.get(at + 4..).unwrap_or_default();
            match (code, length) {
                (0, _) => break,
                (9, 1) => interface.resolution = resolution(value.first().copied().unwrap_or(6)),
                (14, 8) => {
                    let low = fields.u64(at + 4).unwrap_or_default();
                    interface.offset = low.cast_signed();
                }
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        if let Format::PcapNg { interfaces, .. } = &mut self.format {
            interfaces.push(interface);
        }
        Ok(())
    }

    fn packet(&mut self, kind: u32, fields: &Fields<'_>) -> Result<Frame, FileError> {
        // Kept length, original length and the bytes; where they stand depends on the block.
        let simple = kind == 3;
        let index = match kind {
            2 => fields.u16(0).map(u32::from),
            6 => fields.u32(0),
            _ => Some(0),
        };
        let interface = match &self.format {
            Format::PcapNg { interfaces, .. } => index.and_then(|index| interfaces.get(index as usize)).copied(),
            Format::Pcap { .. } => None,
        };
        let Some(interface) = interface else {
            return Err(self.damaged("a packet of an interface that was never described".into()));
        };
        let (lengths, start) = if simple { (0, 4) } else { (12, 20) };
        let (kept, length) = if simple {
            let length = fields.u32(0).unwrap_or_default() as usize;
            let snap = if interface.snap_length == 0 {
                length
            } else {
                interface.snap_length
            };
            (length.min(snap), length)
        } else {
            let field = |at| fields.u32(at).unwrap_or_default() as usize;
            (field(lengths), field(lengths + 4))
        };
        let bytes = kept.checked_add(start).and_then(|end| fields.bytes.get(start..end));
        let Some(bytes) = bytes else {
            return Err(self.damaged(format!("a packet of {kept} bytes in a block of {}", fields.bytes.len())));
        };
        let time = (!simple).then(|| {
            let (high, low) = (fields.u32(4).unwrap_or_default(), fields.u32(8).unwrap_or_default());
            nanoseconds((u64::from(high) << 32) | u64::from(low), interface)
        });
        self.packets = self.packets.saturating_add(1);
        Ok(Frame {
            number: self.packets,
            time,
            link: interface.link,
            bytes: bytes.to_vec(),
            length: length.max(kept),
        })
    }

    /// The first bytes of something; `None` when the file ends before it.
    fn start(&mut self, length: usize, within: &'static str) -> Result<Option<Vec<u8>>, FileError> {
        let mut bytes = vec![0; length];
        match read_up_to(&mut self.input, &mut bytes)? {
            0 => Ok(None),
            read if read == length => Ok(Some(bytes)),
            _ => Err(self.cut(within)),
        }
    }

    /// Memory grows with what is read, not with what a length field says.
    fn bytes(&mut self, length: usize, within: &'static str) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let read = self
            .input
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut bytes)
            .map_err(FileError::Io)?;
        if read == length {
            Ok(bytes)
        } else {
            Err(self.cut(within))
        }
    }

    fn cut(&self, within: &'static str) -> FileError {
        FileError::CutShort {
            packets: self.packets,
            within,
        }
    }

    fn damaged(&self, what: String) -> FileError {
        FileError::Damaged {
            packets: self.packets,
            what,
        }
    }
}

fn read_up_to(input: &mut impl Read, bytes: &mut [u8]) -> Result<usize, FileError> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::Io(error)),
        }
    }
    Ok(read)
}

/// Option `if_tsresol`: a power of 10, or of 2 with the high bit.
fn resolution(value: u8) -> u128 {
    let exponent = u32::from(value & 0x7f);
    let base: u128 = if value & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(exponent).unwrap_or(1_000_000)
}

fn nanoseconds(ticks: u64, interface: Interface) -> i128 {
    let (seconds, rest) = (
        u128::from(ticks) / interface.resolution,
        u128::from(ticks) % interface.resolution,
    );
    let nanoseconds = rest.saturating_mul(1_000_000_000) / interface.resolution;
    (i128::try_from(seconds).unwrap_or_default() + i128::from(interface.offset)) * 1_000_000_000
        + i128::try_from(nanoseconds).unwrap_or_default()
}

/// Numbers in the byte order of the file.
struct Fields<'a> {
    bytes: &'a [u8],
    swapped: bool,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
        if self.swapped {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcap(swapped: bool, magic: u32, packets: &[&[u8]]) -> Vec<u8> {
        let word = |value: u32| {
            if swapped {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let mut file = Vec::from(word(magic));
        file.extend([0; 12]);
        file.extend(word(65535));
        file.extend(word(101));
        for packet in packets {
            for value in [7, 9, packet.len() as u32, packet.len() as u32 + 1] {
                file.extend(word(value));
            }
            file.extend(*packet);
        }
        file
    }

    fn block(swapped: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let word = |value: u32| {
            if swapped {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let length = word(body.len() as u32 + 12);
        [&word(kind), &length, body, &length].concat()
    }

    fn pcapng(swapped: bool, packet: &[u8]) -> Vec<u8> {
        let word = |value: u32| {
            if swapped {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let half = |value: u16| {
            if swapped {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let section = [&word(PCAPNG_BYTE_ORDER)[..], &half(1), &half(0), &[0xff; 8]].concat();
        let option = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
        let interface = [&half(1)[..], &half(0), &word(0), &option].concat();
        let mut bytes = packet.to_vec();
        bytes.resize(packet.len().next_multiple_of(4), 0);
        let (high, low) = (1u32, 5u32);
        let length = word(packet.len() as u32);
        let enhanced = [&word(0)[..], &word(high), &word(low), &length, &length, &bytes].concat();
        [
            block(swapped, PCAPNG_SECTION, &section),
            block(swapped, 1, &interface),
            block(swapped, 5, &[0; 8]),
            block(swapped, 6, &enhanced),
        ]
        .concat()
    }

    fn all(file: &[u8]) -> (Vec<Frame>, Option<FileError>) {
        let mut reader = match Reader::new(file) {
            Ok(reader) => reader,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut frames = Vec::new();
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    #[test]
    fn pcap_in_either_byte_order_and_resolution() {
        for swapped in [false, true] {
            for (magic, time) in [(PCAP_MICROSECONDS, 7_000_009_000), (PCAP_NANOSECONDS, 7_000_000_009)] {
                let (frames, error) = all(&pcap(swapped, magic, &[b"abc", b"", b"defgh"]));
                assert!(error.is_none(), "{error:?}");
                assert_eq!(frames.len(), 3);
                assert_eq!(frames[0].time, Some(time));
                assert_eq!((frames[2].number, frames[2].link, frames[2].length), (3, 101, 6));
                assert_eq!(frames[2].bytes, b"defgh");
            }
        }
    }

    #[test]
    fn pcapng_in_either_byte_order() {
        for swapped in [false, true] {
            let (frames, error) = all(&pcapng(swapped, b"abcde"));
            assert!(error.is_none(), "{error:?}");
            let expected = Frame {
                number: 1,
                time: Some((1 << 32) + 5),
                link: 1,
                bytes: b"abcde".to_vec(),
                length: 5,
            };
            assert_eq!(frames, [expected]);
        }
    }

    #[test]
    fn a_file_that_is_cut_short_gives_what_is_left_and_says_so() {
        for file in [
            pcap(false, PCAP_MICROSECONDS, &[b"abc", b"defgh"]),
            pcapng(true, b"abcde"),
        ] {
            let whole = all(&file).0.len();
            for end in 0..file.len() {
                let (frames, _) = all(&file[..end]);
                assert!(frames.len() <= whole);
            }
            let (frames, error) = all(&file[..file.len() - 1]);
            assert_eq!(frames.len(), whole - 1);
            assert!(matches!(error, Some(FileError::CutShort { .. })), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_capture_is_said_so() {
        for file in [b"".as_slice(), b"abc", b"hello, this is text", &[0; 64], &[0xff; 64]] {
            assert!(matches!(all(file).1, Some(FileError::NotACapture(_))), "{file:?}");
        }
        let mut huge = pcap(false, PCAP_MICROSECONDS, &[b"abc"]);
        huge[32..36].fill(0xff);
        assert!(matches!(all(&huge).1, Some(FileError::Damaged { .. })));
    }
}
