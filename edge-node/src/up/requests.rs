//! What the control API asks of the node, and how a change of the intent goes: read, validate, check against the
//! machine, carry out, keep; on failure the last good intent again.

use dataplane::control::{Answer, CaptureFilter, CapturedPacket, Generation, Query};
use tokio::sync::mpsc;
use xtr::Command;

use super::{node::Node, preflight, secrets::Secrets, status, store, uplinks};
use crate::{
    api::{Applied, Request},
    document::{Document, StoredIntent},
    error::Report,
    intent::Intent,
    kind::KindName,
    plan,
    read::{self, Source},
    validate,
};

impl Node {
    /// Carries out one request and answers it.
    pub(super) async fn request(&mut self, request: Request) {
        match request {
            Request::Plan(sources, answer) => {
                let prepared = self.prepare(&sources).await;
                let _ = answer.send(prepared.map(|prepared| prepared.applied(self.generation, false)));
            }
            Request::Apply(sources, answer) => {
                let result = match self.prepare(&sources).await {
                    Ok(prepared) => self.apply(prepared).await,
                    Err(report) => Err(report),
                };
                let _ = answer.send(result);
            }
            Request::Delete(objects, answer) => {
                let result = match self.without(&objects).await {
                    Ok(prepared) => self.apply(prepared).await,
                    Err(report) => Err(report),
                };
                let _ = answer.send(result);
            }
            Request::Objects(answer) => {
                let _ = answer.send(self.stored.clone());
            }
            Request::Status(answer) => {
                let _ = answer.send(self.status().await);
            }
            Request::Intent(answer) => {
                let _ = answer.send(self.complete.clone());
            }
            Request::Ask(query, answer) => match self.packets.clone().filter(|_| self.connected) {
                Some(packets) => {
                    tokio::spawn(async move { answer.send(packets.ask(query).await) });
                }
                None => {
                    let _ = answer.send(Answer::Refused("no packet path runs on this node".to_owned()));
                }
            },
            Request::Lookup(eid, resolver, answer) => {
                self.next_lookup += 1;
                self.lookups.insert(self.next_lookup, answer);
                self.shell.command(Command::Lookup {
                    id: self.next_lookup,
                    eid,
                    resolver,
                });
            }
            Request::Capture(filter, packets, answer) => {
                let _ = answer.send(self.begin_capture(filter, packets));
            }
        }
    }

    fn begin_capture(&mut self, filter: CaptureFilter, sink: mpsc::Sender<CapturedPacket>) -> Result<(), String> {
        if self.capture.as_ref().is_some_and(|running| !running.is_closed()) {
            return Err("another capture runs on this node".to_owned());
        }
        let packets = self
            .packets
            .clone()
            .filter(|_| self.connected)
            .ok_or("no packet path runs on this node")?;
        self.capture = Some(sink);
        tokio::spawn(packets.ask(Query::Capture(Some(filter))));
        Ok(())
    }

    /// Reads and checks a change; nothing is changed.
    async fn prepare(&self, sources: &[Source]) -> Result<Prepared, Report> {
        let documents = read::parse(sources)?;
        let all = self.stored.documents_with(&documents)?;
        self.judge(self.stored.merged(&documents), &all).await
    }

    async fn without(&self, objects: &[(KindName, String)]) -> Result<Prepared, Report> {
        let mut stored = self.stored.clone();
        for (kind, name) in objects {
            stored = stored.without(*kind, name).ok_or_else(|| {
                let known: Vec<&str> = self.stored.of_kind(*kind).map(|object| object.name.as_str()).collect();
                let help = if known.is_empty() {
                    "there is none of this kind".to_owned()
                } else {
                    format!("there is {}", known.join(", "))
                };
                preflight::failure(format!("there is no {kind} `{name}`"), help)
            })?;
        }
        let all = stored.documents_with(&[])?;
        self.judge(stored, &all).await
    }

    async fn judge(&self, stored: StoredIntent, all: &[Document]) -> Result<Prepared, Report> {
        let intent = validate::intent_after(all, &self.intent).map_err(Report::from)?;
        // Read anew: the watch lags a little behind a cable that was plugged in just now.
        let interfaces = uplinks::read(&self.handle).await;
        let interfaces = interfaces.unwrap_or_else(|_| self.interfaces.borrow().clone());
        let secrets = preflight::check(all, &self.intent, &intent, &interfaces, false)?;
        let actions = plan::diff(&self.intent, &intent);
        Ok(Prepared {
            stored,
            intent,
            secrets,
            actions,
        })
    }

    async fn apply(&mut self, prepared: Prepared) -> Result<Applied, Report> {
        let (before, before_secrets, before_generation) = (self.intent.clone(), self.secrets.clone(), self.generation);
        let unchanged = prepared.actions.is_empty() && prepared.secrets == self.secrets;
        if !prepared.actions.is_empty() {
            self.generation = Generation(self.generation.0.saturating_add(1));
        }
        // What failed earlier is tried again even if nothing is asked for that is new.
        let failures = if unchanged && self.failures.is_empty() {
            Vec::new()
        } else {
            self.carry_out(prepared.intent.clone(), prepared.secrets.clone()).await
        };
        if failures.is_empty() {
            match store::keep(&self.directories.state_dir, &prepared.stored) {
                Ok(()) => {
                    tracing::info!(
                        generation = self.generation.0,
                        actions = prepared.actions.len(),
                        "applied"
                    );
                    self.failures.clear();
                    self.without.clear();
                    self.stored = prepared.stored.clone();
                    return Ok(prepared.applied(self.generation, true));
                }
                Err(error) => {
                    let message = format!("the intent cannot be kept: {error}");
                    self.generation = before_generation;
                    self.failures = self.carry_out(before, before_secrets).await;
                    return Err(preflight::failure(
                        message,
                        "check the state directory; nothing was changed",
                    ));
                }
            }
        }
        tracing::error!(
            reasons = failures.join("; "),
            "not applied; going back to the last good intent"
        );
        self.generation = before_generation;
        let remaining = self.carry_out(before, before_secrets).await;
        let failed = failures
            .iter()
            .map(|failure| format!("the last apply failed and was undone: {failure}"));
        self.failures = failed.chain(remaining).collect();
        let help = "the node is as it was before; mend this and apply again";
        Err(Report(
            failures
                .into_iter()
                .flat_map(|failure| preflight::failure(failure, help).0)
                .collect(),
        ))
    }
}

/// A change that has been checked.
struct Prepared {
    stored: StoredIntent,
    intent: Intent,
    secrets: Secrets,
    actions: Vec<plan::Action>,
}

impl Prepared {
    fn applied(&self, generation: Generation, done: bool) -> Applied {
        Applied {
            generation: generation.0,
            done,
            actions: self.actions.clone(),
            warnings: status::warnings(&self.intent),
        }
    }
}
