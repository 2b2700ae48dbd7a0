//! What a Map-Server is told: sites, their keys and prefixes, and its limits (RFC 9301 §8.2).

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use lisp::{EidPrefix, InstanceId, mesh::PublicKey, wire::AuthAlgorithm};
use zeroize::Zeroizing;

/// A pre-shared secret. Shown by nothing, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the MAC and for nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The whole configuration of a Map-Server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapServerConfig {
    /// Who may register what.
    pub sites: Vec<Site>,
    /// EID space this Map-Server is responsible for beside the sites' prefixes: an unregistered EID inside is
    /// "configured, not registered" (negative for 1 minute), not "no LISP EID" (15 minutes).
    pub blocks: Vec<EidPrefix>,
    /// Our own addresses. They are refused as ITR-RLOC and as target of a forwarded Map-Request, and their families
    /// are the ones we can send in. Unspecified addresses name a family only. Empty: both families.
    pub addresses: Vec<IpAddr>,
    /// Where a Map-Notify goes.
    pub notify_port: NotifyPort,
    /// Life of a registration whose T-bit is clear (RFC 9301 §8.2: three minutes).
    pub registration_expiry: Duration,
    /// Repetition of unsolicited Map-Notifies.
    pub map_notify: NotifyRetransmission,
    /// Instance-IDs whose registrations carry bindings. Those of other Instance-IDs are taken as RFC 9301 has them.
    pub sealed: BTreeMap<InstanceId, SealedInstance>,
    /// Bounds of every table and budget.
    pub limits: Limits,
}

/// A sealed network, as a Map-Server knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedInstance {
    /// Signs bindings of EIDs that are no hash of a key. Without one, only hashes can be registered.
    pub authority: Option<PublicKey>,
}

impl Default for MapServerConfig {
    fn default() -> Self {
        Self {
            sites: Vec::new(),
            blocks: Vec::new(),
            addresses: Vec::new(),
            notify_port: NotifyPort::Observed,
            registration_expiry: Duration::from_secs(180),
            map_notify: NotifyRetransmission::default(),
            sealed: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// UDP destination port of Map-Notifies. RFC 9301 says 4342 in §5.7 and §8.2, the practice of NATs says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyPort {
    /// The source port of the Map-Register. It is 4342 for an xTR that registers from its control port, and the
    /// translated port for one behind a NAT.
    #[default]
    Observed,
    /// Always 4342, the letter of RFC 9301.
    Control,
}

/// A site: xTRs under one administration (RFC 9301 §8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name, unique among the sites. Part of what is persisted: a renamed site starts anew.
    pub name: String,
    /// Its keys; several while one replaces the other.
    pub keys: Vec<SiteKey>,
    /// What it may register.
    pub prefixes: Vec<SitePrefix>,
    /// Whether a Map-Register with P=1 makes this Map-Server answer for the site. Without it the request is
    /// forwarded to the ETR all the same.
    pub allow_proxy_reply: bool,
    /// Whether this Map-Server answers for the site even when its ETRs do not ask for it.
    pub force_proxy_reply: bool,
}

/// A pre-shared secret of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteKey {
    /// Key-ID on the wire.
    pub key_id: u8,
    /// The secret, not empty.
    pub secret: Secret,
    /// Algorithms accepted with it; what the packet says has no say. HMAC-SHA-1 is accepted only when it stands here.
    pub algorithms: Vec<AuthAlgorithm>,
}

/// A prefix that a site may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePrefix {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Whether prefixes inside it may be registered too.
    pub accept_more_specifics: bool,
}

/// How often an unsolicited Map-Notify is repeated (RFC 9301 §5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyRetransmission {
    /// First interval.
    pub interval: Duration,
    /// Repetitions at that interval.
    pub steady: u32,
    /// Further repetitions, each after twice the time of the one before.
    pub doubling: u32,
}

impl Default for NotifyRetransmission {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3),
            steady: 3,
            doubling: 3,
        }
    }
}

/// Bounds. Every table of the machine has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Map-Requests a second from one source address, on average.
    pub requests_per_second: u32,
    /// Map-Requests that may come at once from one source address.
    pub request_burst: u32,
    /// Map-Replies a second to one ITR-RLOC that is not the address the request came from.
    pub third_party_replies_per_second: u32,
    /// Source addresses whose budget is remembered; the longest unseen gives way.
    pub sources: usize,
    /// Unspent bytes that a source may save up. A reply is never larger than what the source paid for.
    pub credit_bytes: u32,
    /// Live registrations of one site.
    pub registrations_per_site: usize,
    /// Nonces remembered for one key: one for each xTR-ID that used it.
    pub nonces_per_key: usize,
    /// EID-records of one Map-Request that are answered.
    pub records_per_request: usize,
    /// EID-records in one Map-Reply (RFC 9301 §5.5, more-specifics). Where there are more, a narrower prefix without
    /// more-specifics is answered instead.
    pub records_per_reply: usize,
    /// UDP payload bytes of an unsolicited Map-Notify.
    pub notify_bytes: usize,
    /// Registrants that are told of a move at one time.
    pub pending_notifies: usize,
    /// Events that wait for the caller; further ones are counted and dropped.
    pub events: usize,
    /// Longest life of a registration with the T-bit.
    pub longest_registration: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 200,
            request_burst: 400,
            third_party_replies_per_second: 20,
            sources: 4096,
            credit_bytes: 16 * 1024,
            registrations_per_site: 1_000_000,
            nonces_per_key: 1_000_000,
            records_per_request: 16,
            records_per_reply: 16,
            notify_bytes: 1200,
            pending_notifies: 65_536,
            events: 4096,
            longest_registration: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Two sites of one name.
    #[error("two sites are called `{0}`; give one of them another name")]
    DuplicateSite(String),
    /// A site that can register nothing.
    #[error("site `{0}` has no key; nobody could register for it")]
    NoKey(String),
    /// Two keys of a site with one Key-ID.
    #[error("site `{site}` has two keys with key-id {key_id}; give one of them another id")]
    DuplicateKeyId {
        /// The site.
        site: String,
        /// The Key-ID.
        key_id: u8,
    },
    /// An empty secret authenticates anybody.
    #[error("site `{site}`: the secret of key-id {key_id} is empty")]
    EmptySecret {
        /// The site.
        site: String,
        /// The Key-ID.
        key_id: u8,
    },
    /// No algorithm accepted.
    #[error("site `{site}`: key-id {key_id} accepts no algorithm; name one, such as hmac-sha256-128")]
    NoAlgorithm {
        /// The site.
        site: String,
        /// The Key-ID.
        key_id: u8,
    },
    /// A prefix that stands twice in one site.
    #[error("site `{site}` has prefix {prefix} twice")]
    DuplicatePrefix {
        /// The site.
        site: String,
        /// The prefix.
        prefix: EidPrefix,
    },
    /// Which secret would a Map-Register with this Key-ID be checked with?
    #[error(
        "sites `{first}` and `{second}` overlap in {prefix} and have different secrets under key-id {key_id}; \
         give one of the keys another id, or take the prefix out of one of the sites"
    )]
    OverlapWithDifferentKeys {
        /// One site.
        first: String,
        /// The other.
        second: String,
        /// The more specific of the two prefixes.
        prefix: EidPrefix,
        /// The Key-ID that both use.
        key_id: u8,
    },
    /// A limit or a time of zero.
    #[error("`{0}` must not be zero")]
    Zero(&'static str),
}

impl MapServerConfig {
    /// Everything that is wrong, at once.
    pub fn validate(&self) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut names = BTreeMap::new();
        for site in &self.sites {
            if names.insert(site.name.as_str(), ()).is_some() {
                errors.push(ConfigError::DuplicateSite(site.name.clone()));
            }
            site.validate(&mut errors);
        }
        self.overlaps(&mut errors);
        self.zeros(&mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Prefixes sorted so that what covers a prefix stands before it: one pass with a stack finds every overlap.
    fn overlaps(&self, errors: &mut Vec<ConfigError>) {
        let mut all: Vec<(EidPrefix, &Site)> = self
            .sites
            .iter()
            .flat_map(|site| site.prefixes.iter().map(move |p| (p.prefix, site)))
            .collect();
        all.sort_by_key(|(prefix, _)| (prefix.instance_id(), prefix.net().network(), prefix.length()));
        let mut covering: Vec<(EidPrefix, &Site)> = Vec::new();
        for (prefix, site) in all {
            covering.retain(|(outer, _)| outer.covers(&prefix));
            for (_, other) in &covering {
                if other.name != site.name
                    && let Some(key_id) = clash(other, site)
                {
                    errors.push(ConfigError::OverlapWithDifferentKeys {
                        first: other.name.clone(),
                        second: site.name.clone(),
                        prefix,
                        key_id,
                    });
                }
            }
            covering.push((prefix, site));
        }
    }

    fn zeros(&self, errors: &mut Vec<ConfigError>) {
        let limits = &self.limits;
        let numbers = [
            ("limits.requests_per_second", u64::from(limits.requests_per_second)),
            ("limits.request_burst", u64::from(limits.request_burst)),
            ("limits.sources", limits.sources as u64),
            ("limits.records_per_request", limits.records_per_request as u64),
            ("limits.records_per_reply", limits.records_per_reply as u64),
            ("limits.registrations_per_site", limits.registrations_per_site as u64),
            ("limits.nonces_per_key", limits.nonces_per_key as u64),
            ("registration_expiry", self.registration_expiry.as_millis() as u64),
            ("map_notify.interval", self.map_notify.interval.as_millis() as u64),
        ];
        errors.extend(
            numbers
                .iter()
                .filter(|(_, value)| *value == 0)
                .map(|(name, _)| ConfigError::Zero(name)),
        );
    }
}

impl Site {
    fn validate(&self, errors: &mut Vec<ConfigError>) {
        let site = || self.name.clone();
        if self.keys.is_empty() {
            errors.push(ConfigError::NoKey(site()));
        }
        let mut ids = BTreeMap::new();
        for key in &self.keys {
            let key_id = key.key_id;
            if ids.insert(key_id, ()).is_some() {
                errors.push(ConfigError::DuplicateKeyId { site: site(), key_id });
            }
            if key.secret.expose().is_empty() {
                errors.push(ConfigError::EmptySecret { site: site(), key_id });
            }
            if key.algorithms.is_empty() {
                errors.push(ConfigError::NoAlgorithm { site: site(), key_id });
            }
        }
        let mut prefixes = BTreeMap::new();
        for SitePrefix { prefix, .. } in &self.prefixes {
            if prefixes.insert(*prefix, ()).is_some() {
                errors.push(ConfigError::DuplicatePrefix {
                    site: site(),
                    prefix: *prefix,
                });
            }
        }
    }

    /// The key with this Key-ID.
    pub fn key(&self, key_id: u8) -> Option<&SiteKey> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }
}

/// A Key-ID under which the two sites have different secrets.
fn clash(one: &Site, other: &Site) -> Option<u8> {
    let differs = |key: &&SiteKey| other.key(key.key_id).is_some_and(|its| its.secret != key.secret);
    one.keys.iter().find(differs).map(|key| key.key_id)
}
