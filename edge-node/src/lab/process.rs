//! Programs: run to their end with a deadline, or kept running with their pid and log.

use std::{
    fmt::Write as _,
    fs::File,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{LabError, Result, interrupted, wait};

/// Deadline of commands that only change or show something.
pub(crate) const SHORT: Duration = Duration::from_secs(10);

/// Bytes of a failed command's output that its error repeats.
const TAIL: usize = 4000;

/// What a command that ended well or badly has printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether it ended with status 0.
    pub ok: bool,
    /// Exit code, if it was not killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Debian package of each program that labs use, for the message when it is missing.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("ethtool", "ethtool"),
    ("dhclient", "isc-dhcp-client"),
    ("rdisc6", "ndisc6"),
    ("nft", "nftables"),
    ("dig", "dnsutils"),
    ("getent", "libc-bin"),
    ("socat", "socat"),
    ("sysctl", "procps"),
    ("curl", "curl"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];

/// Says at once everything that is not installed.
pub(super) fn require(tools: &[&'static str]) -> Result<()> {
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| find(tool).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing
        .iter()
        .map(|tool| {
            PACKAGES
                .iter()
                .find(|(program, _)| program == tool)
                .map_or(*tool, |(_, package)| *package)
        })
        .collect();
    Err(LabError::MissingTools(missing, packages))
}

/// Search path of a lab: administrators' programs are not on everybody's.
pub(super) fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn find(program: &str) -> Option<PathBuf> {
    search_path()
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// Runs a command of the host (not in a namespace) that must end well; gives its standard output.
pub(crate) fn run(program: &str, arguments: &[&str], within: Duration) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", search_path());
    must(command, within)
}

/// Runs `command`, which must end with status 0; gives its standard output.
pub(super) fn must(command: Command, within: Duration) -> Result<String> {
    let shown = show(&command);
    let output = finish(command, within)?;
    if output.ok {
        return Ok(output.stdout);
    }
    Err(LabError::Command {
        command: shown,
        status: output
            .code
            .map_or_else(|| "a signal".into(), |code| format!("status {code}")),
        output: tail(&format!("{}{}", output.stdout, output.stderr)),
    })
}

/// Runs `command` to its end, however it ends; kills it when the time is up or the user interrupts.
pub(super) fn finish(mut command: Command, within: Duration) -> Result<Output> {
    let shown = show(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| LabError::Io {
            what: format!("start `{shown}`"),
            source,
        })?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = wait::until(&shown, within, || {
        child.try_wait().map_err(|source| LabError::Io {
            what: format!("wait for `{shown}`"),
            source,
        })
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    // A daemon may have inherited the pipes: do not wait for more than what is there when the command was killed.
    match ended {
        Ok(status) => {
            let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            Ok(Output {
                ok: status.success(),
                code: status.code(),
                stdout,
                stderr,
            })
        }
        Err(LabError::Timeout { .. }) => {
            let output = tail(&format!(
                "{}{}",
                stdout.join().unwrap_or_default(),
                stderr.join().unwrap_or_default()
            ));
            Err(LabError::CommandTimeout {
                command: shown,
                within,
                output,
            })
        }
        Err(other) => Err(other),
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().trim_end().to_owned()
}

/// A program that keeps running; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both output streams going to `log`.
    pub(super) fn start(mut command: Command, name: &str, log: &Path) -> Result<Self> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .map_err(|source| LabError::io("write", log, source))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0)
            .spawn()
            .map_err(|source| LabError::Io {
                what: format!("start {name}"),
                source,
            })?;
        Ok(Self {
            child,
            name: name.into(),
            log: log.into(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it has printed, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when it does not.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        signal(self.pid(), Signal::TERM);
        self.wait(within)
    }

    /// Sends it SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        signal(self.pid(), Signal::INT);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when it does not end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} has ended", self.name);
        wait::until(&what, within, || {
            self.child.try_wait().map_err(|source| LabError::Io {
                what: what.clone(),
                source,
            })
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // The janitor kills whatever this misses; a graceful end first, so that exits are exercised too.
        if interrupted() || thread::panicking() || self.terminate(Duration::from_secs(2)).is_err() {
            self.kill();
        }
    }
}

/// Sends a signal to a process that a lab made.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// `kill -9` for a process that is no child of ours but belongs to the lab, such as the dataplane of a node.
pub(super) fn kill_now(pid: u32) {
    signal(pid, Signal::KILL);
}
