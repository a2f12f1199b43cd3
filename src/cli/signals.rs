//! The signals with which a user or a service manager asks replbench to end.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Exit, OrExit as _, Stop};
use crate::run::Interrupt;

/// SIGINT, SIGTERM and SIGHUP; SIGHUP only if it was not ignored at the start, as it is under `nohup`. A signal that arrives while nobody
/// waits is kept.
pub(super) struct EndSignals(Vec<Signal>);

impl EndSignals {
    pub(super) fn listen() -> io::Result<Self> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !ignores_hangup() {
            kinds.push(SignalKind::hangup());
        }
        let signals: io::Result<_> = kinds.into_iter().map(signal).collect();
        signals.map(Self)
    }

    pub(super) async fn came(&mut self) {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            if signals.any(|signal| signal.poll_recv(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Runs work that the user may interrupt.
pub(super) fn interruptible<T, E: Into<Stop>>(
    work: impl AsyncFnOnce(Interrupt) -> Result<T, E>,
) -> Result<T, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .or_exit(Exit::Incomplete)?;
    runtime.block_on(async {
        let (raise, interrupt) = Interrupt::new();
        let listening = tokio::spawn(listen(raise));
        let done = work(interrupt).await;
        listening.abort();
        done.map_err(Into::into)
    })
}

/// Counts the signals that ask replbench to end.
async fn listen(raise: watch::Sender<u8>) -> io::Result<()> {
    let mut signals = EndSignals::listen()?;
    loop {
        signals.came().await;
        raise.send_modify(|level| *level = level.saturating_add(1));
    }
}

/// Whether SIGHUP is ignored, so that the process outlives its terminal. `false` if that is unknown.
fn ignores_hangup() -> bool {
    const SIGHUP: u64 = 1;
    let status = procfs::process::Process::myself().and_then(|own| own.status());
    status.is_ok_and(|status| status.sigign & SIGHUP != 0)
}
