//! The underlay: a router namespace with one cable to each site, IPv4, IPv6 or both.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Lab, Namespace, Result};

/// The provider between the sites. Site `n` gets 198.51.100.(4n+1)/30 and 2001:db8:0:n::1/64; the router has the next
/// address of each.
#[derive(Debug)]
pub struct Underlay<'lab> {
    lab: &'lab Lab,
    router: Namespace,
    next: Cell<u8>,
}

/// A host with an uplink `wan0` into the underlay.
#[derive(Clone, Debug)]
pub struct Site {
    /// The host.
    pub namespace: Namespace,
    /// Its IPv4 address, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<Ipv6Addr>,
    /// Name of the router's end of its cable.
    pub router_interface: String,
}

impl Site {
    /// Its addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
            .collect()
    }
}

impl<'lab> Underlay<'lab> {
    /// Makes the router.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        let router = lab.namespace("underlay")?;
        router.sysctl(&["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
        Ok(Self {
            lab,
            router,
            next: Cell::new(0),
        })
    }

    /// The router: the place to watch every packet between sites.
    #[must_use]
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// Makes a host with an uplink of these families.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn site(&self, name: &str, ipv4: bool, ipv6: bool) -> Result<Site> {
        let namespace = self.lab.namespace(name)?;
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let router_interface = format!("to-{name}");
        self.lab
            .cable((&namespace, "wan0"), (&self.router, &router_interface))?;
        let first = number.wrapping_mul(4);
        let v4 = |last: u8| Ipv4Addr::new(198, 51, 100, first.wrapping_add(last));
        let v6 = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(number), 0, 0, 0, last);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        if ipv4 {
            ours.push(format!("{}/30", v4(1)));
            theirs.push(format!("{}/30", v4(2)));
        }
        if ipv6 {
            ours.push(format!("{}/64", v6(1)));
            theirs.push(format!("{}/64", v6(2)));
        }
        // What is routed by the test's own word shall not be changed by a router advertisement.
        namespace.sysctl(&["net.ipv6.conf.wan0.accept_ra=0"])?;
        self.router.configure(
            &router_interface,
            &theirs.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        namespace.configure("wan0", &ours.iter().map(String::as_str).collect::<Vec<_>>())?;
        if ipv4 {
            namespace.default_route(IpAddr::V4(v4(2)))?;
        }
        if ipv6 {
            namespace.default_route(IpAddr::V6(v6(2)))?;
        }
        Ok(Site {
            namespace,
            ipv4: ipv4.then(|| v4(1)),
            ipv6: ipv6.then(|| v6(1)),
            router_interface,
        })
    }

    /// Cuts or mends the cable of a site, at the router's end: the site's own interface loses its carrier.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn cable_up(&self, site: &Site, up: bool) -> Result<()> {
        self.router.ip(&format!(
            "link set {} {}",
            site.router_interface,
            if up { "up" } else { "down" }
        ))?;
        if up && let Some(ipv6) = site.ipv6 {
            // An interface that goes down loses its IPv6 addresses.
            let mut segments = ipv6.segments();
            segments[7] = 2;
            let router = Ipv6Addr::from(segments);
            let _ = self.router.ip(&format!(
                "address replace {router}/64 dev {} nodad",
                site.router_interface
            ));
        }
        Ok(())
    }
}
