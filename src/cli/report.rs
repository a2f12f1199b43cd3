//! `replbench report`: rebuilds the summary, charts and report of a run directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, OrExit as _, Stop, WIDTH, print, warn};
use crate::analyse::{Analysis, AuditLine, GateLine};
use crate::plan::fold;
use crate::record::{OnMismatch, Run, RunStatus};
use crate::report::audit::text as audit_text;
use crate::report::gates::text as gate_text;
use crate::report::{escape_control, text_table, write_run};
use crate::sample::AuditResult;

#[derive(Debug, Args)]
#[command(after_help = "\
A run with gates is judged by them again, and the exit code is what the run's own would have been: 0 all passed, \
1 a gate failed or a fault broke a promise, 4 the run was cut short, 5 it is invalid. Without gates it is 0 however the run ended. \
6: the directory could not be read or written, or a measured file is not as it was recorded: its SHA-256 is not the \
manifest's. Such a file is left out of the report, and summary.csv stays as it is, also with --force.")]
pub(super) struct ReportArguments {
    /// A run directory, such as `results/20260714T091503Z-sync-vs-async-3f2a91c`
    dir: PathBuf,
    /// Print the path of the report only
    #[arg(short, long)]
    quiet: bool,
    /// Use files that are not as they were recorded, too
    #[arg(long)]
    force: bool,
}

pub(super) fn report(arguments: &ReportArguments) -> Result<Exit, Stop> {
    let drawn = draw(&arguments.dir, OnMismatch::forced(arguments.force))?;
    if !arguments.quiet || drawn.is_altered {
        for warning in &drawn.warnings {
            warn(warning);
        }
    }
    if !arguments.quiet {
        print(&drawn.text)?;
    }
    print(&format!("{}\n", drawn.html.display()))?;
    if drawn.is_altered && !arguments.force {
        return Ok(Exit::Results);
    }
    Ok(match drawn.gates {
        Gates::None => Exit::Fine,
        gates => verdict(drawn.status, gates),
    })
}

/// The combined result of a run's gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gates {
    None,
    Passed,
    Failed,
}

impl Gates {
    /// A failed audit counts as a failed gate.
    fn of(lines: &[GateLine], audit: &[AuditLine]) -> Self {
        let is_broken = audit.iter().any(|line| line.result == AuditResult::Fail);
        if is_broken || lines.iter().any(|line| !line.passed) {
            Self::Failed
        } else if lines.is_empty() {
            Self::None
        } else {
            Self::Passed
        }
    }
}

/// The exit code for a run whose directory is readable. Gates count only if the run is complete and valid.
pub(super) fn verdict(status: RunStatus, gates: Gates) -> Exit {
    match (status, gates) {
        (RunStatus::Complete, Gates::Failed) => Exit::Regression,
        (RunStatus::Complete, _) => Exit::Fine,
        (RunStatus::Invalid, _) => Exit::Invalid,
        (RunStatus::Running | RunStatus::Interrupted | RunStatus::Failed, _) => Exit::Incomplete,
    }
}

/// A run's written report, and the text of it for the terminal.
pub(super) struct Drawn {
    pub(super) html: PathBuf,
    /// The cautions, the headline, the table of modes and the gates.
    pub(super) text: String,
    /// The cautions alone.
    pub(super) cautions: String,
    pub(super) gates: Gates,
    status: RunStatus,
    /// Whether a measured file differs from its recorded checksum.
    is_altered: bool,
    warnings: Vec<String>,
}

/// Rebuilds summary, charts and page of a run directory.
pub(super) fn draw(directory: &Path, on_mismatch: OnMismatch) -> Result<Drawn, Stop> {
    let run = Run::open_with(directory, on_mismatch).or_exit(Exit::Results)?;
    let analysis = Analysis::of(&run);
    let outputs = write_run(&run, &analysis).or_exit(Exit::Results)?;
    let cautions = cautions_of(&analysis);
    Ok(Drawn {
        html: outputs.html,
        text: format!("{cautions}{}", findings_of(&analysis)),
        cautions,
        gates: Gates::of(&analysis.gates, &analysis.audit),
        status: run.manifest.status,
        is_altered: run.is_altered(),
        warnings: run.warnings,
    })
}

/// The cautions, which the reader should know before anything else about a run; often empty.
pub(super) fn cautions_of(analysis: &Analysis) -> String {
    paragraphs(analysis.cautions.iter().map(|it| it.text.as_str()))
}

/// The headline, the table of modes and the gates.
pub(super) fn findings_of(analysis: &Analysis) -> String {
    let mut text = paragraphs(analysis.headline.iter().map(String::as_str));
    text.push_str(&text_table(&analysis.modes, WIDTH));
    if !analysis.audit.is_empty() {
        let lines = audit_text(analysis, WIDTH);
        let _ = write!(text, "\n{lines}");
    }
    if !analysis.gates.is_empty() {
        let lines = gate_text(&analysis.gates, WIDTH);
        let _ = write!(text, "\n{lines}");
    }
    text
}

/// Each sentence folded to the width, followed by an empty line.
fn paragraphs<'a>(sentences: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for sentence in sentences {
        for line in fold(&escape_control(sentence), WIDTH) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    text
}
