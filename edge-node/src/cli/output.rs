//! How results are printed.

use clap::ValueEnum;

/// Form of a result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table or sentences, for people
    #[default]
    Text,
    /// As text, with more columns
    Wide,
    /// JSON and nothing else
    Json,
    /// YAML
    Yaml,
}

/// Form of `weft decode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DecodeFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Human,
    /// One JSON object a line
    Json,
}
