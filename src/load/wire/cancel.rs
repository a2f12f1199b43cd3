//! Requests to cancel the statement of a connection: each is sent to the server on a short connection of its own.

use std::io;
use std::time::Duration;

use crate::clock::Stamp;
use crate::pg::tls::Tls;
use crate::pg::wire::{Address, CancelKey, Socket};
use crate::poll::{Event, Interest, Poll};

/// Poll keys from this one up belong to cancel requests; smaller keys belong to connections of the load.
const FIRST_KEY: u64 = 1 << 32;
/// The longest that a request may take before it is given up.
const DEADLINE: Duration = Duration::from_secs(1);

/// The requests under way.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    under_way: Vec<Cancel>,
    begun: u64,
}

#[derive(Debug)]
struct Cancel {
    key: u64,
    socket: Socket,
    deadline: Stamp,
}

impl Cancels {
    pub(super) fn begin(
        &mut self,
        poll: &Poll,
        (address, tls): (&Address, Option<&Tls>),
        cancel_key: CancelKey,
        now: Stamp,
    ) -> io::Result<()> {
        let mut socket = Socket::connect(address, tls)?;
        cancel_key.write(&mut socket.output);
        let key = FIRST_KEY + self.begun;
        self.begun += 1;
        poll.add(&socket, key, Interest::ReadableOrWritable)?;
        self.under_way.push(Cancel {
            key,
            socket,
            deadline: now + DEADLINE,
        });
        Ok(())
    }

    pub(super) fn owns(event: Event) -> bool {
        event.key >= FIRST_KEY
    }

    pub(super) fn on_event(&mut self, poll: &Poll, event: Event) {
        let Some(index) = self.under_way.iter().position(|it| it.key == event.key) else {
            return;
        };
        // The server answers by closing the connection. An error needs no handling: the cancelled connection is given up anyway.
        if self.under_way[index].go_on(poll, event).is_err() {
            self.under_way.swap_remove(index);
        }
    }

    /// Gives up requests that take too long.
    pub(super) fn expire(&mut self, now: Stamp) {
        self.under_way.retain(|it| now < it.deadline);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

impl Cancel {
    fn go_on(&mut self, poll: &Poll, event: Event) -> io::Result<()> {
        if event.is_writable {
            self.socket.connected()?;
            self.socket.flush()?;
        } else {
            self.socket.receive()?;
        }
        poll.modify(&self.socket, self.key, self.socket.interest())
    }
}
