//! How busy this host was, second by second, from `/proc/stat`.

use procfs::{CpuTime, CurrentSI, KernelStats};

/// Shares of all processors' time, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostShares {
    /// Neither idle nor waiting for a disk.
    pub busy: f64,
    /// Taken by the hypervisor for others.
    pub steal: f64,
    pub iowait: f64,
}

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostTimes {
    total: u64,
    idle: u64,
    steal: u64,
    iowait: u64,
}

/// `None` where there is no `/proc/stat`.
pub(super) fn read() -> Option<HostTimes> {
    let CpuTime {
        user,
        nice,
        system,
        idle,
        iowait,
        irq,
        softirq,
        steal,
        ..
    } = KernelStats::current().ok()?.total;
    let (iowait, steal) = (iowait.unwrap_or(0), steal.unwrap_or(0));
    let total =
        user + nice + system + idle + iowait + irq.unwrap_or(0) + softirq.unwrap_or(0) + steal;
    Some(HostTimes {
        total,
        idle,
        steal,
        iowait,
    })
}

impl HostTimes {
    /// `None` when no time has passed.
    pub(super) fn since(self, earlier: Self) -> Option<HostShares> {
        let total = self
            .total
            .checked_sub(earlier.total)
            .filter(|ticks| *ticks > 0)? as f64;
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / total;
        let (idle, iowait) = (
            share(self.idle, earlier.idle),
            share(self.iowait, earlier.iowait),
        );
        Some(HostShares {
            busy: (1.0 - idle - iowait).max(0.0),
            steal: share(self.steal, earlier.steal),
            iowait,
        })
    }
}
