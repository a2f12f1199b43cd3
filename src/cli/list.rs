//! `replbench list`: the built-in profiles and the question that each answers.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::{Exit, Stop, print};
use crate::plan::fold;
use crate::profile::Profile;
use crate::topology::ModeSpec;

/// List the built-in profiles
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn list(arguments: &ListArgs) -> Result<Exit, Stop> {
    let profiles = Profile::built_in_names()
        .map(Profile::load)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Stop::new(Exit::Usage, error))?;
    print(&match arguments.format {
        Format::Text => text(&profiles),
        Format::Json => json(&profiles),
    })?;
    Ok(Exit::Fine)
}

fn text(profiles: &[Profile]) -> String {
    const NAME: usize = 18;
    const TEXT: usize = 80 - NAME;
    let mut out = String::new();
    for profile in profiles {
        let mut name = profile.name.as_str();
        let modes = format!("modes: {}", modes(profile).join(", "));
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

fn json(profiles: &[Profile]) -> String {
    let entries: Vec<_> = profiles
        .iter()
        .map(|profile| {
            serde_json::json!({
                "name": profile.name,
                "question": profile.question(),
                "description": profile.description,
                "modes": modes(profile),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(entries))
}

fn modes(profile: &Profile) -> Vec<&str> {
    profile.modes.iter().map(ModeSpec::name).collect()
}
