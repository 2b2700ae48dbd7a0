//! From objects as people write them to an [`Intent`]: everything that is wrong at once, each with its place and what
//! to do about it.
//!
//! Two passes. [`structure`] judges every document by the schema of its kind; only when all of them have the right
//! shape does [`meaning`] read addresses and prefixes and follow references, so that one typing error does not drag a
//! tail of "there is no such network" behind it.

mod meaning;
mod structure;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_sealed;

use crate::{document::Document, error::IntentError, intent::Intent};

pub use meaning::sealed::{stand_in_for_node, with_stand_ins};

/// A service as people write it, such as `tcp/443`.
///
/// # Errors
/// What is wrong with the text, and what to write.
pub fn service(text: &str) -> Result<crate::intent::Service, (String, String)> {
    meaning::text::service(text).map_err(|wrong| (wrong.message, wrong.help))
}

/// Validates the documents that make up a whole intent.
///
/// # Errors
/// Everything that is wrong.
pub fn intent(documents: &[Document]) -> Result<Intent, Vec<IntentError>> {
    intent_after(documents, &Intent::default())
}

/// As [`intent`]; guests that were given an IPv4 address of their network's slice in `previous` keep it.
///
/// # Errors
/// Everything that is wrong.
pub fn intent_after(documents: &[Document], previous: &Intent) -> Result<Intent, Vec<IntentError>> {
    let errors: Vec<IntentError> = documents.iter().flat_map(structure::check).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    meaning::read(documents, previous)
}
