//! Whatever arrives, nothing panics, nothing changes without a MAC, and nothing grows.

mod common;

use common::*;
use proptest::prelude::*;

/// Messages that reach deep, as a start for damage.
fn seeds() -> Vec<Vec<u8>> {
    let mut xtr = Xtr::new(1);
    let register = xtr.register(&["[1]10.1.0.0/16", "[1]10.2.0.0/16"]);
    let anonymous = Xtr {
        xtr: None,
        ..Xtr::new(2)
    }
    .register(&["[1]10.3.0.0/16"]);
    let request = request("[1]10.1.2.3", "203.0.113.9");
    let notify = lisp::wire::MapNotify {
        nonce: lisp::Nonce(1),
        authentication: lisp::wire::Authentication::unsigned(1, xtr.algorithm),
        records: vec![xtr.record("[1]10.1.0.0/16")],
        xtr: None,
    };
    let ack = xtr.ack(&notify);
    vec![
        register,
        anonymous,
        request.encode(),
        ecm("[1]10.1.2.3", &request).encode(),
        ack,
        notify.encode(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_change_nothing_and_never_amplify(
        seed in 0usize..6,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        v6 in any::<bool>(),
    ) {
        let mut server = Server::new(config(vec![site("plant", &["[1]10.0.0.0/8"])]));
        let intact = seeds().swap_remove(seed);
        let mut bytes = intact.clone();
        for (at, value) in &damage {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let from = if v6 { "[2001:db8:9::9]:4342" } else { ITR };
        let sent = server.deliver(from, &bytes);
        if bytes != intact {
            prop_assert!(server.machine.store().table().is_empty(), "no MAC fits damaged bytes");
        }
        let out: usize = sent.iter().map(|transmit| transmit.payload.len()).sum();
        prop_assert!(out <= bytes.len() + 128);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut server = Server::new(config(vec![site("plant", &["[1]10.0.0.0/8"])]));
        server.deliver(ITR, &bytes);
        prop_assert!(server.machine.store().table().is_empty());
    }
}
