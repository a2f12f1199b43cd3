//! Whether an open loop was answered as fast as it was offered, and which side was too slow if not.

use super::{Validity, lateness};
use crate::plan::{Offered, Plan};
use crate::run::figures::Figures;
use crate::units::{format_rate, thousands, with_headroom};

/// An open loop that answers a smaller share of what was offered, within its phase, measures the growth of a queue.
const ACHIEVED: f64 = 0.97;
/// Seconds of arrivals that one hiccup leaves unanswered at the end of a phase. In a short phase they are more than 3 % of all arrivals.
const HICCUP_S: f64 = 0.1;
/// A load thread that uses a greater share of a core is itself the bottleneck.
const GENERATOR_BUSY: f64 = 0.85;

/// Judges whether an open loop was answered as fast as it was offered.
pub(super) fn judge(plan: &Plan, figures: &Figures, validity: &mut Validity) {
    let Offered::Open { rate, .. } = plan.load.offered else {
        return;
    };
    let offered = rate.as_per_second();
    // Transactions that are under way on a server that keeps up (Little's law) are not a queue.
    let service = figures.service.quantile(0.5).unwrap_or_default();
    let under_way = offered * service.as_secs_f64();
    let counts = &figures.arrival_counts;
    let queued = counts.open_at_end as f64 - under_way.max(counts.open_at_start as f64);
    let least = ((1.0 - ACHIEVED) * figures.arrivals.offered as f64).max(offered * HICCUP_S);
    let achieved = figures.achieved_tps();
    let overloaded = queued > least && achieved < ACHIEVED * offered;
    validity.overloaded = Some(overloaded);
    if !overloaded {
        return;
    }
    let busy = figures.load_cpu_share().unwrap_or(0.0) / f64::from(plan.load.threads);
    // Arrivals that wait for a connection wait for a server.
    let late = figures.dispatch_lag.quantile(0.5).unwrap_or_default();
    let start_lag = figures.start_lag.quantile(0.5).unwrap_or_default();
    let by_generator = busy > GENERATOR_BUSY || (late >= lateness::LEAST && late >= start_lag / 2);
    // Arrivals that have waited since the primary was stopped on purpose are the outage that was to be measured, unless there was a queue
    // before.
    let waited_before = figures
        .open_before_stop
        .map_or(0.0, |open| open as f64 - under_way);
    let is_outage = figures.lag.primary_was_stopped() && waited_before <= least && !by_generator;
    let who = if by_generator {
        format!(
            "the generator did not keep up (a load thread used {:.0} % of a core), raise --threads",
            busy * 100.0
        )
    } else if is_outage {
        "the primary was stopped, and what had waited for it was not answered by the end".into()
    } else {
        "the servers did not keep up".into()
    };
    let remedy = match with_headroom(achieved).filter(|_| !is_outage) {
        Some(most) => format!(", try at most {}/s", thousands(most)),
        None => String::new(),
    };
    let sentence = format!(
        "offered {}/s, answered {}/s: {who}{remedy}",
        format_rate(offered),
        format_rate(achieved)
    );
    let is_expected = is_outage || (plan.expect.overload && !by_generator);
    validity.add(!is_expected, sentence);
}
