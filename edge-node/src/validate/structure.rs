//! The shape of a document, judged by the JSON Schema of its kind: unknown and missing fields, types, ranges, words.
//!
//! Only what our own schemas use is understood, and a test holds every kind against it. Going by the schema instead of
//! `serde` finds everything at once, and what is checked is what `weft schema` says.

use serde_json::Value as Schema;

use crate::{
    document::Document,
    error::IntentError,
    nearest, schema,
    tree::{Entry, Node, Path, Span, Value, shorten},
};

/// Everything that is wrong with the shape of a document.
pub(super) fn check(document: &Document) -> Vec<IntentError> {
    let mut check = Check {
        document,
        errors: Vec::new(),
    };
    let root = document.root.place(&Path::parse("metadata.name"));
    check.value(schema::of(document.kind), &document.root, &Path::default(), root);
    check.errors
}

struct Check<'a> {
    document: &'a Document,
    errors: Vec<IntentError>,
}

impl Check<'_> {
    /// `holder` is where the value is missed, when something in it is missing: its key.
    fn value(&mut self, schema: &Schema, node: &Node, path: &Path, holder: Span) {
        if let Some(alternatives) = schema["anyOf"].as_array() {
            // `Option<T>`: T or null.
            if matches!(node.value, Value::Null) {
                return;
            }
            for alternative in alternatives.iter().filter(|schema| schema["type"] != "null") {
                self.value(alternative, node, path, holder);
            }
            return;
        }
        if let Some(words) = words(schema) {
            return self.word(schema, &words, node, path, holder);
        }
        match (kind_of(schema), &node.value) {
            ((_, true), Value::Null) => {}
            (("object", _), Value::Map(entries)) => self.map(schema, entries, path, holder),
            (("array", _), Value::List(items)) => self.list(schema, items, path, holder),
            (("string", _), Value::Text(_)) | (("boolean", _), Value::Bool(_)) => {}
            (("integer", _), Value::Integer(number)) => self.range(schema, *number, node, path),
            ((expected, _), _) => self.wrong_type(expected, schema, node, path, holder),
        }
    }

    fn map(&mut self, schema: &Schema, entries: &[Entry], path: &Path, holder: Span) {
        let Some(properties) = schema["properties"].as_object() else {
            // A map of the user's own keys, such as labels and names.
            for entry in entries {
                self.value(
                    &schema["additionalProperties"],
                    &entry.node,
                    &path.then(&entry.key),
                    entry.key_span,
                );
            }
            return;
        };
        for entry in entries {
            match properties.get(&entry.key) {
                Some(inner) => self.value(inner, &entry.node, &path.then(&entry.key), entry.key_span),
                None => self.unknown(properties, entry, path),
            }
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Schema::as_str)
        {
            if !entries.iter().any(|entry| entry.key == name) {
                let inner = &schema["properties"][name];
                let help = remedy(inner).unwrap_or_else(|| format!("write `{name}: …`: {}", description(inner)));
                self.fail(
                    holder,
                    path,
                    format!("{} has no `{name}`", subject(path, self.document)),
                    help,
                    false,
                );
            }
        }
    }

    fn unknown(&mut self, properties: &serde_json::Map<String, Schema>, entry: &Entry, path: &Path) {
        let credential = self.document.kind == crate::kind::KindName::Secret
            || ["password", "psk", "privateKey", "sharedSecret"].contains(&entry.key.as_str());
        let help = if credential && nearest::nearest(&entry.key, properties.keys().map(String::as_str)).is_none() {
            "a credential never stands in an object: put it into a file that only root may read, and let a Secret \
             point there: `spec: {file: /etc/weft/NAME.key}`"
                .to_owned()
        } else {
            nearest::suggestion(&entry.key, properties.keys().map(String::as_str))
        };
        let message = format!(
            "unknown field `{}` in {}",
            shorten(&entry.key),
            subject(path, self.document)
        );
        // The value may be the credential: only the key is shown.
        let mut error = self
            .document
            .error_in(entry.key_span, &path.then(&entry.key), message, help, false);
        if credential {
            let shown = entry
                .key_span
                .column
                .saturating_sub(1)
                .saturating_add(entry.key_span.length);
            error.text = error
                .text
                .chars()
                .enumerate()
                .map(|(column, c)| if column > shown && !c.is_whitespace() { '•' } else { c })
                .collect();
        }
        self.errors.push(error);
    }

    fn list(&mut self, schema: &Schema, items: &[Node], path: &Path, holder: Span) {
        if let Some(least) = schema["minItems"].as_u64()
            && (items.len() as u64) < least
        {
            self.fail(
                holder,
                path,
                format!("`{path}` is empty"),
                format!("name at least {least}: {}", description(schema)),
                false,
            );
        }
        for (index, item) in items.iter().enumerate() {
            self.value(&schema["items"], item, &path.then(index), item.span);
        }
    }

    fn range(&mut self, schema: &Schema, number: i128, node: &Node, path: &Path) {
        let least = schema["minimum"].as_i64().map_or(i128::MIN, i128::from);
        let most = schema["maximum"].as_u64().map_or(u64::MAX.into(), i128::from);
        if number < least || number > most {
            self.fail(
                node.span,
                path,
                format!("{number} is out of the range of `{path}`"),
                format!("write {}: {}", expected("integer", schema), description(schema)),
                false,
            );
        }
    }

    fn word(&mut self, schema: &Schema, words: &[String], node: &Node, path: &Path, holder: Span) {
        let known = || words.iter().map(String::as_str);
        match node.text() {
            Some(text) if words.iter().any(|word| word == text) => {}
            Some(text) => {
                let help = remedy(schema).unwrap_or_else(|| nearest::suggestion(text, known()));
                self.fail(
                    node.span,
                    path,
                    format!("`{}` is no value of `{path}`", shorten(text)),
                    help,
                    false,
                );
            }
            None => {
                let help = remedy(schema)
                    .unwrap_or_else(|| format!("write one of {}", known().collect::<Vec<_>>().join(", ")));
                let span = if matches!(node.value, Value::Null) {
                    holder
                } else {
                    node.span
                };
                self.fail(span, path, format!("`{path}` is {}", node.describe()), help, false);
            }
        }
    }

    fn wrong_type(&mut self, kind: &str, schema: &Schema, node: &Node, path: &Path, holder: Span) {
        let hide = schema["x-credential"] == true;
        let found = if hide { "something else".into() } else { node.describe() };
        let span = match node.value {
            Value::Null | Value::Map(_) | Value::List(_) => holder,
            _ => node.span,
        };
        let help = match (kind, &node.value) {
            ("integer", Value::Text(text)) => unit_help(schema, text),
            ("string", Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => {
                format!("put it into quotes, so that it is text: {}", description(schema))
            }
            ("array", Value::Text(_) | Value::Map(_)) => {
                format!("write a list, such as [a, b], even for one: {}", description(schema))
            }
            (_, Value::Null) => format!(
                "write {}, or take the field out: {}",
                expected(kind, schema),
                description(schema)
            ),
            _ => format!("write {}: {}", expected(kind, schema), description(schema)),
        };
        let place = if path.0.is_empty() {
            "the object".to_owned()
        } else {
            format!("`{path}`")
        };
        self.fail(
            span,
            path,
            format!("{place} wants {}, here is {found}", expected(kind, schema)),
            help,
            hide,
        );
    }

    fn fail(&mut self, span: Span, path: &Path, message: String, help: String, hide: bool) {
        self.errors
            .push(self.document.error_in(span, path, message, help, hide));
    }
}

/// The type of a schema, and whether null is one as well.
fn kind_of(schema: &Schema) -> (&str, bool) {
    match &schema["type"] {
        Schema::String(kind) => (kind, false),
        Schema::Array(kinds) => (
            kinds
                .iter()
                .filter_map(Schema::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or_default(),
            kinds.iter().any(|kind| kind == "null"),
        ),
        _ => ("", false),
    }
}

/// The words that an enumeration knows.
fn words(schema: &Schema) -> Option<Vec<String>> {
    let text = |value: &Schema| value.as_str().map(str::to_owned);
    if let Some(word) = text(&schema["const"]) {
        return Some(vec![word]);
    }
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(text).collect());
    }
    let alternatives = schema["oneOf"].as_array()?;
    Some(alternatives.iter().filter_map(words).flatten().collect())
}

/// What a field wants, in words.
fn expected(kind: &str, schema: &Schema) -> String {
    match kind {
        "object" => "a map".into(),
        "array" => "a list".into(),
        "string" => "text".into(),
        "boolean" => "true or false".into(),
        "integer" => {
            let unit = schema["x-unit"]
                .as_str()
                .map(|unit| format!(" ({unit}, without a unit)"))
                .unwrap_or_default();
            match (schema["minimum"].as_i64(), schema["maximum"].as_u64()) {
                (Some(least), Some(most)) => format!("a whole number from {least} to {most}{unit}"),
                (Some(least), None) => format!("a whole number from {least}{unit}"),
                _ => format!("a whole number{unit}"),
            }
        }
        other => other.to_owned(),
    }
}

/// `mtu: 9000 bytes`: the number is there, the unit is too much.
fn unit_help(schema: &Schema, text: &str) -> String {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    let rest = text.trim().trim_start_matches(|c: char| c.is_ascii_digit()).trim();
    match (digits.is_empty(), rest.is_empty(), schema["x-unit"].as_str()) {
        (false, true, _) => format!("write {digits} without quotes"),
        (false, false, Some(unit)) => format!("the unit is always {unit}: write the number alone, such as {digits}"),
        (false, false, None) => format!("this is a number without a unit: write {digits}, or what was meant"),
        _ => format!("write {}: {}", expected("integer", schema), description(schema)),
    }
}

fn remedy(schema: &Schema) -> Option<String> {
    schema["x-help"].as_str().map(str::to_owned)
}

/// What the documentation says first.
fn description(schema: &Schema) -> String {
    let text = schema["description"].as_str().unwrap_or("see `weft schema`");
    let first = text.split(". ").next().unwrap_or(text).replace('\n', " ");
    first.trim_end_matches('.').to_owned()
}

fn subject(path: &Path, document: &Document) -> String {
    if path.0.is_empty() {
        format!("{} {}", document.kind, document.name)
    } else {
        format!("`{path}`")
    }
}
