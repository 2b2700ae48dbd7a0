//! Hosts out of network namespaces: what `weft demo` and the scenarios of `tests/` are played on.
//!
//! A [`Lab`] owns everything it makes: namespaces with a prefix of its own, processes inside them, one folder. A
//! janitor process, started first, holds the reading end of a pipe; when the lab is dropped, or its process dies in
//! any way at all (`kill -9` too), the pipe closes and the janitor ends the processes, deletes the namespaces and
//! removes the folder. There is no second way of cleaning up, so the one there is gets exercised by every run.
//!
//! Nothing here ever touches an interface, a route or a file of the host: interfaces are created inside the
//! namespaces, and `/etc/resolv.conf` of a guest is a bind mount in its own mount namespace.
//!
//! Read in this order: [`Lab`], [`Namespace`], [`Underlay`], [`Node`], [`Guest`], [`Heartbeat`].

mod eavesdrop;
mod error;
mod guest;
mod heartbeat;
mod interrupt;
mod janitor;
mod namespace;
mod node;
mod process;
mod underlay;
mod wait;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use eavesdrop::{Eavesdropper, Overheard};
pub use error::{LabError, Result};
pub use guest::Guest;
pub use heartbeat::{Beats, Heartbeat, Transport};
pub use interrupt::{catch_signals, interrupted};
pub use namespace::Namespace;
pub use node::Node;
pub use process::{Output, Process};
pub use underlay::{Site, Underlay};
pub use wait::{holds_for, until};

/// Environment variable that every process of a lab carries, so that the janitor finds those that left their
/// namespace.
pub const MARK: &str = "WEFT_LAB";

/// A set of namespaces, processes and files that vanish together.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    directory: PathBuf,
    janitor: janitor::Janitor,
}

impl Lab {
    /// Makes an empty lab. Its namespaces begin with `wd-<pid>-<number>-`.
    ///
    /// # Errors
    /// [`LabError::NotRoot`] when the process may not make namespaces, [`LabError::MissingTools`] when one of `tools`
    /// is not installed.
    pub fn new(tools: &[&'static str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        process::require(&["ip", "setpriv", "mount", "sysctl"])?;
        process::require(tools)?;
        let prefix = format!("wd-{}-{}-", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(format!("{prefix}weft"));
        fs::create_dir_all(&directory).map_err(|source| LabError::io("create", &directory, source))?;
        // The dataplane process runs as another user and must be able to reach its own folder below.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .map_err(|source| LabError::io("open to others", &directory, source))?;
        let janitor = janitor::Janitor::start(&prefix, &directory)?;
        Ok(Self {
            prefix,
            directory,
            janitor,
        })
    }

    /// Makes a namespace; its full name is the lab's prefix and `name`.
    ///
    /// # Errors
    /// When `ip netns add` refuses.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(self, name)
    }

    /// Connects two namespaces by a veth pair, both ends down.
    ///
    /// # Errors
    /// When `ip link add` refuses, for instance because the name is taken.
    pub fn cable(&self, a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<()> {
        let arguments = [
            "link",
            "add",
            a.1,
            "netns",
            a.0.name(),
            "type",
            "veth",
            "peer",
            "name",
            b.1,
            "netns",
            b.0.name(),
        ];
        process::run("ip", &arguments, process::SHORT)?;
        Ok(())
    }

    /// What all names of this lab's namespaces begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The lab's folder; removed with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends everything and waits until it is gone. Dropping does the same without telling what went wrong.
    ///
    /// # Errors
    /// [`LabError::LeftBehind`] when something is still there.
    pub fn close(mut self) -> Result<()> {
        self.janitor.finish()?;
        let left = remains(&self.prefix);
        if !left.is_empty() || self.directory.exists() {
            return Err(LabError::LeftBehind(left));
        }
        Ok(())
    }
}

/// Namespaces that exist with this prefix; for checks that nothing stays behind.
#[must_use]
pub fn remains(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}
