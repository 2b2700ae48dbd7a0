//! `weft plan`, `weft apply`, `weft delete`.

use std::process::ExitCode;

use super::{
    connection::{Client, ClientError, run},
    print::structured,
};
use crate::{
    api::{Applied, DeleteRequest},
    cli::{ApplyArgs, DeleteArgs, Format, PlanArgs},
    document::StoredIntent,
    intent::Intent,
    kind::KindName,
    plan as difference, read, validate,
};

/// `weft plan`.
pub fn plan(arguments: &PlanArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let sources = read::sources(&arguments.files.files)?;
            let applied = if arguments.offline {
                let documents = read::parse(&sources)?;
                let all = StoredIntent::default().documents_with(&documents)?;
                let intent = validate::intent(&all).map_err(crate::error::Report::from)?;
                Applied {
                    generation: 0,
                    done: false,
                    actions: difference::diff(&Intent::default(), &intent),
                    warnings: crate::up::status::warnings(&intent),
                }
            } else {
                Client::new(&arguments.node).post("/v1/plan", &sources).await?
            };
            show(format, &applied);
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

/// `weft apply`.
pub fn apply(arguments: &ApplyArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let sources = read::sources(&arguments.files.files)?;
            let applied: Applied = Client::new(&arguments.node).post("/v1/apply", &sources).await?;
            show(format, &applied);
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

/// `weft delete`.
pub fn delete(arguments: &DeleteArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let objects = match arguments.kind {
                Some(kind) => arguments.names.iter().map(|name| (kind, name.clone())).collect(),
                None => named_in(arguments)?,
            };
            let applied: Applied = Client::new(&arguments.node)
                .post("/v1/delete", &DeleteRequest { objects })
                .await?;
            show(format, &applied);
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

fn named_in(arguments: &DeleteArgs) -> Result<Vec<(KindName, String)>, ClientError> {
    let documents = read::documents(&arguments.files)?;
    Ok(documents
        .into_iter()
        .map(|document| (document.kind, document.name))
        .collect())
}

fn show(format: Format, applied: &Applied) {
    if structured(format, applied) {
        return;
    }
    for action in &applied.actions {
        say!("{action}");
    }
    match (applied.actions.is_empty(), applied.done) {
        (true, _) => say!("nothing to change"),
        (false, true) => say!("applied as generation {}", applied.generation),
        (false, false) => say!("{} to do; nothing was changed", count(applied.actions.len())),
    }
    for warning in &applied.warnings {
        say!("warning: {warning}");
    }
}

fn count(actions: usize) -> String {
    if actions == 1 {
        "1 action".to_owned()
    } else {
        format!("{actions} actions")
    }
}
