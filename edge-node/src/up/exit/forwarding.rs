//! The switches of the host that make it forward, as few of them as the kernel allows, and back again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where the switches are.
const SWITCHES: &str = "/proc/sys/net";

/// What was changed, kept in a file of the runtime directory as well: a control process that is killed leaves the
/// switches as they are, and the next one must still know which of them were not the host's own doing.
#[derive(Debug, Default)]
pub struct Forwarding {
    root: PathBuf,
    record: Option<PathBuf>,
    switched: Switched,
}

/// Where forwarding was switched on that was off before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// Interfaces that IPv4 is forwarded from.
    pub ipv4: BTreeSet<String>,
    /// Interfaces that IPv6 is forwarded from.
    pub ipv6: BTreeSet<String>,
    /// IPv6 is forwarded from every interface.
    pub all_ipv6: bool,
}

impl Forwarding {
    /// With what an earlier process has changed, if there is such a record.
    pub fn new(record: PathBuf) -> Self {
        let switched = fs::read(&record).ok();
        let switched = switched.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            root: PathBuf::from(SWITCHES),
            record: Some(record),
            switched: switched.unwrap_or_default(),
        }
    }

    /// What is switched on by us.
    pub fn switched(&self) -> &Switched {
        &self.switched
    }

    /// What has to be switched on, and stays so, for packets to be forwarded that come in by `interfaces`; those that are
    /// not there are left out.
    ///
    /// IPv4 asks the interface that a packet came in by. IPv6 asks it only where the kernel has `force_forwarding`
    /// (Linux 6.17); before that one switch for all interfaces decides, and the firewall has to do the rest.
    pub fn needed<'a>(&self, interfaces: impl Iterator<Item = &'a str>) -> Switched {
        let mut needed = self.switched.clone();
        let all_off = is(&self.root.join("ipv6/conf/all/forwarding"), "0");
        for interface in interfaces {
            if is(&self.ipv4(interface), "0") {
                needed.ipv4.insert(interface.to_owned());
            }
            let force = self.ipv6(interface);
            if all_off && is(&force, "0") {
                needed.ipv6.insert(interface.to_owned());
            }
            needed.all_ipv6 |= all_off && !force.exists() && force.parent().is_some_and(Path::exists);
        }
        needed
    }

    /// Switches on what is `needed` and off. It is noted first.
    ///
    /// # Errors
    /// Which switch the kernel does not let us turn.
    pub fn on(&mut self, needed: Switched) -> Result<(), String> {
        if self.switched != needed {
            self.switched = needed;
            self.keep();
        }
        let switches = self.switched.ipv4.iter().map(|name| self.ipv4(name));
        let switches = switches.chain(self.switched.ipv6.iter().map(|name| self.ipv6(name)));
        for switch in switches.filter(|switch| is(switch, "0")) {
            fs::write(&switch, "1").map_err(|error| cannot(&switch, &error))?;
        }
        if self.switched.all_ipv6 && is(&self.root.join("ipv6/conf/all/forwarding"), "0") {
            self.all_ipv6("1")?;
        }
        Ok(())
    }

    fn ipv4(&self, interface: &str) -> PathBuf {
        self.root.join("ipv4/conf").join(interface).join("forwarding")
    }

    fn ipv6(&self, interface: &str) -> PathBuf {
        self.root.join("ipv6/conf").join(interface).join("force_forwarding")
    }

    /// Puts everything back that was changed.
    pub fn back(&mut self) {
        let switched = std::mem::take(&mut self.switched);
        let switches = switched.ipv4.iter().map(|name| self.ipv4(name));
        let switches = switches.chain(switched.ipv6.iter().map(|name| self.ipv6(name)));
        for switch in switches.filter(|switch| switch.exists()) {
            if let Err(error) = fs::write(&switch, "0") {
                tracing::warn!(switch = %switch.display(), %error, "it was not put back");
            }
        }
        if switched.all_ipv6
            && let Err(error) = self.all_ipv6("0")
        {
            tracing::warn!(error, "it was not put back");
        }
        if let Some(record) = &self.record {
            let _ = fs::remove_file(record);
        }
    }

    /// Turns the switch for all interfaces, and nothing else: turning it turns those of the interfaces too, and with
    /// theirs on they listen to router advertisements no more and lose the routes that these brought, unless
    /// `accept_ra` is 2.
    fn all_ipv6(&self, value: &str) -> Result<(), String> {
        let conf = self.root.join("ipv6/conf");
        let all = conf.join("all/forwarding");
        let mut before: BTreeMap<PathBuf, (String, Option<String>)> = BTreeMap::new();
        let entries = fs::read_dir(&conf).map_err(|error| cannot(&conf, &error))?;
        for folder in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Ok(forwarding) = fs::read_to_string(folder.join("forwarding")) else {
                continue;
            };
            if folder.ends_with("all") {
                continue;
            }
            let accept = folder.join("accept_ra");
            let listens = is(&accept, "1") && fs::write(&accept, "2").is_ok();
            before.insert(folder, (forwarding, listens.then(|| "1".to_owned())));
        }
        let turned = fs::write(&all, value).map_err(|error| cannot(&all, &error));
        for (folder, (forwarding, accept)) in before {
            let forwarded = folder.join("forwarding");
            // An interface may be gone by now.
            if !is(&forwarded, forwarding.trim()) {
                let _ = fs::write(forwarded, forwarding.trim());
            }
            if let Some(accept) = accept {
                let _ = fs::write(folder.join("accept_ra"), accept);
            }
        }
        turned
    }

    fn keep(&self) {
        let Some(record) = &self.record else { return };
        let kept = serde_json::to_vec(&self.switched)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(record, bytes));
        if let Err(error) = kept {
            tracing::warn!(%error, "what was changed in /proc/sys is not noted: it will not be put back after a crash");
        }
    }
}

fn is(switch: &Path, value: &str) -> bool {
    fs::read_to_string(switch).is_ok_and(|text| text.trim() == value)
}

fn cannot(switch: &Path, error: &io::Error) -> String {
    format!("cannot switch forwarding on in {}: {error}", switch.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        directory: tempfile::TempDir,
    }

    impl Host {
        /// Switches as files; `with` are paths and values.
        fn new(with: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            for (path, value) in with {
                let path = directory.path().join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, format!("{value}\n")).expect("written");
            }
            Self { directory }
        }

        fn value(&self, path: &str) -> String {
            let text = fs::read_to_string(self.directory.path().join(path)).expect("there");
            text.trim().to_owned()
        }

        fn forwarding(&self) -> Forwarding {
            Forwarding {
                root: self.directory.path().to_owned(),
                ..Forwarding::new(self.directory.path().join("record"))
            }
        }
    }

    fn switch_on(forwarding: &mut Forwarding, interfaces: &[&str]) {
        let needed = forwarding.needed(interfaces.iter().copied());
        forwarding.on(needed).expect("switched");
    }

    const OLD: &[(&str, &str)] = &[
        ("ipv4/conf/wan0/forwarding", "0"),
        ("ipv4/conf/lan0/forwarding", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/wan0/forwarding", "0"),
        ("ipv6/conf/wan0/accept_ra", "1"),
    ];

    #[test]
    fn only_what_is_needed_is_switched_on_and_it_is_put_back() {
        let host = Host::new(OLD);
        let mut forwarding = host.forwarding();
        switch_on(&mut forwarding, &["wan0", "absent"]);
        assert_eq!(host.value("ipv4/conf/wan0/forwarding"), "1");
        assert_eq!(host.value("ipv4/conf/lan0/forwarding"), "0");
        assert_eq!(host.value("ipv6/conf/all/forwarding"), "1");
        assert_eq!(host.value("ipv6/conf/wan0/accept_ra"), "1", "only for a moment");
        // The next process knows what was the host's own doing.
        let mut next = host.forwarding();
        assert_eq!(next.switched(), forwarding.switched());
        switch_on(&mut next, &["wan0"]);
        next.back();
        for (path, value) in OLD {
            assert_eq!(host.value(path), *value, "{path}");
        }
        assert_eq!(*host.forwarding().switched(), Switched::default());
    }

    #[test]
    fn what_was_on_stays_on() {
        let host = Host::new(&[
            ("ipv4/conf/wan0/forwarding", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/wan0/forwarding", "1"),
        ]);
        let mut forwarding = host.forwarding();
        switch_on(&mut forwarding, &["wan0"]);
        assert_eq!(*forwarding.switched(), Switched::default());
        forwarding.back();
        assert_eq!(host.value("ipv4/conf/wan0/forwarding"), "1");
        assert_eq!(host.value("ipv6/conf/all/forwarding"), "1");
    }

    #[test]
    fn a_kernel_that_decides_for_each_interface_is_asked_to() {
        let host = Host::new(&[
            ("ipv6/conf/all/forwarding", "0"),
            ("ipv6/conf/wan0/forwarding", "0"),
            ("ipv6/conf/wan0/force_forwarding", "0"),
        ]);
        let mut forwarding = host.forwarding();
        switch_on(&mut forwarding, &["wan0"]);
        assert_eq!(host.value("ipv6/conf/wan0/force_forwarding"), "1");
        assert_eq!(host.value("ipv6/conf/all/forwarding"), "0");
        forwarding.back();
        assert_eq!(host.value("ipv6/conf/wan0/force_forwarding"), "0");
    }
}
