//! Turns a profile and the overrides of the command line into a plan, or gives a reason why that is impossible.
//! Owns precedence: an override, else `--quick`, else the profile.

use std::time::Duration;

use super::{
    Arrivals, Client, Fault, Length, LoadPlan, Offered, Pace, Phases, Plan, ProbePlan, ServersMade,
    Table, Transaction, VisibilityMethod, modes, needs, order, own_schema,
};
use crate::mode::{Given, Mode, ModeError, ModeSpec};
use crate::profile::{self, Impossible, Load, Profile};
use crate::topology::WalLevel;
use crate::units::{exact_duration, thousands};

/// What the command line changes about a profile; a field that is `None` leaves the profile's value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub modes: Option<Vec<ModeSpec>>,
    pub rate: Option<Pace>,
    pub arrivals: Option<Arrivals>,
    pub measure: Option<Length>,
    pub warmup: Option<Duration>,
    pub drain: Option<Duration>,
    /// Faults in addition to those of the profile.
    pub faults: Vec<Fault>,
    pub client: Option<Client>,
    pub connections: Option<u16>,
    pub threads: Option<u16>,
    pub repeats: Option<u32>,
    pub seed: Option<u64>,
    /// The seed to use if neither `seed` nor the profile gives one. The caller draws it, so that resolving stays pure.
    pub drawn_seed: u64,
    pub standbys: Option<u8>,
    pub subscribers: Option<u8>,
    /// Multiplies the rows of every table; finite and not negative.
    pub scale: Option<f64>,
    /// Three short repetitions, for a first look.
    pub quick: bool,
    pub visibility: Option<VisibilityMethod>,
    /// Leaves out the visibility probe, to measure the cost of the probe.
    pub no_visibility: bool,
    /// Servers that are given; `None` if replbench makes the servers that the profile asks for.
    pub given: Option<Given>,
}

/// Why a profile and overrides do not give a plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Mode(#[from] ModeError),
    #[error("no mode is left; name at least one with `--modes`")]
    NoModes,
    #[error("mode `{0}` is listed twice; list it once, `--repeats` repeats all of them")]
    DuplicateMode(String),
    #[error(
        "modes `{first}` and `{second}` are the same here ({meaning}); keep one, `--repeats` repeats all of them"
    )]
    SameMode {
        first: String,
        second: String,
        meaning: String,
    },
    #[error("`{option}` is {value}; it must be {least} to {most}")]
    OutOfRange {
        option: &'static str,
        value: String,
        least: String,
        most: String,
    },
    #[error(
        "no mode has the node `{0}`, to which the profile gives settings; leave them out, or run a mode that has it"
    )]
    NoNode(String),
    #[error("{}; {}", .0.reason, .0.remedy)]
    Fault(Impossible),
    #[error("{what} cannot be had on {servers}: {reason}; leave it out, or run without `{option}`")]
    NotThere {
        what: String,
        servers: &'static str,
        option: &'static str,
        reason: String,
    },
    #[error("{}; no mode is left, so name others with `--modes`", .0.join("; "))]
    NoneThere(Vec<String>),
    #[error("{0}; {help}", help = profile::UNSEEN_HELP)]
    Unseen(String),
    #[error(
        "setting `{name} = {value}` is too small: this run needs at least {least}, {what}; raise it or leave it out"
    )]
    SettingTooSmall {
        name: &'static str,
        value: i64,
        least: u16,
        what: String,
    },
    #[error(
        "transaction `{transaction}` chooses rows of a table that has none at this scale; raise `--scale`"
    )]
    NoRows { transaction: String },
}

impl PlanError {
    /// Refuses a value that is outside its bounds.
    pub(super) fn within(
        option: &'static str,
        value: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<(), Self> {
        if bounds.contains(&value) {
            return Ok(());
        }
        Err(Self::OutOfRange {
            option,
            value: thousands(value),
            least: thousands(*bounds.start()),
            most: thousands(*bounds.end()),
        })
    }
}

const QUICK_REPEATS: u32 = 3;
const QUICK_WARMUP: Duration = Duration::from_secs(1);
const QUICK_MEASURE: Duration = Duration::from_secs(3);
const QUICK_AFTER_FAULT: Duration = Duration::from_secs(1);

/// Decides everything about a run before it starts.
pub fn resolve(profile: &Profile, overrides: &Overrides) -> Result<Plan, PlanError> {
    let (modes, left_out) = match &overrides.given {
        Some(given) => modes::on_given(profile, overrides, given)?,
        None => (modes::on_own(profile, overrides)?, Vec::new()),
    };
    let mut tables = tables(profile, overrides)?;
    let mut transactions = profile.transactions.clone();
    refuse_unseen(&modes, profile)?;
    if let Some(name) = profile::without_rows(&tables, &profile.transactions) {
        return Err(PlanError::NoRows {
            transaction: name.to_owned(),
        });
    }
    let load = load(profile, overrides)?;
    let faults = [profile.faults.as_slice(), &overrides.faults].concat();
    let phases = phases(profile, overrides, &faults)?;
    if let Some(found) = profile::impossible(&faults, &modes, phases.measure) {
        return Err(PlanError::Fault(found));
    }
    let given = match &overrides.given {
        None => None,
        Some(given @ Given::Existing(_)) => {
            own_schema::move_to(given, &mut tables, &mut transactions)?;
            Some(ServersMade::Never)
        }
        Some(Given::Compose(_)) => Some(ServersMade::Compose),
    };
    needs::check(&profile.settings, load.connections, &modes)?;
    let repeats = repeats(profile, overrides)?;
    let seed = overrides
        .seed
        .or(profile.seed)
        .unwrap_or(overrides.drawn_seed);
    Ok(Plan {
        profile: profile.name.clone(),
        description: profile.description.clone(),
        seed,
        tables,
        transactions,
        load,
        client: overrides.client.unwrap_or(profile.load.client),
        priority: profile.load.priority,
        phases,
        probes: ProbePlan {
            visibility: !overrides.no_visibility,
            method: overrides.visibility.unwrap_or(profile.probes.visibility),
            tick: profile.probes.tick,
            lag_interval: profile.probes.lag_interval,
        },
        expect: profile.expect,
        cells: order::cells(modes.len(), repeats, seed),
        wal_level: modes
            .iter()
            .map(|mode| mode.topology.wal_level())
            .max()
            .unwrap_or(WalLevel::Replica),
        modes,
        repeats,
        quick: overrides.quick,
        settings: profile.settings.clone(),
        gates: profile.gates.clone(),
        faults,
        given,
        left_out,
    })
}

fn refuse_unseen(modes: &[Mode], profile: &Profile) -> Result<(), PlanError> {
    let unseen = |transaction: &Transaction| {
        modes
            .iter()
            .find_map(|mode| profile::unseen_commit(mode, transaction, &profile.tables))
    };
    match profile.transactions.iter().find_map(unseen) {
        Some(reason) => Err(PlanError::Unseen(reason)),
        None => Ok(()),
    }
}

fn tables(profile: &Profile, overrides: &Overrides) -> Result<Vec<Table>, PlanError> {
    const MOST_SCALE: f64 = 1e6;
    let scale = overrides.scale.unwrap_or(1.0);
    if !(0.0..=MOST_SCALE).contains(&scale) {
        return Err(PlanError::OutOfRange {
            option: "scale",
            value: scale.to_string(),
            least: "0".into(),
            most: thousands(1_000_000),
        });
    }
    profile
        .tables
        .iter()
        .map(|table| {
            let rows = scaled(table.rows, scale);
            PlanError::within("rows at this scale", rows, 0..=Table::MOST_ROWS)?;
            Ok(Table {
                rows,
                ..table.clone()
            })
        })
        .collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "neither factor is negative, and what saturates is refused by the caller"
)]
fn scaled(rows: u64, scale: f64) -> u64 {
    (rows as f64 * scale).round() as u64
}

fn load(profile: &Profile, overrides: &Overrides) -> Result<LoadPlan, PlanError> {
    let load = &profile.load;
    let connections = overrides.connections.unwrap_or(load.connections);
    let threads = overrides.threads.unwrap_or(load.threads);
    PlanError::within("connections", connections.into(), Load::CONNECTIONS)?;
    PlanError::within("threads", threads.into(), Load::THREADS)?;
    Ok(LoadPlan {
        offered: match overrides.rate.unwrap_or(load.pace) {
            Pace::At(rate) => Offered::Open {
                rate,
                arrivals: overrides.arrivals.unwrap_or(load.arrivals),
            },
            Pace::Max => Offered::Closed,
        },
        connections,
        // A thread without a connection would have nothing to do.
        threads: threads.min(connections),
        max_in_flight: load.max_in_flight,
        transaction_deadline: load.transaction_deadline,
    })
}

fn phases(profile: &Profile, overrides: &Overrides, faults: &[Fault]) -> Result<Phases, PlanError> {
    let phases = &profile.phases;
    // A quick measurement still lasts long enough to show what follows the last fault.
    let after_faults = faults.iter().map(|fault| fault.end() + QUICK_AFTER_FAULT);
    let quick_measure = after_faults.fold(QUICK_MEASURE, Duration::max);
    let quick = |own: Duration, most: Duration| if overrides.quick { own.min(most) } else { own };
    let measure = match (overrides.measure, phases.measure) {
        (Some(Length::For(duration)), _) if duration < Phases::SHORTEST => {
            return Err(PlanError::OutOfRange {
                option: "duration",
                value: exact_duration(duration),
                least: exact_duration(Phases::SHORTEST),
                most: "24 h".into(),
            });
        }
        (Some(Length::Count(count)), _) => {
            PlanError::within("count", count, 1..=Length::MOST)?;
            Length::Count(count)
        }
        (Some(measure), _) => measure,
        // `--quick` keeps the number of arrivals of a fixed-count profile, because the number is the point of such a profile.
        (None, Length::Count(count)) => Length::Count(count),
        (None, Length::For(duration)) => Length::For(quick(duration, quick_measure)),
    };
    Ok(Phases {
        warmup: overrides
            .warmup
            .unwrap_or_else(|| quick(phases.warmup, QUICK_WARMUP)),
        measure,
        drain: overrides.drain.unwrap_or(phases.drain),
    })
}

fn repeats(profile: &Profile, overrides: &Overrides) -> Result<u32, PlanError> {
    let own = if overrides.quick {
        profile.repeats.min(QUICK_REPEATS)
    } else {
        profile.repeats
    };
    let repeats = overrides.repeats.unwrap_or(own);
    PlanError::within("repeats", repeats.into(), Profile::REPEATS)?;
    Ok(repeats)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn built_in(name: &str, overrides: &Overrides) -> Plan {
        resolve(&Profile::load(name).unwrap(), overrides).unwrap()
    }

    fn quick() -> Overrides {
        Overrides {
            quick: true,
            ..Overrides::default()
        }
    }

    #[test]
    fn every_built_in_profile_resolves_under_its_own_name() {
        for name in Profile::built_in_names() {
            for overrides in [Overrides::default(), quick()] {
                let plan = built_in(name, &overrides);
                assert_eq!(plan.profile, name);
                assert!(plan.description.contains('?'), "{name} asks no question");
                assert_eq!(plan.cells.len(), plan.modes.len() * plan.repeats as usize);
            }
        }
    }

    #[test]
    fn a_quick_look_at_sync_vs_async_is_over_within_two_minutes_and_says_that_it_is_no_verdict() {
        let plan = built_in("sync-vs-async", &quick());
        assert_eq!(plan.modes.len(), 4);
        assert!(
            plan.estimate() <= Duration::from_secs(110),
            "{:?}",
            plan.estimate()
        );
        let caution = plan.caution().unwrap();
        assert!(caution.contains("3 short repetitions") && caution.contains("no verdict"));
        assert_eq!(
            built_in("sync-vs-async", &Overrides::default()).caution(),
            None
        );
    }

    #[test]
    fn built_in_profiles_compare_equal_numbers_of_replicas() {
        // `logical-fanout` is left out, because it compares different numbers of subscribers.
        for name in Profile::built_in_names().filter(|name| *name != "logical-fanout") {
            for standbys in [None, Some(3)] {
                let overrides = Overrides {
                    standbys,
                    ..Overrides::default()
                };
                let plan = built_in(name, &overrides);
                let replicas = |mode: &Mode| mode.topology.replicas().count();
                if standbys.is_none() || ["users-insert", "cascade"].contains(&name) {
                    let all: Vec<_> = plan.modes.iter().map(replicas).collect();
                    assert!(all.iter().all(|one| *one == all[0]), "{name}: {all:?}");
                }
            }
        }
    }

    #[test]
    fn all_clusters_of_a_run_have_the_wal_level_that_one_of_them_needs() {
        let modes = |modes: &[&str]| Overrides {
            modes: Some(modes.iter().map(|mode| mode.parse().unwrap()).collect()),
            ..Overrides::default()
        };
        let level = |names: &[&str]| built_in("sync-vs-async", &modes(names)).wal_level;
        assert_eq!(level(&["async", "logical"]), WalLevel::Logical);
        assert_eq!(level(&["async", "sync"]), WalLevel::Replica);
    }

    #[test]
    fn a_node_s_own_settings_are_in_every_mode_that_has_it() {
        let slow = BTreeMap::from([("recovery_min_apply_delay".into(), "300ms".into())]);
        let profile = Profile {
            node_settings: [("s2".to_owned(), slow.clone())].into(),
            ..Profile::load("sync-vs-async").unwrap()
        };
        let plan = resolve(&profile, &Overrides::default()).unwrap();
        for node in plan.modes.iter().flat_map(|mode| mode.topology.nodes()) {
            assert_eq!(node.settings == slow, node.name == "s2");
        }
        assert_eq!(plan.topologies().len(), 2);
        let without = Overrides {
            modes: Some(vec!["logical".parse().unwrap()]),
            ..Overrides::default()
        };
        let error = resolve(&profile, &without).unwrap_err().to_string();
        assert!(error.contains("no mode has the node `s2`"), "{error}");
    }

    #[test]
    fn servers_are_made_for_every_block_where_topologies_are_compared() {
        let modes = |modes: &[&str]| Overrides {
            modes: Some(modes.iter().map(|mode| mode.parse().unwrap()).collect()),
            ..Overrides::default()
        };
        let several = built_in("sync-vs-async", &modes(&["async", "logical"]));
        let one = built_in("sync-vs-async", &modes(&["async", "sync"]));
        assert_eq!(several.servers_made(), ServersMade::EveryBlock);
        assert_eq!(one.servers_made(), ServersMade::Once);
        // At least one second to make and remove each cluster of each block.
        let clusters = 2 * several.repeats;
        assert!(several.estimate_servers() >= Duration::from_secs(1) * clusters);
        assert!(one.estimate_servers() < several.estimate_servers());
    }

    #[test]
    fn an_override_wins_over_quick_and_quick_over_the_profile() {
        let plan = built_in(
            "sync-vs-async",
            &Overrides {
                repeats: Some(5),
                warmup: Some(Duration::from_secs(7)),
                ..quick()
            },
        );
        assert_eq!(plan.repeats, 5);
        assert_eq!(plan.phases.warmup, Duration::from_secs(7));
        assert_eq!(plan.phases.measure, Length::For(QUICK_MEASURE));
    }

    #[test]
    fn a_fixed_count_stays_fixed_when_quick() {
        let plan = built_in("posts-10000", &quick());
        assert_eq!(plan.phases.measure, Length::Count(10_000));
    }

    #[test]
    fn threads_never_outnumber_connections() {
        let plan = built_in(
            "sync-vs-async",
            &Overrides {
                threads: Some(8),
                connections: Some(3),
                ..Overrides::default()
            },
        );
        assert_eq!(plan.load.threads, 3);
    }

    #[test]
    fn scale_multiplies_rows() {
        let scaled = |scale| {
            let overrides = Overrides {
                scale: Some(scale),
                ..Overrides::default()
            };
            built_in("ecommerce", &overrides).tables[0].rows
        };
        assert_eq!(scaled(2.5), 25_000);
        assert_eq!(scaled(0.0001), 1);
    }

    #[test]
    fn the_workload_is_the_same_whatever_the_seed_repetitions_and_modes() {
        let plan = built_in("ecommerce", &Overrides::default());
        let other = built_in(
            "ecommerce",
            &Overrides {
                seed: Some(99),
                repeats: Some(2),
                modes: Some(vec!["local".parse().unwrap()]),
                ..Overrides::default()
            },
        );
        assert_eq!(plan.workload_hash(), other.workload_hash());
        assert_eq!(plan.workload_hash().len(), 64);
        let scaled = built_in(
            "ecommerce",
            &Overrides {
                scale: Some(2.0),
                ..Overrides::default()
            },
        );
        assert_ne!(plan.workload_hash(), scaled.workload_hash());
    }

    #[test]
    fn gates_judge_a_workload_and_do_not_change_it() {
        let overrides = quick();
        let plan = built_in("staleness-budget", &overrides);
        assert_eq!(plan.gates.len(), 3);
        let ungated = Plan {
            gates: Vec::new(),
            ..plan.clone()
        };
        assert_eq!(plan.workload_hash(), ungated.workload_hash());
        // The gates do not change when they are written to a manifest as JSON and read again.
        let json = serde_json::to_string(&plan.gates).unwrap();
        let read: Vec<super::super::Gate> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, plan.gates);
    }

    #[test]
    fn a_seed_is_given_or_stands_in_the_profile_or_is_drawn() {
        let seed = |profile, given| {
            let profile = Profile {
                seed: profile,
                ..Profile::load("sync-vs-async").unwrap()
            };
            let overrides = Overrides {
                seed: given,
                drawn_seed: 3,
                ..Overrides::default()
            };
            resolve(&profile, &overrides).unwrap().seed
        };
        assert_eq!(seed(Some(2), Some(1)), 1);
        assert_eq!(seed(Some(2), None), 2);
        assert_eq!(seed(None, None), 3);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let seeded = |seed| {
            let overrides = Overrides {
                seed: Some(seed),
                ..Overrides::default()
            };
            built_in("sync-vs-async", &overrides)
        };
        assert_eq!(seeded(5), seeded(5));
        assert_ne!(seeded(5).cells, seeded(6).cells);
    }
}
