//! What can go wrong in a lab, told so that the reader knows what to do.

use std::{io, path::Path, time::Duration};

/// Result of a lab operation.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Why a lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need privileges.
    #[error("network namespaces need root: run this as root, for instance with sudo")]
    NotRoot,
    /// Programs are not installed.
    #[error("not installed: {}. On Debian: apt-get install {}", .0.join(", "), .1.join(" "))]
    MissingTools(Vec<&'static str>, Vec<&'static str>),
    /// A command ended badly.
    #[error("`{command}` ended with {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed, both streams, the end of it.
        output: String,
    },
    /// A command did not end in time.
    #[error("`{command}` did not end within {within:?}\n{output}")]
    CommandTimeout {
        /// The command line.
        command: String,
        /// The time it had.
        within: Duration,
        /// What it printed until then.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("{what}: not so within {within:?}{}", .last.as_deref().map(|l| format!("; last: {l}")).unwrap_or_default())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What the last look showed.
        last: Option<String>,
    },
    /// The user pressed Ctrl-C, or the process was told to end.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Something was not as it should be.
    #[error("{0}")]
    Unexpected(String),
    /// The janitor could not remove everything.
    #[error("left behind: {0:?}")]
    LeftBehind(Vec<String>),
}

impl LabError {
    /// The operating system refused `verb` on `path`.
    pub(crate) fn io(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what: format!("{verb} {}", path.display()),
            source,
        }
    }

    /// Something was not as it should be.
    pub fn unexpected(what: impl Into<String>) -> Self {
        Self::Unexpected(what.into())
    }
}
