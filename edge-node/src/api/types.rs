//! What travels over the control API, and what a route asks of the node's loop.

use std::{net::IpAddr, net::SocketAddr, time::Duration};

use dataplane::control::{Answer, CaptureFilter, CapturedPacket, Query, TraceStep};
use lisp::Eid;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use xtr::{LookupAnswer, LookupError};

use crate::{
    document::StoredIntent, error::Report, intent::Intent, kind::KindName, plan, read::Source, up::status::Status,
};

/// What a route asks of the node's loop.
#[derive(Debug)]
pub enum Request {
    /// What would these documents change?
    Plan(Vec<Source>, oneshot::Sender<Result<Applied, Report>>),
    /// Change it.
    Apply(Vec<Source>, oneshot::Sender<Result<Applied, Report>>),
    /// Remove objects.
    Delete(Vec<(KindName, String)>, oneshot::Sender<Result<Applied, Report>>),
    /// The objects as they were applied.
    Objects(oneshot::Sender<StoredIntent>),
    /// The intent in force.
    Intent(oneshot::Sender<Intent>),
    /// The state.
    Status(oneshot::Sender<Status>),
    /// A question to the packet path.
    Ask(Query, oneshot::Sender<Answer>),
    /// A look-up.
    Lookup(
        Eid,
        Option<SocketAddr>,
        oneshot::Sender<Result<LookupAnswer, LookupError>>,
    ),
    /// Captured packets, until the receiver is dropped; or why not.
    Capture(
        CaptureFilter,
        mpsc::Sender<CapturedPacket>,
        oneshot::Sender<Result<(), String>>,
    ),
}

/// What a change did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Number of the intent in force.
    pub generation: u64,
    /// Whether it was done.
    pub done: bool,
    /// What was, or would be, done.
    pub actions: Vec<plan::Action>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Objects to remove.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Kind and name of each.
    pub objects: Vec<(KindName, String)>,
}

/// One echo request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the command line's arguments")]
pub struct PingRequest {
    pub destination: String,
    pub network: Option<String>,
    pub sequence: u16,
    pub size: u16,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PingAnswer {
    /// Whom it went to.
    pub address: IpAddr,
    /// In which network.
    pub network: String,
    /// Round trip; none when nothing came back in time.
    pub rtt: Option<Duration>,
}

/// A look-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the command line's arguments")]
pub struct LigRequest {
    pub eid: String,
    pub network: Option<String>,
    pub map_resolver: Option<IpAddr>,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "plain")]
pub struct LigAnswer {
    pub eid: String,
    pub from: String,
    pub rtt_ms: f64,
    pub tries: u32,
    pub records: Vec<LigRecord>,
}

/// One record of a Map-Reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "plain")]
pub struct LigRecord {
    pub eid_prefix: String,
    pub ttl_minutes: u32,
    pub authoritative: bool,
    /// What to do while there are no locators.
    pub action: String,
    pub locators: Vec<LigLocator>,
}

/// One locator of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "plain")]
pub struct LigLocator {
    pub rloc: String,
    pub priority: u8,
    pub weight: u8,
    pub reachable: bool,
}

/// What would happen to a packet?
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the command line's arguments")]
pub struct TraceRequest {
    pub guest: String,
    pub nic: Option<String>,
    pub destination: String,
    pub service: String,
    pub source: Option<IpAddr>,
    pub size: Option<u16>,
    pub from: Option<IpAddr>,
}

/// What would.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "plain")]
pub struct TraceAnswer {
    pub packet: String,
    pub steps: Vec<TraceStep>,
}

/// What to capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the command line's arguments")]
pub struct CaptureRequest {
    pub guest: Option<String>,
    pub nic: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub snap_length: u32,
}
