//! `weft decode`: every LISP message and data header of a capture.

use std::process::ExitCode;

use crate::cli::DecodeArgs;

/// `weft decode`.
#[must_use]
pub fn run(_arguments: &DecodeArgs) -> ExitCode {
    ExitCode::FAILURE
}
