//! Memory of a Map-Server whose xTRs all register by real, signed messages: at most 400 bytes for each EID.
//! A test binary of its own, because it counts every allocation of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use lisp::{SiteId, XtrId};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system allocator unchanged; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One xTR of many, with an IPv6 RLOC and an IPv6 EID in an Instance-ID: the largest usual case.
fn xtr(number: u32) -> (Xtr, String) {
    let mut id = [0; 16];
    // Spread like hashes, as EIDs of the mesh are.
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    id[..8].copy_from_slice(&spread.to_be_bytes());
    let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (spread >> shift) & 0xffff);
    let eid = format!("[7]fd00:{a:x}:{b:x}:{c:x}:{d:x}::1/128");
    let rloc: IpAddr = format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff)
        .parse()
        .unwrap();
    let xtr = Xtr {
        address: (rloc, 4342).into(),
        xtr: Some((XtrId(id), SiteId(1))),
        rlocs: vec![rloc],
        ..Xtr::new(1)
    };
    (xtr, eid)
}

fn measure(count: u32) {
    let mut server = Server::new(config(vec![site("plant", &["[7]fd00::/8"])]));
    let before = LIVE.load(Ordering::Relaxed);
    let mut xtrs: Vec<Xtr> = Vec::new();
    let mut of_the_test = 0;
    // Two rounds: what a refresh leaves behind counts too.
    for round in 0..2u64 {
        for number in 0..count {
            let (mut xtr, eid) = xtr(number);
            xtr.nonce += round;
            let bytes = xtr.register(&[&eid]);
            let sent = server.deliver(&xtr.from(), &bytes);
            let [notify] = &sent[..] else {
                panic!("xTR {number} got {sent:?}")
            };
            if number % 1000 == 0 {
                assert_eq!(prefixes(&xtr.open(notify).records), [prefix(&eid).to_string()]);
                let start = LIVE.load(Ordering::Relaxed);
                xtrs.push(xtr);
                of_the_test += LIVE.load(Ordering::Relaxed).saturating_sub(start);
            }
            while server.machine.poll_event().is_some() {}
        }
        server.pass(Duration::from_secs(30));
    }
    let live = LIVE.load(Ordering::Relaxed) - before - of_the_test;
    let each = live / count as usize;
    println!("{count} EIDs: {each} bytes each, everything counted");
    let table = server.machine.store().table();
    assert_eq!(table.len(), count as usize, "no registration is lost");
    let counters = server.machine.counters();
    assert_eq!(
        (counters.registered, counters.refreshed),
        (u64::from(count), u64::from(count))
    );
    assert_eq!(counters.map_notify_sent, 2 * u64::from(count));
    assert!(each <= 400, "{each} bytes for each of {count} EIDs");
}

#[test]
fn at_most_400_bytes_for_each_eid() {
    measure(10_000);
    measure(100_000);
}
