//! The channels that connect a load thread to the servers, the probes and the conductor.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::stats::Second;
use super::{LoadError, Stopper};
use crate::pg::Endpoint;
use crate::plan::Priority;
use crate::sample::{FeedSender, LentLooks, Timeline};

/// The longest sleep of a load thread, and so the longest time until it notices that it was asked to stop.
pub(super) const MAX_SLEEP: Duration = Duration::from_millis(50);

/// What a load thread reports once its connections are open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// How long before an arrival the thread's waits end; `None` for a client whose waits do not end early.
    pub(super) early: Option<Duration>,
    /// The priority that the thread has, which may be lower than the plan's.
    pub(super) priority: Priority,
}

/// The servers, the probes and the conductor, as a load thread sees them.
pub(super) struct ThreadChannels {
    /// The primary first, then the servers that may take its place.
    pub(super) servers: Arc<[Arc<Endpoint>]>,
    pub(super) feed: Option<FeedSender>,
    pub(super) looks: Option<LentLooks>,
    pub(super) seconds: mpsc::UnboundedSender<(u16, Second)>,
    /// Used once: when all connections of the thread are open, or could not be opened.
    pub(super) ready: oneshot::Sender<Result<Opened, LoadError>>,
    pub(super) start: oneshot::Receiver<Timeline>,
    pub(super) stop: Stopper,
}
