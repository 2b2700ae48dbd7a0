//! How wire values look when serialized for people: bytes as hex strings, names as text, nonces as sixteen hex digits.

use std::fmt::{Display, Write as _};

use serde::{Serialize, Serializer};

use crate::{SiteId, XtrId};

/// Lower-case hex of `bytes`.
fn hex_string(bytes: &[u8]) -> String {
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        },
    )
}

/// Bytes as a hex string.
pub(super) fn hex<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex_string(bytes.as_ref()))
}

/// A list of byte strings as hex strings.
pub(super) fn hex_list<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|bytes| hex_string(bytes)))
}

/// Bytes that are meant to be text: as text when they are UTF-8, else as `0x` and hex.
pub(super) fn name<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    match str::from_utf8(bytes.as_ref()) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => serializer.serialize_str(&format!("0x{}", hex_string(bytes.as_ref()))),
    }
}

/// As it is displayed.
pub(super) fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// xTR-ID and Site-ID by name.
pub(super) fn xtr<S: Serializer>(ids: &Option<(XtrId, SiteId)>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Ids {
        xtr_id: String,
        site_id: String,
    }
    ids.map(|(xtr_id, site_id)| Ids {
        xtr_id: xtr_id.to_string(),
        site_id: site_id.to_string(),
    })
    .serialize(serializer)
}
