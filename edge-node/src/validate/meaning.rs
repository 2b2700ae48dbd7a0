use crate::{document::Document, error::IntentError, intent::Intent};
pub(super) fn read(_documents: &[Document], _previous: &Intent) -> Result<Intent, Vec<IntentError>> { Ok(Intent::default()) }
