//! Shows the progress of a run: one line that is updated in place on a terminal, plain lines elsewhere. Always on standard error, so that
//! standard output holds only results.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::{self, Stamp};
use crate::mode::Mode;
use crate::plan::{Cell, Plan, Turn, about};
use crate::run::{CellHeadline, LiveSecond, Observer, Progress};
use crate::sample::{CellRow, Phase};
use crate::units::{format_bytes, format_duration, format_seconds, plural};

/// How much progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbosity {
    Quiet,
    Normal,
}

/// Prints the progress of a run.
pub(super) struct Terminal {
    verbosity: Verbosity,
    line: ProgressBar,
    renewing: bool,
    begun: Stamp,
    estimate: Duration,
    /// The number of cells of all plans together.
    cells: usize,
    /// The cell that is running, counted from 1 over all plans.
    at: usize,
    mode_width: usize,
    /// The turn that is running; `None` outside a session.
    turn: Option<Turn>,
    cell: Option<(Cell, String)>,
}

impl Terminal {
    /// For the plans that will be run, and the estimated duration of all of them.
    pub(super) fn new(plans: &[&Plan], estimate: Duration, verbosity: Verbosity) -> Self {
        let renewing = verbosity == Verbosity::Normal && std::io::stderr().is_terminal();
        let target = if renewing {
            ProgressDrawTarget::stderr_with_hz(4)
        } else {
            ProgressDrawTarget::hidden()
        };
        let line = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            line.set_style(style);
        }
        let modes = plans.iter().flat_map(|plan| &plan.modes);
        Self {
            verbosity,
            line,
            renewing,
            begun: clock::now(),
            estimate,
            cells: plans.iter().map(|plan| plan.cells.len()).sum(),
            at: 0,
            mode_width: modes.map(|mode| mode.name.len()).max().unwrap_or(0),
            turn: None,
            cell: None,
        }
    }

    /// Prints the number of cells and the estimated duration, before the run starts.
    pub(super) fn announce(&self) {
        let time = about(self.estimate);
        self.say(&format!("{}, {time}", plural(self.cells, "cell")));
    }

    /// Removes the line that is updated in place.
    pub(super) fn clear(&self) {
        self.line.finish_and_clear();
    }

    fn say(&self, text: &str) {
        match (self.verbosity, self.renewing) {
            (Verbosity::Quiet, _) => {}
            (Verbosity::Normal, true) => self.line.println(text),
            (Verbosity::Normal, false) => super::tell(text),
        }
    }

    fn cell_begins(&mut self, cell: &Cell, mode: &Mode) {
        self.at += usize::from(!cell.is_discarded());
        self.cell = Some((*cell, mode.name.clone()));
        self.line.set_message(format!("{} resetting", self.place()));
    }

    /// The side as `base ` or `head ` in a session; empty otherwise.
    fn side(&self) -> String {
        self.turn
            .map_or_else(String::new, |turn| format!("{} ", turn.side))
    }

    /// The cell's number, mode and repetition, such as `3/24 sync 1`.
    fn place(&self) -> String {
        let Some((cell, mode)) = &self.cell else {
            return String::new();
        };
        let side = self.side();
        if cell.is_discarded() {
            return format!("{side}{mode}, a discarded cell on new servers,");
        }
        format!("{}/{} {side}{mode} {}", self.at, self.cells, cell.rep)
    }

    fn second(&self, live: &LiveSecond) {
        let when = match live.phase {
            Phase::Warmup => "warm-up".into(),
            Phase::Drain => "drain".into(),
            Phase::Measure => match live.planned {
                Some(planned) => format!("{}/{} s", live.index + 1, planned.as_secs_f64()),
                None => format!("{} s", live.index + 1),
            },
        };
        let unknown = || "-".to_owned();
        let commit = live.response_p99.map_or_else(unknown, format_duration);
        let visible = live
            .visibility_p99_us
            .map_or_else(unknown, |micros| format_seconds(micros / 1e6));
        let lag = live
            .worst_replay_lag_bytes
            .map_or_else(unknown, |bytes| format_bytes(bytes as f64));
        let left = self.estimate.saturating_sub(clock::now().since(self.begun));
        let left = format!("{}:{:02} left", left.as_secs() / 60, left.as_secs() % 60);
        self.line.set_message(format!(
            "{} {when} {}/s p99 {commit} seen {visible} lag {lag} {left}",
            self.place(),
            live.acks
        ));
    }

    fn cell_ends(&self, row: &CellRow, headline: CellHeadline) {
        if row.discarded {
            return;
        }
        let unknown = || "unknown".to_owned();
        let width = self.cells.to_string().len();
        let mode_width = self.mode_width;
        let commit = |quantile: Option<Duration>| quantile.map_or_else(unknown, format_duration);
        // The delay is an upper bound: the commit may have been visible before the probe's first check that saw it.
        let visible = headline
            .visibility_p99_s
            .map_or_else(unknown, |seconds| format!("≤ {}", format_seconds(seconds)));
        self.say(&format!(
            "{:>width$}/{} {}{:mode_width$} {} {:.0}/s commit p50 {} p99 {} visible p99 {visible}{}",
            self.at,
            self.cells,
            self.side(),
            row.mode,
            row.rep,
            row.achieved_tps,
            commit(headline.response_p50),
            commit(headline.response_p99),
            if row.valid { "" } else { " INVALID" },
        ));
        if !row.notes.is_empty() {
            self.say(&format!("{:>width$}  {}", "", row.notes));
        }
    }
}

impl Observer for Terminal {
    fn on(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Recording { directory } => {
                self.say(&format!("recording into {}", directory.display()));
            }
            Progress::Turn(turn) => self.turn = Some(turn),
            Progress::Provisioning(topology) => {
                let side = self.side();
                self.line.set_message(format!("{side}starting {topology}"));
            }
            Progress::Provisioned { topology, took } => {
                // In a session servers are made in every turn; printing it in the first block is enough.
                if self.turn.is_none_or(|turn| turn.block == 1) {
                    let (side, took) = (self.side(), format_duration(took));
                    self.say(&format!("{side}{topology} ready in {took}"));
                }
            }
            Progress::CellBegins { cell, mode, .. } => self.cell_begins(cell, mode),
            Progress::Second(live) => self.second(live),
            Progress::CellEnds { row, headline } => self.cell_ends(row, headline),
            Progress::Stopping => self.line.set_message("stopping the servers"),
            Progress::Note(text) => self.say(&text),
        }
    }
}
