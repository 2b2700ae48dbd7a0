//! Typed messages with descriptors over a unix seqpacket socket: the same code at both ends.
//!
//! A message is written in postcard and cut into datagrams of at most [`CHUNK`] bytes, since a seqpacket datagram
//! has to fit the socket's buffer and a policy or a list of mappings may not. The first byte of a datagram says
//! whether more of the message follow; descriptors ride on its first datagram.
//!
//! Messages may carry traffic keys: buffers are wiped once they are read or sent, and shown by nothing.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice, IoSliceMut},
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a message in one datagram, at the most.
const CHUNK: usize = 32 << 10;
/// Bytes of a whole message, at the most.
const MESSAGE: usize = 64 << 20;
/// Descriptors of one message, at the most (`SCM_MAX_FD`).
pub const DESCRIPTORS: usize = 253;

const LAST: u8 = 0;
const MORE: u8 = 1;

/// One end: sends `Out`, receives `In`. Never blocks.
pub struct Channel<Out, In> {
    socket: OwnedFd,
    unsent: VecDeque<Datagram>,
    partial: Vec<u8>,
    partial_descriptors: Vec<OwnedFd>,
    buffer: Box<[u8]>,
    types: PhantomData<fn(Out) -> In>,
}

struct Datagram {
    bytes: Zeroizing<Vec<u8>>,
    descriptors: Vec<OwnedFd>,
}

impl<Out, In> fmt::Debug for Channel<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("socket", &self.socket)
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

/// Both ends, connected to each other.
///
/// # Errors
/// No descriptors left.
pub fn pair<A, B>() -> io::Result<(Channel<A, B>, Channel<B, A>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Channel::new(one), Channel::new(other)))
}

impl<Out, In> Channel<Out, In> {
    /// Over a connected, non-blocking seqpacket socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            unsent: VecDeque::new(),
            partial: Vec::new(),
            partial_descriptors: Vec::new(),
            buffer: vec![0; CHUNK + 1].into_boxed_slice(),
            types: PhantomData,
        }
    }

    /// Datagrams that wait for room in the socket: poll for output, then call [`Channel::flush`].
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Sends what waits, as far as there is room; whether nothing is left.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(datagram) = self.unsent.front() {
            let descriptors: Vec<BorrowedFd<'_>> = datagram.descriptors.iter().map(AsFd::as_fd).collect();
            match transmit(self.socket.as_fd(), &datagram.bytes, &descriptors) {
                Ok(()) => {
                    self.unsent.pop_front();
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn receive_datagram(&mut self) -> io::Result<Option<usize>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut vectors = [IoSliceMut::new(&mut self.buffer)];
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recvmsg(&self.socket, &mut vectors, &mut control, flags));
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.partial_descriptors.extend(descriptors);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(invalid(
                "a datagram that is too long, or has descriptors that did not fit",
            ));
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(received.bytes))
    }
}

impl<Out: Serialize, In> Channel<Out, In> {
    /// Sends a message, or what there is room for, and keeps the rest (descriptors duplicated) for [`Channel::flush`].
    ///
    /// # Errors
    /// The other end is gone, or there are more than [`DESCRIPTORS`] descriptors.
    pub fn send(&mut self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.len() > DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "too many descriptors for one message",
            ));
        }
        let bytes = Zeroizing::new(postcard::to_stdvec(message).map_err(io::Error::other)?);
        if bytes.len() > MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message beyond 64 MiB"));
        }
        let mut descriptors = descriptors;
        let mut chunks = bytes.chunks(CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            let mut datagram = Zeroizing::new(Vec::with_capacity(chunk.len() + 1));
            datagram.push(if chunks.peek().is_some() { MORE } else { LAST });
            datagram.extend_from_slice(chunk);
            let sent = self.flush()?
                && match transmit(self.socket.as_fd(), &datagram, descriptors) {
                    Ok(()) => true,
                    Err(Errno::AGAIN) => false,
                    Err(error) => return Err(error.into()),
                };
            if !sent {
                let descriptors = descriptors
                    .iter()
                    .map(BorrowedFd::try_clone_to_owned)
                    .collect::<io::Result<_>>()?;
                self.unsent.push_back(Datagram {
                    bytes: datagram,
                    descriptors,
                });
            }
            descriptors = &[];
        }
        Ok(())
    }
}

impl<Out, In: DeserializeOwned> Channel<Out, In> {
    /// The next message with its descriptors; `None` when there is none yet.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone in order; `InvalidData` when it speaks something else, for example
    /// another version of Weft.
    pub fn receive(&mut self) -> io::Result<Option<(In, Vec<OwnedFd>)>> {
        loop {
            let Some(length) = self.receive_datagram()? else {
                return Ok(None);
            };
            let Some((&flag, chunk)) = self.buffer.get(..length).and_then(<[u8]>::split_first) else {
                return Err(invalid("an empty datagram"));
            };
            if self.partial.len() + chunk.len() > MESSAGE || self.partial_descriptors.len() > DESCRIPTORS {
                return Err(invalid("a message that is too long"));
            }
            self.partial.extend_from_slice(chunk);
            self.buffer.get_mut(..length).unwrap_or_default().zeroize();
            match flag {
                MORE => {}
                LAST => {
                    let message = postcard::from_bytes(&self.partial);
                    self.partial.zeroize();
                    // The whole of it was wiped; one long message must not make that dear for ever.
                    self.partial.shrink_to(2 * CHUNK);
                    let descriptors = std::mem::take(&mut self.partial_descriptors);
                    return match message {
                        Ok(message) => Ok(Some((message, descriptors))),
                        Err(_) => Err(invalid("a message that cannot be understood")),
                    };
                }
                _ => return Err(invalid("a datagram of an unknown kind")),
            }
        }
    }
}

impl<Out, In> AsFd for Channel<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<Out, In> AsRawFd for Channel<Out, In> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    // A datagram leaves whole or not at all.
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)).map(drop)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    use super::*;

    type Text = Channel<String, String>;

    fn two() -> (Text, Text) {
        let Ok(pair) = pair() else { panic!("no socket pair") };
        pair
    }

    #[test]
    fn nothing_of_a_message_stays_in_its_buffers() -> io::Result<()> {
        let (mut left, mut right) = two();
        left.send(&"a traffic key".to_owned(), &[])?;
        assert_eq!(right.receive()?.map(|(text, _)| text).as_deref(), Some("a traffic key"));
        assert!(right.buffer.iter().all(|byte| *byte == 0) && right.partial.is_empty());
        assert!(!format!("{right:?}").contains("buffer"));
        Ok(())
    }

    #[test]
    fn a_message_takes_its_descriptors_along() -> io::Result<()> {
        let (mut left, mut right) = two();
        let mut file = File::from(rustix::fs::memfd_create("there", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(b"inside")?;
        left.send(&"one".to_owned(), &[])?;
        left.send(&"two".to_owned(), &[file.as_fd(), file.as_fd()])?;
        drop(file);
        assert!(matches!(right.receive()?, Some((text, none)) if text == "one" && none.is_empty()));
        let Some((text, descriptors)) = right.receive()? else {
            panic!("second message")
        };
        assert_eq!((text.as_str(), descriptors.len()), ("two", 2));
        let mut content = String::new();
        for descriptor in descriptors.into_iter().take(1) {
            let mut file = File::from(descriptor);
            file.rewind()?;
            file.read_to_string(&mut content)?;
        }
        assert_eq!(content, "inside");
        assert!(right.receive()?.is_none());
        Ok(())
    }

    #[test]
    fn long_messages_and_a_full_socket_keep_order() -> io::Result<()> {
        let (mut left, mut right) = two();
        let long = "x".repeat(1 << 20);
        for number in 0..4 {
            left.send(&format!("{number}{long}"), &[left.socket.try_clone()?.as_fd()])?;
        }
        assert!(left.unsent() > 0, "a socket holds less than this");
        let mut seen = 0;
        while seen < 4 {
            left.flush()?;
            while let Some((text, descriptors)) = right.receive()? {
                assert_eq!(text, format!("{seen}{long}"));
                assert_eq!(descriptors.len(), 1);
                seen += 1;
            }
        }
        assert_eq!(left.unsent(), 0);
        Ok(())
    }

    #[test]
    fn the_end_and_nonsense_are_errors() -> io::Result<()> {
        let (left, mut right) = two();
        transmit(left.as_fd(), &[7, 1, 2], &[])?;
        assert_eq!(
            right.receive().err().map(|error| error.kind()),
            Some(io::ErrorKind::InvalidData)
        );
        transmit(left.as_fd(), &[LAST, 200, 1], &[])?;
        right.partial.clear();
        assert_eq!(
            right.receive().err().map(|error| error.kind()),
            Some(io::ErrorKind::InvalidData)
        );
        drop(left);
        assert_eq!(
            right.receive().err().map(|error| error.kind()),
            Some(io::ErrorKind::UnexpectedEof)
        );
        Ok(())
    }
}
