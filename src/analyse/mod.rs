//! Decides what a recorded run says: percentiles, figures over repetitions, effects, sentences, curves. Pure functions of a
//! [`Run`]; sees no server, draws and prints nothing.
//!
//! The repetition is the unit of every interval, never the second or the transaction: transactions of one cell share a server, a cache and
//! a moment, and their number says nothing about how another repetition would come out.

mod aggregate;
mod cautions;
mod cell;
mod change;
mod compare;
mod curves;
mod gate;
mod headline;
mod index;
mod mode_setbacks;
mod modes;
mod outages;
mod restores;
mod run_summary;
mod setback;
mod staleness;
mod stats;
mod summary;
mod time_series;
mod trend;
mod verdict;

pub use aggregate::{Figure, ModeSummary, mode_summaries};
pub use cautions::{Caution, Severity, cautions, status_text};
pub use cell::cell_figures;
pub use change::{ChangePoint, change_points};
pub use compare::{
    Bounds, COMPARISON_VERSION, Comparison, Consequence, Difference, Kind, NotComparable, Row,
    Subject, Terms, compare_modes, compare_runs,
};
pub use curves::{Spectrum, SpectrumLine, spectra};
use gate::gates_of;
pub use gate::{GateLine, gates};
pub use index::{IndexFigure, IndexLine, IndexMode};
pub use mode_setbacks::ModeSetback;
pub use modes::{Excluded, ModeFigures, ModesTable, Ratios};
pub use outages::{AuditLine, ModeOutages};
pub use restores::RestoreLine;
pub use run_summary::run_summary;
pub use staleness::{ReplicaCurve, replica_curves};
pub use stats::{
    Estimate, Interval, Method, Shift, arithmetic_mean, benjamini_hochberg, geometric_mean, median,
    paired, unpaired,
};
pub use summary::{summarise, summary_of};
pub use time_series::{
    HeatColumn, HostPoint, LagPoint, LoadPoint, Mark, RepetitionSpan, TimeSeries, time_series,
};
pub use trend::{
    BLESSED, Blessing, Change, Conditions, Point, Series, TREND_VERSION, read_blessings, trend,
    trend_of,
};
pub use verdict::{Evidence, Limits, Verdict, judge};

use crate::metric::CellFigures;
use crate::record::Run;

/// Everything that the report draws, computed once.
#[derive(Debug)]
pub struct Analysis {
    pub cells: Vec<CellFigures>,
    pub modes: ModesTable,
    pub gates: Vec<GateLine>,
    /// Empty in runs without faults.
    pub outages: Vec<ModeOutages>,
    pub setbacks: Vec<ModeSetback>,
    pub audit: Vec<AuditLine>,
    pub restores: Vec<RestoreLine>,
    /// What a reader must know before the headline.
    pub cautions: Vec<Caution>,
    pub headline: Vec<String>,
    pub spectra: Vec<Spectrum>,
    pub replicas: Vec<ReplicaCurve>,
    pub time_series: Vec<TimeSeries>,
}

impl Analysis {
    pub fn of(run: &Run) -> Self {
        let cells = cell_figures(run);
        let modes = modes::from_figures(run, &cells);
        let replicas = replica_curves(run);
        let gates = gates_of(run, &cells);
        let mut cautions = cautions(&run.manifest, &run.cells);
        let broken = gates.iter().any(|line| !line.passed);
        let broken = gate::sentence(&gates).filter(|_| broken);
        cautions.extend(broken.map(Caution::alarm));
        let outages = outages::outages(run, &modes);
        let audit = outages::audit_lines(run, &modes);
        cautions.extend(outages::alarms(&audit).map(Caution::alarm));
        cautions.sort_by_key(|caution| caution.severity);
        let setbacks = mode_setbacks::setbacks(run, &modes);
        let restores = restores::restore_lines(run, &modes);
        let told = outages::sentences(&outages)
            .chain(mode_setbacks::sentences(&setbacks))
            .chain(restores::sentences(&restores, &audit));
        Self {
            cautions,
            headline: told
                .chain(headline::sentences(run, &modes, &replicas, &gates))
                .collect(),
            spectra: spectra(run),
            time_series: time_series(run),
            cells,
            modes,
            gates,
            outages,
            setbacks,
            audit,
            restores,
            replicas,
        }
    }
}
