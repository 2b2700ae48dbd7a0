//! What is printed of one packet.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use super::{file::Frame, keys::Auth};

/// One LISP packet of a capture: one line of `weft decode -o json`.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Number of the packet in the capture, from 1.
    pub packet: u64,
    /// When it was captured (RFC 3339, UTC); some captures do not say.
    pub time: Option<String>,
    /// Source address and UDP port.
    pub from: String,
    /// Destination address and UDP port.
    pub to: String,
    /// The RFC's name of the message, such as `Map-Register`, or `Data`.
    pub message: String,
    /// What stands in it.
    pub fields: Value,
    /// What its authentication is worth.
    pub auth: Auth,
    /// What is wrong with it, each in one sentence.
    pub problems: Vec<String>,
    /// The fields in lines for people.
    #[serde(skip)]
    pub lines: Vec<String>,
}

impl Item {
    pub(super) fn new(frame: &Frame, from: SocketAddr, to: SocketAddr, decoded: Decoded) -> Self {
        Self {
            packet: frame.number,
            time: frame.time.map(rfc3339),
            from: from.to_string(),
            to: to.to_string(),
            message: decoded.message,
            fields: decoded.fields,
            auth: decoded.auth,
            problems: decoded.problems,
            lines: decoded.lines,
        }
    }
}

/// What a payload turned out to be.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// See [`Item::message`].
    pub message: String,
    /// See [`Item::fields`].
    pub fields: Value,
    /// See [`Item::auth`].
    pub auth: Auth,
    /// See [`Item::problems`].
    pub problems: Vec<String>,
    /// See [`Item::lines`].
    pub lines: Vec<String>,
}

impl Decoded {
    /// Without authentication and, so far, without problems.
    pub fn new(message: impl Into<String>, fields: Value) -> Self {
        Self {
            message: message.into(),
            fields,
            auth: Auth::None,
            problems: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Takes over what was found out about a message inside this one.
    pub fn contain(&mut self, inner: Self) {
        self.auth = inner.auth;
        let name = inner.message;
        self.problems.extend(
            inner
                .problems
                .into_iter()
                .map(|problem| format!("inner {name}: {problem}")),
        );
        self.lines.push(format!("inside: {name}"));
        self.lines
            .extend(inner.lines.into_iter().map(|line| format!("  {line}")));
        if let Value::Object(fields) = &mut self.fields {
            fields.insert(
                "inner".into(),
                serde_json::json!({"message": name, "fields": inner.fields}),
            );
        }
    }
}

/// `2026-11-24T13:40:49.123456789Z`.
fn rfc3339(nanoseconds: i128) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 1 March of a year that begins a cycle of 400 years, so that the leap day comes last.
    let days = days.saturating_add(719_468);
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year + cycle * 400 + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(rfc3339(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_795_527_649_123_456_789), "2026-11-24T13:40:49.123456789Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
