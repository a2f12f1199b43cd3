//! `replbench bless`: accepts a change of level as intended.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::compare::parse_metric;
use super::{Exit, OrExit as _, Stop, git, print};
use crate::analyse::{BLESSED, Blessing, read_blessings};
use crate::clock;
use crate::report::escape_control;

/// Accept the changes that came with a commit
#[derive(Debug, Args)]
#[command(after_help = "\
Adds a line to `blessed.jsonl` in the directory of results, which may be committed and edited. `replbench trend` no longer \
counts a change as a regression when its first run is of that commit, or when the commit lies between that run and \
the one before it. Bless the commit that `replbench trend` names: one that you know to be the cause may lie beside it.

Figures: achieved_tps, service, response, visibility, replay_lag_bytes, or one of them such as response.p99.

Exit codes: 0 fine, 2 no such commit, 6 the file cannot be written.")]
pub(super) struct BlessArgs {
    /// A commit of the benchmarked repository, in any form that git knows
    commit: String,

    /// For this figure or kind only, such as `response.p99` or `visibility`
    #[arg(long, value_parser = |text: &str| parse_metric(text).map(|_| text.to_owned()))]
    metric: Option<String>,

    /// For this mode only
    #[arg(long)]
    mode: Option<String>,

    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// The repository of what was benchmarked
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

pub(super) fn bless(arguments: &BlessArgs) -> Result<Exit, Stop> {
    let commit = git::commit_of(&arguments.repo, &arguments.commit).ok_or_else(|| {
        Stop::usage(anyhow!(
            "`{}` is no commit of the repository of `{}`; name the benchmarked one with --repo",
            escape_control(&arguments.commit),
            arguments.repo.display()
        ))
    })?;
    let blessing = Blessing {
        commit,
        metric: arguments.metric.clone(),
        mode: arguments.mode.clone(),
        reason: arguments.reason.clone(),
        at: format!("{:.0}", clock::wall()),
    };
    let path = arguments.results.join(BLESSED);
    let known = is_known(&blessing, &arguments.results)
        .and_then(|known| {
            if !known {
                append(&path, &blessing)?;
            }
            Ok(known)
        })
        .with_context(|| {
            format!(
                "add a line to `{}`, a file of its own in the directory that --results names",
                path.display()
            )
        })
        .or_exit(Exit::Results)?;
    let scope = [&blessing.metric, &blessing.mode].map(|part| {
        let part = part.as_deref();
        part.map_or_else(String::new, |part| format!(", {}", escape_control(part)))
    });
    print(&format!(
        "{} {}{}\n",
        if known { "already blessed" } else { "blessed" },
        blessing.commit,
        scope.concat()
    ))?;
    Ok(Exit::Fine)
}

/// Whether the same blessing is already in the file, whatever its time. A blessing with another reason is a different one.
fn is_known(blessing: &Blessing, results: &Path) -> anyhow::Result<bool> {
    let (known, _) = read_blessings(results)?;
    let at = &blessing.at;
    let mut known = known.into_iter().map(|it| Blessing {
        at: at.clone(),
        ..it
    });
    Ok(known.any(|it| it == *blessing))
}

/// Appends a line in a single write, and first ends the last line if its line end is missing. Refuses a symbolic link.
fn append(path: &Path, blessing: &Blessing) -> anyhow::Result<()> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .custom_flags(no_link)
        .open(path)?;
    let mut line = serde_json::to_string(blessing).expect("plain data becomes JSON");
    line.push('\n');
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    file.write_all(line.as_bytes())?;
    Ok(())
}
