//! Profiles: what a person asks to be measured, from TOML to validated values.
//! Owns the file format and its errors; knows nothing of command-line overrides, the order of cells, or servers.

mod builtin;
mod diagnostics;
mod entry;
mod error;
mod fault;
mod gate;
mod generator;
mod mix;
mod settings;
mod sql;
mod tables;
mod transactions;
mod validate;
mod wire;
mod workload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mode::{Mode, ModeSpec};
use crate::topology::Role;

use builtin::BUILT_IN;
use error::{Mistake, suggestion};

pub use error::{Mistakes, ProfileError, visible};
pub use fault::{Fault, FaultKind, Impossible, Slowness, UnknownFault, impossible};
pub use gate::{Gate, Limit};
pub use settings::{SettingError, setting};
pub use workload::{
    Arrivals, Change, Client, Constant, Generator, KeyChoice, Length, Origin, Pace, Parameter,
    Phases, Priority, Statement, Table, Transaction, VisibilityMethod,
};

/// A validated profile. Only [`Profile::load`] and [`Profile::parse`] make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The profile's name: letters, digits, `-` and `_` only, because it becomes part of a directory's name.
    pub name: String,
    /// What the profile measures and why: one paragraph, with runs of whitespace folded into single spaces.
    pub description: String,
    /// The seed of arrivals, rows and the order of cells; `None` if a new seed is drawn for every run.
    pub seed: Option<u64>,
    /// The replication modes to compare: at least one, with distinct names. The first is the baseline.
    pub modes: Vec<ModeSpec>,
    pub standbys: u8,
    /// The number of subscribers; `None` for as many as there are standbys.
    pub subscribers: Option<u8>,
    pub load: Load,
    pub phases: Phases,
    pub repeats: u32,
    pub probes: Probes,
    pub expect: Expect,
    /// The tables of the workload: at most one of each kind, and every table that the transactions need.
    pub tables: Vec<Table>,
    /// The transactions of the workload: at least one, with distinct names, each with a weight above 0.
    pub transactions: Vec<Transaction>,
    /// Settings of every server, in addition to those that replbench sets itself.
    pub settings: BTreeMap<String, String>,
    /// Additional settings of single nodes, by the node's name.
    pub node_settings: BTreeMap<String, BTreeMap<String, String>>,
    /// Limits on figures of the run; gates that have a name have distinct names.
    pub gates: Vec<Gate>,
    /// The faults of every cell. Faults of the same node do not overlap.
    pub faults: Vec<Fault>,
}

/// The load that is offered, and the client, connections and threads that send it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub pace: Pace,
    pub arrivals: Arrivals,
    pub client: Client,
    pub priority: Priority,
    pub connections: u16,
    pub threads: u16,
    pub max_in_flight: u32,
    pub transaction_deadline: Duration,
}

impl Load {
    /// The number of connections that a profile may ask for.
    pub const CONNECTIONS: RangeInclusive<u64> = 1..=1000;
    pub const THREADS: RangeInclusive<u64> = 1..=64;
}

/// What a cell may show and still be valid. These limits judge a run; they do not change what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// The largest share of arrivals, from 0 to 1, that may fail: be refused, never answered, or get no connection.
    pub failures: f64,
    /// Whether the servers may be unable to keep up with an open loop.
    pub overload: bool,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            // A percentile over 99 % of the arrivals still describes nearly all of them, and an occasional deadlock is no reason to
            // discard a cell.
            failures: 0.01,
            overload: false,
        }
    }
}

/// How visibility is probed, and how often the probes query the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probes {
    pub visibility: VisibilityMethod,
    pub tick: Duration,
    pub lag_interval: Duration,
}

impl Profile {
    /// The number of repetitions that a profile may ask for.
    pub const REPEATS: RangeInclusive<u64> = 1..=1000;
    /// The largest profile file, in bytes.
    pub const MOST_BYTES: u64 = 1 << 20;

    /// The names of the built-in profiles.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Loads a built-in profile by its name, or a file by its path. Text with a `/` or ending in `.toml` is a path.
    pub fn load(name_or_path: &str) -> Result<Self, ProfileError> {
        let path = Path::new(name_or_path);
        if name_or_path.contains('/') || path.extension().is_some_and(|it| it == "toml") {
            return Self::read(path);
        }
        match BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            Some((name, text)) => Self::parse(&format!("workloads/{name}.toml"), text),
            None => Err(ProfileError::Unknown {
                name: name_or_path.into(),
                nearest: most_like(name_or_path),
            }),
        }
    }

    /// Reads the text of a profile. `origin` is the path that errors name; its stem is the default name.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ProfileError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let wrong = |found| ProfileError::Wrong(Box::new(Mistakes::new(origin, text, found)));
        let wire = toml::from_str(text).map_err(|error| wrong(vec![toml_mistake(&error)]))?;
        let read = entry::Text { origin, text };
        validate::profile(&wire, read, &name_from(origin)).map_err(wrong)
    }

    fn read(path: &Path) -> Result<Self, ProfileError> {
        let read = |source| ProfileError::Read {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let mut bytes = Vec::new();
        // The limit is on the bytes read, not on the file's length, because a pipe or a device has no length.
        file.take(Self::MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        if bytes.len() as u64 > Self::MOST_BYTES {
            return Err(ProfileError::TooLarge {
                path: path.into(),
                limit: Self::MOST_BYTES,
            });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let (line, column) = place(&String::from_utf8_lossy(valid));
            ProfileError::NotUtf8 {
                path: path.into(),
                line,
                column,
            }
        })?;
        Self::parse(&path.to_string_lossy(), &text)
    }

    /// The question that the profile answers: the first sentence of its description.
    pub fn question(&self) -> &str {
        match self.description.find(['?', '.']) {
            Some(end) => &self.description[..=end],
            None => &self.description,
        }
    }
}

/// Why a subscriber of this mode cannot show that the transaction committed; `None` if it can.
pub fn unseen_commit(mode: &Mode, transaction: &Transaction, tables: &[Table]) -> Option<String> {
    let table = tables.get(transaction.table)?;
    let is_unseen = mode.topology.has(Role::Subscriber)
        && transaction.change() == Change::Update
        && table.version.is_none();
    is_unseen.then(|| {
        format!(
            "transaction `{}` updates `{}`, which has no `version`, so a subscriber in mode `{}` cannot show its commit",
            transaction.name, table.name, mode.name
        )
    })
}

/// The remedy for [`unseen_commit`].
pub const UNSEEN_HELP: &str =
    "give the table a column that every update raises, as `version`, or leave out the mode";

/// The name of the first transaction that chooses rows of an empty table.
pub fn without_rows<'a>(tables: &[Table], transactions: &'a [Transaction]) -> Option<&'a str> {
    let is_empty = |index: usize| tables.get(index).is_some_and(|table| table.rows == 0);
    transactions
        .iter()
        .find(|it| it.rows_chosen().any(|(table, _)| is_empty(table)))
        .map(|transaction| transaction.name.as_str())
}

/// The mistake for an error of the TOML parser: bad syntax, an unknown key, or a value where a table belongs.
fn toml_mistake(error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    // serde lists what it knows in backticks: unknown field `a`, expected one of `b`, `c`.
    let (title, help) = match message.strip_prefix("unknown field ") {
        Some(rest) => {
            let (key, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
            let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
            let help = suggestion(key.trim_matches('`'), &known, "keys here");
            (format!("unknown key {key}"), Some(help))
        }
        None if message.contains("recurs") => ("this is nested too deeply".into(), None),
        None if message.contains("private_datetime") => {
            ("no key of a profile takes a date or time".into(), None)
        }
        None => (message.to_owned(), None),
    };
    Mistake { span, title, help }
}

/// The profile name made from a file's stem: characters that do not belong in a directory's name are replaced by `-`.
fn name_from(origin: &str) -> String {
    let stem = Path::new(origin).file_stem().unwrap_or_default();
    let is_unfit = |it: char| !it.is_ascii_alphanumeric() && it != '_';
    let mut name = stem.to_string_lossy().replace(is_unfit, "-");
    name.truncate(63);
    let name = name.trim_start_matches('-');
    if name.is_empty() { "profile" } else { name }.into()
}

/// The three built-in profiles most like a name.
fn most_like(name: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = Profile::built_in_names().collect();
    names.sort_by(|a, b| strsim::jaro_winkler(name, b).total_cmp(&strsim::jaro_winkler(name, a)));
    names.truncate(3);
    names
}

/// Line and column of the end of a text, both counted from 1.
fn place(before: &str) -> (usize, usize) {
    let last = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, last.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asserts that any text gives either a profile or an error that can be shown.
    fn survives(text: &str) {
        if let Err(error) = Profile::parse("p.toml", text) {
            assert!(error.to_string().starts_with("error: "), "{error}");
            assert!(!error.styled().is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,200}") {
            survives(&text);
        }

        #[test]
        fn no_damage_to_a_good_profile_is_too_strange(
            which in 0..BUILT_IN.len(), at: prop::sample::Index, length in 0_usize..20, noise in "(\\PC|\n|\r|\"){0,5}",
        ) {
            let mut characters: Vec<char> = BUILT_IN[which].1.chars().collect();
            let start = at.index(characters.len());
            let end = (start + length).min(characters.len());
            characters.splice(start..end, noise.chars());
            survives(&characters.into_iter().collect::<String>());
        }

        #[test]
        fn no_value_is_too_strange(key in "rate|rows|weight|name|modes|seed|keys|tick|metric|max|standby", value in ".{0,20}") {
            for section in [
                "", "[load]", "[[table]]", "[[transaction]]", "[probes]", "[[gate]]",
                "[[gate]]\nmetric = \"unseen\"", "[[gate]]\nmetric = \"replay_lag_bytes.max\"",
            ] {
                survives(&format!("{section}\n{key} = {value}\n"));
                survives(&format!("{section}\n{key} = \"{value}\"\n"));
            }
        }
    }

    #[test]
    fn a_profile_without_a_name_takes_its_file_s() {
        let parse = |origin| {
            Profile::parse(origin, "[[transaction]]\nkind = \"order\"")
                .unwrap()
                .name
        };
        assert_eq!(parse("/tmp/my load.toml"), "my-load");
        assert_eq!(parse("./-x.toml"), "x");
        assert_eq!(parse("/"), "profile");
        assert_eq!(parse("../../é.toml"), "profile");
    }

    #[test]
    fn everything_left_out_has_a_default() {
        let profile = Profile::parse("p.toml", "[[transaction]]\nkind = \"order\"").unwrap();
        assert_eq!(profile.modes[0].name(), "async");
        assert_eq!((profile.load.connections, profile.load.threads), (16, 1));
        let tables: Vec<_> = profile
            .tables
            .iter()
            .map(|table| (table.name.as_str(), table.rows))
            .collect();
        assert_eq!(tables, [("Product", 10_000), ("orders", 0)]);
    }
}
