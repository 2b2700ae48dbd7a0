//! The form for people.

use std::fmt::Write as _;

use lisp::{
    Ttl,
    wire::{AfiAddress, AuthAlgorithm, Authentication, DataHeader, EidRecord, MapNotify, Message},
};

use super::{Auth, Item, Totals};

/// A packet: a headline, its fields, its problems.
pub fn render(item: &Item) -> String {
    // `2026-11-24T13:40:49.123456789Z`: the time of day to microseconds is what tells packets apart.
    let time = item.time.as_deref().and_then(|time| time.get(11..26)).unwrap_or("-");
    let mut text = format!(
        "{:>5}  {time}  {} → {}  {}",
        item.packet, item.from, item.to, item.message
    );
    match item.auth {
        Auth::None => {}
        Auth::NoKey => text += "  (authentication not checked: no key)",
        auth => {
            let _ = write!(text, "  (authentication {auth})");
        }
    }
    text.push('\n');
    for line in &item.lines {
        let _ = writeln!(text, "         {line}");
    }
    for problem in &item.problems {
        let _ = writeln!(text, "      !! {problem}");
    }
    text
}

/// The last lines.
pub fn summary(totals: &Totals) -> String {
    let text = format!(
        "{} LISP packets of {}, {} with problems\n",
        totals.lisp, totals.packets, totals.with_problems
    );
    text + &left_out(totals)
}

/// What could not be looked into at all, a line each.
pub fn left_out(totals: &Totals) -> String {
    let mut text = String::new();
    for (link, packets) in &totals.unknown_links {
        let _ = writeln!(
            text,
            "{packets} packets of link type {link}, which is not known here, are left out"
        );
    }
    text
}

/// What stands in a message.
pub fn lines(message: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    match message {
        Message::MapRequest(request) => {
            let flags = words(&[
                (request.authoritative, "authoritative"),
                (request.probe, "RLOC-probe"),
                (request.smr, "SMR"),
                (request.smr_invoked, "SMR-invoked"),
                (request.pitr, "from a PITR"),
                (request.local, "local"),
                (request.dont_reply, "no reply wanted"),
            ]);
            for record in &request.records {
                let notify = if record.notify { ", and tell me of changes" } else { "" };
                lines.push(format!("who is {}?{notify}", prefix(&record.eid, record.mask_len)));
            }
            lines.push(format!("nonce {}{flags}", request.nonce));
            let rlocs: Vec<String> = request.itr_rlocs.iter().map(ToString::to_string).collect();
            lines.push(format!(
                "asked by {}, answer to {}",
                request.source_eid,
                rlocs.join(", ")
            ));
            if let Some(record) = &request.map_reply_record {
                lines.push("its own mapping:".into());
                push_record(&mut lines, record);
            }
            push_ids(&mut lines, request.xtr.as_ref());
        }
        Message::MapReply(reply) => {
            let flags = words(&[(reply.probe, "RLOC-probe"), (reply.echo_nonce, "can echo nonces")]);
            lines.push(format!("nonce {}{flags}", reply.nonce));
            for record in &reply.records {
                push_record(&mut lines, record);
            }
            if reply.security.is_some() {
                lines.push("protected by LISP-SEC".into());
            }
        }
        Message::MapRegister(register) => {
            let flags = words(&[
                (register.proxy_reply, "proxy-reply"),
                (register.want_map_notify, "Map-Notify wanted"),
                (register.use_ttl, "lives for its TTL"),
                (register.merge, "merge"),
                (register.security_capable, "LISP-SEC"),
                (register.eid_notify, "EID-notify"),
                (register.mobile_node, "mobile node"),
            ]);
            lines.push(format!("nonce {}{flags}", register.nonce));
            lines.push(key(&register.authentication));
            for record in &register.records {
                push_record(&mut lines, record);
            }
            push_ids(&mut lines, register.xtr.as_ref());
        }
        Message::MapNotify(notify) => push_notify(&mut lines, notify),
        Message::MapNotifyAck(ack) => push_notify(&mut lines, &ack.0),
        Message::InfoRequest(request) => {
            lines.push(format!("nonce {}, {}", request.nonce, life(request.ttl)));
            lines.push(key(&request.authentication));
            lines.push(format!("asked by {}", prefix(&request.eid, request.mask_len)));
        }
        Message::InfoReply(reply) => {
            lines.push(format!("nonce {}, {}", reply.nonce, life(reply.ttl)));
            lines.push(key(&reply.authentication));
            lines.push(format!(
                "{} is seen as {}",
                prefix(&reply.eid, reply.mask_len),
                reply.nat
            ));
        }
        Message::Ecm(ecm) => {
            let flags = words(&[
                (ecm.ddt, "DDT"),
                (ecm.to_etr, "to the ETR"),
                (ecm.to_ms, "to the Map-Server"),
                (ecm.security.is_some(), "LISP-SEC"),
            ]);
            lines.push(format!("{} → {}{flags}", ecm.source, ecm.destination));
        }
        Message::MapReferral(referral) => {
            lines.push(format!("nonce {}", referral.nonce));
            // Rare enough to be shown as it is.
            lines.extend(serde_json::to_string(&referral.records));
        }
    }
    lines
}

fn push_notify(lines: &mut Vec<String>, notify: &MapNotify) {
    lines.push(format!("nonce {}", notify.nonce));
    lines.push(key(&notify.authentication));
    for record in &notify.records {
        push_record(lines, record);
    }
    push_ids(lines, notify.xtr.as_ref());
}

fn push_ids(lines: &mut Vec<String>, ids: Option<&(lisp::XtrId, lisp::SiteId)>) {
    if let Some((xtr_id, site_id)) = ids {
        lines.push(format!("xTR-ID {xtr_id}, Site-ID {site_id}"));
    }
}

fn push_record(lines: &mut Vec<String>, record: &EidRecord) {
    let mut line = format!("{}, {}", prefix(&record.eid, record.mask_len), life(record.ttl));
    if record.authoritative {
        line += ", authoritative";
    }
    if record.version != 0 {
        let _ = write!(line, ", version {}", record.version);
    }
    if record.locators.is_empty() {
        let _ = write!(line, ", no locators: {}", record.action);
    }
    lines.push(line);
    for locator in &record.locators {
        let flags = words(&[
            (locator.local, "local"),
            (locator.probed, "probed"),
            (!locator.reachable, "not reachable"),
        ]);
        lines.push(format!(
            "  {} priority {} weight {}{flags}",
            locator.rloc, locator.priority, locator.weight
        ));
    }
}

/// An EID-prefix of any kind of address.
pub fn prefix(eid: &AfiAddress, mask_len: u8) -> String {
    match eid {
        AfiAddress::None => "nobody".into(),
        eid => format!("{eid}/{mask_len}"),
    }
}

fn life(ttl: Ttl) -> String {
    match ttl.0 {
        0 => "TTL 0 (gone)".into(),
        u32::MAX => "TTL as the receiver likes".into(),
        minutes => format!("TTL {minutes} min"),
    }
}

fn key(authentication: &Authentication) -> String {
    let Authentication {
        key_id,
        algorithm_id,
        mac,
    } = authentication;
    let algorithm = match AuthAlgorithm::from_id(*algorithm_id) {
        Some(AuthAlgorithm::HmacSha1) => "HMAC-SHA-1".into(),
        Some(AuthAlgorithm::HmacSha256_128) => "HMAC-SHA-256-128".into(),
        Some(AuthAlgorithm::HmacSha256_128HkdfSha256) => "HMAC-SHA-256-128 with HKDF".into(),
        None => format!("Algorithm-ID {algorithm_id}"),
    };
    format!("Key-ID {key_id}, {algorithm}, MAC of {} bytes", mac.len())
}

/// A data header on one line.
pub fn data_header(header: &DataHeader) -> String {
    let mut parts = Vec::new();
    match header.instance_id {
        Some(instance_id) => parts.push(format!("Instance-ID {instance_id}")),
        None => parts.push("no Instance-ID".into()),
    }
    if let Some(nonce) = header.nonce {
        let echo = if header.echo_nonce { ", to be echoed" } else { "" };
        parts.push(format!("nonce {nonce:06x}{echo}"));
    }
    if let Some((source, destination)) = header.map_version {
        parts.push(format!("Map-Versions {source} → {destination}"));
    }
    if let Some(status) = header.locator_status {
        parts.push(format!("Locator-Status-Bits {status:#b}"));
    }
    if let Some(next) = header.next_protocol {
        parts.push(format!("next protocol {next}"));
    }
    parts.join(", ")
}

/// `, word, word` for the flags that are set.
fn words(flags: &[(bool, &str)]) -> String {
    flags
        .iter()
        .filter(|(set, _)| *set)
        .fold(String::new(), |text, (_, word)| text + ", " + word)
}
