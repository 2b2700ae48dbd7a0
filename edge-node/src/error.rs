//! What is wrong with an intent: one message each, with its place and what to do about it.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};
use serde::{Deserialize, Serialize};

/// One thing that is wrong. It carries the line it stands in, so that it can be shown where the file is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// File, as it was named; `<stdin>`; or the object, where it was applied earlier.
    pub file: String,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// Characters that are meant, at least 1.
    pub length: usize,
    /// The line. What may be a credential is replaced by `•`.
    pub text: String,
    /// `Kind name: path.to.field`, as far as it is known.
    pub object: String,
}

impl IntentError {
    /// About a whole file.
    #[must_use]
    pub fn whole(file: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
            file: file.into(),
            line: 0,
            column: 0,
            length: 0,
            text: String::new(),
            object: String::new(),
        }
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        if self.line == 0 {
            return self.file.clone();
        }
        format!("{}:{}:{}", self.file, self.line, self.column)
    }

    /// As it is shown to people: message, file, line and column, the line with a caret, the remedy.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        if self.line == 0 {
            return format!("  × {}: {}\n  help: {}\n", self.file, self.message, self.help);
        }
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(110)
            .with_break_words(false)
            .with_links(false);
        match handler.render_report(&mut out, &Shown::new(self)) {
            Ok(()) => out,
            Err(_) => format!("  × {}: {}\n  help: {}\n", self.place(), self.message, self.help),
        }
    }
}

/// On one line, for logs: `file:line:column: message; help`.
impl fmt::Display for IntentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place(), self.message, self.help)
    }
}

impl std::error::Error for IntentError {}

/// All that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(pub Vec<IntentError>);

impl Report {
    /// As it is shown to people.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        self.0.iter().map(|error| error.render(color)).collect()
    }
}

/// As [`Report::render`] without colours.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

impl From<IntentError> for Report {
    fn from(error: IntentError) -> Self {
        Self(vec![error])
    }
}

impl From<Vec<IntentError>> for Report {
    fn from(errors: Vec<IntentError>) -> Self {
        Self(errors)
    }
}

/// An error as `miette` wants it.
#[derive(Debug)]
struct Shown<'a> {
    error: &'a IntentError,
    line: Line<'a>,
    span: SourceSpan,
}

impl<'a> Shown<'a> {
    fn new(error: &'a IntentError) -> Self {
        let start = byte_offset(&error.text, error.column.saturating_sub(1));
        let end = byte_offset(&error.text, error.column.saturating_sub(1).saturating_add(error.length));
        Self {
            error,
            line: Line {
                file: &error.file,
                number: error.line,
                text: &error.text,
            },
            span: (start, end.saturating_sub(start)).into(),
        }
    }
}

fn byte_offset(text: &str, characters: usize) -> usize {
    text.char_indices()
        .nth(characters)
        .map_or(text.len(), |(offset, _)| offset)
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.error.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.line)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = (!self.error.object.is_empty()).then(|| self.error.object.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(label, self.span))))
    }
}

/// One line of a file, which knows its number.
#[derive(Debug)]
struct Line<'a> {
    file: &'a str,
    number: usize,
    text: &'a str,
}

impl SourceCode for Line<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        let column = self
            .text
            .get(..inner.column())
            .map_or(inner.column(), |start| start.chars().count());
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.to_owned(),
            inner.data(),
            *inner.span(),
            self.number.saturating_sub(1),
            column,
            inner.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_place_its_line_and_its_remedy() {
        let error = IntentError {
            message: "unknown field `nat67`".into(),
            help: "did you mean `nat66`?".into(),
            file: "conf/ключ.yaml".into(),
            line: 5,
            column: 24,
            length: 5,
            text: "  local: {nat44: true, nat67: false}".into(),
            object: "Network lan: spec.local".into(),
        };
        let shown = error.render(false);
        assert!(shown.contains("conf/ключ.yaml:5:24"), "{shown}");
        assert_eq!(shown.matches("ключ.yaml:").count(), 1, "{shown}");
        assert!(shown.contains("unknown field `nat67`"), "{shown}");
        assert!(shown.contains("  local: {nat44: true, nat67: false}"), "{shown}");
        assert!(shown.contains("help: did you mean `nat66`?"), "{shown}");
        assert!(shown.contains("──┬──"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn columns_count_characters() {
        let error = IntentError {
            message: "m".into(),
            help: "h".into(),
            file: "f".into(),
            line: 1,
            column: 8,
            length: 2,
            text: "ключи: да".into(),
            object: String::new(),
        };
        assert!(error.render(false).contains("f:1:8"), "{}", error.render(false));
    }
}
