//! The nftables table of the exit: what guests of local networks may reach by way of the host, and that the host
//! forwards nothing else because of them.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};

use super::{EXIT_INTERFACE, INSIDE_V4, INSIDE_V6, forwarding::Switched};

/// The table as `nft -f` takes it, replacing what was there.
///
/// - From guests: out of the uplinks and nowhere else, under the host's address.
/// - To guests: what they asked for.
/// - To the host itself: pings, and DNS where the machine's resolver, which guests are told of, is its own.
/// - What only `switched` made possible, and is neither from nor to guests: nothing, as before.
///
/// `accept` ends this table's chain only: what the host's own tables drop stays dropped.
pub fn table(uplinks: &BTreeSet<String>, resolvers: &[SocketAddr], switched: &Switched) -> String {
    let exit = format!("\"{EXIT_INTERFACE}\"");
    let mut text = String::from("table inet weft\ndelete table inet weft\ntable inet weft {\n");
    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        let _ = writeln!(text, "\tchain {name} {{\n\t\t{hook}");
        for rule in rules {
            let _ = writeln!(text, "\t\t{rule}");
        }
        text.push_str("\t}\n");
    };
    let mut forward = vec![
        format!("oifname {exit} ct state established,related accept"),
        format!("oifname {exit} drop"),
    ];
    if !uplinks.is_empty() {
        forward.push(format!("iifname {exit} oifname {} accept", names(uplinks)));
    }
    forward.push(format!("iifname {exit} drop"));
    if !switched.ipv4.is_empty() {
        forward.push(format!("meta nfproto ipv4 iifname {} drop", names(&switched.ipv4)));
    }
    if !switched.ipv6.is_empty() {
        forward.push(format!("meta nfproto ipv6 iifname {} drop", names(&switched.ipv6)));
    }
    if switched.all_ipv6 {
        forward.push("meta nfproto ipv6 drop".to_owned());
    }
    chain(
        "forward",
        "type filter hook forward priority filter; policy accept;",
        &forward,
    );
    let mut input = vec![
        format!("iifname {exit} ct state established,related accept"),
        format!("iifname {exit} icmp type echo-request accept"),
        format!("iifname {exit} icmpv6 type echo-request accept"),
    ];
    for resolver in resolvers {
        let family = if resolver.is_ipv4() { "ip" } else { "ip6" };
        input.push(format!(
            "iifname {exit} {family} daddr {} meta l4proto {{ tcp, udp }} th dport {} accept",
            resolver.ip(),
            resolver.port()
        ));
    }
    input.push(format!("iifname {exit} drop"));
    chain(
        "input",
        "type filter hook input priority filter; policy accept;",
        &input,
    );
    if !uplinks.is_empty() {
        let inside = [IpAddr::V4(INSIDE_V4), IpAddr::V6(INSIDE_V6)];
        let masquerade = inside.map(|address| {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            format!("{family} saddr {address} oifname {} masquerade", names(uplinks))
        });
        chain("from-guests", "type nat hook postrouting priority srcnat;", &masquerade);
    }
    text.push_str("}\n");
    text
}

/// A set of interfaces.
fn names(interfaces: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", quoted.join(", "))
}

/// Puts a table in force, all of it or nothing.
///
/// # Errors
/// What `nft` refused, in words for the operator.
pub fn put(table: &str) -> Result<(), String> {
    nft(&["-f", "-"], table)
}

/// Takes the table away.
pub fn remove() {
    if let Err(error) = nft(&["delete", "table", "inet", "weft"], "") {
        tracing::debug!(error, "the nftables table was not removed");
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<(), String> {
    let child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("`nft` does not start: {error}; install the package nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // What `nft` did not read it complains about itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("`nft` failed: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`nft` refused: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn guests_leave_by_the_uplinks_only() {
        let text = table(&set(&["wan0", "wan1"]), &[], &Switched::default());
        assert!(
            text.contains(
                "iifname \"weft-exit\" oifname { \"wan0\", \"wan1\" } accept\n\t\tiifname \"weft-exit\" drop"
            )
        );
        assert!(text.contains("ip saddr 169.254.87.2 oifname { \"wan0\", \"wan1\" } masquerade"));
        assert!(!text.contains("nfproto"), "the host forwarded before: {text}");
    }

    #[test]
    fn without_an_uplink_nothing_leaves() {
        let text = table(&BTreeSet::new(), &[], &Switched::default());
        assert!(!text.contains("masquerade") && !text.contains("oifname {"), "{text}");
        assert!(text.contains("iifname \"weft-exit\" drop"));
    }

    #[test]
    fn what_was_not_forwarded_before_is_not_forwarded_now() {
        let switched = Switched {
            ipv4: set(&["wan0"]),
            ipv6: BTreeSet::new(),
            all_ipv6: true,
        };
        let text = table(&set(&["wan0"]), &[], &switched);
        assert!(text.contains("meta nfproto ipv4 iifname { \"wan0\" } drop"));
        assert!(text.contains("meta nfproto ipv6 drop"));
    }

    #[test]
    fn the_host_answers_pings_and_its_own_resolver_and_nothing_else() {
        let resolver = "192.0.2.53:53".parse().expect("an address");
        let text = table(&set(&["wan0"]), &[resolver], &Switched::default());
        assert!(
            text.contains("iifname \"weft-exit\" ip daddr 192.0.2.53 meta l4proto { tcp, udp } th dport 53 accept")
        );
        let input = text.split("chain input").nth(1).expect("a chain");
        assert_eq!(input.matches("accept").count() - 1, 4, "one is the policy: {input}");
    }
}
