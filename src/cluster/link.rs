//! The network between a node and the one it replicates from, where a plan asks for one that can be cut and slowed: a TCP proxy on the
//! loopback. Knows bytes and ports; never what a node is.
//!
//! It behaves as a network does, not as a server: while it is cut nothing passes, neither data nor the end of a connection, and nobody
//! is told. What was on its way arrives when it is not cut any more.

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

/// Read at once, and the most of such parts that are on their way in one direction: 4 MiB, as much as a socket holds.
const PART: usize = 16 * 1024;
const PARTS: usize = 256;

/// How a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    pub is_cut: bool,
    /// In each direction.
    pub delay: Duration,
    /// At most this is added to the delay, evenly distributed; bytes keep their order.
    pub jitter: Duration,
    /// Bytes a second in each direction; `None`: as many as go.
    pub bandwidth: Option<u64>,
}

/// A way to another server that can be made worse.
#[derive(Debug)]
pub(super) struct Link {
    port: u16,
    condition: watch::Sender<Condition>,
    /// The port of the server that it leads to.
    target: watch::Sender<u16>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Leads nowhere until it is told where.
    pub(super) fn open() -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (condition, conditions) = watch::channel(Condition::default());
        let (target, targets) = watch::channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // A thread of its own: what else the process does delays nothing that is on its way.
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

    /// New connections lead there.
    pub(super) fn lead_to(&self, port: u16) {
        self.target.send_replace(port);
    }

    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The thread ends when there is nobody to set its condition any more.
        let (nobody, _) = watch::channel(Condition::default());
        drop(std::mem::replace(&mut self.condition, nobody));
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told.
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
    // Dropped, the connections are closed.
    connections.shutdown().await;
}

/// Resolves when nobody can set the condition any more.
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
    // An error means that the link is gone, and this task with it.
    let _ = conditions.wait_for(|it| !it.is_cut).await;
}

/// Bytes, and when they are to arrive at the earliest; none: the end.
type Part = (Stamp, Vec<u8>);

/// One direction of a connection.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    conditions: watch::Receiver<Condition>,
) -> io::Result<()> {
    let (parts, arriving) = mpsc::channel(PARTS);
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
        let mut part = vec![0; PART];
        // A connection that breaks ends as one that is closed does.
        let count = from.read(&mut part).await.unwrap_or(0);
        part.truncate(count);
        uncut(&mut conditions).await;
        let Condition { delay, jitter, .. } = *conditions.borrow();
        let jitter = jitter.mul_f64(rand::rng().random_range(0.0..=1.0));
        // What was sent earlier arrives earlier.
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
    // When the way is free again after the last part.
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

    /// A link to a server that sends back what it gets.
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

    /// Sends so many bytes, and how long it took until they were back.
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
        // Both directions at the same time, but for the last part.
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
