//! `replbench compare`: whether one run or mode is better or worse than another.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use itertools::Itertools as _;

use super::library::{refuse_altered, run_of, runs_of};
use super::{Exit, OrExit as _, Stop, WIDTH, print, tell};
use crate::analyse::{Comparison, Terms, compare_modes, compare_runs};
use crate::metric::Metric;
use crate::record::{OnMismatch, Run, RunSummary};
use crate::report::{
    comparison_csv, comparison_json, comparison_markdown, comparison_text, write_comparison,
};
use crate::units::parse_share;

/// Compare two runs, or the modes of one
#[derive(Debug, Args)]
#[command(after_help = "\
A run is named by its directory, its id or the beginning of it, or a git revision, which means the newest run that was \
made at that commit.

Exit codes: 0 nothing regressed, 1 regressed or a gate of the head failed (modes of one run: a gate failed, or with \
--fail-on-regression a mode is worse), 2 usage, 6 a run cannot be read, or a file that is needed is not as it was \
recorded: its SHA-256 is not the manifest's; 7 not comparable, or with --strict a figure is inconclusive, below what can \
be told or on one side only.")]
pub(super) struct CompareArgs {
    /// The baseline
    #[arg(value_name = "BASE")]
    base: String,

    /// The candidate
    #[arg(value_name = "HEAD", required_unless_present = "by")]
    head: Option<String>,

    /// Compare the modes of BASE with its first
    #[arg(long, value_enum, conflicts_with = "head")]
    by: Option<By>,

    /// With --by: exit with 1 when a mode is worse than the first. A mode that waits costs what it costs, and is no regression otherwise
    #[arg(long, requires = "by")]
    fail_on_regression: bool,

    #[command(flatten)]
    terms: TermArgs,

    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Also write the comparison as a page with its chart, as JSON, CSV and Markdown, into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Mode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    /// Markdown for a pull request's comment
    Md,
    Json,
    Csv,
}

/// How to compare, for every command that does.
#[derive(Debug, Args)]
pub(super) struct TermArgs {
    /// Changes up to this share do not matter: `5%` or `0.05`
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = parse_share)]
    threshold: f64,

    /// Figures to compare, such as `response.p99` or `visibility`; all declared ones by default. The q-values are over those compared
    #[arg(long = "metric", value_name = "NAME,..", value_delimiter = ',', value_parser = parse_metric)]
    metrics: Vec<Metrics>,

    /// Exit with 7 when a figure is inconclusive, below what can be told or on one side only
    #[arg(long)]
    strict: bool,

    /// Compare what is not comparable or not as it was recorded, and say so
    #[arg(long)]
    force: bool,
}

/// The figures that one word of `--metric` means.
#[derive(Debug, Clone)]
pub(super) struct Metrics(pub(super) Vec<Metric>);

impl TermArgs {
    pub(super) fn terms(&self) -> Terms {
        let mut terms = Terms {
            threshold: self.threshold,
            force: self.force,
            ..Terms::default()
        };
        if !self.metrics.is_empty() {
            let asked = |metric: &Metric| self.metrics.iter().any(|word| word.0.contains(metric));
            terms.metrics.retain(asked);
        }
        terms
    }

    pub(super) fn on_mismatch(&self) -> OnMismatch {
        OnMismatch::forced(self.force)
    }

    /// The exit code for a comparison. With `modes_may_regress` a mode that is worse than the first mode of the same run is a regression.
    pub(super) fn exit(&self, comparison: &Comparison, modes_may_regress: bool) -> Exit {
        if comparison.has_failed(modes_may_regress) {
            Exit::Regression
        } else if self.strict && comparison.is_undecided() {
            Exit::NotComparable
        } else {
            Exit::Fine
        }
    }
}

pub(super) fn parse_metric(text: &str) -> Result<Metrics, String> {
    let found = Metric::named(text);
    if found.is_empty() {
        let names = Metric::judged().iter().join(", ");
        Err(format!("figures that are compared: {names}"))
    } else {
        Ok(Metrics(found))
    }
}

pub(super) fn compare(arguments: &CompareArgs) -> Result<Exit, Stop> {
    let comparison = compared(arguments)?;
    print(&match arguments.format {
        Format::Text => comparison_text(&comparison, WIDTH),
        Format::Md => comparison_markdown(&comparison),
        Format::Json => comparison_json(&comparison),
        Format::Csv => comparison_csv(&comparison).or_exit(Exit::Results)?,
    })?;
    if let Some(directory) = &arguments.out {
        let page = write_comparison(directory, &comparison).or_exit(Exit::Results)?;
        // Printed on standard error, because standard output may be JSON that a program reads.
        tell(format!("wrote {}", page.display()));
    }
    Ok(arguments
        .terms
        .exit(&comparison, arguments.fail_on_regression))
}

fn compared(arguments: &CompareArgs) -> Result<Comparison, Stop> {
    let terms = arguments.terms.terms();
    let on_mismatch = arguments.terms.on_mismatch();
    let Some(head) = &arguments.head else {
        let run = run_of(&arguments.base, &arguments.results, on_mismatch)?;
        refuse_altered(&run.manifest.run_id, &run.altered, on_mismatch)?;
        let mut comparison = compare_modes(&run, &terms).or_exit(Exit::NotComparable)?;
        judge_gates(&mut comparison, &run, on_mismatch)?;
        return Ok(comparison);
    };
    let bases = runs_of(&arguments.base, &arguments.results, on_mismatch)?;
    let heads = runs_of(head, &arguments.results, on_mismatch)?;
    let (base, head) = best_pair(&bases, &heads);
    if base.dir == head.dir {
        return Err(Stop::usage(anyhow!(
            "base and head are the same run, `{}`",
            base.manifest.run_id
        )));
    }
    for side in [base, head] {
        refuse_altered(&side.manifest.run_id, &side.altered, on_mismatch)?;
    }
    let mut comparison = compare_runs(base, head, &terms).or_exit(Exit::NotComparable)?;
    judge_gates(&mut comparison, head, on_mismatch)?;
    Ok(comparison)
}

/// Judges the candidate by its profile's gates, if it has any.
pub(super) fn judge_gates(
    comparison: &mut Comparison,
    head: &RunSummary,
    on_mismatch: OnMismatch,
) -> Result<(), Stop> {
    if !head.manifest.plan.gates().is_empty() {
        let run = Run::open_with(&head.dir, on_mismatch).or_exit(Exit::Results)?;
        if run.is_altered() {
            refuse_altered(&run.manifest.run_id, &run.altered, on_mismatch)?;
            let told = run.altered.iter().map(|it| format!("head: {it}"));
            comparison.notes.extend(told);
        }
        comparison.judge_gates(&run);
    }
    Ok(())
}

/// The newest run of each of two commits that have the same profile and workload; the newest runs of both if no two have.
fn best_pair<'a>(
    bases: &'a [RunSummary],
    heads: &'a [RunSummary],
) -> (&'a RunSummary, &'a RunSummary) {
    let work = |run_summary: &RunSummary| {
        let profile = run_summary.manifest.plan.profile.clone();
        (profile, run_summary.manifest.workload_hash.clone())
    };
    let mut pairs = heads.iter().cartesian_product(bases);
    let alike = pairs.find(|(head, base)| work(base) == work(head) && base.dir != head.dir);
    let (head, base) = alike.unwrap_or((&heads[0], &bases[0]));
    (base, head)
}
