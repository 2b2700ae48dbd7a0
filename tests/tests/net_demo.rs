//! `weft demo` itself: what it prints, and that nothing of it stays behind, also after Ctrl-C and worse. Needs root.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use weft_tests::net::{Result, marked_processes, until, weft};

static TURN: Mutex<()> = Mutex::new(());

/// Prefix of the namespaces of the demo run by the process `pid`.
fn prefix(pid: u32) -> String {
    format!("wd-{pid}-0-")
}

fn traces(pid: u32) -> Vec<String> {
    let prefix = prefix(pid);
    let mut found = edge_node::lab::remains(&prefix);
    found.extend(
        marked_processes(&prefix)
            .into_iter()
            .map(|pid| format!("process {pid}")),
    );
    if let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) {
        let files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        found.extend(files.filter(|name| name.starts_with(&prefix)));
    }
    found
}

fn links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().expect("ip");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split(": ").nth(1))
        .collect::<Vec<_>>()
        .join(" ")
}

fn start() -> Child {
    Command::new(weft())
        .args(["demo", "mesh", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("weft demo")
}

/// A moment of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The first namespaces are there.
    Building,
    /// Nodes run, guests have their leases, iperf3 is measuring.
    Measuring,
}

fn until_it_is(moment: Moment, pid: u32) -> Result<()> {
    until(&format!("the demo is {moment:?}"), Duration::from_secs(30), || {
        let reached = match moment {
            Moment::Building => edge_node::lab::remains(&prefix(pid)).len() >= 5,
            Moment::Measuring => marked_processes(&prefix(pid)).iter().any(|process| {
                std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "iperf3")
            }),
        };
        Ok(reached.then_some(()))
    })
}

#[test]
fn demo_prints_one_object_and_leaves_nothing_behind() {
    let _turn = TURN.lock();
    let before = links();
    let started = Instant::now();
    let child = start();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(
        output.status.success() && value["ok"] == true,
        "{value:#}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.trim().lines().count(), 1, "one object, nothing else");
    assert!(value["seconds"].as_f64().unwrap() < 60.0, "{}", value["seconds"]);
    assert!(started.elapsed() < Duration::from_secs(65));
    let steps = value["steps"].as_array().unwrap();
    assert!(steps.len() >= 9);
    for step in steps {
        assert!(step["name"].is_string() && step["seconds"].is_number() && step["figures"].is_object());
        assert_eq!(step["ok"], true);
    }
    let moved = steps
        .iter()
        .find(|step| step["name"].as_str().unwrap().contains("moves"))
        .unwrap();
    assert_eq!(moved["figures"]["tcp_survived"], true);
    assert!(moved["figures"]["gap_ms"].is_u64());
    println!("{value:#}");
    assert_eq!(traces(pid), Vec::<String>::new());
    assert_eq!(links(), before);
}

#[test]
fn demo_cleans_up_after_control_c() {
    let _turn = TURN.lock();
    for (signal, moment) in [
        (libc::SIGINT, Moment::Building),
        (libc::SIGINT, Moment::Measuring),
        (libc::SIGTERM, Moment::Measuring),
    ] {
        let before = links();
        let mut child = start();
        let pid = child.id();
        until_it_is(moment, pid).unwrap();
        // SAFETY: a signal to a process that this test started and has not waited for.
        assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
        let status = until("the demo has ended", Duration::from_secs(15), || {
            Ok(child.try_wait().unwrap())
        })
        .unwrap();
        assert_eq!(status.code(), Some(130), "signal {signal}");
        assert_eq!(
            traces(pid),
            Vec::<String>::new(),
            "after signal {signal} while {moment:?}"
        );
        assert_eq!(links(), before);
    }
}

#[test]
fn demo_cleans_up_even_when_it_is_killed() {
    let _turn = TURN.lock();
    let mut child = start();
    let pid = child.id();
    until_it_is(Moment::Measuring, pid).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = until("everything is gone", Duration::from_secs(15), || {
        Ok(traces(pid).is_empty().then_some(()))
    });
    gone.unwrap_or_else(|error| panic!("{error}: {:?}", traces(pid)));
}
