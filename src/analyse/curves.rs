//! Percentile spectra of response time.

use super::cell::censored;
use crate::histogram::Histogram;
use crate::record::{Run, tags};

/// The spectrum of a mode: a line for every valid repetition, and one for all of them merged.
#[derive(Debug, Clone)]
pub struct Spectrum {
    pub mode: String,
    pub repetitions: Vec<SpectrumLine>,
    pub merged: SpectrumLine,
}

/// A line of points (nines, seconds): nines is `-log10(1 - q)`, so 1 is the 90th percentile and 2 the 99th.
#[derive(Debug, Clone, Default)]
pub struct SpectrumLine {
    pub points: Vec<(f64, f64)>,
    /// Recorded and censored observations.
    pub n: u64,
}

/// Points of a line per factor of ten in the share of observations that lie above.
const STEPS: u32 = 24;
/// A line stops where fewer observations than this lie above: points beyond would rest on too few observations.
const FEWEST_ABOVE: f64 = 10.0;

/// The spectra of response time, one for each mode, in the order of the plan.
pub fn spectra(run: &Run) -> Vec<Spectrum> {
    run.mode_names()
        .into_iter()
        .map(|mode| spectrum(run, mode))
        .collect()
}

fn spectrum(run: &Run, mode: String) -> Spectrum {
    let mut merged = Histogram::new();
    let mut censored_of_all = 0_u64;
    let mut repetitions = Vec::new();
    for cell in run.cells_of(&mode).into_iter().filter(|cell| cell.valid) {
        let response = run
            .histograms
            .get(&cell.cell_id)
            .and_then(|found| found.get(tags::RESPONSE));
        let Some(response) = response else { continue };
        let censored = censored(cell, tags::RESPONSE);
        repetitions.push(line(&response, censored));
        merged.merge(&response);
        censored_of_all = censored_of_all.saturating_add(censored);
    }
    Spectrum {
        mode,
        repetitions,
        merged: line(&merged, censored_of_all),
    }
}

fn line(histogram: &Histogram, censored: u64) -> SpectrumLine {
    let n = histogram.count().saturating_add(censored);
    let mut points = Vec::new();
    // Starts at step 1: step 0 is the minimum, an extreme of its own kind, and would draw a cliff.
    for step in 1.. {
        let nines = f64::from(step) / f64::from(STEPS);
        let above = 10_f64.powf(-nines);
        if n as f64 * above < FEWEST_ABOVE {
            break;
        }
        match histogram.quantile_of(1.0 - above, n) {
            Some(value) => points.push((nines, value.as_secs_f64())),
            None => break,
        }
    }
    SpectrumLine { points, n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stops_where_ten_observations_lie_above() {
        let mut histogram = Histogram::new();
        for nanos in 1..=100_000_u64 {
            histogram.record_nanos(nanos * 1_000);
        }
        let last = line(&histogram, 0).points.pop().unwrap();
        assert!((last.0 - 4.0).abs() < 0.05, "{last:?}");
        assert!(line(&Histogram::new(), 0).points.is_empty());
    }

    #[test]
    fn a_line_stops_at_the_censored() {
        let mut histogram = Histogram::new();
        for _ in 0..9_000 {
            histogram.record_nanos(5_000_000);
        }
        let last = line(&histogram, 1_000).points.pop().unwrap();
        assert!((last.0 - 1.0).abs() < 0.06, "{last:?}");
    }
}
