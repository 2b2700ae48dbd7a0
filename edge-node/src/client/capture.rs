//! `weft capture`.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use dataplane::control::CapturedPacket;
use http_body_util::BodyExt as _;

use super::{
    connection::{Client, ClientError, run},
    pcapng::Writer,
};
use crate::{
    api::CaptureRequest,
    cli::{CaptureArgs, Format},
    error::{IntentError, Report},
};

/// `weft capture`.
pub fn capture(arguments: &CaptureArgs) -> ExitCode {
    run(captured(arguments), arguments.output.format)
}

/// Where packets go.
enum Sink {
    Pcapng(Box<Writer<Box<dyn Write>>>),
    Lines,
    Json,
}

async fn captured(arguments: &CaptureArgs) -> Result<ExitCode, ClientError> {
    let broken = |error: io::Error| ClientError::Broken(format!("the capture cannot be written: {error}"));
    let request = CaptureRequest {
        guest: arguments.guest.clone(),
        nic: arguments.nic.clone(),
        addresses: arguments.address.clone(),
        snap_length: arguments.snap_length,
    };
    // Before the node is asked: a capture that has no place to go does not begin.
    let mut sink = Sink::open(
        arguments.write.as_deref(),
        arguments.snap_length,
        arguments.output.format,
    )?;
    let mut body = Client::new(&arguments.node)
        .stream("/v1/capture", &request)
        .await?
        .into_body();
    let deadline = arguments
        .duration
        .map(|duration| tokio::time::Instant::now() + duration);
    let mut rest: Vec<u8> = Vec::new();
    let mut seen = 0;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = until(deadline) => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(frame) = frame else { break };
        let Ok(bytes) = frame?.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let packet: CapturedPacket = serde_json::from_slice(&line)
                .map_err(|error| ClientError::Broken(format!("a packet is not understood: {error}")))?;
            write(&mut sink, &packet).map_err(broken)?;
            seen += 1;
            if arguments.count.is_some_and(|count| seen >= count) {
                return Ok(finish(seen));
            }
        }
    }
    Ok(finish(seen))
}

fn finish(seen: u64) -> ExitCode {
    eprintln!("{seen} packets");
    ExitCode::SUCCESS
}

impl Sink {
    /// pcapng into the file `write`, or to standard output for `-`; without it a line a packet, terminal or not.
    fn open(write: Option<&Path>, snap_length: u32, format: Format) -> Result<Self, ClientError> {
        let Some(path) = write else {
            return Ok(match format {
                Format::Json => Self::Json,
                _ => Self::Lines,
            });
        };
        let cannot = |error: io::Error| {
            let help = "name a file in a folder that is there and that you may write to, or `-` for standard output";
            let name = path.display().to_string();
            ClientError::Refused(Report::from(IntentError::whole(
                name,
                format!("it cannot be written: {error}"),
                help,
            )))
        };
        let sink: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(io::BufWriter::new(File::create(path).map_err(cannot)?))
        };
        let writer = Writer::new(sink, snap_length).map_err(cannot)?;
        Ok(Self::Pcapng(Box::new(writer)))
    }
}

fn write(sink: &mut Sink, packet: &CapturedPacket) -> io::Result<()> {
    match sink {
        Sink::Pcapng(writer) => writer.packet(packet),
        Sink::Json => {
            let text = serde_json::to_string(packet).map_err(io::Error::other)?;
            writeln!(io::stdout(), "{text}")
        }
        Sink::Lines => {
            let arrow = if packet.outbound { "→" } else { "←" };
            let start = if packet.ethernet { 14 } else { 0 };
            let what = packet
                .bytes
                .get(start..)
                .and_then(describe)
                .unwrap_or_else(|| "not IP".to_owned());
            writeln!(
                io::stdout(),
                "{} {arrow} {what}, {} bytes: {}",
                packet.interface,
                packet.length,
                packet.verdict
            )
        }
    }
}

fn describe(packet: &[u8]) -> Option<String> {
    let sliced = etherparse::LaxSlicedPacket::from_ip(packet).ok()?;
    match sliced.net? {
        etherparse::LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some(format!(
                "{} → {}, protocol {}",
                header.source_addr(),
                header.destination_addr(),
                header.protocol().0
            ))
        }
        etherparse::LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some(format!(
                "{} → {}, protocol {}",
                header.source_addr(),
                header.destination_addr(),
                ip.payload().ip_number.0
            ))
        }
        etherparse::LaxNetSlice::Arp(_) => Some("ARP".to_owned()),
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_unless_a_file_is_named() {
        // The standard output of a test is no terminal.
        let open = |write, format| Sink::open(write, 65_535, format);
        assert!(matches!(open(None, Format::Text), Ok(Sink::Lines)));
        assert!(matches!(open(None, Format::Json), Ok(Sink::Json)));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.pcapng");
        assert!(matches!(open(Some(&path), Format::Text), Ok(Sink::Pcapng(_))));
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let path = Path::new("/nonexistent/x.pcapng");
        let Err(ClientError::Refused(report)) = Sink::open(Some(path), 65_535, Format::Text) else {
            panic!("it was opened")
        };
        let text = report.0[0].to_string();
        assert!(text.contains("/nonexistent/x.pcapng"), "{text}");
        assert!(!report.0[0].help.contains("log"), "{}", report.0[0].help);
    }
}
