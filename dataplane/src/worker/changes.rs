//! What control says to the loop: changes with their descriptors, questions; and the greeting.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::event::epoll::EventFlags;

use super::{BurstLoop, Ending, MESSAGES, doors::Fresh};
use crate::{
    control::{Answer, Change, Down, Event, Held, Hello, Query, Up},
    port::GuestPort,
};

impl BurstLoop {
    /// Says what is held here, and hands its descriptors over.
    pub(super) fn greet(&mut self, now: Instant) {
        let doors = &self.doors;
        let hello = Hello {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            generation: self.engine.generation(),
            sequence: self.sequence,
            ports: doors.ports.values().map(|door| door.config.clone()).collect(),
            uplinks: doors
                .uplinks
                .values()
                .map(|door| door.uplink.config().clone())
                .collect(),
            local_exit: doors.exit.as_ref().map(|door| door.config.clone()),
            sas: self.engine.sas(now),
        };
        self.control.say(&Up::Hello(hello), &[]);
        for (&id, door) in &doors.ports {
            let descriptor: Vec<BorrowedFd<'_>> = door.port.descriptor().into_iter().collect();
            self.control
                .say(&Up::Event(Event::Descriptors(Held::Port(id))), &descriptor);
        }
        for (&id, door) in &doors.uplinks {
            self.control
                .say(&Up::Event(Event::Descriptors(Held::Uplink(id))), &door.uplink.sockets());
        }
        if let Some(door) = &doors.exit {
            let descriptor: Vec<BorrowedFd<'_>> = door.port.descriptor().into_iter().collect();
            self.control
                .say(&Up::Event(Event::Descriptors(Held::LocalExit)), &descriptor);
        }
    }

    /// Control has said something, or has room.
    pub(super) fn handle_control(&mut self, now: Instant, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.control.flush();
        }
        for _ in 0..MESSAGES {
            match self.control.receive() {
                Some((Down::Change(sequence, change), descriptors)) => {
                    let result = self.apply(now, change, descriptors);
                    self.sequence = sequence;
                    self.control.say(&Up::Ack(sequence, result), &[]);
                }
                Some((Down::Query(number, query), _)) => self.answer(now, number, query),
                None => break,
            }
        }
        if !self.control.is_connected() {
            self.hosts.forget_pings();
            self.stop_capture(now);
            if !self.control.is_listening() {
                self.ending = Some(Ending::ControlGone);
            }
        }
    }

    /// A capture ends with the connection that asked for it.
    pub(super) fn stop_capture(&mut self, now: Instant) {
        self.engine.query(now, &Query::Capture(None));
    }

    fn apply(&mut self, now: Instant, change: Change, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let fresh = match &change {
            Change::PutPort(config) => self.doors.check_port(config, descriptors)?,
            Change::PutUplink(config) => self.doors.check_uplink(config, descriptors)?,
            Change::PutLocalExit(config) => self.doors.check_exit(config, descriptors)?,
            _ => Fresh::Kept,
        };
        self.engine.apply(now, &change, &mut self.pool, &mut self.out)?;
        let result = match change {
            Change::PutPort(config) => self.doors.put_port(config, fresh),
            Change::PutUplink(config) => self.doors.put_uplink(config, fresh, &mut self.pool),
            Change::PutLocalExit(config) => self.doors.put_exit(config, fresh),
            Change::PutNetwork(config) => {
                self.hosts.put(&config);
                Ok(())
            }
            Change::RemoveNetwork(_)
            | Change::RemovePort(_)
            | Change::RemoveUplink(_)
            | Change::RemoveLocalExit
            | Change::Commit(_) => {
                self.close_what_is_gone();
                Ok(())
            }
            _ => Ok(()),
        };
        self.hand_out(now);
        result.map_err(|error| format!("cannot watch it: {error}"))
    }

    /// Closes the doors of what the engine's tables do not name any more.
    fn close_what_is_gone(&mut self) {
        let tables = self.engine.snapshot();
        let gone: Vec<_> = self
            .doors
            .ports
            .keys()
            .filter(|id| !tables.ports.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.doors.remove_port(id);
        }
        let gone: Vec<_> = self
            .doors
            .uplinks
            .keys()
            .filter(|id| tables.uplinks.get(**id).is_none())
            .copied()
            .collect();
        for id in gone {
            self.doors.remove_uplink(id, &mut self.pool);
        }
        if tables.exit.is_none() {
            self.doors.remove_exit();
        }
        self.hosts.retain(|id| tables.networks.contains_key(&id));
    }

    fn answer(&mut self, now: Instant, number: u64, query: Query) {
        let answer = match query {
            Query::Quit => {
                self.ending = Some(Ending::Told);
                Answer::Ok
            }
            Query::Ping {
                network,
                destination,
                sequence,
                size,
                timeout,
            } => {
                match self
                    .hosts
                    .ping(now, number, network, destination, sequence, size, timeout)
                {
                    Ok(()) => {
                        self.poll_hosts(now);
                        self.hand_out(now);
                        return;
                    }
                    Err(why) => Answer::Refused(why),
                }
            }
            query => match self.engine.ask(now, &query, &mut self.pool, &mut self.out) {
                Some(Answer::Counters(mut all)) => {
                    self.doors.counters(&mut all);
                    self.control.counters(&mut all);
                    all.extend(self.facts.iter().cloned());
                    all.sort();
                    Answer::Counters(all)
                }
                Some(answer) => {
                    self.hand_out(now);
                    answer
                }
                None => Answer::Refused("this question has no answer here".into()),
            },
        };
        self.control.say(&Up::Answer(number, answer), &[]);
    }
}
