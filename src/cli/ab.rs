//! `replbench ab` and `replbench aa`: measure two configurations, or one configuration twice, in turns in one session.

mod item;
mod worktree;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::compare::{TermArgs, judge_gates};
use super::library;
use super::overrides::OverrideArgs;
use super::place::PlaceArgs;
use super::progress::{Terminal, Verbosity};
use super::run::StoredRun;
use super::signals::interruptible;
use super::{Exit, OrExit as _, Stop, WIDTH, escape_lines, print, tell};
use crate::analyse::{Comparison, Row, compare_runs};
use crate::cluster::Binaries;
use crate::plan::{self, Overrides, Plan, Side, Sides};
use crate::profile::{Profile, visible};
use crate::record::files;
use crate::report::{comparison_text, noise_text, write_comparison};
use crate::run::{self, Finished, Interrupt, Options, SideRun};
use item::SideItems;
use worktree::Worktree;

pub(super) use worktree::WORKTREE;

/// Measure two configurations in turns, in one session, and compare them
#[derive(Debug, Args)]
#[command(after_help = "\
An ITEM is one of
  profile=NAME|PATH   another profile; a word without `=` is one too
  mode=MODE           a mode, such as sync; several may be given
  bindir=DIR          other PostgreSQL programs
  client=CLIENT       what sends the transactions: wire or pool
  git=REV             a revision of this repository, built with --build;
                      relative bindir= and profile= are taken from it
  NAME=VALUE          a server setting, such as wal_compression=on
A side without an item is the plain profile. Give --base and --head once for each item.

Each block measures both sides, on servers made for it, in the order ABBA or BAAB. Each side is a run directory of its own. \
Ctrl-C ends the session early and keeps what was measured on both.
Exit codes: 0 nothing regressed, 1 regressed or a gate of the head failed, 2 usage or profile, 3 no server or a failed \
build, 4 cut short, 5 invalid, 6 results not written, 7 not comparable, or with --strict inconclusive.")]
pub(super) struct AbArgs {
    /// What both sides run: a built-in profile (see `replbench list`) or the path of a TOML file
    #[arg(default_value = "product-insert")]
    profile: String,

    /// What the old side is given
    #[arg(long, value_name = "ITEM")]
    base: Vec<String>,

    /// What the new side is given
    #[arg(long, value_name = "ITEM")]
    head: Vec<String>,

    /// Command of the shell that builds a `git=` revision, run in the root of its checkout
    #[arg(long, value_name = "CMD")]
    build: Option<String>,

    #[command(flatten)]
    overrides: OverrideArgs,

    #[command(flatten, next_help_heading = "Comparison")]
    terms: TermArgs,

    #[command(flatten)]
    place: PlaceArgs,
}

/// Measure one configuration against itself: how much two runs of the same thing differ here
#[derive(Debug, Args)]
#[command(after_help = "\
Both sides are the same, so every difference is the machine's: the spread from run to run, false alarms, and the smallest \
effect that can be seen here.
Exit codes: 0 nothing found, 1 a false alarm or a failed gate, 2 usage or profile, 3 no server, 4 cut short, 5 invalid, \
6 results not written, 7 with --strict inconclusive.")]
pub(super) struct AaArgs {
    /// A built-in profile (see `replbench list`) or the path of a TOML file
    #[arg(default_value = "product-insert")]
    profile: String,

    #[command(flatten)]
    overrides: OverrideArgs,

    #[command(flatten, next_help_heading = "Comparison")]
    terms: TermArgs,

    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn ab(arguments: &AbArgs) -> Result<Exit, Stop> {
    let items = Sides {
        base: &arguments.base,
        head: &arguments.head,
    };
    let given = items.try_map(|side, items| {
        SideItems::parse(items)
            .map_err(|error| Stop::usage(anyhow!("--{side}: {}", visible(&error.to_string()))))
    })?;
    let has_revision = given.base.git.is_some() || given.head.git.is_some();
    let problem = if given.base.items.is_empty() && given.head.items.is_empty() {
        "both sides would be the same; name what differs, such as `--head wal_compression=on`, or use `replbench aa`"
    } else if given.base.items == given.head.items {
        "both sides are given the same; give them what differs, or use `replbench aa`"
    } else if has_revision && arguments.build.is_none() {
        "a `git=` revision has to be built; say how with --build, or `--build true` if there is nothing to build"
    } else if !has_revision && arguments.build.is_some() {
        "--build is for a side with `git=REV`, and none has it; add that, or leave out --build"
    } else {
        let job = Job {
            profile: &arguments.profile,
            given,
            build: arguments.build.as_deref(),
            overrides: arguments.overrides.to_overrides(),
            place: &arguments.place,
            terms: &arguments.terms,
            question: Question::WhatChanged,
        };
        return job.run();
    };
    Err(Stop::usage(anyhow!(problem)))
}

pub(super) fn aa(arguments: &AaArgs) -> Result<Exit, Stop> {
    let job = Job {
        profile: &arguments.profile,
        given: Sides::default(),
        build: None,
        overrides: arguments.overrides.to_overrides(),
        place: &arguments.place,
        terms: &arguments.terms,
        question: Question::WhatIsNoise,
    };
    job.run()
}

/// The parsed arguments of `ab` or `aa`.
struct Job<'a> {
    profile: &'a str,
    given: Sides<SideItems>,
    build: Option<&'a str>,
    overrides: Overrides,
    place: &'a PlaceArgs,
    terms: &'a TermArgs,
    question: Question,
}

/// The question that a session answers.
#[derive(Debug, Clone, Copy)]
enum Question {
    WhatChanged,
    /// How large is the noise? Both sides are the same, so every difference that is found is a false alarm.
    WhatIsNoise,
}

impl Question {
    fn answer(self, comparison: &Comparison) -> String {
        match self {
            Self::WhatChanged => comparison_text(comparison, WIDTH),
            Self::WhatIsNoise => noise_text(comparison, WIDTH),
        }
    }

    fn exit(self, comparison: &Comparison, terms: &TermArgs) -> Exit {
        match self {
            Self::WhatIsNoise if comparison.rows.iter().any(Row::is_told) => Exit::Regression,
            Self::WhatChanged | Self::WhatIsNoise => terms.exit(comparison, true),
        }
    }
}

type Worktrees = Sides<Option<Worktree>>;

impl Job<'_> {
    fn run(&self) -> Result<Exit, Stop> {
        // A build may take half an hour, so everything that can be refused without a build is refused first.
        let early = self.plans_without_worktrees()?;
        if self.place.dry_run {
            let plans = early.ok_or_else(|| {
                Stop::usage(anyhow!(
                    "a profile comes from the worktree of a `git=` revision, which a dry run does not build; leave out --dry-run"
                ))
            })?;
            let items = self.given.as_ref().map(|_, given| given.items.clone());
            print(&plans.describe(&items))?;
            return Ok(Exit::Fine);
        }
        self.find_servers()?;
        let finished = interruptible(async |interrupt| Box::pin(self.measure(interrupt)).await)?;
        conclude(finished, self.terms, self.question)
    }

    fn plans_without_worktrees(&self) -> Result<Option<Sides<Plan>>, Stop> {
        let waits = |side: Side| self.given.get(side).takes_profile_from_worktree();
        if Side::BOTH.into_iter().any(waits) {
            return Ok(None);
        }
        self.plans(&Worktrees::default()).map(Some)
    }

    /// Finds the PostgreSQL of each side whose PostgreSQL does not have to be built first.
    fn find_servers(&self) -> Result<(), Stop> {
        let common = self.place.options().pg_bindir;
        for side in Side::BOTH {
            let given = self.given.get(side);
            if given.git.is_none() {
                let bindir = given.bindir.as_ref().or(common.as_ref());
                Binaries::find(bindir.map(PathBuf::as_path))
                    .with_context(|| side.to_string())
                    .or_exit(Exit::Server)?;
            }
        }
        Ok(())
    }

    /// The plans of both sides; refuses plans that are not comparable.
    fn plans(&self, worktrees: &Worktrees) -> Result<Sides<Plan>, Stop> {
        let base = self.plan(Side::Base, worktrees, self.overrides.seed)?;
        // The head takes the base's seed, because profiles may give different seeds, and different seeds give different arrivals.
        let head = self.plan(Side::Head, worktrees, Some(base.seed))?;
        let mut plans = Sides { base, head };
        plans.align();
        plans.comparable().or_exit(Exit::Usage)?;
        Ok(plans)
    }

    fn plan(&self, side: Side, worktrees: &Worktrees, seed: Option<u64>) -> Result<Plan, Stop> {
        let given = self.given.get(side);
        let root = worktrees.get(side).as_ref().map(Worktree::root);
        let named = given.profile_in(root.as_deref());
        let named = named.as_deref().unwrap_or(self.profile);
        let mut profile = Profile::load(named)?;
        profile.settings.extend(given.settings.clone());
        let mut overrides = self.overrides.clone();
        overrides.seed = seed;
        overrides.client = given.client.or(overrides.client);
        if !given.modes.is_empty() {
            overrides.modes = Some(given.modes.clone());
        }
        plan::resolve(&profile, &overrides)
            .with_context(|| side.to_string())
            .or_exit(Exit::Usage)
    }

    async fn measure(&self, mut interrupt: Interrupt) -> Result<Sides<Finished>, Stop> {
        let worktrees = self.build(&mut interrupt).await?;
        let plans = self.plans(&worktrees)?;
        let common = self.place.options();
        let options = worktrees.as_ref().map(|side, worktree| {
            let root = worktree.as_ref().map(Worktree::root);
            let bindir = self.given.get(side).bindir_in(root.as_deref());
            Options {
                pg_bindir: bindir.or_else(|| common.pg_bindir.clone()),
                subject: worktree.as_ref().map(|tree| tree.commit().to_owned()),
                ..common.clone()
            }
        });
        let contenders = plans.as_ref().map(|side, plan| SideRun {
            plan,
            options: options.get(side),
            items: &self.given.get(side).items,
        });
        let mut terminal = Terminal::new(
            &[&plans.base, &plans.head],
            plans.estimate(),
            self.place.verbosity(),
        );
        terminal.announce();
        let finished = run::session(contenders, &mut terminal, interrupt).await;
        terminal.clear();
        Ok(finished?)
    }

    /// Checks out and builds the revision of each side that has one.
    async fn build(&self, interrupt: &mut Interrupt) -> Result<Worktrees, Stop> {
        let mut worktrees = Worktrees::default();
        for side in Side::BOTH {
            let Some(revision) = &self.given.get(side).git else {
                continue;
            };
            let worktree = Worktree::add(side, revision, interrupt).await?;
            let command = self.build.expect("refused without it");
            if self.place.verbosity() != Verbosity::Quiet {
                let shown = visible(command);
                tell(format!("{side}: `{shown}` at {}", worktree.short()));
            }
            worktree
                .build(command, &self.place.results, interrupt)
                .await?;
            *worktrees.get_mut(side) = Some(worktree);
        }
        Ok(worktrees)
    }
}

/// Writes both reports, gives both run directories their final names, compares the runs, and prints what was found.
fn conclude(finished: Sides<Finished>, terms: &TermArgs, question: Question) -> Result<Exit, Stop> {
    let mut stored = finished.map(|_, finished| StoredRun::from(finished));
    let has_measured = stored.base.has_measured || stored.head.has_measured;
    stored.base.has_measured = has_measured;
    stored.head.has_measured = has_measured;
    // An error of the comparison is handled later: if a side was cut short, that error is more useful.
    let compared = compared(&stored, terms, question);
    print("\n")?;
    for side in Side::BOTH {
        let stored = stored.get(side);
        if stored.directory.exists() {
            print(&format!("{side}:   {}\n", stored.directory.display()))?;
        }
        if let Ok(drawn) = &stored.drawn {
            print(&drawn.cautions)?;
        }
        if stored.has_failed_gate() {
            let report = stored.directory.join(files::REPORT);
            print(&format!(
                "{side}:   a gate failed, see {}\n",
                report.display()
            ))?;
        }
    }
    let ends = stored.try_map(|side, stored| {
        stored.exit().map_err(|stop| Stop {
            error: stop.error.context(side.to_string()),
            ..stop
        })
    })?;
    match unreliable(ends) {
        Some(exit) => Ok(exit),
        // Only the head's gates count: the base is the old state, so a failed gate of the base is not news.
        None if ends.head == Exit::Regression => Ok(Exit::Regression),
        None => compared?
            .context("nothing was measured on both sides")
            .or_exit(Exit::NotComparable),
    }
}

/// Prints the comparison, even of a session that was cut short, and returns its exit code. `None` if there is nothing to compare.
fn compared(
    stored: &Sides<StoredRun>,
    terms: &TermArgs,
    question: Question,
) -> Result<Option<Exit>, Stop> {
    let run_summaries = stored
        .as_ref()
        .try_map(|_, stored| library::open(&stored.directory, terms.on_mismatch()))?;
    if run_summaries.base.cells.is_empty() || run_summaries.head.cells.is_empty() {
        return Ok(None);
    }
    match compare_runs(&run_summaries.base, &run_summaries.head, &terms.terms()) {
        Ok(mut comparison) => {
            judge_gates(&mut comparison, &run_summaries.head, terms.on_mismatch())?;
            print(&question.answer(&comparison))?;
            let directory = stored.head.directory.join(files::COMPARISON);
            let page = write_comparison(&directory, &comparison).or_exit(Exit::Results)?;
            print(&format!("\npage:   {}\n", page.display()))?;
            Ok(Some(question.exit(&comparison, terms)))
        }
        Err(error) => {
            tell(escape_lines(&error.to_string()));
            Ok(Some(Exit::NotComparable))
        }
    }
}

/// The exit code of a side that is incomplete or invalid, which takes precedence over any verdict: a session is as complete as its less
/// complete side.
fn unreliable(ends: Sides<Exit>) -> Option<Exit> {
    [Exit::Incomplete, Exit::Invalid]
        .into_iter()
        .find(|exit| [ends.base, ends.head].contains(exit))
}
