//! `weft demo`: the product shown on one machine, in network namespaces that vanish with it.
//!
//! A demo is a list of parts (`mesh` is the first; clouds and guests come with later stages), a part is a list of
//! named steps. Every step checks what it shows: a figure in the report was measured by the step that carries it.

mod mesh;
mod mesh_files;
mod report;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use crate::lab::{self, LabError};
pub use report::{Report, Step};

/// Arguments of `weft demo`.
#[derive(Args, Clone, Debug, Default)]
pub struct Arguments {
    /// The part to run; all of them when not given.
    #[arg(value_enum)]
    pub part: Option<Part>,
    /// How to print: as text while it happens, or as one JSON object at the end.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// A part of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Three sites, a Map-Server, two guests, one LISP mesh; then a guest moves.
    Mesh,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, as it happens.
    #[default]
    Text,
    /// One object, at the end, and nothing else on standard output.
    Json,
}

/// Runs the demo: exit code 0 when every step did what it shows, 1 otherwise, 130 after Ctrl-C.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::new(arguments.output == Format::Text);
    let result = lab::catch_signals()
        .map_err(|source| LabError::Io {
            what: "catch signals".into(),
            source,
        })
        .and_then(|()| own_binary())
        .and_then(|weft| match arguments.part {
            None | Some(Part::Mesh) => mesh::run(&weft, &mut report),
        });
    report.finish(result.as_ref().err());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(LabError::Interrupted) => ExitCode::from(130),
        Err(_) => ExitCode::FAILURE,
    }
}

fn own_binary() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(|source| LabError::Io {
        what: "find this program's own file".into(),
        source,
    })
}
