//! Whether the generator's own lateness affects the percentiles that are reported.

use std::time::Duration;

use super::Validity;
use crate::run::figures::Figures;
use crate::units::format_duration;

/// If lateness is at least this share of the response time at the same quantile, the quantile shows the generator, not the servers.
const INVALID: f64 = 0.5;
/// Lateness up to this may be one time slice of a busy host's scheduler, which delays the host's servers as well.
pub(super) const LEAST: Duration = Duration::from_millis(5);
/// The fewest arrivals that must exceed a percentile before it can make a cell INVALID.
const FEWEST: f64 = 10.0;
/// Lateness of at least this share of the response time is noted. In a run on two cores it was 12 to 33 % at the 99th percentile.
const NOTED: f64 = 1.0 / 3.0;

/// Compares dispatch lag with response time at the median, the 90th and the 99th percentile, and reports the worst of the three.
pub(super) fn judge(figures: &Figures, validity: &mut Validity) {
    let late = |(q, name): (f64, &'static str)| {
        let own = figures.dispatch_lag.quantile(q)?;
        let whole = figures.response_quantile(q)?;
        let share = own.as_secs_f64() / whole.as_secs_f64().max(1e-9);
        let sentence = format!(
            "the generator itself was late: at the {name} by {} of {} response time",
            format_duration(own),
            format_duration(whole)
        );
        // A percentile that few arrivals exceed depends on single arrivals.
        let exceeding = ((1.0 - q) * figures.arrivals.offered as f64).round();
        let is_invalid = share >= INVALID && own >= LEAST && exceeding >= FEWEST;
        (is_invalid || share >= NOTED).then_some((is_invalid, share, sentence))
    };
    let quantiles = [
        (0.5, "median"),
        (0.9, "90th percentile"),
        (0.99, "99th percentile"),
    ];
    let found = quantiles.into_iter().filter_map(late);
    let worst = found.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    if let Some((is_invalid, _, sentence)) = worst {
        validity.add(is_invalid, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::load::Second;
    use crate::run::lag_evidence::Expected;
    use crate::sample::{Phase, Timeline};

    /// A second in which the generator was late by `millis` for 2 % of the arrivals, and everything else took 20 ms.
    fn late(arrivals: u64, millis: u64) -> Figures {
        let timeline = Timeline::new(Stamp::from_nanos(1_000_000_000), Duration::ZERO);
        let mut figures = Figures::new(1, timeline, Expected::default());
        let mut second = Second::new(0, Phase::Measure, 0);
        second.measured.offered = arrivals;
        for arrival in 0..arrivals {
            let own = Duration::from_millis(if arrival < arrivals / 50 { millis } else { 0 });
            second.dispatch_lag.record(own);
            second.response.record(own + Duration::from_millis(20));
        }
        figures.second(&second);
        figures
    }

    #[test]
    fn a_generator_that_was_late_is_not_passed_off_as_the_servers() {
        let check = |arrivals, millis, invalid: bool, noted: bool| {
            let mut validity = Validity::default();
            judge(&late(arrivals, millis), &mut validity);
            let found = (!validity.is_valid(), !validity.notes.is_empty());
            assert_eq!(found, (invalid, noted), "{millis} ms: {validity:?}");
        };
        check(1_000, 1_000, true, false);
        check(1_000, 25, true, false);
        check(1_000, 15, false, true);
        check(1_000, 5, false, false);
        // Two late arrivals of a hundred may be chance, so this is only a note.
        check(100, 25, false, true);
    }
}
