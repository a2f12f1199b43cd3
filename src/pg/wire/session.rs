//! A session on a server: it is opened, prepares its statements, and sends one request after another, without ever blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::answer::{Answer, Ready};
use super::input::Broken;
use super::socket::{Address, Socket};
use super::start_up::{CancelKey, StartUp};
use crate::pg::{Endpoint, Failure, TAKES_NO_WRITES};
use crate::poll::Interest;

/// The settings and statements with which every session of a kind is opened.
#[derive(Debug, Default)]
pub struct Opening {
    application_name: &'static str,
    /// Settings of the session, such as `-c jit=off`.
    options: Option<&'static str>,
    /// Whether a server that accepts no writes is refused.
    writes: bool,
    statements: Vec<String>,
    /// The messages that ask the server to prepare all statements.
    prepare: BytesMut,
}

impl Opening {
    pub fn new(application_name: &'static str, options: Option<&'static str>) -> Self {
        Self {
            application_name,
            options,
            ..Self::default()
        }
    }

    /// Refuses servers that accept no writes.
    #[must_use]
    pub fn for_writes(self) -> Self {
        Self {
            writes: true,
            ..self
        }
    }

    /// Prepares a statement under a name in every session. Fails if the name or the SQL contains a NUL byte.
    pub fn prepare(&mut self, name: &str, sql: &str) -> io::Result<()> {
        frontend::parse(name, sql, [], &mut self.prepare)?;
        self.statements.push(sql.to_owned());
        Ok(())
    }
}

#[derive(Debug)]
enum Stage {
    Connecting,
    StartingUp(StartUp),
    Preparing,
    Idle,
    Asked,
}

/// What the bytes read from the socket have brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The answer is not complete.
    Awaiting,
    /// The session is open and idle.
    Opened,
    /// The answer to the last request is complete.
    Answered(Ready),
}

/// A session that is open or being opened. It cannot be used after an error.
#[derive(Debug)]
pub struct Session {
    endpoint: Arc<Endpoint>,
    address: Address,
    opening: Arc<Opening>,
    socket: Socket,
    stage: Stage,
    cancel_key: Option<CancelKey>,
    pub answer: Answer,
}

impl Session {
    /// Begins to connect.
    pub fn open(
        endpoint: Arc<Endpoint>,
        address: Address,
        opening: Arc<Opening>,
    ) -> io::Result<Self> {
        let socket = Socket::connect(&address, endpoint.tls.as_ref())?;
        Ok(Self {
            endpoint,
            address,
            opening,
            socket,
            stage: Stage::Connecting,
            cancel_key: None,
            answer: Answer::default(),
        })
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the poll has to wait for on the session's socket.
    pub fn interest(&self) -> Interest {
        match self.stage {
            Stage::Connecting => Interest::ReadableOrWritable,
            _ => self.socket.interest(),
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    pub fn is_opening(&self) -> bool {
        matches!(
            self.stage,
            Stage::Connecting | Stage::StartingUp(_) | Stage::Preparing
        )
    }

    /// The key of a cancel request for this session's statement, and the address to send it to. `None` if the server has sent no key.
    pub fn cancel_key(&self) -> Option<(CancelKey, &Address)> {
        Some((self.cancel_key?, &self.address))
    }

    /// Extends a failure to open the session with what was being done.
    pub fn opening_failed(&self, failure: Failure) -> Failure {
        let what = if matches!(self.stage, Stage::Preparing) {
            let sql = self.opening.statements.get(self.answer.parsed);
            format!("cannot prepare `{}`", sql.map_or("", String::as_str))
        } else {
            let (node, address) = (&self.endpoint.node, &self.address);
            format!("`{node}` at {address} refused the connection")
        };
        Failure {
            message: format!("{what}: {}", failure.message),
            ..failure
        }
    }

    /// Sends a request and clears the answer to the previous one.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.answer.clear();
        self.stage = Stage::Asked;
        self.socket.send(request)
    }

    /// Writes to the socket, which is writable.
    pub fn on_writable(&mut self) -> Result<(), Failure> {
        if matches!(self.stage, Stage::Connecting) {
            self.socket.connected()?;
            let out = &mut self.socket.output;
            let options = self.endpoint.options_with(self.opening.options);
            let name = self.opening.application_name;
            let start_up = StartUp::begin(&self.endpoint, name, options.as_deref(), out)?;
            self.stage = Stage::StartingUp(start_up);
        }
        self.socket.flush()?;
        Ok(())
    }

    /// Reads from the socket, which is readable.
    pub fn on_readable(&mut self) -> Result<Event, Failure> {
        if matches!(self.stage, Stage::Connecting) || !self.socket.receive()? {
            return Ok(Event::Awaiting);
        }
        if let Stage::StartingUp(start_up) = &mut self.stage {
            start_up.bind_to(self.socket.channel_binding());
        }
        while let Some(message) = self.socket.input.message()? {
            if let Stage::StartingUp(start_up) = &mut self.stage {
                if start_up.take(message, &mut self.socket.output)? {
                    if self.opening.writes && start_up.is_read_only() {
                        return Err(Failure::lost(TAKES_NO_WRITES));
                    }
                    self.cancel_key = start_up.cancel_key();
                    self.stage = Stage::Preparing;
                    self.answer.clear();
                    let out = &mut self.socket.output;
                    out.extend_from_slice(&self.opening.prepare);
                    frontend::sync(out);
                }
                continue;
            }
            let ready = self.answer.take(message)?;
            let failure = self.answer.failure.as_ref();
            if failure.is_some_and(|it| it.connection_lost || self.answer.is_fatal) {
                let failure = self.answer.failure.take();
                return Err(failure.expect("it was there"));
            }
            if let Some(ready) = ready {
                return self.answered(ready);
            }
        }
        self.socket.flush()?;
        Ok(Event::Awaiting)
    }

    fn answered(&mut self, ready: Ready) -> Result<Event, Failure> {
        let event = match self.stage {
            Stage::Preparing => {
                if let Some(failure) = self.answer.failure.take() {
                    return Err(failure);
                }
                Event::Opened
            }
            Stage::Asked => Event::Answered(ready),
            Stage::Idle | Stage::Connecting | Stage::StartingUp(_) => {
                return Err(Broken::new("an answer to nothing that was asked").into());
            }
        };
        self.stage = Stage::Idle;
        Ok(event)
    }

    /// Sends the message that ends the session, as far as that is possible without waiting.
    pub fn close(mut self) {
        let mut goodbye = BytesMut::new();
        frontend::terminate(&mut goodbye);
        // If this fails, the server still notices that the connection is closed.
        let _ = self.socket.send(&goodbye);
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::lost(error.to_string())
    }
}

impl From<Broken> for Failure {
    fn from(error: Broken) -> Self {
        Self::lost(error.to_string())
    }
}
