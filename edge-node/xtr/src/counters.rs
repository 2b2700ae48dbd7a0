//! What happened, and what was refused and why: each ending of a message is counted under a name.

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one xTR. They only rise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// What moved since `earlier`, with by how much.
            pub fn since(&self, earlier: &Self) -> Vec<(&'static str, u64)> {
                self.iter()
                    .zip(earlier.iter())
                    .filter_map(|((name, now), (_, then))| {
                        let moved = now.saturating_sub(then);
                        (moved != 0).then_some((name, moved))
                    })
                    .collect()
            }
        }
    };
}

counters! {
    /// Map-Registers sent, repetitions included.
    map_register_sent,
    /// Map-Registers repeated because no Map-Notify came.
    map_register_repeated,
    /// Map-Registers held back because this node has no locator at the moment.
    map_register_no_locator,
    /// Map-Notifies that acknowledged a Map-Register.
    map_notify_accepted,
    /// Map-Notifies with a MAC of no configured Map-Server.
    map_notify_bad_authentication,
    /// Unsolicited Map-Notifies older than, or of the same nonce as, one already obeyed.
    map_notify_replayed,
    /// Map-Notifies with an outstanding nonce from another Map-Server than the one that was asked.
    map_notify_wrong_server,
    /// Unsolicited Map-Notifies obeyed.
    map_notify_unsolicited,
    /// Map-Notify-Acks sent.
    map_notify_ack_sent,
    /// Map-Notify records that name a prefix of ours with other locators.
    map_notify_moved,
    /// Map-Requests sent through the mapping system, repetitions included.
    map_request_sent,
    /// Map-Requests repeated.
    map_request_repeated,
    /// Map-Requests given up after the last try.
    map_request_given_up,
    /// Map-Requests not sent because one was answered for the same EID less than a second ago.
    map_request_rate_limited,
    /// Requests to resolve an EID that the map-cache knew.
    resolve_cached,
    /// Requests to resolve an EID that this node serves itself.
    resolve_own,
    /// Requests to resolve an EID that is being asked for, or paused.
    resolve_pending,
    /// Requests to resolve refused because too many were under way.
    resolve_full,
    /// Requests to resolve with no Map-Resolver or no own locator.
    resolve_nobody_to_ask,
    /// Map-Replies that answered a Map-Request.
    map_reply_accepted,
    /// Map-Replies with no outstanding nonce.
    map_reply_unknown_nonce,
    /// Map-Replies with an outstanding nonce for another EID than was asked.
    map_reply_wrong_eid,
    /// Map-Replies whose positive record is shorter than allowed.
    map_reply_overclaim,
    /// Negative records cut down to the shortest mask allowed.
    map_reply_negative_clipped,
    /// Records beside the answer that are no more-specific of it.
    map_reply_stray_record,
    /// Records that cover EIDs which this node serves.
    map_reply_own_prefix,
    /// Records without any usable locator although they have some.
    map_reply_no_usable_locator,
    /// Probe replies with a record that lacks the A-bit.
    map_reply_probe_not_authoritative,
    /// Map-Replies with LISP-SEC data that was not asked for (read as if without).
    map_reply_security_ignored,
    /// Map-cache entries installed or replaced.
    cache_installed,
    /// Map-cache entries expired.
    cache_expired,
    /// Map-cache entries evicted by the quota.
    cache_evicted,
    /// Map-cache entries not taken because too many Instance-IDs are cached.
    cache_refused_instances,
    /// Map-cache entries removed by a record of TTL 0 or by a less specific that replaces them.
    cache_withdrawn,
    /// Map-cache entries asked for again before they expired.
    cache_refreshed,
    /// Negative entries asked for again because their EID was positive before, or spoke to us.
    cache_negative_rechecked,
    /// Entries asked for again because a locator of theirs does not answer.
    cache_dead_verified,
    /// Map-Requests of others that were answered.
    map_request_answered,
    /// RLOC-probes of others that were answered.
    probe_answered,
    /// Map-Requests for EIDs that this node does not serve.
    map_request_not_ours,
    /// Map-Requests without a usable ITR-RLOC in a family of ours.
    map_request_no_itr_rloc,
    /// Map-Requests whose reply would go to a port it must not go to.
    map_request_bad_port,
    /// Map-Requests not answered because of the rate.
    map_request_over_budget,
    /// Map-Requests with D-bit: no reply wanted.
    map_request_dont_reply,
    /// RLOC-probes that came encapsulated.
    probe_encapsulated,
    /// M=1 records in Map-Requests: never taken.
    map_request_record_ignored,
    /// Records of Map-Requests that are no IP prefix.
    map_request_not_ip,
    /// SMRs sent.
    smr_sent,
    /// SMRs dropped because the queue of their RLOC was full.
    smr_queue_full,
    /// SMRs that led to an SMR-invoked Map-Request.
    smr_obeyed,
    /// SMRs for EIDs that are not cached.
    smr_not_cached,
    /// SMRs for a prefix that was solicited less than 3 s ago.
    smr_rate_limited,
    /// SMRs that came encapsulated.
    smr_encapsulated,
    /// RLOC-probes sent.
    probe_sent,
    /// Probe replies that matched a probe.
    probe_reply_accepted,
    /// RLOC-probes that went unanswered.
    probe_missed,
    /// Probe replies that differ from the map-cache: the mapping system is asked.
    probe_reply_differs,
    /// Locators that went down.
    locator_down,
    /// Locators that came up.
    locator_up,
    /// Look-ups answered.
    lookup_answered,
    /// Look-ups without an answer.
    lookup_failed,
    /// Datagrams that are no LISP message.
    malformed,
    /// LISP messages that an xTR has no use for.
    unexpected_message,
    /// Sealed networks: Map-Replies believed.
    sealed_reply_accepted,
    /// Sealed networks: Map-Requests believed and answered.
    sealed_request_answered,
    /// Sealed networks: copies of Map-Requests answered with the same Map-Reply.
    sealed_request_repeated,
    /// Mesh SAs made by an exchange.
    sa_established,
    /// Mesh SAs under which a packet opened.
    sa_confirmed,
    /// Exchanges begun to replace a mesh SA.
    sa_replaced,
    /// Exchanges begun because the packet path had no mesh SA to send under.
    sa_missed,
    /// Bindings of other nodes that hold since.
    binding_held,
    /// Sealed messages sent, repetitions included.
    sealed_message_sent,
    /// Sealed messages obeyed.
    sealed_message_heard,
    /// Sealed messages that are none.
    sealed_message_malformed,
    /// Sealed messages that were never acknowledged.
    sealed_message_given_up,
    /// Negative Map-Replies in a sealed network, which nobody signs: packets wait or are dropped, nothing is unlearned.
    sealed_negative,
    /// RLOC-probes in clear for a prefix of a sealed network: not answered.
    sealed_clear_probe,
    /// Sealed networks, refused: a message without an offer or answer: in clear, or stripped.
    sealed_unsigned,
    /// Sealed networks, refused: key material (LCAF 11) missing, twice, or not as the signed part says.
    sealed_no_key_material,
    /// Sealed networks, refused: a payload that cannot be read.
    sealed_malformed,
    /// Sealed networks, refused: this node has no clock yet.
    sealed_no_clock,
    /// Sealed networks, refused: neither listed nor holding a valid membership.
    sealed_not_a_member,
    /// Sealed networks, refused: a binding past its end.
    sealed_binding_expired,
    /// Sealed networks, refused: the EID is not the hash of the key that signed.
    sealed_not_the_hash,
    /// Sealed networks, refused: only an authority could sign for this prefix.
    sealed_no_authority,
    /// Sealed networks, refused: the binding's signature.
    sealed_bad_binding,
    /// Sealed networks, refused: a newer binding is known.
    sealed_old_epoch,
    /// Sealed networks, refused: another node has a binding of the same epoch.
    sealed_epoch_conflict,
    /// Sealed networks, refused: it claims what this node serves.
    sealed_own_prefix,
    /// Sealed networks, refused: the binding covers another EID, or is shorter than allowed.
    sealed_wrong_prefix,
    /// Sealed networks, refused: the signature over the message.
    sealed_bad_signature,
    /// Sealed networks, refused: a copy, or older than what was seen.
    sealed_replayed,
    /// Sealed networks, refused: no suite in common, or one that was not offered.
    sealed_no_suite,
    /// Sealed networks, refused: a value of low order.
    sealed_low_order,
    /// Sealed networks, refused: too many signatures to verify at the moment.
    sealed_over_budget,
    /// Sealed networks, refused: something is kept of too many nodes.
    sealed_too_many,
    /// Sealed networks, refused: this node has no binding for the EID.
    sealed_no_own_binding,
    /// Sealed networks, refused: its own key answered.
    sealed_ourselves,
    /// RLOCs that data was sent to which were not remembered because of the bound.
    peers_full,
}
