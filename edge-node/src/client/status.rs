//! `weft status`.

use std::process::ExitCode;

use super::{
    connection::{Client, run},
    print::{or_dash, seconds, structured, table},
};
use crate::{
    cli::{Format, StatusArgs},
    up::status::{MapServer, Registration, Sealed, Status},
};

/// `weft status`.
pub fn status(arguments: &StatusArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let status: Status = Client::new(&arguments.node).get("/v1/status").await?;
            if !structured(format, &status) {
                show(&status, format == Format::Wide);
            }
            Ok(ExitCode::SUCCESS)
        },
        format,
    )
}

fn show(status: &Status, wide: bool) {
    let name = status.node.as_deref().unwrap_or("Map-Server only");
    say!(
        "node {name}, weft {}, up {}, generation {}",
        status.version,
        seconds(status.uptime),
        status.generation
    );
    if let Some(dataplane) = &status.dataplane {
        match dataplane.pid {
            Some(pid) => say!("packet path: process {pid}, connected {}", seconds(dataplane.uptime)),
            None => say!(
                "packet path: being started; the last one ended: {}",
                or_dash(dataplane.last_end.clone())
            ),
        }
    }
    for failure in &status.failures {
        say!("FAILED: {failure}");
    }
    for warning in &status.warnings {
        say!("warning: {warning}");
    }
    let rows = |rows: Vec<Vec<String>>| rows;
    let uplinks = status.uplinks.iter().map(|uplink| {
        vec![
            uplink.interface.clone(),
            up(uplink.up),
            uplink.rlocs.join(" "),
            uplink.mtu.to_string(),
        ]
    });
    table(
        "uplinks",
        &["INTERFACE", "STATE", "RLOCS", "MTU"],
        &rows(uplinks.collect()),
    );
    let guests = status.guests.iter().map(|port| {
        vec![
            format!("{}/{}", port.guest, port.nic),
            port.network.clone(),
            if port.attached { "attached" } else { "NOT ATTACHED" }.to_owned(),
            port.addresses.join(" "),
            port.received_packets.to_string(),
            port.sent_packets.to_string(),
        ]
    });
    table(
        "guests",
        &["NIC", "NETWORK", "STATE", "ADDRESSES", "FROM IT", "TO IT"],
        &rows(guests.collect()),
    );
    let registrations = status.registrations.iter().map(|registration| {
        vec![
            registration.eid_prefix.clone(),
            registration.map_server.clone(),
            registration_state(registration),
            or_dash(registration.acknowledged_ago.map(|ago| format!("{} ago", seconds(ago)))),
        ]
    });
    table(
        "registrations",
        &["EID-PREFIX", "MAP-SERVER", "STATE", "ACKNOWLEDGED"],
        &rows(registrations.collect()),
    );
    let cache = status.map_cache.iter().map(|entry| {
        vec![
            entry.eid_prefix.clone(),
            entry.state.clone(),
            entry.rlocs.join(" "),
            or_dash(entry.age.map(seconds)),
            or_dash(entry.expires_in.map(seconds)),
            entry.packets.to_string(),
        ]
    });
    table(
        "map-cache",
        &["EID-PREFIX", "STATE", "RLOCS", "AGE", "EXPIRES IN", "PACKETS"],
        &rows(cache.collect()),
    );
    let locators = status.locators.iter().map(|locator| {
        vec![
            locator.rloc.clone(),
            locator.state.clone(),
            or_dash(locator.rtt_ms.map(|rtt| format!("{rtt:.2} ms"))),
            or_dash(locator.heard_ago.map(|ago| format!("{} ago", seconds(ago)))),
        ]
    });
    table(
        "locators",
        &["RLOC", "STATE", "RTT", "HEARD"],
        &rows(locators.collect()),
    );
    if let Some(told) = &status.sealed {
        sealed(told);
    }
    for server in &status.map_servers {
        map_server(server);
    }
    let drops: Vec<Vec<String>> = status
        .drops
        .iter()
        .map(|(word, count)| vec![word.clone(), count.to_string()])
        .collect();
    table("packets that ended early", &["WORD", "PACKETS"], &drops);
    if wide {
        let counters: Vec<Vec<String>> = status
            .xtr
            .iter()
            .map(|(word, count)| vec![word.clone(), count.to_string()])
            .collect();
        table("xTR", &["WORD", "MESSAGES"], &counters);
    }
}

fn sealed(status: &Sealed) {
    say!(
        "\nsealed networks: this node is {}, key {}",
        or_dash(status.node.clone()),
        or_dash(status.node_key.clone())
    );
    let associations = status.associations.iter().filter(|sa| sa.state != "waiting").map(|sa| {
        vec![
            sa.node.clone(),
            sa.index.to_string(),
            sa.suite.clone(),
            sa.state.clone(),
            seconds(sa.age),
            sa.sealed_packets.to_string(),
            sa.opened_packets.to_string(),
            or_dash(sa.roamed_to.clone()),
        ]
    });
    let heading = ["NODE", "SA", "SUITE", "STATE", "AGE", "SEALED", "OPENED", "ROAMED TO"];
    table("mesh SAs", &heading, &associations.collect::<Vec<_>>());
    let unbound: Vec<Vec<String>> = status
        .unbound
        .iter()
        .map(|(prefix, why)| vec![prefix.clone(), why.clone()])
        .collect();
    table(
        "NOT REGISTERED, for want of a binding",
        &["EID-PREFIX", "WHY"],
        &unbound,
    );
    let refusals = status.refusals.iter().map(|refusal| {
        vec![
            refusal.eid.clone(),
            or_dash(refusal.node.clone()),
            refusal.by.clone(),
            refusal.reason.clone(),
            refusal.times.to_string(),
            format!("{} ago", seconds(refusal.ago)),
        ]
    });
    let heading = ["EID", "NODE", "WHOSE", "WHY", "TIMES", "LAST"];
    table("not believed", &heading, &refusals.collect::<Vec<_>>());
}

/// What was acknowledged once is not said as of now while nobody could tell us otherwise.
fn registration_state(registration: &Registration) -> String {
    let state = match &registration.reason {
        Some(reason) => format!("{}: {reason}", registration.state),
        None => registration.state.clone(),
    };
    if registration.reachable {
        state
    } else {
        format!("{state}, NO UPLINK to it now")
    }
}

fn map_server(server: &MapServer) {
    let registrations = server.registrations.iter().map(|registration| {
        vec![
            registration.eid_prefix.clone(),
            registration.site.clone(),
            registration.rlocs.join(" "),
            if registration.superseded {
                "superseded"
            } else {
                "registered"
            }
            .to_owned(),
            format!("{} ago", seconds(registration.refreshed_ago)),
            seconds(registration.expires_in),
        ]
    });
    let title = format!(
        "Map-Server {}, listening on {}",
        server.name,
        server.listening.join(" ")
    );
    say!("\n{title}");
    let heading = ["EID-PREFIX", "SITE", "RLOCS", "STATE", "REFRESHED", "EXPIRES IN"];
    table("", &heading, &registrations.collect::<Vec<_>>());
    let counters: Vec<Vec<String>> = server
        .counters
        .iter()
        .map(|(word, count)| vec![word.clone(), count.to_string()])
        .collect();
    table("", &["WORD", "COUNT"], &counters);
}

fn up(up: bool) -> String {
    if up { "up" } else { "DOWN" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_that_nobody_can_refresh_says_so() {
        let mut registration = Registration {
            map_server: "192.0.2.1".into(),
            eid_prefix: "[7]fd07::1/128".into(),
            state: "registered".into(),
            reason: None,
            acknowledged_ago: Some(39.0),
            reachable: true,
        };
        assert_eq!(registration_state(&registration), "registered");
        registration.reachable = false;
        assert!(registration_state(&registration).contains("NO UPLINK"));
    }
}
