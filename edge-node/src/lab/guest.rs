//! An unmodified guest: a namespace with one NIC, `eth0`, that is configured by DHCP and router advertisements alone.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use super::{LabError, Namespace, Result, process, wait};

const CONF: &str = "timeout 15;
retry 1;
initial-interval 1;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, domain-search, host-name,
        interface-mtu;
also request dhcp6.name-servers, dhcp6.domain-search;
";

/// A guest with a NIC named `eth0`.
#[derive(Clone, Debug)]
pub struct Guest {
    namespace: Namespace,
}

impl Guest {
    /// Takes a namespace for a guest. Its NIC comes when the node moves a TAP into it, or by [`super::Lab::cable`].
    #[must_use]
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Waits until `eth0` is there, and brings it up.
    ///
    /// # Errors
    /// When it does not come.
    pub fn power_on(&self) -> Result<()> {
        wait::until(
            &format!("{} has its NIC", self.namespace.name()),
            process::SHORT,
            || Ok(self.namespace.ip("link set eth0 up").ok().map(|_| ())),
        )?;
        self.link_local().map(|_| ())
    }

    /// Its link-local address, once it may be used.
    ///
    /// # Errors
    /// When there is none.
    pub fn link_local(&self) -> Result<Ipv6Addr> {
        wait::until(
            &format!("{} has a link-local address", self.namespace.name()),
            process::SHORT,
            || {
                let shown = self.namespace.ip("-6 address show dev eth0 scope link -tentative")?;
                Ok(first_address(&shown, "inet6"))
            },
        )
        .and_then(|address| match address {
            IpAddr::V6(address) => Ok(address),
            IpAddr::V4(_) => Err(LabError::unexpected("an IPv4 link-local address")),
        })
    }

    /// Runs dhclient for IPv4 until it has a lease; it stays to renew it. Gives the address.
    ///
    /// # Errors
    /// With what dhclient printed.
    pub fn dhcp4(&self) -> Result<Ipv4Addr> {
        self.dhclient("-4")?;
        let shown = self.namespace.ip("-4 address show dev eth0 scope global")?;
        match first_address(&shown, "inet") {
            Some(IpAddr::V4(address)) => Ok(address),
            _ => Err(LabError::unexpected(format!("no IPv4 address on eth0: {shown}"))),
        }
    }

    /// Runs dhclient for IPv6 until it has a lease; it stays to renew it. Gives the address.
    ///
    /// # Errors
    /// With what dhclient printed.
    pub fn dhcp6(&self) -> Result<Ipv6Addr> {
        self.dhclient("-6")?;
        let shown = self.namespace.ip("-6 address show dev eth0 scope global")?;
        match first_address(&shown, "inet6") {
            Some(IpAddr::V6(address)) => Ok(address),
            _ => Err(LabError::unexpected(format!("no IPv6 address on eth0: {shown}"))),
        }
    }

    fn dhclient(&self, family: &str) -> Result<()> {
        let folder = self.namespace.directory();
        let script = self.file("dhclient-script", include_str!("dhclient-script.sh"), 0o755)?;
        let conf = self.file("dhclient.conf", CONF, 0o644)?;
        let mut command = self.namespace.command("dhclient");
        command
            .args([family, "-1", "-v", "-sf"])
            .arg(script)
            .arg("-cf")
            .arg(conf)
            .arg("-lf")
            .arg(folder.join(format!("leases{family}")))
            .arg("-pf")
            .arg(folder.join(format!("dhclient{family}.pid")))
            .arg("-e")
            .arg(format!("WEFT_LAB_RESOLV={}", folder.join("resolv.conf").display()))
            .arg("-e")
            .arg(format!("PATH={}", process::search_path()))
            .arg("eth0");
        process::must(command, Duration::from_secs(20)).map(|_| ())
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.namespace.directory().join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)))
            .map_err(|source| LabError::io("write", &path, source))?;
        Ok(path)
    }

    /// Waits for a default route by router advertisement.
    ///
    /// # Errors
    /// When none comes.
    pub fn router_advertised(&self) -> Result<()> {
        wait::until(
            &format!("{} has heard a router advertisement", self.namespace.name()),
            process::SHORT,
            || {
                Ok(self
                    .namespace
                    .ip("-6 route show default proto ra")?
                    .contains("default")
                    .then_some(()))
            },
        )
    }

    /// Pings; every reply must come back. Gives the average round trip in milliseconds.
    ///
    /// # Errors
    /// With what `ping` printed when a reply is missing.
    pub fn ping(&self, target: &str, count: u32) -> Result<f64> {
        // Short deadline for each, so that a lost first packet does not cost a second of everybody's time.
        let text = self.namespace.run_within(
            &format!("ping -n -c {count} -i 0.05 -W 2 {target}"),
            Duration::from_secs(20),
        )?;
        if !text.contains(" 0% packet loss") {
            return Err(LabError::unexpected(format!("replies are missing: {text}")));
        }
        round_trip(&text).ok_or_else(|| LabError::unexpected(format!("ping printed no round trip: {text}")))
    }

    /// Whether a single ping is answered within a second.
    ///
    /// # Errors
    /// When `ping` cannot be run.
    pub fn reaches(&self, target: &str) -> Result<bool> {
        Ok(self
            .namespace
            .attempt(&format!("ping -n -c 1 -W 1 {target}"), process::SHORT)?
            .ok)
    }

    /// Waits until a ping is answered.
    ///
    /// # Errors
    /// When none is within the time.
    pub fn until_reaches(&self, target: &str, within: Duration) -> Result<()> {
        wait::until(&format!("{} reaches {target}", self.namespace.name()), within, || {
            Ok(self.reaches(target)?.then_some(()))
        })
    }
}

/// First address after the word `family` in the output of `ip address show`.
fn first_address(shown: &str, family: &str) -> Option<IpAddr> {
    let mut words = shown.split_whitespace();
    words.find(|word| *word == family)?;
    words.next()?.split('/').next()?.parse().ok()
}

/// The average of `rtt min/avg/max/mdev = a/b/c/d ms`.
fn round_trip(text: &str) -> Option<f64> {
    text.split_once("rtt min/avg/max/mdev = ")?
        .1
        .split('/')
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_address_that_ip_shows() {
        let shown = "2: eth0: <UP> mtu 1420\n    inet6 fd07::b/128 scope global dynamic\n       valid_lft 3600sec\n";
        assert_eq!(first_address(shown, "inet6"), Some("fd07::b".parse().unwrap()));
        assert_eq!(first_address(shown, "inet"), None);
    }

    #[test]
    fn reads_the_average_round_trip() {
        let text = "5 packets transmitted, 5 received\nrtt min/avg/max/mdev = 0.100/0.250/0.400/0.010 ms\n";
        assert_eq!(round_trip(text), Some(0.25));
    }
}
