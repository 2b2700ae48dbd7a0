//! The xTR-ID and Site-ID at the end of a message (RFC 9301 §5.6, RFC 9437).

use super::{WireError, reader::Reader, writer::Writer};
use crate::{SiteId, XtrId};

/// Bytes of both.
pub(crate) const IDS_LEN: usize = 24;

pub(crate) fn read(reader: &mut Reader<'_>) -> Result<(XtrId, SiteId), WireError> {
    Ok((XtrId(reader.array("xTR-ID")?), SiteId(reader.u64("Site-ID")?)))
}

pub(crate) fn write(writer: &mut Writer, ids: Option<&(XtrId, SiteId)>) {
    if let Some((xtr_id, site_id)) = ids {
        writer.bytes(&xtr_id.0);
        writer.u64(site_id.0);
    }
}
