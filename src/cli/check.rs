//! `replbench check`: reads a profile and says what it would run, or what is wrong with it.

use clap::Args;

use super::overrides::OverrideArgs;
use super::{Exit, Stop, print};
use crate::plan;
use crate::profile::Profile;

/// Check a profile without running it
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A built-in profile (see `replbench list`) or the path of a file
    profile: String,

    #[command(flatten)]
    overrides: OverrideArgs,
}

pub(super) fn check(arguments: &CheckArgs) -> Result<Exit, Stop> {
    let profile = Profile::load(&arguments.profile)?;
    let plan = plan::resolve(&profile, &arguments.overrides.to_overrides())?;
    print(&format!("ok\n{}", plan.describe()))?;
    Ok(Exit::Fine)
}
