//! Statement files: bindings and memberships that were signed elsewhere, one a line.

use lisp::mesh::{Binding, Membership};

const BINDING: &str = "weft-binding:";
const MEMBERSHIP: &str = "weft-membership:";

/// What a statement file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    /// Who speaks for what.
    pub bindings: Vec<Binding>,
    /// Who may join what.
    pub memberships: Vec<Membership>,
}

impl Statements {
    /// Reads a statement file: lines of `weft-binding: HEX` and `weft-membership: HEX`, comments from `#`, blank lines.
    /// Nothing is verified.
    ///
    /// # Errors
    /// In words, with the line. The text is not repeated: it may be a key that was put into the wrong place.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| {
                let number = index.saturating_add(1);
                format!("line {number} {what}; copy the line anew as `weft key bind` or `weft key member` printed it")
            };
            if let Some(digits) = line.strip_prefix(BINDING) {
                let bytes = unhex(digits.trim()).ok_or_else(|| wrong("has something other than hex digits"))?;
                match Binding::read(&bytes) {
                    Some((binding, [])) => read.bindings.push(binding),
                    _ => return Err(wrong("is no whole binding")),
                }
            } else if let Some(digits) = line.strip_prefix(MEMBERSHIP) {
                let bytes = unhex(digits.trim()).ok_or_else(|| wrong("has something other than hex digits"))?;
                let membership = Membership::decode(&bytes).ok_or_else(|| wrong("is no whole membership"))?;
                read.memberships.push(membership);
            } else {
                return Err(wrong(
                    "is no statement: it begins with neither weft-binding: nor weft-membership:",
                ));
            }
        }
        Ok(read)
    }
}

/// The line of a binding.
#[must_use]
pub fn binding_line(binding: &Binding) -> String {
    format!("{BINDING} {}\n", hex(&binding.to_bytes()))
}

/// The line of a membership.
#[must_use]
pub fn membership_line(membership: &Membership) -> String {
    format!("{MEMBERSHIP} {}\n", hex(&membership.to_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
