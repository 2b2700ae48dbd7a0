//! The process that cleans up after a lab, whatever becomes of the lab's own process.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{LabError, Result, wait};

/// Kept by the lab; see `janitor.sh` for what it does once the pipe closes.
#[derive(Debug)]
pub(super) struct Janitor(Child);

impl Janitor {
    /// Starts it in a process group of its own, out of reach of Ctrl-C.
    pub(super) fn start(prefix: &str, directory: &Path) -> Result<Self> {
        let child = Command::new("sh")
            .args(["-c", include_str!("janitor.sh"), "weft-lab-janitor", prefix])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .map_err(|source| LabError::Io {
                what: "start the janitor".into(),
                source,
            })?;
        Ok(Self(child))
    }

    /// Lets it work and waits for it. A second call does nothing.
    pub(super) fn finish(&mut self) -> Result<()> {
        drop(self.0.stdin.take());
        // Not cut short by Ctrl-C: this is what Ctrl-C is waiting for.
        wait::until_uninterrupted("the janitor has cleaned up", Duration::from_secs(20), || {
            let ended = self.0.try_wait().map_err(|source| LabError::Io {
                what: "wait for the janitor".into(),
                source,
            })?;
            Ok(ended.map(|_| ()))
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
