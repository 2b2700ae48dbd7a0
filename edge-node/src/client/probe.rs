//! `weft ping`, `weft lig`, `weft trace`.

use std::{process::ExitCode, time::Duration};

use serde_json::json;

use super::{
    connection::{Client, run},
    print::{structured, table},
};
use crate::{
    api::{LigAnswer, LigRequest, PingAnswer, PingRequest, TraceAnswer, TraceRequest},
    cli::{Format, LigArgs, PingArgs, TraceArgs},
};

/// `weft ping`.
pub fn ping(arguments: &PingArgs) -> ExitCode {
    let format = arguments.output.format;
    let text = matches!(format, Format::Text | Format::Wide);
    run(
        async {
            let client = Client::new(&arguments.node);
            let mut rtts: Vec<Option<f64>> = Vec::new();
            let mut to = None;
            let mut pace = tokio::time::interval(arguments.interval.max(Duration::from_millis(10)));
            for number in 0..arguments.count {
                pace.tick().await;
                let request = PingRequest {
                    destination: arguments.destination.clone(),
                    network: arguments.network.clone(),
                    sequence: u16::try_from(number % 65_536).unwrap_or(0),
                    size: arguments.size,
                    timeout: arguments.timeout,
                };
                let answer: PingAnswer = client.post("/v1/ping", &request).await?;
                let rtt = answer.rtt.map(|rtt| rtt.as_secs_f64() * 1e3);
                if text {
                    match rtt {
                        Some(rtt) => say!("{}: seq={number} time={rtt:.3} ms", answer.address),
                        None => say!(
                            "{}: seq={number} no reply within {:?}",
                            answer.address,
                            arguments.timeout
                        ),
                    }
                }
                rtts.push(rtt);
                to = Some((answer.address, answer.network));
            }
            let received: Vec<f64> = rtts.iter().copied().flatten().collect();
            let (least, most) = (
                received.iter().copied().reduce(f64::min),
                received.iter().copied().reduce(f64::max),
            );
            let average = (!received.is_empty()).then(|| received.iter().sum::<f64>() / received.len() as f64);
            let (address, network) = to
                .map(|(address, network)| (address.to_string(), network))
                .unwrap_or_default();
            let summary = json!({
                "address": address, "network": network, "sent": rtts.len(), "received": received.len(),
                "rtt_ms": {"min": least, "avg": average, "max": most}, "rtts_ms": rtts,
            });
            if !structured(format, &summary) {
                say!("{} sent, {} received", rtts.len(), received.len());
                if let (Some(least), Some(average), Some(most)) = (least, average, most) {
                    say!("rtt min/avg/max = {least:.3}/{average:.3}/{most:.3} ms");
                }
            }
            Ok(if received.is_empty() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        },
        format,
    )
}

/// `weft lig`.
pub fn lig(arguments: &LigArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let request = LigRequest {
                eid: arguments.eid.clone(),
                network: arguments.network.clone(),
                map_resolver: arguments.map_resolver,
                timeout: arguments.timeout,
            };
            let answer: LigAnswer = Client::new(&arguments.node).post("/v1/lig", &request).await?;
            if !structured(format, &answer) {
                say!(
                    "Map-Reply for {} from {} in {:.2} ms, {} sent",
                    answer.eid,
                    answer.from,
                    answer.rtt_ms,
                    answer.tries
                );
                for record in &answer.records {
                    let kind = if record.authoritative {
                        "authoritative"
                    } else {
                        "by proxy"
                    };
                    say!("{}, TTL {} min, {kind}", record.eid_prefix, record.ttl_minutes);
                    if record.locators.is_empty() {
                        say!("  negative: {}", record.action);
                    }
                    let rows = record.locators.iter().map(|locator| {
                        let reachable = if locator.reachable { "reachable" } else { "unreachable" };
                        vec![
                            locator.rloc.clone(),
                            locator.priority.to_string(),
                            locator.weight.to_string(),
                            reachable.to_owned(),
                        ]
                    });
                    table("", &["RLOC", "PRIORITY", "WEIGHT", "STATE"], &rows.collect::<Vec<_>>());
                }
            }
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

/// `weft trace`.
pub fn trace(arguments: &TraceArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let request = TraceRequest {
                guest: arguments.guest.clone(),
                nic: arguments.nic.clone(),
                destination: arguments.destination.clone(),
                service: arguments.service.clone(),
                source: arguments.source,
                size: arguments.size,
                from: arguments.from,
            };
            let answer: TraceAnswer = Client::new(&arguments.node).post("/v1/trace", &request).await?;
            if !structured(format, &answer) {
                say!("{}", answer.packet);
                let rows = answer.steps.iter().enumerate().map(|(number, step)| {
                    vec![
                        (number + 1).to_string(),
                        step.stage.clone(),
                        step.verdict.clone(),
                        step.detail.clone(),
                    ]
                });
                table("", &["", "STAGE", "VERDICT", "WHY"], &rows.collect::<Vec<_>>());
            }
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}
