//! The shortest prefix that may be called empty (RFC 9301 §8.4): it holds the EID and nothing registered or
//! configured. Too long a prefix fills map-caches, too short a one makes others unreachable.

use crate::{directory::Directory, prefix_key::PrefixKey, registration::WallMillis, store::Table};

/// The shortest prefix inside `floor` that holds `target`, and no live registered and no configured prefix.
///
/// `floor` is the configured or registered prefix that `target` matched, or the whole Instance-ID.
/// In sorted order the nearest neighbour on either side shares the most leading bits with `target`; one bit more than
/// that is the answer. A neighbour that covers `target` is `floor` itself or holds it, and hides nothing nearer.
pub(crate) fn hole(
    target: &PrefixKey,
    floor: PrefixKey,
    directory: &Directory,
    table: &Table,
    now: WallMillis,
) -> PrefixKey {
    let neighbours = directory
        .neighbours(target)
        .into_iter()
        .chain(table.neighbours(target, now))
        .flatten();
    let length = neighbours
        .filter(|neighbour| !neighbour.covers(target))
        .map(|neighbour| neighbour.common(target).saturating_add(1))
        .fold(floor.length(), u8::max);
    target.truncated(length)
}
