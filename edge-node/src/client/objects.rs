//! `weft get`, `weft describe`.

use std::process::ExitCode;

use super::{
    connection::{Client, ClientError, run},
    print::{or_dash, structured, table},
};
use crate::{
    cli::{DescribeArgs, Format, GetArgs, KindSelection},
    document::{StoredIntent, StoredObject},
    error::{IntentError, Report},
    kind::KindName,
    nearest,
    up::status::Status,
};

/// `weft get`.
pub fn get(arguments: &GetArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let stored: StoredIntent = Client::new(&arguments.node).get("/v1/objects").await?;
            let objects: Vec<&StoredObject> = match (arguments.kind, &arguments.name) {
                (KindSelection::One(kind), Some(name)) => vec![find(&stored, kind, name)?],
                (KindSelection::One(kind), None) => stored.of_kind(kind).collect(),
                (KindSelection::All, name) => stored
                    .objects
                    .iter()
                    .filter(|object| name.as_ref().is_none_or(|name| object.name == *name))
                    .collect(),
            };
            show(format, arguments.name.is_some(), &objects);
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

/// `weft describe`.
pub fn describe(arguments: &DescribeArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let client = Client::new(&arguments.node);
            let stored: StoredIntent = client.get("/v1/objects").await?;
            let status: Status = client.get("/v1/status").await?;
            let object = find(&stored, arguments.kind, &arguments.name)?;
            let state = state(&status, arguments.kind, &arguments.name);
            let mut whole = object.object.clone();
            if let Some(fields) = whole.as_object_mut() {
                fields.insert("status".to_owned(), state);
            }
            if !structured(format, &whole) {
                structured(Format::Yaml, &whole);
            }
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

fn find<'a>(stored: &'a StoredIntent, kind: KindName, name: &str) -> Result<&'a StoredObject, ClientError> {
    stored.get(kind, name).ok_or_else(|| {
        let help = nearest::suggestion(name, stored.of_kind(kind).map(|object| object.name.as_str()));
        ClientError::Refused(Report::from(IntentError::whole(
            "weft",
            format!("there is no {kind} `{name}`"),
            help,
        )))
    })
}

fn show(format: Format, single: bool, objects: &[&StoredObject]) {
    let values: Vec<&serde_json::Value> = objects.iter().map(|object| &object.object).collect();
    match (format, single, values.as_slice()) {
        (Format::Json | Format::Yaml, true, [only]) => {
            structured(format, only);
        }
        (Format::Json, ..) => {
            structured(format, &values);
        }
        (Format::Yaml, ..) => {
            // What is printed can be applied again.
            let texts: Vec<String> = objects.iter().map(|object| object.to_yaml()).collect();
            say_exactly!("{}", texts.join("---\n"));
        }
        (Format::Text | Format::Wide, ..) => {
            let rows: Vec<Vec<String>> = objects
                .iter()
                .map(|object| row(object, format == Format::Wide))
                .collect();
            if rows.is_empty() {
                say!("nothing");
            }
            table(
                "",
                if format == Format::Wide {
                    &["KIND", "NAME", "LABELS", "SPEC"]
                } else {
                    &["KIND", "NAME"]
                },
                &rows,
            );
        }
    }
}

fn row(object: &StoredObject, wide: bool) -> Vec<String> {
    let mut row = vec![object.kind.to_string(), object.name.clone()];
    if wide {
        let labels = object.object.pointer("/metadata/labels").map(ToString::to_string);
        row.push(or_dash(labels));
        row.push(object.object.get("spec").map(ToString::to_string).unwrap_or_default());
    }
    row
}

/// What the node's status says about one object.
fn state(status: &Status, kind: KindName, name: &str) -> serde_json::Value {
    let about: Vec<&String> = status
        .failures
        .iter()
        .filter(|failure| failure.contains(name))
        .collect();
    let mut state = serde_json::json!({"generation": status.generation, "failures": about});
    let part = match kind {
        KindName::Node => serde_json::json!({"uplinks": status.uplinks, "registrations": status.registrations}),
        KindName::MapServer => {
            serde_json::json!({"server": status.map_servers.iter().find(|server| server.name == name)})
        }
        KindName::Network => {
            let guests = status.guests.iter().filter(|port| port.network == name);
            serde_json::json!({"guests": guests.collect::<Vec<_>>()})
        }
        KindName::Guest => {
            let nics = status.guests.iter().filter(|port| port.guest == name);
            serde_json::json!({"nics": nics.collect::<Vec<_>>()})
        }
        KindName::Policy | KindName::Secret => serde_json::json!({}),
    };
    if let (Some(state), Some(part)) = (state.as_object_mut(), part.as_object()) {
        state.extend(part.clone());
    }
    state
}
