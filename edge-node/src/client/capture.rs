//! `weft capture`.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
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
    let mut body = Client::new(&arguments.node)
        .stream("/v1/capture", &request)
        .await?
        .into_body();
    let mut sink = sink(arguments).map_err(broken)?;
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

fn sink(arguments: &CaptureArgs) -> io::Result<Sink> {
    let pcapng =
        |sink: Box<dyn Write>| Writer::new(sink, arguments.snap_length).map(|writer| Sink::Pcapng(Box::new(writer)));
    match &arguments.write {
        Some(path) if path.as_os_str() != "-" => pcapng(Box::new(io::BufWriter::new(File::create(path)?))),
        Some(_) => pcapng(Box::new(io::stdout())),
        None if arguments.output.format == Format::Json => Ok(Sink::Json),
        None if io::stdout().is_terminal() => Ok(Sink::Lines),
        None => pcapng(Box::new(io::stdout())),
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
