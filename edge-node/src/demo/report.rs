//! What the demo says: text while it happens, or one JSON object at the end.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::lab::{LabError, Result};

/// Everything that `weft demo -o json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every step did what it shows, and everything was cleaned up.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The steps in order; the one that failed is the last but for the cleaning up.
    pub steps: Vec<Step>,
    #[serde(skip)]
    text: bool,
    #[serde(skip)]
    started: Instant,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it shows.
    pub name: String,
    /// Whether it did.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it measured or found; of a failed step, `error`.
    pub figures: Map<String, Value>,
}

/// What a step hands in while it runs.
#[derive(Debug)]
pub struct Notes {
    figures: Map<String, Value>,
    lines: Vec<String>,
}

impl Notes {
    /// A figure for the report.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.into(), value.into());
    }

    /// A sentence for people.
    pub fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Output of a command, for people.
    pub fn quote(&mut self, text: &str) {
        self.lines
            .extend(text.trim_end().lines().map(|line| format!("  {line}")));
    }
}

impl Report {
    /// An empty report; `text` prints each step as it ends.
    #[must_use]
    pub fn new(text: bool) -> Self {
        Self {
            ok: false,
            seconds: 0.0,
            steps: Vec::new(),
            text,
            started: Instant::now(),
        }
    }

    /// Prints a heading.
    pub fn heading(&self, text: &str) {
        if self.text {
            println!("{text}");
        }
    }

    /// Runs a step and notes how it went.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce(&mut Notes) -> Result<T>) -> Result<T> {
        let waiting = self.text && std::io::stdout().is_terminal();
        if waiting {
            print!("… {name}");
            let _ = std::io::stdout().flush();
        }
        let started = Instant::now();
        let mut notes = Notes {
            figures: Map::new(),
            lines: Vec::new(),
        };
        let result = work(&mut notes);
        if let Err(error) = &result {
            notes.figure("error", error.to_string());
        }
        let step = Step {
            name: name.into(),
            ok: result.is_ok(),
            seconds: round(started),
            figures: notes.figures,
        };
        if self.text {
            let back = if waiting { "\r" } else { "" };
            println!(
                "{back}{} {name}  ({:.1} s)",
                if step.ok { "✓" } else { "✗" },
                step.seconds
            );
            for line in &notes.lines {
                println!("    {line}");
            }
        }
        self.steps.push(step);
        result
    }

    /// Prints the end: the object, or a last line.
    pub fn finish(&mut self, error: Option<&LabError>) {
        self.ok = error.is_none() && self.steps.iter().all(|step| step.ok);
        self.seconds = round(self.started);
        if !self.text {
            match serde_json::to_string(&self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("the report cannot be written as JSON: {error}"),
            }
            if self.steps.is_empty()
                && let Some(error) = error
            {
                eprintln!("weft demo: {error}");
            }
            return;
        }
        match error {
            None => println!("Done in {:.1} s, and nothing is left behind.", self.seconds),
            Some(LabError::Interrupted) => println!("Interrupted; everything has been removed."),
            Some(error) => println!("The demo failed after {:.1} s: {error}", self.seconds),
        }
    }
}

fn round(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_shape_that_scripts_read() {
        let mut report = Report::new(false);
        report
            .step("ping", |notes| {
                notes.figure("rtt_ms", 0.5);
                Ok(())
            })
            .unwrap();
        let failed: Result<()> = report.step("move", |_| Err(LabError::unexpected("no way")));
        assert!(failed.is_err());
        let value = serde_json::to_value(&report).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["ok", "seconds", "steps"]);
        assert_eq!(value["steps"][0]["figures"]["rtt_ms"], 0.5);
        assert_eq!(value["steps"][1]["ok"], false);
        assert_eq!(value["steps"][1]["figures"]["error"], "no way");
    }
}
