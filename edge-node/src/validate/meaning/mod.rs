//! What documents of the right shape mean: addresses are read, references followed, and objects compared with each
//! other. A file for each kind; what several of them need is here and in [`text`].

mod guest;
mod map_server;
mod network;
mod node;
mod policy;
pub(super) mod sealed;
mod secret;
pub(super) mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use lisp::mesh::PublicKey;
use serde::de::DeserializeOwned;

use crate::{
    document::{self, Document},
    error::IntentError,
    intent::Intent,
    kind::{KindName, Object},
    nearest,
    tree::{Path, shorten},
};

/// Reads documents of the right shape into an intent. In the order in which kinds refer to each other, so that a
/// checker finds what it refers to; within a kind in the order of the documents, so that of two objects that clash the
/// later one is at fault.
pub(super) fn read(documents: &[Document], previous: &Intent) -> Result<Intent, Vec<IntentError>> {
    let mut reader = Reader {
        documents,
        intent: Intent::default(),
        errors: Vec::new(),
        broken: BTreeSet::new(),
        interfaces: BTreeMap::new(),
        sockets: BTreeMap::new(),
    };
    reader.names();
    reader.each(KindName::Secret, secret::read);
    reader.each(KindName::Node, node::read);
    reader.each(KindName::MapServer, map_server::read);
    reader.each(KindName::Network, network::read);
    guest::read_all(&mut reader, previous);
    reader.each(KindName::Policy, policy::read);
    reader.whole();
    if reader.errors.is_empty() {
        policy::run_tests(&mut reader);
    }
    if reader.errors.is_empty() {
        Ok(reader.intent)
    } else {
        Err(reader.errors)
    }
}

/// The work at hand.
struct Reader<'a> {
    documents: &'a [Document],
    intent: Intent,
    errors: Vec<IntentError>,
    /// Objects that something is wrong with: what follows from that is not worth a message.
    broken: BTreeSet<(KindName, String)>,
    /// Interfaces of this machine that something uses.
    interfaces: BTreeMap<String, Place<'a>>,
    /// Addresses that Map-Servers of this node listen on.
    sockets: BTreeMap<SocketAddr, Place<'a>>,
}

/// Where something is said.
#[derive(Clone, Debug)]
struct Place<'a> {
    document: &'a Document,
    path: Path,
}

impl<'a> Place<'a> {
    fn new(document: &'a Document, path: &Path) -> Self {
        Self {
            document,
            path: path.clone(),
        }
    }

    /// As an error in `document` speaks of it: `Guest guest-a (line 7)`, with the file where that is another one.
    fn from(&self, document: &Document) -> String {
        let Document { kind, name, .. } = self.document;
        if document.source.name == self.document.source.name {
            format!("{kind} {name} (line {})", self.document.root.place(&self.path).line)
        } else {
            format!("{kind} {name} ({})", self.document.place(&self.path))
        }
    }
}

impl<'a> Reader<'a> {
    fn each(&mut self, kind: KindName, read: fn(&mut Self, &'a Document)) {
        for document in self.of(kind) {
            read(self, document);
        }
    }

    fn of(&self, kind: KindName) -> impl Iterator<Item = &'a Document> + use<'a> {
        self.documents.iter().filter(move |document| document.kind == kind)
    }

    fn document(&self, kind: KindName, name: &str) -> Option<&'a Document> {
        self.of(kind).find(|document| document.name == name)
    }

    fn fail(&mut self, document: &Document, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.broken.insert((document.kind, document.name.clone()));
        self.errors.push(document.error(path, message, help));
    }

    /// Whether something is wrong with an object that is there.
    fn is_broken(&self, kind: KindName, name: &str) -> bool {
        self.broken.contains(&(kind, name.to_owned()))
    }

    /// The object of a document. That it fits was found by the schema; what the schema cannot say ends here.
    fn object<S: DeserializeOwned>(&mut self, document: &Document) -> Option<Object<S>> {
        match serde_json::from_value(document.root.to_json()) {
            Ok(object) => Some(object),
            Err(error) => {
                self.fail(document, &Path::default(), error.to_string(), "see `weft schema`");
                None
            }
        }
    }

    /// What `read` makes of a text, or its complaint at the place of the text.
    fn parse<T>(
        &mut self,
        document: &Document,
        path: &Path,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, text::Wrong>,
    ) -> Option<T> {
        match read(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.fail(document, path, wrong.message, wrong.help);
                None
            }
        }
    }

    /// Names of objects are unique, and labels are what policies can name.
    fn names(&mut self) {
        let mut seen: BTreeMap<(KindName, &str), &Document> = BTreeMap::new();
        for document in self.documents {
            let path = Path::parse("metadata.name");
            if let Some(first) = seen.insert((document.kind, &document.name), document) {
                let message = format!(
                    "there are two of {} {}: the other one is {}",
                    document.kind,
                    document.name,
                    Place::new(first, &path).from(document)
                );
                self.fail(
                    document,
                    &path,
                    message,
                    "give one of them another name, or take it out",
                );
            }
            self.labels(document);
        }
    }

    fn labels(&mut self, document: &Document) {
        let path = Path::parse("metadata.labels");
        let labels = document
            .root
            .field("metadata")
            .and_then(|metadata| metadata.field("labels"));
        let Some(crate::tree::Value::Map(entries)) = labels.map(|labels| &labels.value) else {
            return;
        };
        let word = |text: &str| !text.is_empty() && !text.contains(|c: char| c == '=' || c.is_whitespace());
        for entry in entries {
            if !word(&entry.key) || !entry.node.text().is_some_and(word) {
                self.fail(
                    document,
                    &path.then(&entry.key),
                    format!("`{}` cannot be a label", shorten(&entry.key)),
                    "key and value of a label are words without spaces and `=`",
                );
            }
        }
    }

    /// The named object of another kind; complains when it is not there.
    fn reference(&mut self, document: &Document, path: &Path, kind: KindName, name: &str) -> Option<&'a Document> {
        let found = self.document(kind, name);
        if found.is_none() {
            let known: Vec<&str> = self.of(kind).map(|document| document.name.as_str()).collect();
            let help = if document.stored {
                still_needed(document, kind, name)
            } else if known.is_empty() {
                format!(
                    "add a document with `kind: {kind}` and `metadata: {{name: {}}}`",
                    shorten(name)
                )
            } else {
                nearest::suggestion(name, known)
            };
            self.fail(document, path, format!("there is no {kind} `{}`", shorten(name)), help);
        }
        found
    }

    /// The named `Secret`. A text that is no name of one may be the secret itself: it is not shown.
    fn secret(&mut self, document: &Document, path: &Path, name: &str) -> bool {
        if self.document(KindName::Secret, name).is_some() {
            return true;
        }
        let known: Vec<&str> = self
            .of(KindName::Secret)
            .map(|document| document.name.as_str())
            .collect();
        let near = nearest::nearest(name, known.iter().copied());
        if document::object_name(name).is_ok()
            && !document.stored
            && let Some(near) = near
        {
            self.fail(
                document,
                path,
                format!("there is no Secret `{name}`"),
                format!("did you mean `{near}`?"),
            );
            return false;
        }
        let help = match known.as_slice() {
            _ if document.stored && document::object_name(name).is_ok() => {
                still_needed(document, KindName::Secret, name)
            }
            [] => "add a document with `kind: Secret` that says where the credential is, such as `spec: {file: \
                   /etc/weft/NAME.key}`, and write its name here; the credential itself never stands in an object"
                .to_owned(),
            known => format!(
                "write the name of a Secret (here are {}); the credential itself never stands in an object",
                known.join(", ")
            ),
        };
        self.errors
            .push(document.credential_error(path, "there is no Secret of this name", help));
        false
    }

    /// A public key. What is none may be a private one: it is not shown.
    fn public_key(&mut self, document: &Document, path: &Path, text: &str) -> Option<PublicKey> {
        match text.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                self.broken.insert((document.kind, document.name.clone()));
                self.errors.push(document.credential_error(
                    path,
                    format!("this is no public key: {error}"),
                    "write what `weft key show FILE` prints: `p256:` and 66 hex digits",
                ));
                None
            }
        }
    }

    /// The named `Secret`, where one is named.
    fn optional_secret(&mut self, document: &Document, path: &Path, name: Option<&String>) -> Option<String> {
        name.filter(|name| self.secret(document, path, name)).cloned()
    }

    /// Takes an interface of this machine for one use.
    fn claim_interface(&mut self, document: &'a Document, path: &Path, interface: &str) {
        match self.interfaces.get(interface) {
            Some(first) => {
                let message = format!("interface `{interface}` is in use already, by {}", first.from(document));
                self.fail(
                    document,
                    path,
                    message,
                    "give each uplink and each NIC an interface of its own",
                );
            }
            None => {
                self.interfaces.insert(interface.to_owned(), Place::new(document, path));
            }
        }
    }

    /// What needs all objects at once.
    fn whole(&mut self) {
        let needs_node = self.of(KindName::Network).next();
        if self.of(KindName::Node).next().is_none()
            && let Some(document) = needs_node
        {
            self.fail(
                document,
                &Path::parse("metadata.name"),
                format!(
                    "Network {} needs a node, and no document says who this node is",
                    document.name
                ),
                "add a document with `kind: Node`: its uplinks and Map-Servers",
            );
        }
    }
}

/// An object that was applied earlier misses another one: that one is about to go.
fn still_needed(document: &Document, kind: KindName, name: &str) -> String {
    let user = document.kind.as_str();
    format!(
        "{user} {} still needs {kind} {name}: `weft delete {} {}` first, or let it use another one",
        document.name,
        user.to_ascii_lowercase(),
        document.name
    )
}

/// Exactly one of these fields must be there; its name.
fn exactly_one<'n>(fields: &[(&'n str, bool)]) -> Result<&'n str, String> {
    let all: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let mut given = fields.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    match (given.next(), given.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(format!("none of {} is given", all.join(", "))),
        (Some(first), Some(second)) => Err(format!("`{first}` and `{second}` exclude each other")),
    }
}
