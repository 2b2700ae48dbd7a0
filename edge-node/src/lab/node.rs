//! A host that runs `weft up`, and the operator in front of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{LabError, Namespace, Output, Process, Result, process, wait};

/// How long a node may take to come up or to carry out a change.
const READY: Duration = Duration::from_secs(20);

/// A Weft node in a namespace.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    weft: PathBuf,
    home: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Puts the files of a node in place: `files` are its configuration and key files by name. Nothing runs yet.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(namespace: &Namespace, weft: &Path, files: &[(&str, &str)]) -> Result<Self> {
        let home = namespace.directory().join("node");
        for folder in ["", "conf", "state", "run"] {
            let path = home.join(folder);
            std::fs::create_dir_all(&path).map_err(|source| LabError::io("create", &path, source))?;
        }
        let node = Self {
            namespace: namespace.clone(),
            weft: weft.into(),
            home,
            process: None,
        };
        for (name, text) in files {
            node.write(name, text)?;
        }
        Ok(node)
    }

    /// The host it runs on.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Folder of its configuration and keys.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.home.join("conf")
    }

    /// Its `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Its `--runtime-dir`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Writes a file into its configuration folder, readable by root only. Gives the path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.conf().join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)))
            .map_err(|source| LabError::io("write", &path, source))?;
        Ok(path)
    }

    /// Starts `weft up` with these files of its configuration folder, none: with the intent it has persisted.
    /// Returns when its control API answers.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with the end of its log.
    pub fn up(&mut self, files: &[&str]) -> Result<()> {
        let mut command = self.namespace.command(&self.weft);
        command.arg("up");
        for file in files {
            command.arg("-f").arg(self.conf().join(file));
        }
        self.add_directories(&mut command);
        self.start("weft-up", command, &["status", "-o", "json"])
    }

    /// Starts `weft mapserver` alone with these files. Returns when its control API answers.
    ///
    /// # Errors
    /// As [`Self::up`].
    pub fn map_server(&mut self, files: &[&str]) -> Result<()> {
        let mut command = self.namespace.command(&self.weft);
        command.arg("mapserver");
        for file in files {
            command.arg("-f").arg(self.conf().join(file));
        }
        self.add_directories(&mut command);
        self.start("weft-mapserver", command, &["status", "-o", "json"])
    }

    fn add_directories(&self, command: &mut Command) {
        command
            .arg("--state-dir")
            .arg(self.state())
            .arg("--runtime-dir")
            .arg(self.runtime());
    }

    fn start(&mut self, name: &str, command: Command, ready: &[&str]) -> Result<()> {
        let mut process = self.namespace.spawn_command(name, command)?;
        let outcome = wait::until(
            &format!("{} on {} is ready", name, self.namespace.name()),
            READY,
            || {
                if let Some(status) = process.ended() {
                    return Err(LabError::unexpected(format!("it ended at once, {status}")));
                }
                Ok(self.attempt(ready)?.ok.then_some(()))
            },
        );
        let log = process.log_tail();
        self.process = Some(process);
        outcome.map_err(|error| match error {
            LabError::Interrupted => error,
            other => LabError::unexpected(format!("{name} on {}: {other}\n{log}", self.namespace.name())),
        })
    }

    /// The running `weft up` or `weft mapserver`.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// `kill -9` of the control process (or the Map-Server alone); its dataplane, if any, lives on.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it as an operator does (SIGTERM).
    ///
    /// # Errors
    /// When it does not end within ten seconds.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.terminate(process::SHORT).map(|_| ())
    }

    /// Process id of its dataplane, found by its command line among the processes of the namespace.
    ///
    /// # Errors
    /// When there is none.
    pub fn dataplane_pid(&self) -> Result<u32> {
        let pids = process::run("ip", &["netns", "pids", self.namespace.name()], process::SHORT)?;
        pids.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"dataplane".as_slice()))
            })
            .ok_or_else(|| LabError::unexpected(format!("no `weft dataplane` runs in {}", self.namespace.name())))
    }

    /// `kill -9` of the dataplane. Gives the pid it had.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_dataplane(&self) -> Result<u32> {
        let pid = self.dataplane_pid()?;
        process::kill_now(pid);
        Ok(pid)
    }

    /// A client command towards this node.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.weft);
        command
            .args(arguments)
            .env("WEFT_RUNTIME_DIR", self.runtime())
            .current_dir(self.conf());
        command
    }

    /// Runs a client verb and gives what came of it, good or bad.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn attempt(&self, arguments: &[&str]) -> Result<Output> {
        process::finish(self.command(arguments), READY)
    }

    /// Runs a client verb that must end well; gives its standard output.
    ///
    /// # Errors
    /// With what it printed.
    pub fn weft(&self, arguments: &[&str]) -> Result<String> {
        process::must(self.command(arguments), READY)
    }

    /// Runs a client verb with `-o json` and gives the document.
    ///
    /// # Errors
    /// With what it printed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let text = self.weft(&all)?;
        serde_json::from_str(&text)
            .map_err(|error| LabError::unexpected(format!("weft {}: {error} in {text:?}", all.join(" "))))
    }

    /// Writes `yaml` to a file of the configuration folder and applies it.
    ///
    /// # Errors
    /// With the node's words.
    pub fn apply(&self, name: &str, yaml: &str) -> Result<String> {
        let path = self.write(name, yaml)?;
        self.weft(&["apply", "-f", &path.to_string_lossy()])
    }
}
