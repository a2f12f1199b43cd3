//! Splits the bytes that a server sends into messages.

use std::io::{self, Read};

use postgres_protocol::message::backend::Header;

/// The largest message, in bytes, that is kept. The body of a larger one is skipped as it arrives.
const MOST: usize = 64 * 1024;
/// The fewest bytes that one read asks for.
const ROOM: usize = 8 * 1024;
/// The size in bytes of the tag and length before every body.
const HEADER: usize = 5;

/// The peer does not follow PostgreSQL's protocol, or sent a message that the request does not permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not PostgreSQL's protocol: {0}")]
pub struct Broken(pub(super) String);

impl Broken {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub tag: u8,
    /// `None` if the body was too long to keep.
    pub body: Option<&'a [u8]>,
}

/// Bytes that were received and not taken yet: at most one message that is kept, and the bytes of one read.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    /// The number of bytes of the buffer that have been taken, and the number that have been filled.
    taken: usize,
    filled: usize,
    /// The number of bytes still to come of a message that is skipped.
    skipped: usize,
}

impl Input {
    /// Reads from the source once. `Ok(0)` at the end of the stream.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.buffer.len() < self.filled + ROOM {
            self.buffer.resize(self.filled + ROOM, 0);
        }
        let count = source.read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        let skipped = self.skipped.min(self.filled);
        self.skipped -= skipped;
        self.taken = skipped;
        Ok(count)
    }

    /// The next message; `None` if it has not arrived completely.
    pub fn message(&mut self) -> Result<Option<Message<'_>>, Broken> {
        let waiting = &self.buffer[self.taken..self.filled];
        let header = Header::parse(waiting).map_err(|error| Broken(error.to_string()))?;
        let Some(header) = header else {
            return Ok(None);
        };
        let tag = header.tag();
        // The length field counts itself, so it is at least 4, but not the tag.
        let whole = usize::try_from(header.len()).unwrap_or(0) + 1;
        if whole > MOST {
            let here = whole.min(waiting.len());
            self.taken += here;
            self.skipped = whole - here;
            return Ok(Some(Message { tag, body: None }));
        }
        if whole > waiting.len() {
            return Ok(None);
        }
        let body = self.taken + HEADER..self.taken + whole;
        self.taken += whole;
        Ok(Some(Message {
            tag,
            body: Some(&self.buffer[body]),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        let mut bytes = vec![tag];
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// A message's tag and body.
    type Received = (u8, Option<Vec<u8>>);

    /// All messages of a stream that arrives in pieces of these sizes.
    fn messages(stream: &[u8], pieces: &[usize]) -> Result<Vec<Received>, Broken> {
        let mut input = Input::default();
        let mut found = Vec::new();
        let mut rest = stream;
        for size in pieces.iter().cycle() {
            let (mut piece, later) = rest.split_at(rest.len().min(*size));
            while !piece.is_empty() {
                input.read_from(&mut piece).unwrap();
                while let Some(message) = input.message()? {
                    found.push((message.tag, message.body.map(<[u8]>::to_vec)));
                }
            }
            assert!(input.buffer.len() <= MOST + 2 * ROOM);
            if later.is_empty() {
                return Ok(found);
            }
            rest = later;
        }
        unreachable!("there is a piece")
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_are_cut(
            bodies in prop::collection::vec((any::<u8>(), 0_usize..200), 0..20),
            pieces in prop::collection::vec(1_usize..50, 1..10),
        ) {
            let sent: Vec<_> = bodies.iter().map(|(tag, length)| (*tag, vec![*tag; *length])).collect();
            let stream: Vec<_> = sent.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let came = messages(&stream, &pieces).unwrap();
            let sent: Vec<_> = sent.into_iter().map(|(tag, body)| (tag, Some(body))).collect();
            prop_assert_eq!(came, sent);
        }

        #[test]
        fn noise_is_an_error_or_messages_in_bounded_memory(
            noise in prop::collection::vec(any::<u8>(), 0..3_000),
            pieces in prop::collection::vec(1_usize..500, 1..10),
        ) {
            let _ = messages(&noise, &pieces);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_by_without_being_kept() {
        let mut stream = message(b'D', &vec![7; 3 * MOST]);
        stream.extend(message(b'Z', b"I"));
        let came = messages(&stream, &[1_000, 1]).unwrap();
        assert_eq!(came, [(b'D', None), (b'Z', Some(b"I".to_vec()))]);
    }

    #[test]
    fn a_length_below_its_own_is_an_error() {
        assert!(messages(&[b'Z', 0, 0, 0, 3, 1], &[6]).is_err());
        assert!(messages(&[b'Z', 0xFF, 0, 0, 3, 1], &[6]).is_err());
    }
}
