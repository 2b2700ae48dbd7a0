//! The DNS resolvers that this machine uses: guests of local networks are told of them.

use std::{fs, net::IpAddr, net::SocketAddr};

/// Where they stand. The second is what a resolver on this very machine, which guests cannot reach, asks itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// As many as resolvers heed (resolv.conf(5)).
const MOST: usize = 3;
const PORT: u16 = 53;

/// Those that others can reach too.
pub fn read() -> Vec<SocketAddr> {
    let texts = FILES.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts
        .map(|text| parse(&text))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let addresses = lines.filter_map(|word| word.parse::<IpAddr>().ok());
    let reachable = addresses.filter(|address| !address.is_loopback() && !address.is_unspecified());
    reachable
        .take(MOST)
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        parse(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nameservers_in_their_order() {
        let text =
            "# by hand\nsearch example.net\nnameserver 192.0.2.53\nnameserver\t2001:db8::53\n;nameserver 192.0.2.1\n";
        assert_eq!(parsed(text), ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }

    #[test]
    fn what_a_guest_cannot_reach_is_left_out() {
        assert_eq!(
            parsed("nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\noptions edns0"),
            [""; 0]
        );
        assert_eq!(parsed("nameserver 1.1.1.1\n".repeat(5).as_str()).len(), MOST);
    }
}
