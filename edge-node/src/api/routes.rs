//! The routes. Answers are JSON; faults are a [`Report`] with status 422, or 404 and 503 where those say it better.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dataplane::control::{Answer, CaptureFilter, Query};
use futures::StreamExt as _;
use lisp::{CONTROL_PORT, Eid, Rloc};
use tokio::sync::{mpsc, oneshot};

use super::{
    explain,
    names::{self, Unknown},
    types::{
        Applied, CaptureRequest, DeleteRequest, LigAnswer, LigLocator, LigRecord, LigRequest, PingAnswer, PingRequest,
        Request, TraceAnswer, TraceRequest,
    },
    who_can::{self, WhoCanAnswer, WhoCanRequest},
};
use crate::{
    error::{IntentError, Report},
    intent::{Intent, NetworkKind},
    packet,
    read::Source,
    up,
};

type Node = State<mpsc::Sender<Request>>;

/// A fault and its status.
#[derive(Debug)]
struct Fault(StatusCode, Report);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<Report> for Fault {
    fn from(report: Report) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, report)
    }
}

impl From<Unknown> for Fault {
    fn from((message, help): Unknown) -> Self {
        Self::from(Report::from(IntentError::whole("weft", message, help)))
    }
}

/// All routes.
pub fn router(requests: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/objects", get(objects))
        .route("/v1/plan", post(plan))
        .route("/v1/apply", post(apply))
        .route("/v1/delete", post(delete))
        .route("/v1/ping", post(ping))
        .route("/v1/lig", post(lig))
        .route("/v1/trace", post(trace))
        .route("/v1/who-can", post(who_can))
        .route("/v1/capture", post(capture))
        .route("/v1/counters", get(counters))
        .with_state(requests)
}

/// Asks the node's loop.
async fn ask<T>(node: &mpsc::Sender<Request>, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Fault> {
    let (answer, answered) = oneshot::channel();
    let gone = || {
        let error = IntentError::whole("weft", "the node is stopping", "start it again with `weft up`");
        Fault(StatusCode::SERVICE_UNAVAILABLE, Report::from(error))
    };
    node.send(request(answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}

async fn question(node: &mpsc::Sender<Request>, query: Query) -> Result<Answer, Fault> {
    match ask(node, |answer| Request::Ask(query, answer)).await? {
        Answer::Refused(reason) => {
            let error = IntentError::whole("weft", reason, "`weft status` says how the node is");
            Err(Fault(StatusCode::SERVICE_UNAVAILABLE, Report::from(error)))
        }
        answer => Ok(answer),
    }
}

async fn intent(node: &mpsc::Sender<Request>) -> Result<Intent, Fault> {
    ask(node, Request::Intent).await
}

async fn status(State(node): Node) -> Result<Json<up::status::Status>, Fault> {
    ask(&node, Request::Status).await.map(Json)
}

async fn objects(State(node): Node) -> Result<Json<crate::document::StoredIntent>, Fault> {
    ask(&node, Request::Objects).await.map(Json)
}

async fn plan(State(node): Node, Json(sources): Json<Vec<Source>>) -> Result<Json<Applied>, Fault> {
    Ok(Json(ask(&node, |answer| Request::Plan(sources, answer)).await??))
}

async fn apply(State(node): Node, Json(sources): Json<Vec<Source>>) -> Result<Json<Applied>, Fault> {
    Ok(Json(ask(&node, |answer| Request::Apply(sources, answer)).await??))
}

async fn delete(State(node): Node, Json(request): Json<DeleteRequest>) -> Result<Json<Applied>, Fault> {
    Ok(Json(
        ask(&node, |answer| Request::Delete(request.objects, answer)).await??,
    ))
}

async fn counters(State(node): Node) -> Result<Response, Fault> {
    match question(&node, Query::Counters).await? {
        Answer::Counters(counters) => Ok(Json(
            counters
                .into_iter()
                .collect::<std::collections::BTreeMap<String, u64>>(),
        )
        .into_response()),
        _ => Err(unexpected()),
    }
}

async fn ping(State(node): Node, Json(request): Json<PingRequest>) -> Result<Json<PingAnswer>, Fault> {
    let intent = intent(&node).await?;
    let (network, address) = names::destination(&intent, &request.destination, request.network.as_deref())?;
    let has_address = match intent.networks.get(&network).map(|network| &network.kind) {
        Some(NetworkKind::Mesh(mesh)) => mesh.node_addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()),
        _ => false,
    };
    if !has_address {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!("this node has no {family} address in network `{network}` to ping from");
        return Err(Fault::from((
            message,
            "add one to the mesh's `nodeAddresses`".to_owned(),
        )));
    }
    let query = Query::Ping {
        network: up::network_id(&network),
        destination: address,
        sequence: request.sequence,
        size: request.size,
        timeout: request.timeout,
    };
    match question(&node, query).await? {
        Answer::Ping(rtt) => Ok(Json(PingAnswer { address, network, rtt })),
        _ => Err(unexpected()),
    }
}

async fn lig(State(node): Node, Json(request): Json<LigRequest>) -> Result<Json<LigAnswer>, Fault> {
    let intent = intent(&node).await?;
    let eid = names::lookup(&intent, &request.eid, request.network.as_deref())?;
    let resolver = request
        .map_resolver
        .map(|address| SocketAddr::new(address, CONTROL_PORT));
    let answered = ask(&node, |answer| Request::Lookup(eid, resolver, answer));
    let answer = match tokio::time::timeout(request.timeout, answered).await {
        Ok(answer) => answer?.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no Map-Reply within {:?}", request.timeout)),
    };
    let answer = answer.map_err(|message| {
        Fault::from((
            format!("{eid}: {message}"),
            "check the Map-Server's address and that it runs; `weft status` shows registrations".to_owned(),
        ))
    })?;
    let records = answer.mappings.into_iter().map(|mapping| LigRecord {
        eid_prefix: mapping.prefix.to_string(),
        ttl_minutes: mapping.ttl.0,
        authoritative: mapping.authoritative,
        action: mapping.action.to_string(),
        locators: mapping
            .locators
            .iter()
            .map(|locator| LigLocator {
                rloc: locator.rloc.to_string(),
                priority: locator.priority,
                weight: locator.weight,
                reachable: locator.reachable,
            })
            .collect(),
    });
    Ok(Json(LigAnswer {
        eid: eid.to_string(),
        from: answer.from.to_string(),
        rtt_ms: answer.rtt.as_secs_f64() * 1e3,
        tries: answer.tries,
        records: records.collect(),
    }))
}

async fn trace(State(node): Node, Json(request): Json<TraceRequest>) -> Result<Json<TraceAnswer>, Fault> {
    let intent = intent(&node).await?;
    let (_, nic) = names::nic(&intent, &request.guest, request.nic.as_deref())?;
    let guest = request.guest.split('/').next().unwrap_or_default();
    let (query, packet, other) = match request.from {
        None => {
            let (_, destination) =
                names::destination(&intent, &request.destination, Some(&nic.network)).or_else(|unknown| {
                    request
                        .destination
                        .parse()
                        .map(|address| (nic.network.clone(), address))
                        .map_err(|_| unknown)
                })?;
            let source = source_of(nic, request.source, destination)?;
            let described = packet::Probe::new(source, destination, &request.service, request.size)?;
            let frame = described.frame(nic.mac, up::GATEWAY_MAC);
            (
                Query::TraceOutbound {
                    port: up::port_id(guest, &nic.name),
                    frame,
                },
                described.to_string(),
                destination,
            )
        }
        Some(from) => {
            let NetworkKind::Mesh(mesh) = &intent.networks.get(&nic.network).ok_or_else(unexpected)?.kind else {
                return Err(Fault::from((
                    format!("network `{}` is no mesh", nic.network),
                    "leave `--from` out".to_owned(),
                )));
            };
            let (_, source) =
                names::destination(&intent, &request.destination, Some(&nic.network)).or_else(|unknown| {
                    request
                        .destination
                        .parse()
                        .map(|address| (nic.network.clone(), address))
                        .map_err(|_| unknown)
                })?;
            let destination = source_of(nic, request.source, source)?;
            let described = packet::Probe::new(source, destination, &request.service, request.size)?;
            let sealed_by = match mesh.sealed() {
                Some(_) => explain::holder(&ask(&node, Request::Status).await?, mesh.instance_id, source),
                None => None,
            };
            let query = Query::TraceInbound {
                from: Rloc::new(from),
                instance_id: mesh.instance_id,
                node: sealed_by,
                packet: described.packet(),
            };
            (query, described.to_string(), source)
        }
    };
    match question(&node, query).await? {
        Answer::Trace(mut steps) => {
            let sealed = intent.networks.get(&nic.network).and_then(|network| network.sealed());
            if let Some((mesh, _)) = sealed {
                let eid = Eid::new(mesh.instance_id, other);
                steps.extend(explain::refusals(&ask(&node, Request::Status).await?, eid));
            }
            Ok(Json(TraceAnswer { packet, steps }))
        }
        _ => Err(unexpected()),
    }
}

async fn who_can(State(node): Node, Json(request): Json<WhoCanRequest>) -> Result<Json<WhoCanAnswer>, Fault> {
    let intent = intent(&node).await?;
    Ok(Json(who_can::answer(&intent, &request)?))
}

/// The guest's own address of the other end's family.
fn source_of(
    nic: &crate::intent::Nic,
    wanted: Option<std::net::IpAddr>,
    other: std::net::IpAddr,
) -> Result<std::net::IpAddr, Fault> {
    let own = || {
        nic.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == other.is_ipv4())
    };
    wanted
        .or_else(own)
        .filter(|address| address.is_ipv4() == other.is_ipv4())
        .ok_or_else(|| {
            let message = format!("NIC `{}` has no address of the family of {other}", nic.name);
            Fault::from((message, "give one with `--source`".to_owned()))
        })
}

/// One JSON object a line for each packet, until the client goes.
async fn capture(State(node): Node, Json(request): Json<CaptureRequest>) -> Result<Response, Fault> {
    let intent = intent(&node).await?;
    let port = match &request.guest {
        Some(guest) => {
            let (_, nic) = names::nic(&intent, guest, request.nic.as_deref())?;
            Some(up::port_id(guest.split('/').next().unwrap_or_default(), &nic.name))
        }
        None => None,
    };
    let filter = CaptureFilter {
        port,
        addresses: request.addresses,
        snap_length: request.snap_length,
    };
    let (sender, mut receiver) = mpsc::channel(4096);
    ask(&node, |answer| Request::Capture(filter, sender, answer))
        .await?
        .map_err(|reason| Fault::from((reason, "end the other one first, or see `weft status`".to_owned())))?;
    let lines = futures::stream::poll_fn(move |context| receiver.poll_recv(context)).map(|packet| {
        let mut line = serde_json::to_vec(&packet)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    Ok(Body::from_stream(lines).into_response())
}

fn unexpected() -> Fault {
    let error = IntentError::whole(
        "weft",
        "the packet path gave another answer than was asked for",
        "report this fault",
    );
    Fault(StatusCode::INTERNAL_SERVER_ERROR, Report::from(error))
}
