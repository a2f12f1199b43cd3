//! A TCP connection that never blocks, and what waits in it on either side.

use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf as _, BytesMut};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};

use super::input::Input;

/// A connection to a server, or on its way there.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    pub input: Input,
    /// What has not been sent yet.
    pub output: BytesMut,
}

impl Socket {
    /// Begins to connect. The socket becomes writable when that has ended, in either way.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Input::default(),
            output: BytesMut::new(),
        })
    }

    /// How connecting ended. To be asked once the socket is writable.
    pub fn connected(&self) -> io::Result<()> {
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// Sends these bytes, as far as the socket takes them; the rest waits in `output`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.output.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => sent,
                Err(error) if is_later(&error) => 0,
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        self.output.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what waits. `true`: nothing waits any more.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.output.advance(sent),
                Err(error) if is_later(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once. `false`: there was nothing. The end of the stream is an error.
    pub fn receive(&mut self) -> io::Result<bool> {
        match self.input.read_from(&mut &self.stream) {
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "connection closed",
            )),
            Ok(_) => Ok(true),
            Err(error) if is_later(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
