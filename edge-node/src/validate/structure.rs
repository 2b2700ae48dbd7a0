use crate::{document::Document, error::IntentError};
pub(super) fn check(_document: &Document) -> Vec<IntentError> { Vec::new() }
