//! The packet path's end of the link to control: one connection at a time, the newest wins; nobody there is fine.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::epoll::{self, EventFlags},
    net::SocketFlags,
};

use super::doors::Token;
use crate::{
    channel::Channel,
    control::{Down, Event, Up},
};

/// Datagrams that may wait for control before events are dropped.
const EVENTS: usize = 512;
/// Datagrams that may wait for control before it counts as gone: it asks, and does not read.
const EVERYTHING: usize = 16_384;

/// The end.
pub(super) struct ControlEnd {
    epoll: Arc<OwnedFd>,
    listener: Option<OwnedFd>,
    /// Whose connections are accepted, besides the superuser's.
    owner: u32,
    channel: Option<Channel<Up, Down>>,
    wants_room: bool,
    events_dropped: u64,
    connections: u64,
}

impl ControlEnd {
    /// Accepts at `listener`, connections of the user `owner`.
    pub(super) fn listening(epoll: Arc<OwnedFd>, listener: OwnedFd, owner: u32) -> io::Result<Self> {
        epoll::add(&epoll, &listener, Token::Listener.encode(), EventFlags::IN)?;
        Ok(Self {
            listener: Some(listener),
            ..Self::new(epoll, owner)
        })
    }

    /// Over one connection.
    pub(super) fn connected(epoll: Arc<OwnedFd>, channel: Channel<Up, Down>) -> io::Result<Self> {
        let mut end = Self::new(epoll, 0);
        end.adopt(channel)?;
        Ok(end)
    }

    fn new(epoll: Arc<OwnedFd>, owner: u32) -> Self {
        Self {
            epoll,
            listener: None,
            owner,
            channel: None,
            wants_room: false,
            events_dropped: 0,
            connections: 0,
        }
    }

    /// Whether someone may still connect.
    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether someone is there.
    pub(super) fn is_connected(&self) -> bool {
        self.channel.is_some()
    }

    /// Takes a new connection; whether there is one. It replaces the old one.
    pub(super) fn accept(&mut self) -> bool {
        let Some(listener) = &self.listener else { return false };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(listener, flags) else {
            return false;
        };
        let trusted = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid.as_raw() == self.owner);
        trusted && self.adopt(Channel::new(socket)).is_ok()
    }

    fn adopt(&mut self, channel: Channel<Up, Down>) -> io::Result<()> {
        self.hang_up();
        epoll::add(&self.epoll, &channel, Token::Control.encode(), EventFlags::IN)?;
        self.channel = Some(channel);
        self.connections += 1;
        Ok(())
    }

    /// Ends the connection.
    pub(super) fn hang_up(&mut self) {
        if let Some(channel) = self.channel.take() {
            let _ = epoll::delete(&self.epoll, &channel);
        }
        self.wants_room = false;
    }

    /// The next message; `None` when there is none, or nobody any more.
    pub(super) fn receive(&mut self) -> Option<(Down, Vec<OwnedFd>)> {
        match self.channel.as_mut()?.receive() {
            Ok(message) => message,
            Err(_) => {
                self.hang_up();
                None
            }
        }
    }

    /// Says something that control waits for. It is kept until there is room.
    pub(super) fn say(&mut self, message: &Up, descriptors: &[BorrowedFd<'_>]) {
        let Some(channel) = &mut self.channel else { return };
        if channel.send(message, descriptors).is_err() || channel.unsent() > EVERYTHING {
            self.hang_up();
        }
        self.watch_room();
    }

    /// Tells an event, or counts it as dropped. What is told once only is never dropped while somebody is there; who
    /// connects later sees it missing in the hello.
    pub(super) fn tell(&mut self, event: Event) {
        if matches!(event, Event::PortFailed(..) | Event::UplinkFailed(..)) {
            return self.say(&Up::Event(event), &[]);
        }
        if self.channel.as_ref().is_some_and(|channel| channel.unsent() < EVENTS) {
            self.say(&Up::Event(event), &[]);
        } else {
            self.events_dropped += 1;
        }
    }

    /// Says what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        if let Some(channel) = &mut self.channel
            && channel.flush().is_err()
        {
            self.hang_up();
        }
        self.watch_room();
    }

    fn watch_room(&mut self) {
        let Some(channel) = &self.channel else { return };
        let wants_room = channel.unsent() > 0;
        if wants_room != self.wants_room {
            let interest = if wants_room {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            let _ = epoll::modify(&self.epoll, channel, Token::Control.encode(), interest);
            self.wants_room = wants_room;
        }
    }

    /// Numbers of our own, by name.
    pub(super) fn counters(&self, all: &mut Vec<(String, u64)>) {
        all.push(("control.connections".into(), self.connections));
        all.push(("control.events_dropped".into(), self.events_dropped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel, control::PortId};

    #[test]
    fn a_door_that_failed_is_told_of_however_much_waits() {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll set"));
        let (ours, mut theirs) = channel::pair::<Up, Down>().expect("a pair");
        let mut end = ControlEnd::connected(epoll, ours).expect("connected");
        while end.events_dropped == 0 {
            end.tell(Event::TrafficSent(Vec::new()));
        }
        end.tell(Event::PortFailed(PortId(1), "gone".into()));
        assert_eq!(end.events_dropped, 1);
        // Control reads at last, until nothing is left.
        let mut last = None;
        loop {
            match theirs.receive().expect("nobody hung up") {
                Some((message, _)) => last = Some(message),
                None if end.channel.as_ref().is_none_or(|channel| channel.unsent() == 0) => break,
                None => end.flush(),
            }
        }
        assert_eq!(last, Some(Up::Event(Event::PortFailed(PortId(1), "gone".into()))));
    }
}
