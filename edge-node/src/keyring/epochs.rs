//! Since when this node speaks for a prefix. A guest that comes here gets a higher epoch than it had at its former host;
//! a renewed binding keeps its epoch.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
    time::Duration,
};

use lisp::EidPrefix;
use serde::{Deserialize, Serialize};

use super::files;

/// Epochs of what this node serves, kept in a file.
#[derive(Debug)]
pub(super) struct Epochs {
    path: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Unix milliseconds at which each prefix was first bound since it was last absent.
    since: BTreeMap<String, u64>,
    /// The highest epoch ever given: a clock that was set back gives no lower one.
    highest: u64,
}

impl Epochs {
    /// Reads the file. One that is damaged is told of, and does as if it were not there: epochs of now are higher than
    /// any that were lost.
    pub(super) fn read(path: &Path) -> (Self, Option<String>) {
        let (kept, warning) = match files::read_private(path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(kept) => (kept, None),
                Err(error) => (
                    Kept::default(),
                    Some(format!(
                        "{} is damaged ({error}): all bindings get new epochs",
                        path.display()
                    )),
                ),
            },
            Err(_) if !path.try_exists().unwrap_or(true) => (Kept::default(), None),
            Err(error) => (Kept::default(), Some(format!("{error}: all bindings get new epochs"))),
        };
        let path = path.to_owned();
        (Self { path, kept }, warning)
    }

    /// Forgets what is not served any more and gives what is new an epoch.
    ///
    /// # Errors
    /// In words, when the file cannot be written. What is in memory is as if it had been.
    pub(super) fn serve(&mut self, served: &BTreeSet<EidPrefix>, now: Duration) -> Result<(), String> {
        let before = self.kept.clone();
        let names: BTreeSet<String> = served.iter().map(ToString::to_string).collect();
        self.kept.since.retain(|prefix, _| names.contains(prefix));
        let milliseconds = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next = milliseconds.max(self.kept.highest.saturating_add(1));
        for name in names {
            if let Entry::Vacant(place) = self.kept.since.entry(name) {
                place.insert(next);
                self.kept.highest = next;
            }
        }
        if self.kept == before {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            files::private_folder(folder)?;
        }
        let bytes = serde_json::to_vec_pretty(&self.kept).map_err(|error| error.to_string())?;
        files::replace(&self.path, &bytes)
    }

    /// Since when a prefix is served, in Unix milliseconds.
    pub(super) fn of(&self, prefix: &EidPrefix) -> Option<u64> {
        self.kept.since.get(&prefix.to_string()).copied()
    }
}
