//! `replbench list`: shows the built-in profiles and the question that each answers, or the recorded runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use itertools::Itertools as _;

use super::library::directories;
use super::{Exit, Stop, WIDTH, print, warn};
use crate::analyse::{IndexLine, run_summary};
use crate::mode::ModeSpec;
use crate::plan::{self, Overrides, about, fold};
use crate::profile::Profile;
use crate::record::OnMismatch;
use crate::report::{escape_control, write_index};

/// List the built-in profiles, or the runs
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// List runs instead, oldest first, and renew `index.jsonl`
    #[arg(long)]
    runs: bool,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn list(arguments: &ListArgs) -> Result<Exit, Stop> {
    if arguments.runs {
        let (lines, warnings) = read_lines(&arguments.results)?;
        for warning in &warnings {
            warn(warning);
        }
        write(&arguments.results, &lines);
        print(&match arguments.format {
            Format::Text => runs_text(&lines, &arguments.results),
            Format::Json => format!("{:#}\n", serde_json::json!(lines)),
        })?;
        return Ok(Exit::Fine);
    }
    let profiles = Profile::built_in_names()
        .map(estimated)
        .collect::<Result<Vec<_>, _>>()?;
    print(&match arguments.format {
        Format::Text => text(&profiles),
        Format::Json => json(&profiles),
    })?;
    Ok(Exit::Fine)
}

/// A built-in profile, and the estimated duration of its run without overrides.
fn estimated(name: &str) -> Result<(Profile, Duration), Stop> {
    let profile = Profile::load(name)?;
    let plan = plan::resolve(&profile, &Overrides::default())?;
    Ok((profile, plan.estimate()))
}

fn text(profiles: &[(Profile, Duration)]) -> String {
    const NAME: usize = 18;
    const TEXT: usize = WIDTH - NAME;
    let mut out = String::new();
    for (profile, estimate) in profiles {
        let mut name = profile.name.as_str();
        let modes = format!("modes: {}; {}", modes(profile).join(", "), about(*estimate));
        for line in fold(profile.question(), TEXT)
            .iter()
            .chain(&fold(&modes, TEXT))
        {
            let _ = writeln!(out, "{name:NAME$}{line}");
            name = "";
        }
    }
    out + "\nreplbench check NAME shows one in full; replbench run NAME runs it.\n"
}

fn json(profiles: &[(Profile, Duration)]) -> String {
    let entry = |(profile, estimate): &(Profile, Duration)| {
        serde_json::json!({
            "name": profile.name,
            "question": profile.question(),
            "description": profile.description,
            "modes": modes(profile),
            "estimated_s": estimate.as_secs(),
        })
    };
    let entries: serde_json::Value = profiles.iter().map(entry).collect();
    format!("{entries:#}\n")
}

fn modes(profile: &Profile) -> Vec<&str> {
    profile.modes.iter().map(ModeSpec::name).collect()
}

/// The widest column, in characters: a damaged manifest may contain a name of any length, but a width is limited.
const MOST_WIDTH: usize = 80;

/// Rewrites `index.jsonl` in `results`.
pub(super) fn reindex(results: &Path) -> Result<(), Stop> {
    let (lines, _) = read_lines(results)?;
    write(results, &lines);
    Ok(())
}

/// The index lines of all readable runs in `results`, and warnings about runs.
fn read_lines(results: &Path) -> Result<(Vec<IndexLine>, Vec<String>), Stop> {
    let mut lines = Vec::new();
    let mut warnings = Vec::new();
    for directory in directories(results)? {
        let relative = directory.strip_prefix(results).unwrap_or(&directory);
        match run_summary(&directory, OnMismatch::LeaveOut) {
            Ok(run_summary) => {
                let run = &run_summary.manifest.run_id;
                warnings.extend(run_summary.warnings.iter().map(|it| format!("{run}: {it}")));
                lines.push(IndexLine::of(
                    &run_summary,
                    relative.to_string_lossy().into_owned(),
                ));
            }
            Err(error) => warnings.push(format!("{:#}", anyhow::Error::new(error))),
        }
    }
    Ok((lines, warnings))
}

/// Writes the index; a failure is only a warning, because the index can be made again at any time.
fn write(results: &Path, lines: &[IndexLine]) {
    if results.is_dir()
        && let Err(error) = write_index(results, lines)
    {
        warn(&format!("{:#}", anyhow::Error::new(error)));
    }
}

fn runs_text(lines: &[IndexLine], results: &Path) -> String {
    if lines.is_empty() {
        return format!(
            "no runs in `{}`; replbench run PROFILE makes one\n",
            results.display()
        );
    }
    let id = |line: &IndexLine| escape_control(&line.run_id).into_owned();
    let widths = lines.iter().map(|line| id(line).chars().count());
    let width = widths.max().unwrap_or(0).min(MOST_WIDTH);
    let mut out = String::new();
    for line in lines {
        let valid: usize = line.modes.iter().map(|mode| mode.valid).sum();
        let mut modes = line.modes.iter().map(|mode| escape_control(&mode.mode));
        let _ = writeln!(
            out,
            "{:width$}  {:11} {valid:>3} cells: {}",
            id(line),
            line.status.as_str(),
            modes.join(", ")
        );
    }
    out
}
