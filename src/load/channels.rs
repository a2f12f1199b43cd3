//! By what a load thread is joined to the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::stats::Second;
use super::{LoadError, Stopper};
use crate::pg::Endpoint;
use crate::plan::Priority;
use crate::sample::{FeedSender, LentLooks, Timeline};

/// The longest sleep: how soon a thread notices that it was asked to stop.
pub(super) const NAP: Duration = Duration::from_millis(50);

/// What is only known when a thread is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// By how much the thread's waits for arrivals end early, if it makes use of that.
    pub(super) early: Option<Duration>,
    /// What it was permitted.
    pub(super) priority: Priority,
}

/// The servers, the probes and the conductor, as a load thread sees them.
pub(super) struct ThreadChannels {
    /// The primary, and those that may take its place.
    pub(super) servers: Arc<[Arc<Endpoint>]>,
    pub(super) feed: Option<FeedSender>,
    pub(super) looks: Option<LentLooks>,
    pub(super) seconds: mpsc::UnboundedSender<(u16, Second)>,
    /// Once all connections are open.
    pub(super) ready: oneshot::Sender<Result<Opened, LoadError>>,
    pub(super) start: oneshot::Receiver<Timeline>,
    pub(super) stop: Stopper,
}
