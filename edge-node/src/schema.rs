//! JSON Schema of every kind: what editors complete by, and what [`crate::validate`] judges shapes by.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::OnceLock,
};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{
    cli::SchemaArgs,
    kind::{API_VERSION, GuestSpec, KindName, MapServerSpec, NetworkSpec, NodeSpec, Object, PolicySpec, SecretSpec},
};

/// The schema of an object of this kind, definitions inlined, JSON Schema 2020-12.
#[must_use]
pub fn of(kind: KindName) -> &'static Value {
    static SCHEMAS: OnceLock<Vec<Value>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| KindName::ALL.map(generate).to_vec());
    &schemas[kind as usize]
}

/// One schema that takes an object of any kind.
#[must_use]
pub fn any() -> Value {
    let kinds: Vec<&Value> = KindName::ALL.into_iter().map(of).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weft object",
        "oneOf": kinds,
    })
}

fn generate(kind: KindName) -> Value {
    match kind {
        KindName::Node => object::<NodeSpec>(kind),
        KindName::MapServer => object::<MapServerSpec>(kind),
        KindName::Network => object::<NetworkSpec>(kind),
        KindName::Guest => object::<GuestSpec>(kind),
        KindName::Policy => object::<PolicySpec>(kind),
        KindName::Secret => object::<SecretSpec>(kind),
    }
}

fn object<S: JsonSchema>(kind: KindName) -> Value {
    let generator = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        SchemaGenerator::new(settings)
    };
    let mut value = generator().into_root_schema_for::<Object<S>>().to_value();
    value["title"] = json!(kind.as_str());
    value["description"] = generator().into_root_schema_for::<S>().to_value()["description"].take();
    value["properties"]["kind"] = json!({"const": kind.as_str(), "description": "Kind of object."});
    value["properties"]["apiVersion"] = json!({"const": API_VERSION, "description": "Version of the objects."});
    value
}

/// `weft schema`.
#[must_use]
pub fn run(arguments: &SchemaArgs) -> ExitCode {
    let result = match (&arguments.out, arguments.kind) {
        (Some(folder), _) => write(folder),
        (None, Some(kind)) => print(of(kind)),
        (None, None) => print(&any()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft schema: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `KIND.json` for every kind, such as `guest.json`, into `folder`, which is made when it is not there.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for kind in KindName::ALL {
        std::fs::write(folder.join(file_name(kind)), pretty(of(kind)))?;
    }
    Ok(())
}

fn file_name(kind: KindName) -> String {
    format!("{}.json", kind.as_str().to_ascii_lowercase())
}

fn print(schema: &Value) -> io::Result<()> {
    io::stdout().lock().write_all(pretty(schema).as_bytes())
}

fn pretty(schema: &Value) -> String {
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_in_docs_are_the_ones_of_the_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        for kind in KindName::ALL {
            let path = folder.join(file_name(kind));
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                text == pretty(of(kind)),
                "{} is stale: run `cargo run -p edge-node -- schema --out docs/schema`",
                path.display()
            );
        }
    }

    #[test]
    fn every_field_says_what_it_is() {
        fn walk(schema: &Value, path: &str) {
            if let Some(properties) = schema["properties"].as_object() {
                for (name, inner) in properties {
                    let path = format!("{path}.{name}");
                    assert!(inner["description"].is_string(), "{path} has no description");
                    walk(inner, &path);
                }
            }
            walk_list(schema, path);
        }
        fn walk_list(schema: &Value, path: &str) {
            if schema["items"].is_object() {
                walk(&schema["items"], &format!("{path}[]"));
            }
            for inner in schema["anyOf"].as_array().into_iter().flatten() {
                walk(inner, path);
            }
        }
        for kind in KindName::ALL {
            walk(of(kind), kind.as_str());
        }
    }
}
