//! The packet path's supervisor: starts `weft dataplane`, adopts one that runs, starts another when it dies, and
//! carries changes and questions to it. One task owns the link; everybody else talks to it through [`Packets`].

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::Child,
    time::Duration,
};

use dataplane::{
    control::{Answer, Change, Down, Event, Held, Hello, Query, Sequence, Up},
    link::{self, Link, NOBODY, Spawn},
};
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

/// How long a fresh packet path may take to say hello.
const HELLO: Duration = Duration::from_secs(5);
/// Longest pause before another try when it does not come up.
const PAUSE: Duration = Duration::from_millis(300);
/// How long the end of a process whose link broke may take.
const DYING: Duration = Duration::from_millis(100);
/// How long it may take to carry out a set of changes.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
/// How long it may take to answer a question.
const ANSWER: Duration = Duration::from_secs(2);

/// A change and the descriptors it carries.
pub type Carried = (Change, Vec<OwnedFd>);

/// What the supervisor tells the node.
#[derive(Debug)]
pub enum FromPackets {
    /// A packet path is there and holds this. It wants `Resync`, the whole state and `Commit`.
    Connected {
        /// What it said first.
        hello: Box<Hello>,
        /// Descriptors that it handed back.
        descriptors: Vec<(Held, Vec<OwnedFd>)>,
        /// How often it was started by us so far.
        starts: u64,
    },
    /// Something happened.
    Event(Event),
    /// It is gone; another is being started.
    Lost(String),
}

enum ToPackets {
    Apply(Vec<Carried>, oneshot::Sender<Result<(), Vec<String>>>),
    Ask(Query, oneshot::Sender<Answer>),
    Quit(oneshot::Sender<()>),
}

/// The way to the packet path.
#[derive(Clone, Debug)]
pub struct Packets {
    sender: mpsc::UnboundedSender<ToPackets>,
}

impl std::fmt::Debug for ToPackets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToPackets")
    }
}

impl Packets {
    /// Starts supervising. What happens comes out of the receiver.
    pub fn start(socket: PathBuf) -> (Self, mpsc::Receiver<FromPackets>) {
        let (sender, requests) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::channel(1024);
        let supervisor = Supervisor {
            socket,
            requests,
            events,
            starts: 0,
            child: None,
            ended: None,
        };
        tokio::spawn(supervisor.run());
        (Self { sender }, receiver)
    }

    /// Carries changes out in order. Every refusal comes back in the operator's words.
    ///
    /// # Errors
    /// Refusals, or that the packet path went away meanwhile.
    pub async fn apply(&self, changes: Vec<Carried>) -> Result<(), Vec<String>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.sender.send(ToPackets::Apply(changes, answer));
        match timeout(ACKNOWLEDGE, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(vec!["the packet path went away".to_owned()]),
            Err(_) => Err(vec![format!(
                "the packet path did not acknowledge within {ACKNOWLEDGE:?}"
            )]),
        }
    }

    /// Sends changes without waiting; refusals are logged.
    pub fn send(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.send_then(changes, || ());
        }
    }

    /// Puts a question whose answer nobody waits for, behind everything that was sent before.
    pub fn post(&self, query: Query) {
        let (answer, _) = oneshot::channel();
        let _ = self.sender.send(ToPackets::Ask(query, answer));
    }

    /// Sends changes; `then` runs once they are in force, or cannot be. Refusals are logged.
    pub fn send_then(&self, changes: Vec<Change>, then: impl FnOnce() + Send + 'static) {
        let packets = self.clone();
        let (answer, answered) = oneshot::channel();
        let carried = changes.into_iter().map(|change| (change, Vec::new())).collect();
        let _ = packets.sender.send(ToPackets::Apply(carried, answer));
        tokio::spawn(async move {
            if let Ok(Err(refusals)) = answered.await {
                tracing::warn!(reasons = refusals.join("; "), "the packet path refused a change");
            }
            then();
        });
    }

    /// Asks a question. It is on its way when this returns, in the order of the calls, whenever the answer is waited for.
    pub fn ask(&self, query: Query) -> impl Future<Output = Answer> + Send + use<> {
        let patience = match &query {
            Query::Ping { timeout, .. } => timeout.saturating_add(ANSWER),
            _ => ANSWER,
        };
        let (answer, answered) = oneshot::channel();
        let _ = self.sender.send(ToPackets::Ask(query, answer));
        async move {
            match timeout(patience, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Answer::Refused("the packet path went away".to_owned()),
                Err(_) => Answer::Refused("the packet path does not answer".to_owned()),
            }
        }
    }

    /// Ends the packet path for good.
    pub async fn quit(&self) {
        let (done, waiting) = oneshot::channel();
        let _ = self.sender.send(ToPackets::Quit(done));
        let _ = timeout(Duration::from_secs(3), waiting).await;
    }
}

struct Supervisor {
    socket: PathBuf,
    requests: mpsc::UnboundedReceiver<ToPackets>,
    events: mpsc::Sender<FromPackets>,
    starts: u64,
    child: Option<Child>,
    /// How the last child ended, until somebody asks.
    ended: Option<String>,
}

/// What waits for answers on one connection.
#[derive(Default)]
struct Waiting {
    sequence: Sequence,
    question: u64,
    applies: Vec<Apply>,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    events_dropped: u64,
    /// Events that are told once, until the node has room for them: at most one for each door.
    certain: VecDeque<Event>,
}

/// Changes sent together.
struct Apply {
    last: Sequence,
    refusals: Vec<String>,
    answer: oneshot::Sender<Result<(), Vec<String>>>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.connect().await {
                Ok((link, hello, descriptors)) => {
                    failures = 0;
                    let connected = FromPackets::Connected {
                        hello: Box::new(hello),
                        descriptors,
                        starts: self.starts,
                    };
                    if self.events.send(connected).await.is_err() {
                        return;
                    }
                    let since = Instant::now();
                    match self.serve(link).await {
                        Ok(()) => return,
                        Err(error) => {
                            // A process that is ending still has its socket for a moment.
                            self.wait_for_child(DYING).await;
                            let reason = self.reap().unwrap_or_else(|| error.to_string());
                            tracing::error!(reason, "the packet path is gone; starting another");
                            if self.events.send(FromPackets::Lost(reason)).await.is_err() {
                                return;
                            }
                            if since.elapsed() < PAUSE {
                                // It dies of what it is told: not as fast as we can.
                                sleep(PAUSE).await;
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the packet path does not come up; trying again");
                    sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// Connects to the packet path that runs, or to a fresh one, and hears it out.
    async fn connect(&mut self) -> io::Result<(AsyncFd<Link>, Hello, Vec<(Held, Vec<OwnedFd>)>)> {
        let link = match link::connect(&self.socket) {
            Ok(link) => link,
            Err(_) => {
                self.reap();
                let spawn = Spawn {
                    binary: std::env::current_exe()?,
                    arguments: vec!["dataplane".to_owned()],
                    socket: self.socket.clone(),
                    uid: NOBODY,
                    gid: NOBODY,
                };
                self.child = Some(link::spawn(&spawn)?);
                self.starts += 1;
                link::connect(&self.socket)?
            }
        };
        let pid = link::peer_pid(&link).ok();
        #[allow(unsafe_code, reason = "the link owns its descriptor until it is dropped")]
        // SAFETY: `Link` owns the descriptor that `as_raw_fd` names, never replaces it, and closes it only when it is
        // dropped, which the `AsyncFd` outlives by owning the link.
        let mut link = unsafe { AsyncFd::register(link)? };
        match timeout(HELLO, greet(&mut link)).await {
            Ok(Ok((hello, descriptors))) if hello.version == env!("CARGO_PKG_VERSION") => {
                Ok((link, hello, descriptors))
            }
            outcome => {
                // It hangs, or speaks another version: it cannot be talked to, so it cannot stay.
                if let Some(pid) = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                let _ = std::fs::remove_file(&self.socket);
                match outcome {
                    Ok(Ok((hello, _))) => Err(io::Error::other(format!("it was of version {}", hello.version))),
                    Ok(Err(error)) => Err(error),
                    Err(_) => Err(io::Error::other("it said nothing")),
                }
            }
        }
    }

    async fn serve(&mut self, mut link: AsyncFd<Link>) -> io::Result<()> {
        let mut waiting = Waiting::default();
        let mut quitting: Option<oneshot::Sender<()>> = None;
        let events = self.events.clone();
        loop {
            let interest = match link.get_ref().unsent() {
                0 => Interest::READABLE,
                _ => Interest::READABLE | Interest::WRITABLE,
            };
            tokio::select! {
                permit = events.reserve(), if !waiting.certain.is_empty() => match (permit, waiting.certain.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(FromPackets::Event(event)),
                    // The node is gone without a word: the packet path lives on.
                    (Err(_), _) => return Ok(()),
                    (Ok(_), None) => {}
                },
                ready = link.ready_mut(interest) => {
                    let mut guard = ready?;
                    let mut received = Vec::new();
                    let mut ended = None;
                    if guard.ready().is_readable() {
                        ended = loop {
                            match guard.get_inner_mut().receive() {
                                Ok(Some((message, _))) => received.push(message),
                                Ok(None) => break None,
                                Err(error) => break Some(error),
                            }
                        };
                        guard.clear_ready_matching(Ready::READABLE);
                    }
                    if guard.ready().is_writable() && ended.is_none() && !guard.get_inner_mut().flush()? {
                        guard.clear_ready_matching(Ready::WRITABLE);
                    }
                    for message in received {
                        self.hear(message, &mut waiting);
                    }
                    if let Some(error) = ended {
                        return match quitting.take() {
                            Some(done) => {
                                self.wait_for_child(Duration::from_secs(2)).await;
                                let _ = done.send(());
                                Ok(())
                            }
                            None => Err(error),
                        };
                    }
                }
                request = self.requests.recv() => match request {
                    // The node is gone without a word: the packet path lives on.
                    None => return Ok(()),
                    Some(ToPackets::Apply(changes, answer)) => {
                        for (change, descriptors) in changes {
                            waiting.sequence += 1;
                            let borrowed: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
                            link.get_mut().send(&Down::Change(waiting.sequence, change), &borrowed)?;
                        }
                        waiting.applies.push(Apply { last: waiting.sequence, refusals: Vec::new(), answer });
                    }
                    Some(ToPackets::Ask(query, answer)) => {
                        waiting.question += 1;
                        link.get_mut().send(&Down::Query(waiting.question, query), &[])?;
                        waiting.answers.insert(waiting.question, answer);
                    }
                    Some(ToPackets::Quit(done)) => {
                        waiting.question += 1;
                        link.get_mut().send(&Down::Query(waiting.question, Query::Quit), &[])?;
                        quitting = Some(done);
                    }
                }
            }
        }
    }

    fn hear(&self, message: Up, waiting: &mut Waiting) {
        match message {
            Up::Hello(_) => {}
            // A door that has failed is told of once.
            Up::Event(event @ (Event::PortFailed(..) | Event::UplinkFailed(..))) => waiting.certain.push_back(event),
            // Other events are hints that come again. Waiting for room could wait for ever: the node may be waiting for an
            // acknowledgement that stands behind this event.
            Up::Event(event) => {
                if self.events.try_send(FromPackets::Event(event)).is_err() {
                    waiting.events_dropped += 1;
                    if waiting.events_dropped.is_power_of_two() {
                        tracing::warn!(
                            dropped = waiting.events_dropped,
                            "events of the packet path were dropped"
                        );
                    }
                }
            }
            Up::Answer(number, answer) => {
                if let Some(waiter) = waiting.answers.remove(&number) {
                    let _ = waiter.send(answer);
                }
            }
            Up::Ack(sequence, result) => {
                let Some(first) = waiting.applies.iter_mut().find(|apply| sequence <= apply.last) else {
                    return;
                };
                if let Err(reason) = result {
                    first.refusals.push(reason);
                }
                if sequence == first.last {
                    let at = waiting
                        .applies
                        .iter()
                        .position(|apply| apply.last == sequence)
                        .unwrap_or(0);
                    let apply = waiting.applies.remove(at);
                    let result = if apply.refusals.is_empty() {
                        Ok(())
                    } else {
                        Err(apply.refusals)
                    };
                    let _ = apply.answer.send(result);
                }
            }
        }
    }

    /// How our child ended, when it did.
    fn reap(&mut self) -> Option<String> {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            self.child = None;
            self.ended = Some(format!("it ended: {status}"));
        }
        self.ended.take()
    }

    /// Waits for our child to end, when there is one.
    async fn wait_for_child(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while let Some(child) = &mut self.child
            && Instant::now() < deadline
        {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                self.ended = Some(format!("it ended: {status}"));
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Before the next try after so many that failed: the first are often just too early.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(5)
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(PAUSE)
}

/// The hello and the descriptors that follow it.
async fn greet(link: &mut AsyncFd<Link>) -> io::Result<(Hello, Vec<(Held, Vec<OwnedFd>)>)> {
    let mut hello: Option<Hello> = None;
    let mut descriptors = Vec::new();
    loop {
        if let Some(hello) = &hello {
            let expected = hello.ports.len() + hello.uplinks.len() + usize::from(hello.local_exit.is_some());
            if descriptors.len() >= expected {
                return Ok((hello.clone(), descriptors));
            }
        }
        let mut guard = link.readable_mut().await?;
        match guard.get_inner_mut().receive()? {
            None => guard.clear_ready(),
            Some((Up::Hello(said), _)) => hello = Some(said),
            Some((Up::Event(Event::Descriptors(held)), fds)) => descriptors.push((held, fds)),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use dataplane::{
        control::{Attachment, GatewayConfig, Generation, NetworkConfig, NetworkId, NetworkKind, PortConfig, PortId},
        worker::{BurstLoop, Ending},
    };

    use super::*;

    /// A packet path on a thread, listening where the process would.
    fn running(socket: &std::path::Path) -> thread::JoinHandle<io::Result<Ending>> {
        let listener = link::listen(socket).expect("listening");
        let owner = rustix::process::geteuid().as_raw();
        thread::spawn(move || BurstLoop::listening(listener, owner)?.run())
    }

    fn network(id: u32) -> Change {
        Change::PutNetwork(NetworkConfig {
            id: NetworkId(id),
            name: format!("network-{id}"),
            kind: NetworkKind::Local {
                nat44: true,
                nat66: false,
            },
            names: Vec::new(),
            domain: "lan.weft".into(),
            host_addresses: Vec::new(),
        })
    }

    fn port_without_descriptor() -> Change {
        Change::PutPort(PortConfig {
            id: PortId(1),
            name: "guest-a/eth0".into(),
            network: NetworkId(1),
            attachment: Attachment::Tap {
                interface: "tapa".into(),
                vnet_header: 10,
            },
            mac: [2, 0, 0, 0, 0, 1],
            addresses: Vec::new(),
            routed: Vec::new(),
            gateway: GatewayConfig {
                mac: [2, 0, 0, 0, 0, 2],
                ipv4: None,
                ipv6: std::net::Ipv6Addr::LOCALHOST,
                mtu: 1400,
                lease: Duration::from_secs(60),
                dns_upstream: Vec::new(),
            },
            host_name: "guest-a".into(),
        })
    }

    fn bare(changes: Vec<Change>) -> Vec<Carried> {
        changes.into_iter().map(|change| (change, Vec::new())).collect()
    }

    async fn connected(events: &mut mpsc::Receiver<FromPackets>) -> (Box<Hello>, u64) {
        match events.recv().await {
            Some(FromPackets::Connected { hello, starts, .. }) => (hello, starts),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_packet_path_that_runs_is_adopted_told_and_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("dataplane.sock");
        let path = running(&socket);
        let (packets, mut events) = Packets::start(socket);
        let (hello, starts) = connected(&mut events).await;
        assert_eq!((hello.generation, starts), (Generation(0), 0), "adopted, not started");

        let changes = vec![Change::Resync, network(1), Change::Commit(Generation(3))];
        assert_eq!(packets.apply(bare(changes)).await, Ok(()));
        let refused = packets
            .apply(bare(vec![network(2), port_without_descriptor(), network(3)]))
            .await;
        let [reason] = refused.expect_err("no descriptor").try_into().expect("one refusal");
        assert!(reason.contains("guest-a/eth0"), "{reason}");
        assert!(matches!(packets.ask(Query::Counters).await, Answer::Counters(_)));

        packets.quit().await;
        assert_eq!(path.join().expect("no panic").expect("no error"), Ending::Told);
    }

    #[tokio::test]
    async fn a_packet_path_outlives_control_and_says_what_it_holds() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("dataplane.sock");
        let path = running(&socket);
        let (packets, mut events) = Packets::start(socket.clone());
        connected(&mut events).await;
        let changes = vec![Change::Resync, network(1), Change::Commit(Generation(3))];
        assert_eq!(packets.apply(bare(changes)).await, Ok(()));
        drop((packets, events));

        let (packets, mut events) = Packets::start(socket);
        let (hello, _) = connected(&mut events).await;
        assert_eq!(hello.generation, Generation(3));
        packets.quit().await;
        assert_eq!(path.join().expect("no panic").expect("no error"), Ending::Told);
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        assert_eq!(pause(0), Duration::from_millis(5));
        assert_eq!(pause(3), Duration::from_millis(40));
        assert_eq!(pause(u32::MAX), PAUSE);
    }

    #[tokio::test]
    async fn events_that_nobody_takes_hold_nothing_up() {
        let (events, receiver) = mpsc::channel(1);
        let (_sender, requests) = mpsc::unbounded_channel();
        let supervisor = Supervisor {
            socket: PathBuf::new(),
            requests,
            events,
            starts: 0,
            child: None,
            ended: None,
        };
        let mut waiting = Waiting::default();
        for _ in 0..5 {
            supervisor.hear(Up::Event(Event::TrafficSent(Vec::new())), &mut waiting);
        }
        assert_eq!(waiting.events_dropped, 4);
        drop(receiver);
    }

    #[test]
    fn questions_are_on_their_way_in_the_order_of_the_calls() {
        let (sender, mut requests) = mpsc::unbounded_channel();
        let packets = Packets { sender };
        let first = packets.ask(Query::Counters);
        let second = packets.ask(Query::Capture(None));
        // Whoever waits for the second first changes nothing.
        drop((second, first));
        let mut next = || match requests.try_recv() {
            Ok(ToPackets::Ask(query, _)) => query,
            _ => panic!("no question"),
        };
        assert!(matches!(next(), Query::Counters));
        assert!(matches!(next(), Query::Capture(None)));
    }

    #[tokio::test]
    async fn a_door_that_failed_is_told_of_however_busy_the_node_is() {
        let (link, mut far) = dataplane::channel::pair::<Down, Up>().expect("a pair");
        #[allow(unsafe_code, reason = "the link owns its descriptor until it is dropped")]
        // SAFETY: as in `connect`.
        let link = unsafe { AsyncFd::register(link) }.expect("registered");
        let (events, mut receiver) = mpsc::channel(1);
        let (requests_sender, requests) = mpsc::unbounded_channel();
        let mut supervisor = Supervisor {
            socket: PathBuf::new(),
            requests,
            events,
            starts: 0,
            child: None,
            ended: None,
        };
        let hints = |far: &mut dataplane::channel::Channel<Up, Down>| {
            for _ in 0..10 {
                far.send(&Up::Event(Event::TrafficSent(Vec::new())), &[]).expect("sent");
            }
        };
        hints(&mut far);
        for id in 1..=3 {
            let failed = Event::PortFailed(PortId(id), "gone".into());
            far.send(&Up::Event(failed), &[]).expect("sent");
        }
        let failed = Event::UplinkFailed(dataplane::control::UplinkId(1), "gone".into());
        far.send(&Up::Event(failed), &[]).expect("sent");
        hints(&mut far);
        let serving = tokio::spawn(async move { supervisor.serve(link).await });
        let mut doors = Vec::new();
        while doors.len() < 4 {
            match receiver.recv().await {
                Some(FromPackets::Event(Event::PortFailed(id, _))) => doors.push(id.0),
                Some(FromPackets::Event(Event::UplinkFailed(id, _))) => doors.push(100 + id.0),
                Some(_) => {}
                None => panic!("it ended after {doors:?}"),
            }
        }
        assert_eq!(doors, [1, 2, 3, 101]);
        drop(requests_sender);
        assert!(serving.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn acknowledgements_are_told_apart() {
        let (events, _receiver) = mpsc::channel(1);
        let (_sender, requests) = mpsc::unbounded_channel();
        let supervisor = Supervisor {
            socket: PathBuf::new(),
            requests,
            events,
            starts: 0,
            child: None,
            ended: None,
        };
        let mut waiting = Waiting::default();
        let (first, first_answer) = oneshot::channel();
        let (second, second_answer) = oneshot::channel();
        waiting.applies.push(Apply {
            last: 2,
            refusals: Vec::new(),
            answer: first,
        });
        waiting.applies.push(Apply {
            last: 3,
            refusals: Vec::new(),
            answer: second,
        });
        supervisor.hear(Up::Ack(1, Err("no".into())), &mut waiting);
        supervisor.hear(Up::Ack(2, Ok(())), &mut waiting);
        supervisor.hear(Up::Ack(3, Ok(())), &mut waiting);
        assert_eq!(first_answer.await, Ok(Err(vec!["no".to_owned()])));
        assert_eq!(second_answer.await, Ok(Ok(())));
    }
}
