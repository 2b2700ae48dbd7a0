//! A YAML document as a tree in which every value and every key knows its place.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// A place in a text: 1-based line and column, and a length, all in characters. Line 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Characters, 0 where only the start is known.
    pub length: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What.
    pub value: Value,
    /// Where.
    pub span: Span,
}

/// A value.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, its place, and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

/// One step into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a field of a map.
    Field(String),
    /// Into an element of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(field: &str) -> Self {
        Self::Field(field.into())
    }
}

impl From<&String> for Step {
    fn from(field: &String) -> Self {
        Self::Field(field.clone())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A way into a tree, written `spec.nics[0].mac`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// One step further.
    #[must_use]
    pub fn then(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }

    /// Reads `spec.nics[0].mac`; whatever is no index is a field.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            if let Some(field) = pieces.next().filter(|field| !field.is_empty()) {
                steps.push(Step::Field(field.into()));
            }
            for piece in pieces {
                match piece.trim_end_matches(']').parse() {
                    Ok(index) => steps.push(Step::Index(index)),
                    Err(_) => steps.push(Step::Field(piece.trim_end_matches(']').into())),
                }
            }
        }
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(field) if position == 0 => write!(f, "{field}")?,
                Step::Field(field) => write!(f, ".{field}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Node {
    /// The field of a map.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// The entry of a map.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == name),
            _ => None,
        }
    }

    /// Its text, when it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the value at the end of `path`, or of the last step there is: of the key, where the value is a map
    /// or a list or is not there.
    #[must_use]
    pub fn place(&self, path: &Path) -> Span {
        let mut node = self;
        let mut span = self.span;
        for step in &path.0 {
            match (step, &node.value) {
                (Step::Field(name), Value::Map(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *name) else {
                        return span;
                    };
                    node = &entry.node;
                    span = match node.value {
                        Value::Map(_) | Value::List(_) | Value::Null => entry.key_span,
                        _ => node.span,
                    };
                }
                (Step::Index(index), Value::List(items)) => {
                    let Some(item) = items.get(*index) else {
                        return span;
                    };
                    node = item;
                    span = node.span;
                }
                _ => return span,
            }
        }
        span
    }

    /// What it is, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) => format!("the text `{}`", shorten(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    /// Without places. Integers beyond 64 bits become text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => value.to_string().into(),
            },
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect(),
        }
    }
}

/// A text that fits a message.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.escape_debug().to_string();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{}…", start.escape_debug())
}

fn span(of: serde_saphyr::Location) -> Span {
    Span {
        line: usize::try_from(of.line()).unwrap_or(0),
        column: usize::try_from(of.column()).unwrap_or(0),
        length: usize::try_from(of.span().len()).unwrap_or(0),
    }
}

impl From<serde_saphyr::Location> for Span {
    fn from(location: serde_saphyr::Location) -> Self {
        span(location)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            value: found.value,
            span: span(found.referenced),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry {
                key: key.value,
                key_span: span(key.referenced),
                node: map.next_value()?,
            });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        serde_saphyr::from_str(text).expect("good YAML")
    }

    fn at(root: &Node, path: &str) -> (usize, usize, usize) {
        let span = root.place(&Path::parse(path));
        (span.line, span.column, span.length)
    }

    #[test]
    fn every_value_knows_its_place() {
        let root = tree(
            "spec:\n  nics:\n    - name: eth0\n      addresses: [\"fd07::a\", 10.7.1.10]\n  local: {nat44: true}\n",
        );
        assert_eq!(at(&root, "spec.nics[0].name"), (3, 13, 4));
        assert_eq!(at(&root, "spec.nics[0].addresses[0]"), (4, 19, 9));
        assert_eq!(at(&root, "spec.nics[0].addresses[1]"), (4, 30, 9));
        assert_eq!(at(&root, "spec.local.nat44"), (5, 18, 4));
        assert_eq!(at(&root, "spec.local"), (5, 3, 5), "of a map, the key");
        assert_eq!(
            at(&root, "spec.local.nat66"),
            (5, 3, 5),
            "of what is not there, what it would stand in"
        );
        assert_eq!(at(&root, "spec.nics[7].name"), (2, 3, 4));
    }

    #[test]
    fn columns_are_characters_not_bytes() {
        let root = tree("ключ: {имя: да}\n");
        assert_eq!(at(&root, "ключ.имя"), (1, 13, 2));
    }

    #[test]
    fn a_path_reads_as_it_is_written() {
        let path = Path::parse("spec.nics[0].attach.veth.interface");
        assert_eq!(path.to_string(), "spec.nics[0].attach.veth.interface");
        assert_eq!(path.0.len(), 6);
    }

    #[test]
    fn numbers_and_text_are_told_apart() {
        let root = tree("a: 5\nb: \"5\"\nc: -1\nd: 1.5\ne: true\nf:\ng: 5 bytes\n");
        assert!(matches!(root.field("a").map(|n| &n.value), Some(Value::Integer(5))));
        assert_eq!(root.field("b").and_then(Node::text), Some("5"));
        assert!(matches!(root.field("c").map(|n| &n.value), Some(Value::Integer(-1))));
        assert!(matches!(root.field("d").map(|n| &n.value), Some(Value::Float(_))));
        assert!(matches!(root.field("e").map(|n| &n.value), Some(Value::Bool(true))));
        assert!(matches!(root.field("f").map(|n| &n.value), Some(Value::Null)));
        assert_eq!(root.field("g").and_then(Node::text), Some("5 bytes"));
        assert_eq!(
            root.to_json(),
            serde_json::json!({"a": 5, "b": "5", "c": -1, "d": 1.5, "e": true, "f": null, "g": "5 bytes"})
        );
    }
}
