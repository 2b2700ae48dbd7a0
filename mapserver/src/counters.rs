//! Every ending of a message, in words. Read at any time; nothing else says what the machine did with a packet.

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident => $word:literal ),+ $(,)?) => {
        /// Counters, one word each. They only rise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $( $(#[$doc])* pub $name: u64, )+
        }

        /// What a message or an action ended as.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, reason = "one list gives the fields and the words")]
        pub(crate) enum Count { $( $name, )+ }

        impl Counters {
            /// Word and value, in the order of the declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [ $( ($word, self.$name), )+ ].into_iter()
            }

            /// The words that rose since `earlier`, with by how much.
            pub fn since(&self, earlier: &Self) -> Vec<(&'static str, u64)> {
                self.iter().zip(earlier.iter())
                    .filter_map(|((word, now), (_, then))| {
                        let risen = now.saturating_sub(then);
                        (risen != 0).then_some((word, risen))
                    })
                    .collect()
            }

            pub(crate) fn count(&mut self, what: Count) {
                let field = match what { $( Count::$name => &mut self.$name, )+ };
                *field = field.saturating_add(1);
            }
        }

        impl Count {
            pub(crate) const fn word(self) -> &'static str {
                match self { $( Count::$name => $word, )+ }
            }
        }
    };
}

counters! {
    /// Map-Registers obeyed.
    map_register => "map-register",
    /// Records stored: new prefix, new registrant or new locators.
    registered => "registered",
    /// Records that only prolonged what stood there.
    refreshed => "refreshed",
    /// Records with TTL 0 obeyed.
    deregistered => "deregistered",
    /// Registrations that ran out.
    expired => "expired",
    /// Prefixes that went from one xTR to another.
    moved => "moved",
    /// Records refused because the prefix moved to another xTR and this one has not deregistered it since.
    superseded => "superseded",
    /// Records of a sealed network without a binding, or in a message that no node signed.
    binding_missing => "binding-missing",
    /// Records of a sealed network whose binding is expired, not the EID's, or not signed by who may.
    binding_refused => "binding-refused",
    /// Records with a binding of a lower epoch than was seen: a former host.
    epoch_old => "epoch-old",
    /// Records with a binding of the same epoch as another xTR's.
    epoch_conflict => "epoch-conflict",
    /// Map-Registers whose node signature does not verify.
    seal_refused => "seal-refused",
    /// Map-Registers whose MAC does not verify.
    bad_mac => "bad-mac",
    /// MAC length that the algorithm does not have.
    bad_mac_length => "bad-mac-length",
    /// Key-ID that the site does not have.
    unknown_key_id => "unknown-key-id",
    /// Algorithm-ID that the key does not accept; 0 is among them.
    algorithm_refused => "algorithm-refused",
    /// Nonce not greater than the last one (RFC 9301 §5.6).
    replayed_nonce => "replayed-nonce",
    /// A prefix outside what the site may register.
    prefix_not_owned => "prefix-not-owned",
    /// A more specific prefix where only the exact one is accepted.
    more_specific_refused => "more-specific-refused",
    /// A Map-Register without records.
    no_records => "no-records",
    /// A table is full.
    table_full => "table-full",
    /// Map-Notifies that acknowledge a Map-Register.
    map_notify_sent => "map-notify-sent",
    /// Unsolicited Map-Notifies, first transmissions.
    map_notify_unsolicited => "map-notify-unsolicited",
    /// Unsolicited Map-Notifies, repetitions.
    map_notify_retransmitted => "map-notify-retransmitted",
    /// Unsolicited Map-Notifies given up without an answer.
    map_notify_unanswered => "map-notify-unanswered",
    /// Map-Notify-Acks that ended a repetition.
    map_notify_ack => "map-notify-ack",
    /// Map-Notify-Acks that answer nothing.
    map_notify_ack_unexpected => "map-notify-ack-unexpected",
    /// Map-Notify-Acks whose authentication fails.
    map_notify_ack_refused => "map-notify-ack-refused",
    /// Map-Requests that were worked on.
    map_request => "map-request",
    /// Map-Requests sent on to an ETR.
    forwarded => "forwarded",
    /// ETRs that a Map-Request of several records was not sent on to, since one got it already.
    further_etr => "further-etr",
    /// Map-Replies on behalf of an ETR.
    proxy_reply => "proxy-reply",
    /// Negative Map-Replies: no LISP EID, 15 minutes.
    negative_not_lisp => "negative-not-lisp",
    /// Negative Map-Replies: configured, not registered, 1 minute.
    negative_unregistered => "negative-unregistered",
    /// RLOC-probes, which MUST NOT come here.
    probe_dropped => "probe-dropped",
    /// SMRs, which are for ITRs.
    smr_dropped => "smr-dropped",
    /// Map-Requests without an ITR-RLOC that may be answered.
    no_itr_rloc => "no-itr-rloc",
    /// Map-Requests without a record, or for something that is no IP EID.
    unsupported_eid => "unsupported-eid",
    /// A source sent more than its budget, or a reply would be larger than what it sent.
    budget_exceeded => "budget-exceeded",
    /// Map-Requests with the D-bit whose answer was kept back.
    reply_not_wanted => "reply-not-wanted",
    /// Map-Replies, which a Map-Server discards (RFC 9301 §8.3).
    map_reply_discarded => "map-reply-discarded",
    /// ECMs marked as on their way to an ETR: they would loop.
    ecm_to_etr => "ecm-to-etr",
    /// ECMs with the DDT bit.
    ddt_request => "ddt-request",
    /// ECMs with something else inside than a Map-Request.
    ecm_content => "ecm-content",
    /// Messages of a kind that is not for a Map-Server.
    unexpected_message => "unexpected-message",
    /// Bytes that are no message.
    malformed => "malformed",
    /// Acknowledgments dropped because the store failed to keep what they would have acknowledged.
    store_failed => "store-failed",
    /// Events dropped because nobody fetched them.
    event_dropped => "event-dropped",
}
