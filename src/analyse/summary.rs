//! The long form of a run's figures: the rows of `summary.csv`.

use super::cell::{CellFigures, LagSpread, ReplicaFigures, Spread, cell_figures};
use crate::record::Run;
use crate::sample::{CellRow, Direction, SummaryRow};

/// Every figure of every cell. Times are in microseconds; a value is empty when its quantile falls among the censored, and
/// a metric that was not measured has no row.
pub fn summarise(run: &Run) -> Vec<SummaryRow> {
    summary_of(run, &cell_figures(run))
}

/// As [`summarise`], of figures that are already at hand, one for each cell of the run.
pub fn summary_of(run: &Run, figures: &[CellFigures]) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for (cell, figures) in run.cells.iter().zip(figures) {
        let mut sheet = Sheet {
            cell,
            standby: None,
            rows: &mut rows,
        };
        sheet.cell_counts();
        sheet.cell_times(figures);
        for replica in &figures.replicas {
            sheet.standby = Some(replica.node.clone());
            sheet.replica(replica);
        }
    }
    rows
}

/// Rows about one cell, or one replica of it.
struct Sheet<'a> {
    cell: &'a CellRow,
    standby: Option<String>,
    rows: &'a mut Vec<SummaryRow>,
}

/// What a figure is, apart from its value.
struct Figure {
    metric: &'static str,
    stat: &'static str,
    unit: &'static str,
    direction: Direction,
    n: u64,
}

impl Sheet<'_> {
    fn push(&mut self, figure: &Figure, value: Option<f64>) {
        self.rows.push(SummaryRow {
            cell_id: self.cell.cell_id,
            mode: self.cell.mode.clone(),
            rep: self.cell.rep,
            standby: self.standby.clone(),
            metric: figure.metric.into(),
            stat: figure.stat.into(),
            value: value.map(thousandths).filter(|value| value.is_finite()),
            unit: figure.unit.into(),
            direction: figure.direction,
            n: figure.n,
        });
    }

    fn value(
        &mut self,
        metric: &'static str,
        unit: &'static str,
        direction: Direction,
        value: Option<f64>,
    ) {
        let n = self.cell.offered;
        self.value_of(metric, unit, direction, n, value);
    }

    fn value_of(
        &mut self,
        metric: &'static str,
        unit: &'static str,
        direction: Direction,
        n: u64,
        value: Option<f64>,
    ) {
        let stat = "value";
        let figure = Figure {
            metric,
            stat,
            unit,
            direction,
            n,
        };
        if value.is_some() {
            self.push(&figure, value);
        }
    }

    fn cell_counts(&mut self) {
        use Direction::{HigherIsBetter, LowerIsBetter, Neutral};
        let cell = self.cell;
        self.value(
            "achieved_tps",
            "1/s",
            HigherIsBetter,
            Some(cell.achieved_tps),
        );
        self.value("offered_tps", "1/s", Neutral, cell.offered_tps);
        for (metric, count) in [
            ("failed", cell.failed),
            ("indeterminate", cell.indeterminate),
            ("missed", cell.missed),
            ("acked_with_warning", cell.acked_with_warning),
        ] {
            self.value(metric, "1", LowerIsBetter, Some(count as f64));
        }
        self.value("peak_backlog", "1", Neutral, Some(cell.peak_backlog as f64));
        self.value("host_busy_share", "1", Neutral, cell.host_busy_share);
        self.value("load_cpu_share", "1", Neutral, cell.load_cpu_share);
        self.value("probe_cpu_share", "1", Neutral, cell.probe_cpu_share);
        let per_commit = cell
            .wal_bytes
            .filter(|_| cell.acked > 0)
            .map(|bytes| bytes as f64 / cell.acked as f64);
        self.value_of("wal_per_commit", "B", Neutral, cell.acked, per_commit);
    }

    fn cell_times(&mut self, figures: &CellFigures) {
        self.spread("start_lag", Direction::Neutral, figures.start_lag);
        self.spread("pool_wait", Direction::Neutral, figures.pool_wait);
        self.spread("service", Direction::LowerIsBetter, figures.service);
        self.spread("response", Direction::LowerIsBetter, figures.response);
    }

    fn replica(&mut self, replica: &ReplicaFigures) {
        use Direction::{LowerIsBetter, Neutral};
        self.spread("visibility", LowerIsBetter, replica.visibility);
        self.spread("visibility_lo", Neutral, replica.visibility_lo);
        self.spread("visibility_send", Neutral, replica.visibility_send);
        if replica.commits > 0 {
            let n = replica.commits;
            self.value_of("unseen", "1", LowerIsBetter, n, Some(replica.unseen as f64));
            let resolution = replica.resolution.map(|seconds| seconds * 1e6);
            self.value_of("resolution", "us", Neutral, n, resolution);
        }
        self.lag("replay_lag_bytes", "B", 1.0, replica.replay_bytes);
        self.lag("replay_lag", "us", 1e6, replica.replay_time);
        let samples = replica.replay_bytes.map_or(0, |lag| lag.n) + replica.gaps;
        if samples > 0 {
            let gaps = Some(replica.gaps as f64);
            self.value_of("lag_gaps", "1", LowerIsBetter, samples, gaps);
            self.value_of(
                "slot_retained_max",
                "B",
                Neutral,
                samples,
                replica.retained_bytes,
            );
        }
    }

    fn spread(&mut self, metric: &'static str, direction: Direction, spread: Option<Spread>) {
        let Some(spread) = spread else { return };
        for (stat, value) in [
            ("p50", spread.p50),
            ("p90", spread.p90),
            ("p99", spread.p99),
            ("p999", spread.p999),
            ("max", spread.max),
        ] {
            let (unit, n) = ("us", spread.n);
            let figure = Figure {
                metric,
                stat,
                unit,
                direction,
                n,
            };
            self.push(&figure, value.map(|seconds| seconds * 1e6));
        }
    }

    fn lag(
        &mut self,
        metric: &'static str,
        unit: &'static str,
        scale: f64,
        lag: Option<LagSpread>,
    ) {
        let Some(lag) = lag else { return };
        let direction = Direction::LowerIsBetter;
        for (stat, value) in [("p50", lag.p50), ("p99", lag.p99), ("max", lag.max)] {
            let figure = Figure {
                metric,
                stat,
                unit,
                direction,
                n: lag.n,
            };
            self.push(&figure, Some(value * scale));
        }
    }
}

/// To the nanosecond, or a thousandth of another unit: nothing here is measured to more, and a sum of binary fractions has a
/// tail of digits.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
