//! One object as the user wrote it, and the stored form of a whole intent.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    error::{IntentError, Report},
    kind::{API_VERSION, KindName},
    nearest,
    read::{self, Source},
    tree::{Node, Path, Span, Value},
};

/// An object in its file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The text it stands in.
    pub source: Arc<Source>,
    /// Its content.
    pub root: Node,
    /// Kind of object.
    pub kind: KindName,
    /// Its name.
    pub name: String,
    /// Whether it was applied earlier and is only here as the rest of the intent.
    pub stored: bool,
}

impl Document {
    /// Finds out what object it is.
    ///
    /// # Errors
    /// When `apiVersion`, `kind` or `metadata.name` do not say so.
    pub fn new(source: Arc<Source>, root: Node) -> Result<Self, Vec<IntentError>> {
        let mut errors = Vec::new();
        let mut fail = |path: &str, message: String, help: String| {
            let span = root.place(&Path::parse(path));
            errors.push(located(&source, span, message, help, String::new(), false));
        };
        if !matches!(root.value, Value::Map(_)) {
            fail(
                "",
                format!("an object is a map, here is {}", root.describe()),
                format!("begin with `apiVersion: {API_VERSION}`, `kind:`, `metadata:` and `spec:`"),
            );
            return Err(errors);
        }
        match root.field("apiVersion").map(|node| (node.text(), node)) {
            Some((Some(API_VERSION), _)) => {}
            Some((_, node)) => fail(
                "apiVersion",
                format!("apiVersion is {}", node.describe()),
                format!("this version of Weft knows `apiVersion: {API_VERSION}`"),
            ),
            None => fail(
                "",
                "apiVersion is missing".into(),
                format!("write `apiVersion: {API_VERSION}`"),
            ),
        }
        let kinds = || KindName::ALL.map(KindName::as_str);
        let mut kind = None;
        match root.field("kind").map(|node| (node.text(), node)) {
            Some((Some(text), _)) => {
                kind = KindName::ALL.into_iter().find(|kind| kind.as_str() == text);
                if kind.is_none() {
                    fail(
                        "kind",
                        format!("there is no kind `{}`", crate::tree::shorten(text)),
                        nearest::suggestion(text, kinds()),
                    );
                }
            }
            Some((None, node)) => fail(
                "kind",
                format!("the kind is a word, here is {}", node.describe()),
                format!("use one of {}", kinds().join(", ")),
            ),
            None => fail(
                "",
                "kind is missing".into(),
                format!("say which: {}", kinds().join(", ")),
            ),
        }
        let name = root.field("metadata").and_then(|metadata| metadata.field("name"));
        match name.map(|node| (node.text(), node)) {
            Some((Some(text), _)) => {
                if let Err(help) = object_name(text) {
                    fail(
                        "metadata.name",
                        format!("`{}` cannot be the name of an object", crate::tree::shorten(text)),
                        help,
                    );
                }
            }
            Some((None, node)) => fail(
                "metadata.name",
                format!("a name is text, here is {}", node.describe()),
                "put it into quotes".into(),
            ),
            None => fail(
                "metadata",
                "the object has no name".into(),
                "write `metadata: {name: NAME}`".into(),
            ),
        }
        let name = name.and_then(Node::text).map(str::to_owned);
        match (kind, name) {
            (Some(kind), Some(name)) if errors.is_empty() => Ok(Self {
                source,
                root,
                kind,
                name,
                stored: false,
            }),
            _ => Err(errors),
        }
    }

    /// An error at the place that `path` leads to.
    #[must_use]
    pub fn error(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) -> IntentError {
        self.error_in(self.root.place(path), path, message, help, false)
    }

    /// An error about a value that may be a credential: it is not shown.
    #[must_use]
    pub fn credential_error(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) -> IntentError {
        self.error_in(self.root.place(path), path, message, help, true)
    }

    /// An error at a place that is known.
    #[must_use]
    pub fn error_in(
        &self,
        span: Span,
        path: &Path,
        message: impl Into<String>,
        help: impl Into<String>,
        hide: bool,
    ) -> IntentError {
        let object = if path.0.is_empty() {
            format!("{} {}", self.kind, self.name)
        } else {
            format!("{} {}: {path}", self.kind, self.name)
        };
        located(&self.source, span, message.into(), help.into(), object, hide)
    }

    /// `file:line:column` of what `path` leads to, for a message about something else.
    #[must_use]
    pub fn place(&self, path: &Path) -> String {
        let span = self.root.place(path);
        format!("{}:{}:{}", self.source.name, span.line, span.column)
    }
}

/// An error about a value of an object, by its path (`spec.nics[0].attach.veth.interface`): what checks the intent
/// against the machine it runs on uses this. Where the object is in none of the documents, the place stays empty.
#[must_use]
pub fn error_at(
    documents: &[Document],
    kind: KindName,
    name: &str,
    path: &str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> IntentError {
    match documents
        .iter()
        .find(|document| document.kind == kind && document.name == name)
    {
        Some(document) => document.error(&Path::parse(path), message, help),
        None => IntentError {
            object: format!("{kind} {name}: {path}"),
            ..IntentError::whole(format!("{kind}/{name}"), message, help)
        },
    }
}

/// An error at a place in a text.
pub(crate) fn located(
    source: &Source,
    span: Span,
    message: String,
    help: String,
    object: String,
    hide: bool,
) -> IntentError {
    let line = source.text.lines().nth(span.line.saturating_sub(1)).unwrap_or_default();
    let characters = line.chars().count();
    let rest = characters.saturating_sub(span.column.saturating_sub(1));
    let length = span.length.clamp(1, rest.max(1));
    let text = if hide {
        line.chars()
            .enumerate()
            .map(|(column, c)| {
                if column + 1 >= span.column && !c.is_whitespace() {
                    '•'
                } else {
                    c
                }
            })
            .collect()
    } else {
        line.to_owned()
    };
    IntentError {
        message,
        help,
        file: source.name.clone(),
        line: span.line.max(1),
        column: span.column.max(1),
        length,
        text,
        object,
    }
}

/// Whether a text can name an object.
///
/// # Errors
/// What to write instead.
pub fn object_name(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if text.len() <= 63 && text.chars().all(good) && edge(text.chars().next()) && edge(text.chars().last()) {
        return Ok(());
    }
    Err("use lower case letters, digits, `-` and `.`, at most 63 of them, with a letter or digit at both ends".into())
}

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// Kind of object.
    pub kind: KindName,
    /// Its name.
    pub name: String,
    /// Folder that relative paths in it start from.
    pub base: PathBuf,
    /// The object, without comments, as the user wrote it.
    pub object: serde_json::Value,
}

impl From<&Document> for StoredObject {
    fn from(document: &Document) -> Self {
        Self {
            kind: document.kind,
            name: document.name.clone(),
            base: document.source.base.clone(),
            object: document.root.to_json(),
        }
    }
}

impl StoredObject {
    /// The object as YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.object).unwrap_or_else(|_| self.object.to_string())
    }

    fn to_source(&self) -> Source {
        Source {
            name: format!("<applied {}/{}>", self.kind, self.name),
            base: self.base.clone(),
            text: self.to_yaml(),
        }
    }
}

/// An intent as it is kept: objects as the user wrote them, sorted by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIntent {
    /// Its objects.
    pub objects: Vec<StoredObject>,
}

impl StoredIntent {
    /// This intent with the documents put over it: an object of the same kind and name is replaced as a whole.
    #[must_use]
    pub fn merged(&self, documents: &[Document]) -> Self {
        let mut objects: Vec<StoredObject> = self
            .objects
            .iter()
            .filter(|object| {
                !documents
                    .iter()
                    .any(|new| new.kind == object.kind && new.name == object.name)
            })
            .cloned()
            .collect();
        objects.extend(documents.iter().map(StoredObject::from));
        objects.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Self { objects }
    }

    /// The documents that the merged intent consists of: what was stored and is not replaced first, then the new ones
    /// with their own places.
    ///
    /// # Errors
    /// When a stored object cannot be read any more.
    pub fn documents_with(&self, documents: &[Document]) -> Result<Vec<Document>, Report> {
        let sources: Vec<Source> = self
            .objects
            .iter()
            .filter(|object| {
                !documents
                    .iter()
                    .any(|new| new.kind == object.kind && new.name == object.name)
            })
            .map(StoredObject::to_source)
            .collect();
        let mut all = read::parse(&sources)?;
        for document in &mut all {
            document.stored = true;
        }
        all.extend_from_slice(documents);
        Ok(all)
    }

    /// This intent without an object; `None` when it has no such object.
    #[must_use]
    pub fn without(&self, kind: KindName, name: &str) -> Option<Self> {
        let objects: Vec<StoredObject> = self
            .objects
            .iter()
            .filter(|object| !(object.kind == kind && object.name == name))
            .cloned()
            .collect();
        (objects.len() < self.objects.len()).then_some(Self { objects })
    }

    /// An object.
    #[must_use]
    pub fn get(&self, kind: KindName, name: &str) -> Option<&StoredObject> {
        self.objects
            .iter()
            .find(|object| object.kind == kind && object.name == name)
    }

    /// Objects of a kind.
    pub fn of_kind(&self, kind: KindName) -> impl Iterator<Item = &StoredObject> {
        self.objects.iter().filter(move |object| object.kind == kind)
    }
}
