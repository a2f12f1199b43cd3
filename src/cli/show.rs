//! `replbench show` and `replbench rm`: shows a run on the terminal, or removes runs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use itertools::Itertools as _;

use super::library::{directories, run_of};
use super::list::reindex;
use super::report::{cautions_of, findings_of};
use super::{Exit, OrExit as _, Stop, print, warn};
use crate::analyse::{Analysis, status_text};
use crate::record::{Manifest, OnMismatch, Run, RunStatus, RunSummary, files, is_run, runs_named};
use crate::report::escape_control;

/// Show a run: what it was, what it found
#[derive(Debug, Args)]
#[command(after_help = "\
Every file is compared with its SHA-256 in the manifest. One that is not as it was recorded is told of and left out.

Exit codes: 0 fine, 2 usage, 6 the run cannot be read, or a file of it is not as it was recorded (without --force).")]
pub(super) struct ShowArgs {
    /// A run directory, a run id or the beginning of one, or a git revision
    run: String,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// Use files that are not as they were recorded, too
    #[arg(long)]
    force: bool,
}

pub(super) fn show(arguments: &ShowArgs) -> Result<Exit, Stop> {
    let on_mismatch = OnMismatch::forced(arguments.force);
    let directory = run_of(&arguments.run, &arguments.results, on_mismatch)?.dir;
    let run = Run::open_with(&directory, on_mismatch).or_exit(Exit::Results)?;
    for warning in &run.warnings {
        warn(warning);
    }
    let analysis = Analysis::of(&run);
    print(&format!(
        "{}{}\n{}",
        cautions_of(&analysis),
        facts(&run, &directory),
        findings_of(&analysis)
    ))?;
    Ok(if run.altered.is_empty() || arguments.force {
        Exit::Fine
    } else {
        Exit::Results
    })
}

fn facts(run: &Run, directory: &Path) -> String {
    let manifest = &run.manifest;
    let mut out = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<12}{}", escape_control(value));
        }
    };
    fact("run", &manifest.run_id);
    fact("status", &status_text(manifest, &run.cells));
    for reason in manifest.invalid_reasons.iter().chain(&manifest.warnings) {
        fact("", reason);
    }
    fact(
        "profile",
        manifest.plan.profile.as_deref().unwrap_or_default(),
    );
    fact("started", &manifest.started_at);
    fact("ended", manifest.ended_at.as_deref().unwrap_or_default());
    fact(
        "commit",
        manifest.subject.git.as_deref().unwrap_or_default(),
    );
    for (key, value) in &manifest.subject.tags {
        fact("tag", &format!("{key}={value}"));
    }
    if let Some(session) = &manifest.session {
        fact(
            "session",
            &format!("{}, against {}", session.id, session.other),
        );
    }
    let versions = manifest.nodes.iter().map(|node| &node.version);
    fact("PostgreSQL", &versions.dedup().join(", "));
    let host = &manifest.host;
    fact(
        "host",
        &format!(
            "{} ({}, {} cores, {})",
            host.host_id, host.cpu, host.cores, host.filesystem
        ),
    );
    let disk = host.fdatasync.map_or_else(String::new, |it| it.to_string());
    fact("fdatasync", &disk);
    fact(
        "workload",
        manifest.workload_hash.get(..16).unwrap_or_default(),
    );
    fact("checksums", &checksums(manifest));
    fact("directory", &directory.to_string_lossy());
    out
}

/// Says which checksums of the run's files the manifest has.
fn checksums(manifest: &Manifest) -> String {
    match manifest.files.len() {
        0 => "none: they are made when a run ends".into(),
        _ if !manifest.files.contains_key(files::SUMMARY) => {
            "of the measured files; `replbench report` makes one of summary.csv".into()
        }
        count => format!("of {count} files"),
    }
}

/// Remove runs and everything that was measured in them
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Run directories or whole run ids
    #[arg(required = true)]
    runs: Vec<String>,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// Remove a run that has not ended, or says so
    #[arg(long)]
    force: bool,
}

/// Removes all named runs, or none of them if one cannot be removed.
pub(super) fn rm(arguments: &RmArgs) -> Result<Exit, Stop> {
    let known = directories(&arguments.results)?;
    let mut doomed = arguments
        .runs
        .iter()
        .map(|word| removable(word, &known, arguments))
        .collect::<Result<Vec<_>, _>>()?;
    // A run that was named twice is removed once.
    let mut seen = BTreeSet::new();
    doomed.retain(|directory| {
        seen.insert(fs::canonicalize(directory).unwrap_or_else(|_| directory.clone()))
    });
    for directory in &doomed {
        fs::remove_dir_all(directory)
            .with_context(|| format!("remove `{}`", directory.display()))
            .or_exit(Exit::Results)?;
        print(&format!("removed {}\n", directory.display()))?;
    }
    reindex(&arguments.results)?;
    Ok(Exit::Fine)
}

/// The directory of a run to remove. Refuses words that are not a whole run id or a run directory, and runs that have not ended.
fn removable(word: &str, known: &[PathBuf], arguments: &RmArgs) -> Result<PathBuf, Stop> {
    // Removes a trailing `/` or `/.`, with which a symbolic link would be followed.
    let path: PathBuf = Path::new(word).components().collect();
    let directory = if is_run(&path) {
        path
    } else {
        let whole = |directory: &PathBuf| directory.file_name().is_some_and(|name| name == word);
        let mut found = runs_named(known, word).into_iter().filter(whole);
        found.next().ok_or_else(|| {
            Stop::usage(anyhow!(
                "no run `{}` in `{}`; rm takes whole run ids or directories, see `replbench list --runs`",
                escape_control(word),
                arguments.results.display()
            ))
        })?
    };
    let is_link = fs::symlink_metadata(&directory).is_ok_and(|found| found.is_symlink());
    if is_link {
        return Err(Stop::usage(anyhow!(
            "`{}` is a link; remove it yourself",
            directory.display()
        )));
    }
    let run_summary =
        RunSummary::open(&directory, OnMismatch::Use, |_, _| false).or_exit(Exit::Results)?;
    if run_summary.manifest.status == RunStatus::Running && !arguments.force {
        return Err(Stop::usage(anyhow!(
            "run `{}` has not ended, or was killed; --force removes it all the same",
            escape_control(&run_summary.manifest.run_id)
        )));
    }
    Ok(directory)
}
