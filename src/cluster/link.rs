//! A TCP proxy on the loopback between a node and its upstream, used if a plan asks for a network that can be cut and slowed. Knows bytes
//! and ports, but not nodes.
//!
//! The proxy behaves like a network, not like a server. While it is cut nothing passes, neither data nor the end of a connection, and
//! neither side is notified. Data that was on its way arrives after the cut has ended.

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{self, Stamp, Timer};

/// The most bytes that are read at once, as one part.
const PART_BYTES: usize = 16 * 1024;
/// The most parts on their way in one direction: with 16 KiB each these are 4 MiB, as much as a socket buffers.
const MAX_PARTS: usize = 256;

/// The condition of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    pub is_cut: bool,
    /// The delay in each direction.
    pub delay: Duration,
    /// The most that is added to the delay at random, evenly distributed. Bytes keep their order.
    pub jitter: Duration,
    /// Bytes per second in each direction; `None` if unlimited.
    pub bandwidth: Option<u64>,
}

/// A connection path to another server, whose condition can be changed.
#[derive(Debug)]
pub(super) struct Link {
    port: u16,
    condition: watch::Sender<Condition>,
    /// The port of the server that connections are forwarded to.
    target: watch::Sender<u16>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Opens the proxy. It has no target until [`Link::lead_to`] is called.
    pub(super) fn open() -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (condition, conditions) = watch::channel(Condition::default());
        let (target, targets) = watch::channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // The proxy has its own thread, so that other work of this process does not delay the data on its way.
        let thread = std::thread::Builder::new()
            .name("link".into())
            .spawn(move || runtime.block_on(serve(listener, conditions, targets)))?;
        Ok(Self {
            port,
            condition,
            target,
            thread: Some(thread),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sets the server's port that new connections are forwarded to.
    pub(super) fn lead_to(&self, port: u16) {
        self.target.send_replace(port);
    }

    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The thread ends when the sender of its condition is dropped.
        let (nobody, _) = watch::channel(Condition::default());
        drop(std::mem::replace(&mut self.condition, nobody));
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked, its message was already printed.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: StdListener,
    mut conditions: watch::Receiver<Condition>,
    targets: watch::Receiver<u16>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted {
                    connections.spawn(connect(near, conditions.clone(), targets.clone()));
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            () = gone(&mut conditions) => break,
        }
    }
    // Ending the tasks closes their connections.
    connections.shutdown().await;
}

/// Resolves when the sender of the condition has been dropped.
async fn gone(conditions: &mut watch::Receiver<Condition>) {
    while conditions.changed().await.is_ok() {}
}

async fn connect(
    near: TcpStream,
    mut conditions: watch::Receiver<Condition>,
    targets: watch::Receiver<u16>,
) -> io::Result<()> {
    uncut(&mut conditions).await;
    let port = *targets.borrow();
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = pass(near_read, far_write, conditions.clone());
    let back = pass(far_read, near_write, conditions);
    tokio::try_join!(there, back)?;
    Ok(())
}

/// Waits until the network is not cut.
async fn uncut(conditions: &mut watch::Receiver<Condition>) {
    // An error means that the link was dropped, which also ends this task.
    let _ = conditions.wait_for(|it| !it.is_cut).await;
}

/// The earliest time of arrival, and the bytes. No bytes mean the end of the stream.
type Part = (Stamp, Vec<u8>);

/// Transfers data in one direction of a connection.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    conditions: watch::Receiver<Condition>,
) -> io::Result<()> {
    let (parts, arriving) = mpsc::channel(MAX_PARTS);
    let sending = send(from, parts, conditions.clone());
    let delivering = deliver(to, arriving, conditions);
    tokio::try_join!(sending, delivering)?;
    Ok(())
}

async fn send(
    mut from: OwnedReadHalf,
    parts: mpsc::Sender<Part>,
    mut conditions: watch::Receiver<Condition>,
) -> io::Result<()> {
    let mut last = Stamp::default();
    loop {
        let mut part = vec![0; PART_BYTES];
        // A broken connection is treated as a closed one.
        let count = from.read(&mut part).await.unwrap_or(0);
        part.truncate(count);
        uncut(&mut conditions).await;
        let Condition { delay, jitter, .. } = *conditions.borrow();
        let jitter = jitter.mul_f64(rand::rng().random_range(0.0..=1.0));
        // No part may arrive before one that was sent earlier.
        last = last.max(clock::now() + delay + jitter);
        if parts.send((last, part)).await.is_err() || count == 0 {
            return Ok(());
        }
    }
}

async fn deliver(
    mut to: OwnedWriteHalf,
    mut arriving: mpsc::Receiver<Part>,
    mut conditions: watch::Receiver<Condition>,
) -> io::Result<()> {
    let mut timer = Timer::new()?;
    // The time at which the last part has left the link, given its bandwidth.
    let mut free = Stamp::default();
    while let Some((arrival, part)) = arriving.recv().await {
        let due = arrival.max(free);
        if due > clock::now() {
            timer.sleep_until(due).await?;
        }
        uncut(&mut conditions).await;
        if part.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&part).await?;
        if let Some(bandwidth) = conditions.borrow().bandwidth {
            let taken = Duration::from_secs_f64(part.len() as f64 / bandwidth.max(1) as f64);
            free = due.max(clock::now()) + taken;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A link to a server that echoes what it receives.
    fn echo() -> (Link, TcpStream) {
        let server = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::open().unwrap();
        link.lead_to(server.local_addr().unwrap().port());
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut bytes = vec![0; 65_536];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..count]).unwrap();
            }
        });
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        (link, client)
    }

    /// Sends `count` bytes. Returns the time until they have come back.
    fn there_and_back(client: &mut TcpStream, count: usize) -> Duration {
        let sent = clock::now();
        client.write_all(&vec![7; count]).unwrap();
        client.read_exact(&mut vec![0; count]).unwrap();
        clock::now().since(sent)
    }

    #[test]
    fn delay_and_bandwidth_are_those_that_were_asked_for() {
        let (link, mut client) = echo();
        there_and_back(&mut client, 10);
        link.set(Condition {
            delay: Duration::from_millis(50),
            ..Condition::default()
        });
        let took = there_and_back(&mut client, 10);
        assert!(took >= Duration::from_millis(100), "{took:?}");
        link.set(Condition {
            bandwidth: Some(1_000_000),
            ..Condition::default()
        });
        let took = there_and_back(&mut client, 300_000);
        // Both directions transfer at the same time, except for the last part.
        assert!(took >= Duration::from_millis(280), "{took:?}");
        link.set(Condition::default());
        there_and_back(&mut client, 1_000_000);
    }

    #[test]
    fn while_it_is_cut_nothing_passes_and_afterwards_everything_does() {
        let (link, mut client) = echo();
        there_and_back(&mut client, 10);
        link.set(Condition {
            is_cut: true,
            ..Condition::default()
        });
        client.write_all(b"held up").unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut bytes = [0; 7];
        let nothing = client.read(&mut bytes).unwrap_err().kind();
        assert!(
            matches!(nothing, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "{nothing:?}"
        );
        link.set(Condition::default());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"held up");
        drop(link);
        assert_eq!(client.read(&mut bytes).unwrap_or(0), 0, "it is closed");
    }
}
