//! How busy this host was, second by second, from `/proc/stat`.

use procfs::{CpuTime, CurrentSI, KernelStats};

/// Shares of all processors' time, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostShares {
    /// Share that was neither idle nor waiting for a disk.
    pub busy: f64,
    /// Share that the hypervisor gave to other machines.
    pub steal: f64,
    pub iowait: f64,
}

/// Processor time since boot, in ticks; `None` where there is no `/proc/stat`.
pub(super) fn read() -> Option<CpuTime> {
    Some(KernelStats::current().ok()?.total)
}

/// The shares between two readings; `None` if one of the readings is, or if no time has passed between them.
pub(super) fn shares(then: Option<&CpuTime>, now: Option<&CpuTime>) -> Option<HostShares> {
    let (then, now) = then.zip(now)?;
    let ticks = total(now).checked_sub(total(then));
    let ticks = ticks.filter(|ticks| *ticks > 0)? as f64;
    let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / ticks;
    let optional = |now: Option<u64>, then: Option<u64>| share(now.unwrap_or(0), then.unwrap_or(0));
    let (idle, iowait) = (
        share(now.idle, then.idle),
        optional(now.iowait, then.iowait),
    );
    Some(HostShares {
        busy: (1.0 - idle - iowait).max(0.0),
        steal: optional(now.steal, then.steal),
        iowait,
    })
}

/// All ticks, without those of guests, which are part of `user` and `nice`.
fn total(time: &CpuTime) -> u64 {
    let optional = [time.iowait, time.irq, time.softirq, time.steal];
    let known: u64 = optional.into_iter().flatten().sum();
    time.user + time.nice + time.system + time.idle + known
}
