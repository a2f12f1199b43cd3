//! Measures two runs in turns, so that changes of the host meanwhile affect both alike. Owns the order of turns and what one side's
//! failure means for the other; the conductor knows what a turn does.

use super::conductor::{Conductor, Cut, Origin};
use super::{Caller, Finished, Interrupt, Observer, Options, Progress, RunError, opening};
use crate::clock;
use crate::cluster::Binaries;
use crate::plan::{Plan, Side, Sides, turns};
use crate::record::{Session, WriteError};

/// The plan of one side of a session, and the options to run it with.
#[derive(Debug, Clone, Copy)]
pub struct SideRun<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options,
    /// What this side was given besides the common profile, for the side's manifest.
    pub items: &'a [String],
}

/// Runs two plans in turns into two run directories. A turn is one block of one side, and has servers of its own. Servers that lived for
/// the whole session would keep their place on the disk and in memory, and no repetition could tell the effect of that place from the
/// effect of the side.
///
/// The plans must be comparable ([`Sides::comparable`]). An error means that nothing was measured; later errors are in [`Finished`].
pub async fn session(
    sides: Sides<SideRun<'_>>,
    observer: &mut dyn Observer,
    interrupt: Interrupt,
) -> Result<Sides<Finished>, RunError> {
    let mut caller = Caller {
        observer,
        interrupt,
    };
    let mut conductors = open(sides)?;
    for side in Side::BOTH {
        caller.tell(Progress::Recording {
            directory: conductors.get(side).directory(),
        });
    }
    let outcome = conduct(&sides, &mut conductors, &mut caller).await;
    caller.tell(Progress::Stopping);
    let mut cuts = Sides::<Cut>::default();
    if let Err((side, error)) = outcome {
        cut(&mut cuts, side, error);
    }
    for side in Side::BOTH {
        if let Err(error) = conductors.get_mut(side).stop().await {
            cut(&mut cuts, side, error);
        }
    }
    Ok(conductors.map(|side, conductor| {
        let cut = std::mem::take(cuts.get_mut(side));
        conductor.close(&caller, cut)
    }))
}

/// Makes both run directories, each of which names the other; or neither.
fn open(sides: Sides<SideRun<'_>>) -> Result<Sides<Conductor<'_>>, RunError> {
    let binaries = sides.try_map(|_, side| Binaries::find(side.options.pg_bindir.as_deref()))?;
    // Both names get the same time, which keeps the two together wherever they are sorted.
    let at = clock::wall();
    let conductor = |side: Side| {
        let SideRun { plan, options, .. } = *sides.get(side);
        let manifest = opening::manifest(at, plan, options, Some(side));
        let origin = Origin::Made(binaries.get(side).clone());
        Conductor::open(plan, options, origin, manifest)
    };
    let base = conductor(Side::Base)?;
    let head = match conductor(Side::Head) {
        Ok(head) => head,
        Err(error) => {
            base.discard();
            return Err(error.into());
        }
    };
    let mut conductors = Sides { base, head };
    match record_session(&mut conductors, &sides) {
        Ok(()) => Ok(conductors),
        Err(error) => {
            conductors.map(|_, conductor| conductor.discard());
            Err(error.into())
        }
    }
}

/// Writes the session into each side's manifest.
fn record_session(
    conductors: &mut Sides<Conductor<'_>>,
    sides: &Sides<SideRun<'_>>,
) -> Result<(), WriteError> {
    let run_ids = conductors
        .as_ref()
        .map(|_, conductor| conductor.run_id().to_owned());
    // The run id of the base side, which is as unique as a directory's name.
    let id = run_ids.base.clone();
    for side in Side::BOTH {
        let session = Session {
            id: id.clone(),
            side,
            other: run_ids.get(side.other()).clone(),
            items: sides.get(side).items.to_vec(),
        };
        conductors
            .get_mut(side)
            .amend(|manifest| manifest.session = Some(session))?;
    }
    Ok(())
}

/// Measures the disk and runs all turns. An error comes with the side on which it happened.
async fn conduct(
    sides: &Sides<SideRun<'_>>,
    conductors: &mut Sides<Conductor<'_>>,
    caller: &mut Caller<'_>,
) -> Result<(), (Side, RunError)> {
    for side in Side::BOTH {
        let measured = conductors.get_mut(side).measure_disk().await;
        measured.map_err(|error| (side, error))?;
    }
    let plan = sides.base.plan;
    for turn in turns(plan.repeats, plan.seed) {
        if caller.wants_the_end() {
            break;
        }
        caller.tell(Progress::Turn(turn));
        let done = conductors.get_mut(turn.side).run_block(turn.block, caller);
        done.await.map_err(|error| (turn.side, error))?;
    }
    Ok(())
}

/// Notes the error that one side ends with, and what the other side is told. Only the first error counts, because later ones follow from
/// it.
fn cut(cuts: &mut Sides<Cut>, side: Side, error: RunError) {
    if matches!(cuts.get(side.other()), Cut::Not) {
        *cuts.get_mut(side.other()) = Cut::Other(format!(
            "the session ended before its time, because {side} failed: {error}"
        ));
    }
    if !matches!(cuts.get(side), Cut::Error(_)) {
        *cuts.get_mut(side) = Cut::Error(error);
    }
}
