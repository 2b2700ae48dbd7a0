//! `weft decode`: every LISP message and data header of a capture, the packets inside, whether the authentication
//! holds, and what is wrong.
//!
//! [`file`] reads packets, [`link`] and [`ip`] lead to the UDP payload, [`control`] and [`data`] say what it is,
//! [`history`] remembers what one packet alone does not show. An [`Item`] is what is printed.

mod control;
mod data;
mod file;
mod history;
mod ip;
mod item;
mod keys;
mod link;
mod text;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    net::IpAddr,
    process::ExitCode,
};

use lisp::{CONTROL_PORT, DATA_PORT, wire::Message};

pub use item::Item;
pub use keys::{Auth, Keys};

use crate::cli::{DecodeArgs, DecodeFormat};
use control::Carrier;
use file::{FileError, Frame, Reader};
use history::History;
use ip::{Checksum, Datagram, Fragment, Packet};
use item::Decoded;

/// `weft decode`: 0 when the whole file was read, 1 when it could not be, 2 when a key could not be.
#[must_use]
pub fn run(arguments: &DecodeArgs) -> ExitCode {
    let keys = match Keys::parse(&arguments.key) {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("weft decode: {error}");
            return ExitCode::from(2);
        }
    };
    let name = arguments.file.display();
    let input: Box<dyn Read> = if arguments.file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        match File::open(&arguments.file) {
            Ok(file) => Box::new(file),
            Err(error) => {
                eprintln!("weft decode: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = decode(BufReader::new(input), keys, &mut |item| match arguments.output {
        DecodeFormat::Text => out.write_all(text::render(item).as_bytes()),
        DecodeFormat::Json => serde_json::to_writer(&mut out, item)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n")),
    });
    let totals = match result {
        Ok(totals) => totals,
        // Nobody reads any further (`weft decode x.pcap | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft decode: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (end, beside) = last_words(arguments.output, &totals);
    eprint!("{beside}");
    if out
        .write_all(end.as_bytes())
        .and_then(|()| out.flush())
        .is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe)
    {
        return ExitCode::FAILURE;
    }
    match totals.error {
        None => ExitCode::SUCCESS,
        Some(error) => {
            eprintln!("weft decode: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is said at the end: on standard output, and beside it, where objects alone go there.
fn last_words(format: DecodeFormat, totals: &Totals) -> (String, String) {
    match format {
        DecodeFormat::Text if totals.packets > 0 || totals.error.is_none() => (text::summary(totals), String::new()),
        DecodeFormat::Text => (String::new(), String::new()),
        DecodeFormat::Json => (String::new(), text::left_out(totals)),
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Totals {
    /// Packets in the capture.
    pub packets: u64,
    /// Those that are LISP.
    pub lisp: u64,
    /// Those with problems.
    pub with_problems: u64,
    /// Link types nobody knows here, and how many packets each had.
    pub unknown_links: BTreeMap<u32, u64>,
    /// Why reading ended early.
    pub error: Option<FileError>,
}

/// Decodes a capture and gives every item to `sink` as it comes.
///
/// # Errors
/// Those of the sink. What is wrong with the file stands in the totals.
pub fn decode(input: impl Read, keys: Keys, sink: &mut dyn FnMut(&Item) -> io::Result<()>) -> io::Result<Totals> {
    let mut totals = Totals::default();
    let mut reader = match Reader::new(input) {
        Ok(reader) => reader,
        Err(error) => {
            totals.error = Some(error);
            return Ok(totals);
        }
    };
    let mut decoder = Decoder {
        keys,
        history: History::default(),
        fragments: BTreeMap::new(),
    };
    loop {
        let frame = match reader.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(totals),
            Err(error) => {
                totals.error = Some(error);
                return Ok(totals);
            }
        };
        totals.packets = frame.number;
        let packet = match link::unwrap(frame.link, &frame.bytes) {
            link::Link::Ip(packet) => packet,
            link::Link::Other => continue,
            link::Link::Unknown(link) => {
                *totals.unknown_links.entry(link).or_default() += 1;
                continue;
            }
        };
        if let Some(item) = decoder.packet(&frame, packet) {
            totals.lisp += 1;
            totals.with_problems += u64::from(!item.problems.is_empty());
            sink(&item)?;
        }
    }
}

/// First fragments of LISP packets that are remembered, so that their rest is recognised.
const MOST_FRAGMENTS: usize = 10_000;

struct Decoder {
    keys: Keys,
    history: History,
    /// Which fragmented packets are LISP: `(source, destination, identification)` and the packet of the first fragment.
    fragments: BTreeMap<(IpAddr, IpAddr, u32), (u64, u16, u16)>,
}

impl Decoder {
    fn packet(&mut self, frame: &Frame, bytes: &[u8]) -> Option<Item> {
        let packet = ip::parse(bytes).ok()?;
        let cut = frame.bytes.len() < frame.length;
        if let Some(fragment) = packet.fragment.filter(|fragment| fragment.offset > 0) {
            return self.later_fragment(frame, &packet, fragment);
        }
        let datagram = ip::datagram(&packet)?;
        let ports = [datagram.from.port(), datagram.to.port()];
        if !ports.contains(&CONTROL_PORT) && !ports.contains(&DATA_PORT) {
            return None;
        }
        let mut problems = Vec::new();
        if cut && !datagram.complete {
            problems.push(format!(
                "the capture kept {} of {} bytes",
                frame.bytes.len(),
                frame.length
            ));
        }
        if packet.bad_header_checksum {
            problems.push("the checksum of the outer IPv4 header is wrong".into());
        }
        let mut decoded = self.payload(frame.number, &packet, &datagram);
        if let Some(fragment) = packet.fragment {
            self.first_fragment(frame.number, &packet, &datagram, fragment);
            // What is missing is in the other fragments; what that makes of the message is no finding.
            decoded.problems.clear();
            problems.push("a first fragment: it is shown as far as it goes, the rest is not put together".into());
        }
        problems.append(&mut decoded.problems);
        decoded.problems = problems;
        Some(Item::new(frame, datagram.from, datagram.to, decoded))
    }

    fn payload(&mut self, number: u64, packet: &Packet<'_>, datagram: &Datagram<'_>) -> Decoded {
        let (source, destination) = (datagram.from.port(), datagram.to.port());
        // Data packets of an RTR come from the control port; what is sent to a port says most.
        let data = destination == DATA_PORT
            || (destination != CONTROL_PORT && (source == DATA_PORT || data::is_plausible(datagram.payload)));
        // What is sealed may look like anything; to be a whole control message by chance it would have to try long.
        let misplaced = data && !data::is_clear(datagram.payload) && Message::decode(datagram.payload).is_ok();
        if data && !misplaced {
            return self.data(number, packet, datagram);
        }
        let mut decoded = self.control(number, datagram.payload, &Carrier::udp(datagram));
        let checksum = match datagram.checksum {
            Checksum::None => Some("the UDP checksum is zero: a control message must have one"),
            Checksum::Bad => Some("the UDP checksum is wrong: a receiver drops this"),
            _ => None,
        };
        let wrong_port = misplaced.then_some("a control message on the data port 4341");
        decoded
            .problems
            .splice(0..0, checksum.into_iter().chain(wrong_port).map(str::to_owned));
        decoded
    }

    fn first_fragment(&mut self, number: u64, packet: &Packet<'_>, datagram: &Datagram<'_>, fragment: Fragment) {
        if self.fragments.len() >= MOST_FRAGMENTS {
            self.fragments.clear();
        }
        let key = (packet.source, packet.destination, fragment.identification);
        self.fragments
            .insert(key, (number, datagram.from.port(), datagram.to.port()));
    }

    fn later_fragment(&self, frame: &Frame, packet: &Packet<'_>, fragment: Fragment) -> Option<Item> {
        let key = (packet.source, packet.destination, fragment.identification);
        let (first, from, to) = *self.fragments.get(&key)?;
        let fields = serde_json::json!({
            "first": first,
            "offset": fragment.offset,
            "bytes": packet.payload.len(),
            "last": !fragment.more,
        });
        let mut decoded = Decoded::new("Fragment", fields);
        decoded.lines.push(format!(
            "{} bytes from byte {} of the datagram that begins in packet {first}{}",
            packet.payload.len(),
            fragment.offset,
            if fragment.more { "" } else { ", the last" }
        ));
        decoded
            .problems
            .push("a fragment: LISP packets are not to be fragmented on the underlay".into());
        Some(Item::new(
            frame,
            (packet.source, from).into(),
            (packet.destination, to).into(),
            decoded,
        ))
    }
}

#[cfg(test)]
mod tests;
