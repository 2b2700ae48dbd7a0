//! Control messages: what stands in them, and what is wrong with them.

use std::net::{IpAddr, SocketAddr};

use lisp::{
    CONTROL_PORT,
    wire::{Authentication, Ecm, EidRecord, MapReply, MapRequest, Message},
};
use serde_json::{Value, json};

use super::{Decoder, ip::Datagram, item::Decoded, text};

/// What carries a control message.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    /// Source, where it is known.
    from: Option<SocketAddr>,
    /// Destination, where it is known.
    to: Option<SocketAddr>,
    /// Inside an ECM.
    ecm: bool,
    /// Whether all bytes are there.
    complete: bool,
}

impl Carrier {
    /// A UDP datagram.
    pub fn udp(datagram: &Datagram<'_>) -> Self {
        Self {
            from: Some(datagram.from),
            to: Some(datagram.to),
            ecm: false,
            complete: datagram.complete,
        }
    }

    /// A data header with the Instance-ID for control messages.
    pub fn data(datagram: &Datagram<'_>) -> Self {
        Self {
            from: None,
            to: None,
            ..Self::udp(datagram)
        }
    }

    fn inside(ecm: &Ecm) -> Self {
        Self {
            from: Some(ecm.source),
            to: Some(ecm.destination),
            ecm: true,
            complete: true,
        }
    }
}

impl Decoder {
    /// Decodes one control message.
    pub(super) fn control(&mut self, packet: u64, bytes: &[u8], carrier: &Carrier) -> Decoded {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                let mut decoded = Decoded::new(name_by_type(bytes), json!({"bytes": bytes.len()}));
                if carrier.complete {
                    decoded.problems.push(format!("malformed: {error}"));
                }
                return decoded;
            }
        };
        let mut fields = serde_json::to_value(&message).unwrap_or(Value::Null);
        plain_names(&message, &mut fields);
        let mut decoded = Decoded::new(message.name(), fields);
        decoded.lines = text::lines(&message);
        decoded.auth = self.keys.judge(bytes, authentication(&message), &mut decoded.problems);
        let address: Option<IpAddr> = carrier.from.map(|from| from.ip());
        decoded
            .problems
            .extend(self.history.note(packet, address, &message, bytes));
        problems(&message, carrier, &mut decoded.problems);
        match &message {
            // Inner IP headers have fields of their own that are not kept.
            Message::Ecm(ecm) => {
                if bytes.get(1..4) != Some(&[0; 3]) {
                    decoded.problems.push("reserved bits of the ECM header are set".into());
                }
                let inner = self.control(packet, &ecm.payload, &Carrier::inside(ecm));
                decoded.contain(inner);
            }
            _ => decoded.problems.extend(reserved_bits(&message, bytes)),
        }
        decoded
    }
}

fn name_by_type(bytes: &[u8]) -> &'static str {
    match bytes.first().map_or(0, |first| first >> 4) {
        1 => "Map-Request",
        2 => "Map-Reply",
        3 => "Map-Register",
        4 => "Map-Notify",
        5 => "Map-Notify-Ack",
        6 => "Map-Referral",
        7 => "Info",
        8 => "Encapsulated-Control-Message",
        _ => "Unknown",
    }
}

fn authentication(message: &Message) -> Option<&Authentication> {
    match message {
        Message::MapRegister(message) => Some(&message.authentication),
        Message::MapNotify(message) => Some(&message.authentication),
        Message::MapNotifyAck(message) => Some(&message.0.authentication),
        Message::InfoRequest(message) => Some(&message.authentication),
        Message::InfoReply(message) => Some(&message.authentication),
        _ => None,
    }
}

/// Beside every address as it travels, the same in the way people write it: `prefix` of a record, `address` of a
/// locator. What an ECM carries stands under `inner`, not as bytes.
fn plain_names(message: &Message, fields: &mut Value) {
    let records: &[EidRecord] = match message {
        Message::MapReply(reply) => &reply.records,
        Message::MapRegister(register) => &register.records,
        Message::MapNotify(notify) => &notify.records,
        Message::MapNotifyAck(ack) => &ack.0.records,
        _ => &[],
    };
    let mut put = |pointer: String, name: &str, value: String| {
        if let Some(Value::Object(fields)) = fields.pointer_mut(&pointer) {
            fields.insert(name.into(), value.into());
        }
    };
    for (index, record) in records.iter().enumerate() {
        put(
            format!("/records/{index}"),
            "prefix",
            text::prefix(&record.eid, record.mask_len),
        );
        for (locator, found) in record.locators.iter().enumerate() {
            put(
                format!("/records/{index}/locators/{locator}"),
                "address",
                found.rloc.to_string(),
            );
        }
    }
    if let Message::MapRequest(request) = message {
        for (index, record) in request.records.iter().enumerate() {
            put(
                format!("/records/{index}"),
                "prefix",
                text::prefix(&record.eid, record.mask_len),
            );
        }
    }
    if let (Message::Ecm(_), Value::Object(fields)) = (message, fields) {
        fields.remove("payload");
    }
}

/// Encoding writes reserved bits as zero: where it gives other bytes, some are set.
fn reserved_bits(message: &Message, bytes: &[u8]) -> Option<String> {
    let canonical = message.encode();
    if canonical.len() != bytes.len() {
        return None;
    }
    let differing = canonical
        .iter()
        .zip(bytes)
        .enumerate()
        .filter(|(offset, (canonical, byte))| {
            // Deployed code sends xTR-ID and Site-ID without the bit that announces them.
            let announced = matches!(message, Message::MapNotify(_) | Message::MapNotifyAck(_)) && *offset == 0;
            canonical != byte && !(announced && *byte | 0x08 == **canonical)
        });
    let offsets: Vec<String> = differing.map(|(offset, _)| offset.to_string()).take(4).collect();
    match offsets.as_slice() {
        [] => None,
        [one] => Some(format!("reserved bits are set in byte {one}")),
        several => Some(format!("reserved bits are set in bytes {}", several.join(", "))),
    }
}

fn problems(message: &Message, carrier: &Carrier, problems: &mut Vec<String>) {
    ports(message, carrier, problems);
    match message {
        Message::MapRequest(request) => map_request(request, carrier, problems),
        Message::MapReply(reply) => map_reply(reply, problems),
        Message::MapRegister(register) => {
            if register
                .records
                .iter()
                .flat_map(|record| &record.locators)
                .any(|locator| locator.probed)
            {
                problems.push("the p-bit of a locator is set in a Map-Register".into());
            }
            records(&register.records, problems);
        }
        Message::MapNotify(notify) => records(&notify.records, problems),
        Message::MapNotifyAck(ack) => records(&ack.0.records, problems),
        Message::Ecm(ecm) if ecm.destination.port() != CONTROL_PORT => {
            problems.push(format!(
                "the inner destination port is {}, not {CONTROL_PORT}",
                ecm.destination.port()
            ));
        }
        Message::Ecm(_) | Message::MapReferral(_) | Message::InfoRequest(_) | Message::InfoReply(_) => {}
    }
}

/// Which port a message goes to or comes from (RFC 9301 §5.2, §5.4, §5.6, §5.8).
fn ports(message: &Message, carrier: &Carrier, problems: &mut Vec<String>) {
    let (Some(from), Some(to)) = (carrier.from, carrier.to) else {
        return;
    };
    let goes_to = matches!(
        message,
        Message::MapRequest(_) | Message::MapRegister(_) | Message::Ecm(_)
    );
    if goes_to && to.port() != CONTROL_PORT && !carrier.ecm {
        problems.push(format!("wrong port: it goes to {}, not to {CONTROL_PORT}", to.port()));
    }
    if matches!(message, Message::MapReply(_)) && from.port() != CONTROL_PORT {
        problems.push(format!(
            "wrong port: it comes from {}, not from {CONTROL_PORT}",
            from.port()
        ));
    }
}

fn map_request(request: &MapRequest, carrier: &Carrier, problems: &mut Vec<String>) {
    if request.probe && carrier.ecm {
        problems.push("an RLOC-probe inside an ECM: it goes straight to the RLOC it asks".into());
    }
    if request.smr && carrier.ecm {
        problems.push("an SMR inside an ECM: it goes straight to the RLOC of who is to ask again".into());
    }
    if request.smr && request.smr_invoked {
        problems.push("both an SMR and the answer to one".into());
    }
    if request.smr_invoked && !carrier.ecm {
        problems
            .push("invoked by an SMR, yet not sent through the mapping system: anybody could have sent the SMR".into());
    }
    if request.records.len() > 1 {
        problems.push(format!(
            "{} records: a sender writes exactly one",
            request.records.len()
        ));
    }
    if request.map_reply_record.is_some() {
        problems.push("carries a mapping of its own (M-bit): not to be trusted without asking".into());
    }
    for rloc in request.itr_rlocs.iter().filter_map(lisp::wire::AfiAddress::ip) {
        if rloc.is_multicast() || rloc.is_unspecified() || rloc.is_loopback() {
            problems.push(format!("ITR-RLOC {rloc} is no address that may be answered"));
        }
    }
}

fn map_reply(reply: &MapReply, problems: &mut Vec<String>) {
    if reply.probe && !reply.records.iter().all(|record| record.authoritative) {
        problems.push("answers a probe without the A-bit: to be discarded".into());
    }
    for record in &reply.records {
        let mut sorted = record.clone();
        sorted.sort_locators();
        if sorted != *record {
            problems.push(format!(
                "the locators of {} are not in ascending order",
                text::prefix(&record.eid, record.mask_len)
            ));
        }
    }
    let mut lives: Vec<u32> = reply.records.iter().map(|record| record.ttl.0).collect();
    lives.dedup();
    if lives.len() > 1 {
        problems.push("the records have different TTLs".into());
    }
    records(&reply.records, problems);
}

fn records(records: &[EidRecord], problems: &mut Vec<String>) {
    for record in records {
        if let (Ok(prefix), Some(eid)) = (record.prefix(), record.eid.to_eid())
            && prefix.first_eid() != eid
        {
            problems.push(format!(
                "{} has bits behind its length",
                text::prefix(&record.eid, record.mask_len)
            ));
        }
        for rloc in record.locators.iter().filter_map(|locator| locator.rloc.ip()) {
            if rloc.is_multicast() || rloc.is_unspecified() {
                problems.push(format!("{rloc} is no locator"));
            }
        }
    }
}
