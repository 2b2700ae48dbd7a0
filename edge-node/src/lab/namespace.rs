//! A network namespace that plays a host.

use std::{fs::File, net::IpAddr, path::PathBuf, process::Command, sync::Arc, thread, time::Duration};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Lab, LabError, MARK, Output, Process, Result, process};

/// A host out of a network namespace. Cheap to clone; the namespace lives as long as its lab.
#[derive(Clone, Debug)]
pub struct Namespace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    prefix: String,
    directory: PathBuf,
}

impl Namespace {
    /// Makes it, with the loopback up and without duplicate address detection: the underlay is ours, and a second of
    /// silence for every address would be most of a test.
    pub(super) fn create(lab: &Lab, name: &str) -> Result<Self> {
        let full = format!("{}{name}", lab.prefix());
        process::run("ip", &["netns", "add", &full], process::SHORT)?;
        let directory = lab.directory().join(name);
        std::fs::create_dir_all(&directory).map_err(|source| LabError::io("create", &directory, source))?;
        std::fs::write(directory.join("resolv.conf"), "")
            .map_err(|source| LabError::io("write", &directory, source))?;
        let namespace = Self {
            shared: Arc::new(Shared {
                name: full,
                prefix: lab.prefix().into(),
                directory,
            }),
        };
        namespace.ip("link set lo up")?;
        namespace.sysctl(&[
            "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.default.router_solicitation_delay=0",
            "net.ipv6.conf.default.router_solicitation_interval=1",
            "net.ipv4.ping_group_range=0 2147483647",
        ])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// A folder of its own inside the lab's.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.shared.directory
    }

    /// A command that will run inside: in its network, with its own `/etc/resolv.conf`, with the lab's mark, and
    /// killed by the kernel when the thread that started it ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(), "sh", "-c"])
            .arg(r#"mount --bind "$0" /etc/resolv.conf 2>/dev/null; exec setpriv --pdeathsig KILL -- "$@""#)
            .arg(self.shared.directory.join("resolv.conf"))
            .arg(program)
            .env("PATH", process::search_path())
            .env(MARK, &self.shared.prefix);
        command
    }

    /// Runs a command line inside, split at blanks; it must end well. Gives its standard output.
    ///
    /// # Errors
    /// [`LabError::Command`] with what it printed, [`LabError::CommandTimeout`] after ten seconds.
    pub fn run(&self, line: &str) -> Result<String> {
        self.run_within(line, process::SHORT)
    }

    /// The same with a deadline of its own.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_within(&self, line: &str, within: Duration) -> Result<String> {
        process::must(self.line(line)?, within)
    }

    /// Runs a command line inside and gives what came of it, good or bad.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn attempt(&self, line: &str, within: Duration) -> Result<Output> {
        process::finish(self.line(line)?, within)
    }

    /// Runs a prepared command (see [`Self::command`]) and gives what came of it.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn finish(&self, command: Command, within: Duration) -> Result<Output> {
        process::finish(command, within)
    }

    /// Starts a command line that keeps running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, line: &str) -> Result<Process> {
        self.spawn_command(name, self.line(line)?)
    }

    /// Starts a prepared command that keeps running; its log is `<name>.log` in the namespace's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_command(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(command, name, &self.shared.directory.join(format!("{name}.log")))
    }

    fn line(&self, line: &str) -> Result<Command> {
        let mut words = line.split_whitespace();
        let program = words
            .next()
            .ok_or_else(|| LabError::unexpected("an empty command line"))?;
        let mut command = self.command(program);
        command.args(words);
        Ok(command)
    }

    /// Runs `ip` on this namespace.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut all = vec!["-n", self.name()];
        all.extend(arguments.split_whitespace());
        process::run("ip", &all, process::SHORT)
    }

    /// Sets kernel parameters inside.
    ///
    /// # Errors
    /// When the kernel does not know one of them.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(), "sysctl", "-qw"])
            .args(settings)
            .env("PATH", process::search_path());
        process::must(command, process::SHORT).map(|_| ())
    }

    /// Brings an interface up with these addresses (`address/length`).
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn configure(&self, interface: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let family = if address.contains(':') { " nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface}{family}"))?;
        }
        self.ip(&format!("link set {interface} up"))?;
        Ok(())
    }

    /// Adds a default route of the gateway's family.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn default_route(&self, via: IpAddr) -> Result<()> {
        let family = if via.is_ipv6() { "-6" } else { "-4" };
        process::run(
            "ip",
            &[
                family,
                "-n",
                self.name(),
                "route",
                "add",
                "default",
                "via",
                &via.to_string(),
            ],
            process::SHORT,
        )?;
        Ok(())
    }

    /// Runs `work` on a thread of this process that has moved into the namespace: sockets it makes are the
    /// namespace's.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<Result<T>> {
        let path = PathBuf::from("/run/netns").join(self.name());
        thread::spawn(move || {
            let file = File::open(&path).map_err(|source| LabError::io("open", &path, source))?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                .map_err(|source| LabError::io("enter", &path, source.into()))?;
            Ok(work())
        })
    }

    /// Runs `work` inside and waits for it.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` panics.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.inside(work)
            .join()
            .map_err(|_| LabError::unexpected(format!("a thread in {} panicked", self.name())))?
    }
}
