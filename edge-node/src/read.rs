//! From files, folders and standard input to documents whose values know their place.
//!
//! The client reads the files, the node parses them again: what travels between the two is [`Source`], the text as the
//! user wrote it, so that an error found by the node still shows the user's own line.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    document::{self, Document},
    error::{IntentError, Report},
    tree::{Node, Span},
};

/// Largest file that is read.
const LARGEST: u64 = 16 * 1024 * 1024;

/// A text that holds documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Name for messages: the path as the user gave it, or `<stdin>`.
    pub name: String,
    /// Folder that relative paths inside start from.
    pub base: PathBuf,
    /// The text.
    pub text: String,
}

/// Reads documents from files, folders (their `*.yaml`, `*.yml` and `*.json` files, sorted by name) and `-`, standard
/// input.
///
/// # Errors
/// Everything that is wrong with the files and with the YAML in them, at once.
pub fn documents(paths: &[PathBuf]) -> Result<Vec<Document>, Report> {
    parse(&sources(paths)?)
}

/// Reads the texts only.
///
/// # Errors
/// Every file that cannot be read.
pub fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Report> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        let result = if path.as_os_str() == "-" {
            standard_input().map(|source| found.push(source))
        } else if path.is_dir() {
            folder(path, &mut found)
        } else {
            file(path).map(|source| found.push(source))
        };
        if let Err(error) = result {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(Report(errors))
    }
}

/// Parses texts.
///
/// # Errors
/// Everything that is wrong with the YAML and with what says what an object is (`apiVersion`, `kind`, `metadata.name`),
/// at once.
pub fn parse(sources: &[Source]) -> Result<Vec<Document>, Report> {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for source in sources {
        let source = Arc::new(source.clone());
        // YAML 1.2: `yes`, `no`, `on`, `n` are words, not truth values.
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_multiple_with_options::<Node>(&source.text, options) {
            Ok(roots) => {
                for root in roots {
                    match Document::new(Arc::clone(&source), root) {
                        Ok(document) => documents.push(document),
                        Err(more) => errors.extend(more),
                    }
                }
            }
            Err(error) => errors.push(broken(&source, &error)),
        }
    }
    if errors.is_empty() {
        Ok(documents)
    } else {
        Err(Report(errors))
    }
}

fn broken(source: &Source, error: &serde_saphyr::Error) -> IntentError {
    let bare = error.without_snippet();
    let span = bare.location().map_or_else(Span::default, Span::from);
    let text = bare.to_string();
    let message = text.lines().next().unwrap_or("this is no YAML");
    let message = strip_place(message);
    let help = if message.contains("duplicate") {
        "a key may stand once in a map: keep one of the two"
    } else {
        "mind the indentation (spaces, no tabs), the quotes, and that every `{` and `[` is closed; text with `: `, `#` \
         or a leading `[`, `{`, `*`, `&` needs quotes"
    };
    document::located(
        source,
        span,
        format!("this is no YAML: {message}"),
        help.to_owned(),
        String::new(),
        false,
    )
}

/// The parser names line and column in its own way; ours stand in front of the message.
fn strip_place(message: &str) -> &str {
    let message = message.split(" at line ").next().unwrap_or(message);
    match message.split_once(": ") {
        Some((place, rest)) if place.starts_with("error") || place.starts_with("line ") => rest,
        _ => message,
    }
}

fn standard_input() -> Result<Source, IntentError> {
    let mut text = String::new();
    match io::stdin().lock().take(LARGEST).read_to_string(&mut text) {
        Ok(_) => Ok(Source {
            name: "<stdin>".into(),
            base: std::env::current_dir().unwrap_or_default(),
            text,
        }),
        Err(error) => Err(cannot("<stdin>", "read", &error)),
    }
}

fn folder(path: &Path, found: &mut Vec<Source>) -> Result<(), IntentError> {
    let name = path.display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| cannot(&name, "read", &error))? {
        let path = entry.map_err(|error| cannot(&name, "read", &error))?.path();
        let wanted = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
        if wanted && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(IntentError::whole(
            name,
            "no *.yaml file in this folder",
            "put the objects into files whose names end in .yaml, or name a file",
        ));
    }
    files.sort();
    for path in files {
        found.push(file(&path)?);
    }
    Ok(())
}

fn file(path: &Path) -> Result<Source, IntentError> {
    let name = path.display().to_string();
    let size = fs::metadata(path).map_err(|error| cannot(&name, "read", &error))?.len();
    if size > LARGEST {
        return Err(IntentError::whole(
            name,
            format!("{size} bytes are too many for a configuration file"),
            format!("split it: at most {} MiB a file", LARGEST / 1024 / 1024),
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| cannot(&name, "read", &error))?;
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok(Source {
        name,
        base: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        text,
    })
}

fn cannot(name: &str, verb: &str, error: &io::Error) -> IntentError {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "mind the spelling and the folder you are in",
        io::ErrorKind::PermissionDenied => "make it readable for you, or run as the user who may read it",
        io::ErrorKind::InvalidData => "the file must be UTF-8 text",
        _ => "see that it is a readable file or folder",
    };
    IntentError::whole(name, format!("cannot {verb} it: {error}"), help)
}
