//! A connection that never blocks, encrypted or not, with its input and output buffers.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bytes::{Buf as _, BytesMut};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, ipproto, socket_with,
};
use rustls::ClientConnection;

use super::input::Input;
use crate::pg::Endpoint;
use crate::pg::tls::{Tls, server_end_point};
use crate::poll::Interest;

/// The request for TLS: a length, and a number in the place of the protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An address at which a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(address) => {
                let path = address.path_bytes().unwrap_or_default();
                f.write_str(&String::from_utf8_lossy(path))
            }
        }
    }
}

/// The addresses of an endpoint; at least one.
pub fn resolve(endpoint: &Endpoint) -> io::Result<Vec<Address>> {
    if let Some(address) = endpoint.address {
        return Ok(vec![Address::Tcp((address, endpoint.port).into())]);
    }
    let host = endpoint.host.as_str();
    if host.starts_with('/') {
        let path = Path::new(host).join(format!(".s.PGSQL.{}", endpoint.port));
        return Ok(vec![Address::Unix(SocketAddrUnix::new(path)?)]);
    }
    let found = (host, endpoint.port).to_socket_addrs()?;
    let found: Vec<_> = found.map(Address::Tcp).collect();
    if found.is_empty() {
        return Err(io::Error::other(format!("`{host}` has no address")));
    }
    Ok(found)
}

/// Whether and how the connection is encrypted.
#[derive(Debug)]
enum Encryption {
    None,
    /// The client asks the server for TLS. `sent` bytes of the request have been sent.
    Requested {
        tls: Tls,
        sent: usize,
    },
    Tls(Box<ClientConnection>),
}

/// A connection to a server that is open or being opened.
#[derive(Debug)]
pub struct Socket {
    /// A TCP or Unix-domain socket: the operations used here are the same for both.
    stream: TcpStream,
    encryption: Encryption,
    pub input: Input,
    /// Bytes that have not been sent yet, before encryption.
    pub output: BytesMut,
}

impl Socket {
    /// Begins to connect. The socket becomes writable when connecting has succeeded or failed.
    pub fn connect(address: &Address, tls: Option<&Tls>) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp(address) => {
                let family = match address {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let stream = begin(family, address)?;
                stream.set_nodelay(true)?;
                stream
            }
            Address::Unix(address) => begin(AddressFamily::UNIX, address)?,
        };
        // A Unix-domain socket needs no TLS, and no server offers TLS there.
        let tls = tls.filter(|_| matches!(address, Address::Tcp(_)));
        Ok(Self {
            stream,
            encryption: tls.map_or(Encryption::None, |tls| Encryption::Requested {
                tls: tls.clone(),
                sent: 0,
            }),
            input: Input::default(),
            output: BytesMut::new(),
        })
    }

    /// Whether connecting succeeded. Call this once the socket is writable.
    pub fn connected(&self) -> io::Result<()> {
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// What the poll has to wait for once the socket is connected.
    pub fn interest(&self) -> Interest {
        let has_to_write = match &self.encryption {
            Encryption::None => !self.output.is_empty(),
            Encryption::Requested { sent, .. } => *sent < SSL_REQUEST.len(),
            Encryption::Tls(tls) => tls.wants_write(),
        };
        if has_to_write {
            Interest::ReadableOrWritable
        } else {
            Interest::Readable
        }
    }

    /// The data that binds a password's proof to this connection; `None` if the connection has none.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        match &self.encryption {
            Encryption::Tls(tls) => server_end_point(tls),
            Encryption::None | Encryption::Requested { .. } => None,
        }
    }

    /// Sends these bytes, as far as the socket takes them; the rest waits in `output`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !matches!(self.encryption, Encryption::None) {
            self.output.extend_from_slice(bytes);
            return self.flush();
        }
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

    /// Sends waiting output, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let done = match &mut self.encryption {
            Encryption::None => write_all(&self.stream, &mut self.output),
            Encryption::Requested { sent, .. } => {
                let mut left = BytesMut::from(&SSL_REQUEST[*sent..]);
                let done = write_all(&self.stream, &mut left);
                *sent = SSL_REQUEST.len() - left.len();
                done
            }
            Encryption::Tls(tls) => encrypt(tls, &self.stream, &mut self.output),
        };
        match done {
            Err(error) if is_later(&error) => Ok(()),
            done => done,
        }
    }

    /// Reads what has arrived. `false` if `input` got nothing. The end of the stream is an error.
    pub fn receive(&mut self) -> io::Result<bool> {
        let received = match &mut self.encryption {
            Encryption::None => self.input.read_from(&mut &self.stream),
            Encryption::Requested { .. } => return self.take_answer().map(|()| false),
            Encryption::Tls(tls) => decrypt(tls, &self.stream, &mut self.input),
        };
        let received = match received {
            Ok(0) => Err(closed()),
            Ok(_) => Ok(true),
            Err(error) if is_later(&error) => Ok(false),
            Err(error) => Err(error),
        };
        if matches!(self.encryption, Encryption::Tls(_)) {
            // TLS may have replies of its own to send.
            self.flush()?;
        }
        received
    }

    /// Reads the answer to the request for TLS. Exactly one byte is read, because everything after it must be encrypted.
    fn take_answer(&mut self) -> io::Result<()> {
        let Encryption::Requested { tls, .. } = &self.encryption else {
            return Ok(());
        };
        let mut answer = [0];
        match self.stream.read(&mut answer) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        match answer {
            [b'S'] => {
                let connection = tls.connection().map_err(io::Error::other)?;
                self.encryption = Encryption::Tls(Box::new(connection));
                self.flush()
            }
            [b'N'] => Err(io::Error::other(
                "the server does not support TLS; use sslmode=prefer or disable",
            )),
            _ => Err(io::Error::other(
                "this is not PostgreSQL's protocol: no answer to the request for TLS",
            )),
        }
    }
}

fn begin(family: AddressFamily, address: &impl SocketAddrArg) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol = (family != AddressFamily::UNIX).then_some(ipproto::TCP);
    let socket = socket_with(family, SocketType::STREAM, flags, protocol)?;
    match connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

fn write_all(mut stream: &TcpStream, output: &mut BytesMut) -> io::Result<()> {
    while !output.is_empty() {
        match stream.write(output) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => output.advance(sent),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives the waiting output to TLS and sends the encrypted bytes. During the handshake TLS buffers what it is given.
fn encrypt(
    tls: &mut ClientConnection,
    mut stream: &TcpStream,
    output: &mut BytesMut,
) -> io::Result<()> {
    loop {
        while tls.wants_write() {
            tls.write_tls(&mut stream)?;
        }
        let taken = tls.writer().write(output)?;
        output.advance(taken);
        // TLS took nothing: everything is sent, or the handshake has to end first.
        if taken == 0 {
            return Ok(());
        }
    }
}

/// Reads the socket once and takes in all bytes that TLS can decrypt then, because the poll would not report these again. 0 means that the
/// stream has ended.
fn decrypt(
    tls: &mut ClientConnection,
    mut stream: &TcpStream,
    input: &mut Input,
) -> io::Result<usize> {
    if tls.read_tls(&mut stream)? == 0 {
        return Ok(0);
    }
    tls.process_new_packets()
        .map_err(|error| io::Error::other(format!("TLS: {error}")))?;
    let mut all = 0;
    loop {
        match input.read_from(&mut tls.reader()) {
            Ok(0) => return Ok(all),
            Ok(count) => all += count,
            Err(error) if is_later(&error) && all > 0 => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "connection closed")
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
