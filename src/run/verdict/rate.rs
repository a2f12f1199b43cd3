//! Whether an open loop was answered as fast as it was offered, and who was too slow.

use super::{LATE_LEAST, Verdict};
use crate::plan::{Offered, Plan};
use crate::run::figures::Figures;
use crate::units::{thousands, three_digits};

/// An open loop that answers less than this share of what was offered within its phase measures the growth of a queue.
const ACHIEVED: f64 = 0.97;
/// A load thread above this share of a core is itself the bottleneck.
const GENERATOR_BUSY: f64 = 0.85;

/// Whether an open loop was answered as fast as it was offered.
pub(super) fn judge(plan: &Plan, figures: &Figures, verdict: &mut Verdict) {
    let Offered::Open { rate, .. } = plan.load.offered else {
        return;
    };
    let offered = rate.as_per_second();
    // What a server that keeps up has under way at any time (Little's law) is not a queue.
    let service = figures.service.quantile(0.5).unwrap_or_default();
    let under_way = offered * service.as_secs_f64();
    let account = &figures.account;
    let queued = account.open_at_end as f64 - under_way.max(account.open_at_start as f64);
    if queued <= (1.0 - ACHIEVED) * figures.arrivals.offered as f64 {
        return;
    }
    let achieved = figures.achieved_tps();
    let busy = figures.load_cpu_share().unwrap_or(0.0) / f64::from(plan.load.threads);
    // What waits for a connection waits for a server.
    let late = figures.dispatch_lag.quantile(0.5).unwrap_or_default();
    let start_lag = figures.start_lag.quantile(0.5).unwrap_or_default();
    let by_generator = busy > GENERATOR_BUSY || (late >= LATE_LEAST && late >= start_lag / 2);
    let who = if by_generator {
        format!(
            "the generator did not keep up (a load thread used {:.0} % of a core), raise --threads",
            busy * 100.0
        )
    } else {
        "the servers did not keep up".into()
    };
    let remedy = match with_headroom(achieved) {
        Some(most) => format!(", try at most {}/s", thousands(most)),
        None => String::new(),
    };
    let sentence = format!(
        "offered {}/s, answered {}/s: {who}{remedy}",
        rounded(offered),
        rounded(achieved)
    );
    if plan.expect.overload && !by_generator {
        verdict.notes.push(sentence);
    } else {
        verdict.invalid.push(sentence);
    }
}

/// A rate as it is told: whole numbers where they say enough.
fn rounded(rate: f64) -> String {
    if rate < 10.0 {
        three_digits(rate)
    } else {
        thousands(whole(rate.round()))
    }
}

/// A rate that servers which achieve so much can keep up with: four fifths of it, rounded down to two digits. What they achieve
/// when they are overloaded is no more than they can do at best, and a queue is long before its server is busy all the time.
fn with_headroom(achieved: f64) -> Option<u64> {
    let most = achieved * 0.8;
    if most < 1.0 {
        return None;
    }
    let unit = 10_f64.powf((most.log10().floor() - 1.0).max(0.0));
    Some(whole((most / unit).floor() * unit))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and far from the largest integer"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_to_try_is_rounded_down_to_two_digits() {
        for (achieved, most) in [
            (5_021.0, Some(4_000)),
            (12_490.0, Some(9_900)),
            (99.0, Some(79)),
            (5.0, Some(4)),
            (1.0, None),
        ] {
            assert_eq!(with_headroom(achieved), most, "{achieved}");
        }
    }
}
