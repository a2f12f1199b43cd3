//! `replbench trend`: shows the history of figures over the commits of a repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use itertools::Itertools as _;

use super::compare::{Metrics, parse_metric};
use super::library::{ReadRuns, run_summaries};
use super::{Exit, OrExit as _, Stop, WIDTH, git, note, print, warn};
use crate::analyse::{Series, read_blessings, trend_of};
use crate::metric::Metric;
use crate::record::{OnMismatch, RunSummary};
use crate::report::{
    escape_control, trend_csv, trend_github_action_benchmark, trend_json, trend_openmetrics,
    trend_otava, trend_text,
};
use crate::sample::Direction;

/// The figure that text output shows by default: one series per mode, which tells whether commits have become slower. For a replica the
/// default is `DEFAULT_OF_NODE`, which tells whether the replica shows commits later.
const DEFAULT: &str = "response.p99";
const DEFAULT_OF_NODE: &str = "visibility.p99";

const ALL: &str = "all";

/// Show the history of figures over commits, and where their level changed
#[derive(Debug, Args)]
#[command(after_help = "\
A series holds what may be compared: the same host, workload, PostgreSQL major, settings, mode, node and figure. \
Runs stand in the order of their commits in the repository (each after its parents), several of one commit by time, \
those with uncommitted changes after them, those of unknown commits after the latest commit that had been run before. \
A level needs 3 runs, a change point 8 in all. Invalid runs are shown and left out of the search.

Formats: text, json and csv show everything. Others are for other tools, with the newest valid run of each series:
  github-action-benchmark         for `tool: customSmallerIsBetter`: times and lag
  github-action-benchmark-bigger  for `tool: customBiggerIsBetter`: commits a second
  openmetrics                     for Prometheus and its kin
  otava                           for Apache Otava, once Hunter: CSV with a row for each valid run
Otava's file has a column for each series under the conditions of the newest run. Otava gives up at a column with \
gaps, such as that of a mode which some runs left out: name columns without, or narrow it with METRIC and --mode.

Exit codes: 0 fine, 1 with --strict when a regression stands in a series that was asked for: since the last blessed change \
(see `replbench bless`) its level became worse and has not come back; 2 usage, or no runs with --strict, 6 results cannot \
be read, or a run was left out because a file that is needed is not as it was recorded: its SHA-256 is not the manifest's.")]
pub(super) struct TrendArgs {
    /// Figures, such as `response.p99` or `visibility`, or `all`; by default response.p99 (with --node visibility.p99) in text, all in other formats
    #[arg(value_name = "METRIC,..", value_delimiter = ',', value_parser = parse_figure)]
    metrics: Vec<Metrics>,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// The repository of what was benchmarked
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,

    /// This mode only
    #[arg(long)]
    mode: Option<String>,

    /// This replica only
    #[arg(long)]
    node: Option<String>,

    /// This profile only
    #[arg(long)]
    profile: Option<String>,

    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Use files that are not as they were recorded, too
    #[arg(long)]
    force: bool,

    /// Exit with 1 when a regression stands that nobody has blessed, and with 2 when there is no run
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
    GithubActionBenchmark,
    GithubActionBenchmarkBigger,
    Otava,
    Openmetrics,
}

fn parse_figure(text: &str) -> Result<Metrics, String> {
    if text == ALL {
        return Ok(Metrics(Metric::judged()));
    }
    parse_metric(text).map_err(|known| format!("{known}, or {ALL}"))
}

pub(super) fn trend(arguments: &TrendArgs) -> Result<Exit, Stop> {
    let ReadRuns {
        run_summaries,
        warnings,
        altered,
    } = run_summaries(&arguments.results, OnMismatch::forced(arguments.force))?;
    for warning in &warnings {
        warn(warning);
    }
    let (blessed, warnings) = read_blessings(&arguments.results)
        .with_context(|| {
            let results = arguments.results.display();
            format!("cannot read `{results}/blessed.jsonl`; it should be a file of its own, or be absent")
        })
        .or_exit(Exit::Results)?;
    for warning in &warnings {
        warn(warning);
    }
    let order = order(&run_summaries, &arguments.repo);
    let wants = |series: &Series| arguments.wants(series);
    let series = trend_of(&run_summaries, &order, &blessed, wants);
    if series.is_empty() && !run_summaries.is_empty() {
        return Err(Stop::usage(arguments.found_nothing(&run_summaries)));
    }
    print(&arguments.drawn(&series)?)?;
    if arguments.strict && series.is_empty() {
        return Err(Stop::usage(anyhow!(
            "there is nothing to judge in `{}`; is it the right directory?",
            arguments.results.display()
        )));
    }
    let regressed = arguments.strict && series.iter().any(Series::has_regressed);
    Ok(if regressed {
        Exit::Regression
    } else if altered > 0 {
        Exit::Results
    } else {
        Exit::Fine
    })
}

impl TrendArgs {
    fn wants(&self, series: &Series) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.figures()
            .iter()
            .any(|metric| metric.name() == series.metric && metric.stat.as_str() == series.stat)
            && is(&self.mode, Some(&series.mode))
            && is(&self.node, series.node.as_deref())
            && is(&self.profile, Some(&series.conditions.profile))
    }

    fn figures(&self) -> Vec<Metric> {
        match (self.metrics.as_slice(), self.format) {
            ([], Format::Text) if self.node.is_some() => Metric::named(DEFAULT_OF_NODE),
            ([], Format::Text) => Metric::named(DEFAULT),
            ([], _) => Metric::judged(),
            (words, _) => words.iter().flat_map(|word| word.0.clone()).collect(),
        }
    }

    fn drawn(&self, series: &[Series]) -> Result<String, Stop> {
        Ok(match self.format {
            Format::Text if series.is_empty() => format!(
                "no runs in `{}`; replbench run PROFILE makes one, --results names another directory\n",
                self.results.display()
            ),
            Format::Text => trend_text(series, WIDTH),
            Format::Json => trend_json(series),
            Format::Csv => trend_csv(series).or_exit(Exit::Results)?,
            Format::GithubActionBenchmark => {
                trend_github_action_benchmark(series, Direction::LowerIsBetter)
            }
            Format::GithubActionBenchmarkBigger => {
                trend_github_action_benchmark(series, Direction::HigherIsBetter)
            }
            Format::Otava => trend_otava(series).or_exit(Exit::Results)?,
            Format::Openmetrics => trend_openmetrics(series),
        })
    }

    /// The error if there are runs but no series, so that a mistyped name does not pass as a success.
    fn found_nothing(&self, run_summaries: &[RunSummary]) -> anyhow::Error {
        let listed = |names: BTreeSet<String>| {
            let mut names = names.iter().map(|name| escape_control(name));
            names.join(", ")
        };
        let profiles = run_summaries
            .iter()
            .filter_map(|run_summary| run_summary.manifest.plan.profile.clone());
        let modes = run_summaries.iter().flat_map(RunSummary::mode_names);
        let rows = run_summaries
            .iter()
            .flat_map(|run_summary| run_summary.figures.iter().flatten());
        let nodes = rows.filter_map(|row| row.node.clone());
        anyhow!(
            "no run in `{}` has {} with these options; profiles: {}; modes: {}; nodes: {}",
            self.results.display(),
            self.figures().iter().join(", "),
            listed(profiles.collect()),
            listed(modes.collect()),
            listed(nodes.collect())
        )
    }
}

/// The commits of the repository in order, with a note if runs can only be ordered by time.
fn order(run_summaries: &[RunSummary], repository: &Path) -> Vec<String> {
    if run_summaries.is_empty() {
        return Vec::new();
    }
    let commits = git::commits_in_order(repository);
    let known: BTreeSet<&str> = commits.iter().map(String::as_str).collect();
    let is_known = |run_summary: &RunSummary| {
        let revision = run_summary.manifest.subject.git.as_deref();
        revision.is_some_and(|it| known.contains(it.strip_suffix("-dirty").unwrap_or(it)))
    };
    if !commits.is_empty() && !run_summaries.iter().any(is_known) {
        note(&format!(
            "runs stand by time: none of their commits is in the repository of `{}`; name the benchmarked one with --repo",
            repository.display()
        ));
    }
    commits
}
