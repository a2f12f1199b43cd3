//! Compares two runs, or the modes of one run: is the candidate better, worse, the same, or can it not be told?
//!
//! The repetition is the unit. If the repetitions of both sides took turns (modes of one run, sides of one session), they are paired by
//! block, which cancels drift; otherwise they are two samples. Times and rates are compared as factors, on a logarithmic scale.

mod comparable;
mod failures;
mod rows;
mod samples;

use serde::Serialize;

pub use comparable::{Consequence, Difference};
pub(super) use comparable::{lasting_settings, majors, server_differences, servers_made};
pub use rows::{Bounds, Row};

use super::gate::{GateLine, gates};
use super::stats::benjamini_hochberg;
use super::verdict::Verdict;
use crate::metric::{Metric, Scale, Unit};
use crate::record::{Manifest, Run, RunSummary};
use comparable::{differences, same_session};
use samples::{Pair, Samples};

/// Version of the JSON form of a comparison. Rises when a reader of an older version would misread it.
pub const COMPARISON_VERSION: u32 = 1;

/// How to compare.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Relative threshold below which a change does not matter: 0.05 is 5 %.
    pub threshold: f64,
    pub metrics: Vec<Metric>,
    /// Whether to compare runs that are not comparable; the comparison then says that it was forced.
    pub force: bool,
}

impl Terms {
    pub const THRESHOLD: f64 = 0.05;
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            threshold: Self::THRESHOLD,
            metrics: Metric::judged(),
            force: false,
        }
    }
}

/// The result of a comparison, and the whole of its JSON form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub schema_version: u32,
    pub kind: Kind,
    pub base: Subject,
    pub head: Subject,
    /// Relative threshold below which a change does not matter: 0.05 is 5 %.
    pub threshold: f64,
    /// Whether the runs are not comparable and were compared nevertheless.
    pub forced: bool,
    pub differences: Vec<Difference>,
    /// What a reader should know.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
    /// The results of the gates in the head's profile; empty if it has none.
    pub gates: Vec<GateLine>,
    /// The worst verdict of any row, as the verdict on the whole.
    pub verdict: Verdict,
}

impl Comparison {
    /// Evaluates the gates of the head's profile, for which the head's distributions are needed.
    pub fn judge_gates(&mut self, head: &Run) {
        self.gates = gates(head);
    }

    /// Whether the head is worse than it may be: a figure regressed, or a gate failed. A mode that is slower than another of the same run
    /// counts as regressed only with `--fail-on-regression` (`modes_may_regress`).
    pub fn has_failed(&self, modes_may_regress: bool) -> bool {
        let counts = self.kind != Kind::Modes || modes_may_regress;
        (counts && self.verdict == Verdict::Regressed) || self.gates.iter().any(|line| !line.passed)
    }

    /// Whether some figure is neither shown to have changed nor shown to be unchanged, or there is no figure.
    pub fn is_undecided(&self) -> bool {
        let is_open = |row: &Row| {
            matches!(
                row.verdict,
                Verdict::Inconclusive | Verdict::BelowResolution | Verdict::NotComparable
            )
        };
        self.rows.is_empty() || self.rows.iter().any(is_open)
    }
}

/// Where the two sides of a comparison come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two separate runs.
    Runs,
    /// The two runs of a session, which took turns.
    Session,
    /// Modes of one run.
    Modes,
}

impl Kind {
    /// Whether repetitions are paired by block.
    pub fn is_paired(self) -> bool {
        self != Self::Runs
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    pub run_id: String,
    pub profile: String,
    /// Commit of the directory that was benchmarked.
    pub commit: Option<String>,
    pub started_at: String,
    /// What this side of a session was given besides the common profile; empty outside sessions.
    pub items: Vec<String>,
}

impl Subject {
    fn of(manifest: &Manifest) -> Self {
        let session = manifest.session.as_ref();
        Self {
            run_id: manifest.run_id.clone(),
            profile: manifest.plan.profile.clone().unwrap_or_default(),
            commit: manifest.subject.git.clone(),
            started_at: manifest.started_at.clone(),
            items: session
                .map(|session| session.items.clone())
                .unwrap_or_default(),
        }
    }
}

/// Why runs must not be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    #[error("not comparable: {}; --force compares all the same and says so", fields(.0))]
    Differ(Vec<Difference>),
    #[error(
        "not comparable: `{base}` measured {base_modes}, `{head}` measured {head_modes}: no mode is in both"
    )]
    NoCommonMode {
        base: String,
        base_modes: String,
        head: String,
        head_modes: String,
    },
    #[error(
        "not comparable: run `{run}` has one mode only, {mode}; run it with two or more --modes"
    )]
    OneMode { run: String, mode: String },
}

fn fields(differences: &[Difference]) -> String {
    let forbidding = differences
        .iter()
        .filter(|it| it.consequence == Consequence::Forbids);
    let each = forbidding.map(|it| match (it.base.as_str(), it.head.as_str()) {
        (base, "") => format!("{} of the base is {base}", it.field),
        ("", head) => format!("{} of the head is {head}", it.field),
        (base, head) => format!("{} differs ({base} against {head})", it.field),
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Compares the candidate `head` with the baseline `base`.
pub fn compare_runs(
    base: &RunSummary,
    head: &RunSummary,
    terms: &Terms,
) -> Result<Comparison, NotComparable> {
    let modes = common_modes(base, head)?;
    let found = differences(&base.manifest, &head.manifest, &modes);
    let kind = if same_session(&base.manifest, &head.manifest) {
        Kind::Session
    } else {
        Kind::Runs
    };
    let pairs = modes.into_iter().map(|(one, other)| Pair {
        base: Samples::of(base, &one),
        head: Samples::of(head, &other),
    });
    conclude(kind, (base, head), found, &pairs.collect::<Vec<_>>(), terms)
}

/// Compares every mode of a run with the run's first mode.
pub fn compare_modes(run: &RunSummary, terms: &Terms) -> Result<Comparison, NotComparable> {
    let modes = run.mode_names();
    let (first, others) = match modes.as_slice() {
        [first, others @ ..] if !others.is_empty() => (first, others),
        few => {
            return Err(NotComparable::OneMode {
                run: run.manifest.run_id.clone(),
                mode: few.first().map_or("none", String::as_str).into(),
            });
        }
    };
    let mut found = differences(&run.manifest, &run.manifest, &[]);
    // Both sides are the same run, so its status is reported once.
    found.dedup_by(|one, other| one.field == other.field);
    let pairs = others.iter().map(|other| Pair {
        base: Samples::of(run, first),
        head: Samples::of(run, other),
    });
    let pairs: Vec<Pair> = pairs.collect();
    conclude(Kind::Modes, (run, run), found, &pairs, terms)
}

/// The pairs of modes to compare: those of the same name. If no name is common and each run has a single mode, these two form a pair.
fn common_modes(
    base: &RunSummary,
    head: &RunSummary,
) -> Result<Vec<(String, String)>, NotComparable> {
    let (ours, theirs) = (base.mode_names(), head.mode_names());
    let common: Vec<_> = ours
        .iter()
        .filter(|mode| theirs.contains(mode))
        .map(|mode| (mode.clone(), mode.clone()))
        .collect();
    match (common.as_slice(), ours.as_slice(), theirs.as_slice()) {
        ([], [one], [other]) => Ok(vec![(one.clone(), other.clone())]),
        ([], ..) => Err(NotComparable::NoCommonMode {
            base: base.manifest.run_id.clone(),
            base_modes: ours.join(", "),
            head: head.manifest.run_id.clone(),
            head_modes: theirs.join(", "),
        }),
        _ => Ok(common),
    }
}

fn conclude(
    kind: Kind,
    (base, head): (&RunSummary, &RunSummary),
    differences: Vec<Difference>,
    pairs: &[Pair],
    terms: &Terms,
) -> Result<Comparison, NotComparable> {
    let is_forbidden = differences
        .iter()
        .any(|it| it.consequence == Consequence::Forbids);
    if is_forbidden && !terms.force {
        return Err(NotComparable::Differ(differences));
    }
    let tested: Vec<_> = pairs
        .iter()
        .flat_map(|pair| rows::test(pair, kind, terms))
        .collect();
    let p_values: Vec<_> = tested.iter().map(rows::Tested::p).collect();
    let q_values = benjamini_hochberg(&p_values);
    let mut rows: Vec<Row> = tested
        .into_iter()
        .zip(q_values)
        .map(|(row, q)| row.judged(q))
        .collect();
    if kind == Kind::Modes {
        for row in &mut rows {
            note_servers(row, &base.manifest);
        }
    }
    for of_mode in rows.chunk_by_mut(|one, other| one.head_mode == other.head_mode) {
        failures::withhold_improvements(of_mode);
    }
    let warnings = |run_summary: &RunSummary, side: &str| -> Vec<String> {
        let recorded = run_summary.manifest.warnings.iter();
        let told = recorded.chain(&run_summary.warnings);
        told.map(|warning| format!("{side}: {warning}")).collect()
    };
    let mut notes = warnings(base, "base");
    if kind != Kind::Modes {
        notes.extend(warnings(head, "head"));
    }
    notes.extend(pairs.iter().flat_map(Pair::notes));
    notes.dedup();
    Ok(Comparison {
        schema_version: COMPARISON_VERSION,
        kind,
        base: Subject::of(&base.manifest),
        head: Subject::of(&head.manifest),
        threshold: terms.threshold,
        forced: is_forbidden,
        differences,
        notes,
        verdict: worst(&rows),
        rows,
        gates: Vec::new(),
    })
}

/// If the servers of a row's two modes differ, adds the differences to the row's note.
fn note_servers(row: &mut Row, manifest: &Manifest) {
    if let Some(differences) = server_differences(manifest, &row.head_mode, &row.base_mode) {
        let with = format!("with {differences}");
        row.note = Some(match row.note.take() {
            Some(note) => format!("{note}; {with}"),
            None => with,
        });
    }
}

/// The verdict on the whole comparison: the worst of any row, `NotComparable` without rows.
fn worst(rows: &[Row]) -> Verdict {
    let any = |verdict| rows.iter().any(|row| row.verdict == verdict);
    [
        Verdict::Regressed,
        Verdict::NotComparable,
        Verdict::Inconclusive,
        Verdict::BelowResolution,
        Verdict::Improved,
    ]
    .into_iter()
    .find(|verdict| any(*verdict))
    .unwrap_or(if rows.is_empty() {
        Verdict::NotComparable
    } else {
        Verdict::Equivalent
    })
}
