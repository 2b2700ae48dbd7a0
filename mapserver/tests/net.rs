//! The UDP shell over loopback, on ports that the kernel picks.

#![allow(clippy::disallowed_methods, reason = "real sockets and a real clock")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use lisp::wire::Ecm;
use mapserver::Command;
use mapserver::net::{Control, ServeError, Server as Shell, Status};
use mapserver::store::{Durability, FjallStore, MemoryStore};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    control: mpsc::Sender<Control>,
    task: JoinHandle<()>,
}

fn start(listen: &str, store: Box<dyn mapserver::store::Store>) -> Running {
    let config = mapserver::MapServerConfig {
        addresses: vec![],
        ..config(vec![site("plant", &["10.0.0.0/8"])])
    };
    let shell = Shell::bind(config, store, &[listen.parse().unwrap()]).unwrap();
    let address = shell.listening()[0];
    let (control, receiver) = mpsc::channel(8);
    Running {
        address,
        control,
        task: tokio::spawn(shell.run(receiver)),
    }
}

impl Running {
    async fn status(&self) -> Status {
        let (answer, status) = oneshot::channel();
        self.control.send(Control::Status(answer)).await.unwrap();
        status.await.unwrap()
    }

    async fn stop(self) {
        drop(self.control);
        self.task.await.unwrap();
    }
}

async fn exchange(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, SocketAddr) {
    socket.send_to(bytes, to).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let received = socket.recv_from(&mut buffer);
    let (length, from) = tokio::time::timeout(Duration::from_secs(20), received)
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// On all addresses, the answer comes from the one that was asked.
async fn answers_from_the_address_asked(wildcard: &str, asked: &str) {
    let running = start(&format!("{wildcard}:0"), Box::new(MemoryStore::default()));
    let socket = UdpSocket::bind(format!("{asked}:0")).await.unwrap();
    let to = SocketAddr::new(asked.trim_matches(['[', ']']).parse().unwrap(), running.address.port());
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    let (payload, from) = exchange(&socket, to, &bytes).await;
    assert_eq!(from, to);
    let transmit = mapserver::Transmit {
        source: None,
        destination: to,
        payload,
    };
    assert_eq!(prefixes(&xtr.open(&transmit).records), ["[0]10.1.0.0/16"]);
    let status = running.status().await;
    assert_eq!(status.registrations.len(), 1);
    assert_eq!(status.counters.map_notify_sent, 1);
    running.stop().await;
}

#[tokio::test]
async fn ipv4_answers_from_the_address_asked() {
    answers_from_the_address_asked("0.0.0.0", "127.0.0.53").await;
}

#[tokio::test]
async fn ipv6_answers_from_the_address_asked() {
    answers_from_the_address_asked("[::]", "[::1]").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_acknowledged_in_full_and_kept_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path(), Durability::Power).unwrap();
    let running = start("127.0.0.1:0", Box::new(store));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut xtrs: Vec<Xtr> = (1..=100).map(Xtr::new).collect();
    for (number, xtr) in xtrs.iter_mut().enumerate() {
        let bytes = xtr.register(&[&format!("10.{number}.0.0/16")]);
        socket.send_to(&bytes, running.address).await.unwrap();
    }
    let mut buffer = vec![0; 65_535];
    for _ in 0..100 {
        let received = socket.recv_from(&mut buffer);
        tokio::time::timeout(Duration::from_secs(20), received)
            .await
            .unwrap()
            .unwrap();
    }
    running.stop().await;
    let store = FjallStore::open(folder.path(), Durability::Power).unwrap();
    assert_eq!(mapserver::store::Store::table(&store).len(), 100);
}

#[tokio::test]
async fn commands_are_answered_and_a_forwarded_request_reaches_the_etr() {
    let running = start("127.0.0.1:0", Box::new(MemoryStore::default()));
    let itr = UdpSocket::bind("127.0.0.3:0").await.unwrap();
    // The negative reply goes to the port that the Map-Request names as its source.
    let asked = request("10.1.2.3", "127.0.0.3");
    let asked = Ecm {
        source: itr.local_addr().unwrap(),
        ..ecm("10.1.2.3", &asked)
    };
    let (reply, _) = exchange(&itr, running.address, &asked.encode()).await;
    assert_eq!(
        lisp::wire::MapReply::decode(&reply).unwrap().records[0].ttl,
        lisp::Ttl(1)
    );
    let command = |config| async {
        let (answer, done) = oneshot::channel();
        let command = Control::Command(Box::new(Command::Reconfigure(config)), answer);
        running.control.send(command).await.unwrap();
        done.await.unwrap()
    };
    assert!(command(config(vec![site("a", &[]), site("a", &[])])).await.is_err());
    assert!(command(config(vec![site("plant", &["11.0.0.0/8"])])).await.is_ok());
    let (reply, _) = exchange(&itr, running.address, &asked.encode()).await;
    assert_eq!(
        lisp::wire::MapReply::decode(&reply).unwrap().records[0].ttl,
        lisp::Ttl(15)
    );
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let bind = |config, listen: &[SocketAddr]| Shell::bind(config, Box::new(MemoryStore::default()), listen).err();
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let holder = std::net::UdpSocket::bind(taken).unwrap();
    let good = || config(vec![site("plant", &["10.0.0.0/8"])]);
    assert!(matches!(bind(good(), &[taken]), Some(ServeError::Bind { address, .. }) if address == taken));
    assert!(matches!(bind(good(), &[]), Some(ServeError::NoAddress)));
    let wrong = config(vec![site("a", &[]), site("a", &[])]);
    drop(holder);
    assert!(matches!(bind(wrong, &[taken]), Some(ServeError::Config(_))));
}
