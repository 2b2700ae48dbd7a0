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

/// Said of lists and maps inside each other.
const TOO_DEEP: &str = "it is nested too deeply";
/// Said of everything else that has a limit.
const TOO_LARGE: &str = "it is too large once aliases are expanded";

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
            standard_input().and_then(not_empty).map(|source| found.push(source))
        } else if path.is_dir() {
            folder(path, &mut found)
        } else {
            file(path).and_then(not_empty).map(|source| found.push(source))
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
    let message = strip_place(text.lines().next().unwrap_or("it cannot be read"));
    // What the parser's own callers could set is nothing that an operator can.
    let message = message.split(", set ").next().unwrap_or(message);
    let message = limit(message).unwrap_or(message);
    let help = remedy(message);
    document::located(
        source,
        span,
        format!("this is no YAML: {message}"),
        help.to_owned(),
        String::new(),
        false,
    )
}

/// A limit of the parser that was met, in words for those who do not know the parser.
fn limit(complaint: &str) -> Option<&'static str> {
    if complaint.contains("recursion limit") {
        return Some(TOO_DEEP);
    }
    let (_, breach) = complaint.split_once("budget breached")?;
    Some(if breach.contains("Depth") { TOO_DEEP } else { TOO_LARGE })
}

/// What to do about the parser's complaint.
fn remedy(complaint: &str) -> &'static str {
    let says = |word: &str| complaint.contains(word);
    if complaint == TOO_DEEP {
        return "no object of Weft nests like this: look for brackets that are opened and not closed";
    }
    if complaint == TOO_LARGE {
        return "split it into several files, and write out what is an alias (`*name`)";
    }
    if says("duplicate") {
        "a key may stand once in a map: keep one of the two"
    } else if says("tab") {
        "indent with spaces"
    } else if says("quote") {
        "close the quote that begins here"
    } else if says("anchor") || says("alias") {
        "`*` begins a reference to an anchor: put text that begins with it into quotes"
    } else if says("flow") || says("indicator") && says("':'") {
        "a `{` or a `[` on this line or before it is not closed, or a `,` is missing"
    } else if says("mapping values") {
        "text with `: ` in it needs quotes; a key and its value stand on a line of their own"
    } else if says("block") || says("indent") {
        "fields of one map, and items of one list, begin in the same column"
    } else {
        "mind the indentation, the quotes, and that every `{` and `[` is closed; text with `: `, ` #` or a leading `[`, \
         `{`, `*`, `&` needs quotes"
    }
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

/// Who names a file means something in it.
fn not_empty(source: Source) -> Result<Source, IntentError> {
    let empty = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    };
    if source.text.lines().all(empty) {
        return Err(IntentError::whole(
            source.name,
            "there is no object in it",
            "write one (`weft schema` says how), or name another file",
        ));
    }
    Ok(source)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_the_order_of_names_and_missing_files_all_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let secret = |name: &str| {
            format!("apiVersion: weft.dev/v1\nkind: Secret\nmetadata: {{name: {name}}}\nspec: {{file: {name}.key}}\n")
        };
        write("b.yaml", &secret("two"));
        write("a.yml", &format!("{}---\n{}", secret("one"), secret("three")));
        write("notes.txt", "no YAML: [");
        write("empty.yaml", "# nothing yet\n");
        let found = documents(&[folder.path().to_owned()]).expect("good");
        let names: Vec<&str> = found.iter().map(|document| document.name.as_str()).collect();
        assert_eq!(names, ["one", "three", "two"]);
        assert_eq!(found[0].source.base, folder.path());
        let missing = [
            folder.path().join("x.yaml"),
            folder.path().join("y.yaml"),
            folder.path().join("empty.yaml"),
        ];
        let Report(errors) = documents(&missing).expect_err("they are not there");
        assert_eq!(errors.len(), 3);
        assert!(errors[0].message.contains("cannot read it"), "{}", errors[0]);
        assert!(errors[2].message.contains("no object"), "{}", errors[2]);
        let nothing = tempfile::tempdir().expect("a folder");
        let Report(errors) = documents(&[nothing.path().to_owned()]).expect_err("it is empty");
        assert!(errors[0].message.contains("no *.yaml file"), "{}", errors[0]);
    }

    #[test]
    fn limits_are_told_in_words_of_their_own() {
        let fault = |text: String| {
            let source = Source {
                name: "node.yaml".into(),
                base: PathBuf::new(),
                text,
            };
            let Report(errors) = parse(&[source]).expect_err("beyond a limit");
            let [error] = <[IntentError; 1]>::try_from(errors).expect("one error");
            assert!(
                !error.message.contains('{') && !error.message.contains("budget"),
                "{error}"
            );
            error.message
        };
        // Short of what the parser's own stack takes, and beyond it.
        for depth in [200, 5000] {
            let deep = fault(format!("a: {}{}", "[".repeat(depth), "]".repeat(depth)));
            assert!(deep.ends_with(TOO_DEEP), "{depth}: {deep}");
        }
        let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            aliases += &format!("a{level}: &a{level} [{inner}]\n");
        }
        let large = fault(aliases);
        assert!(large.ends_with(TOO_LARGE), "{large}");
    }

    #[test]
    fn a_relative_path_starts_from_the_folder_of_its_document() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "apiVersion: weft.dev/v1\nkind: Secret\nmetadata: {name: one}\nspec: {file: keys/one.key}\n";
        fs::write(folder.path().join("a.yaml"), text).expect("written");
        let found = documents(&[folder.path().join("a.yaml")]).expect("good");
        let intent = crate::validate::intent(&found).expect("a good intent");
        let expected = crate::intent::SecretSource::File(folder.path().join("keys/one.key"));
        assert_eq!(intent.secrets["one"], expected);
    }
}
