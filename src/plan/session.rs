//! Two plans that are measured in turns and compared: which side of a block goes first, and whether the plans are comparable. Pure; knows
//! neither servers nor files.

use itertools::Itertools as _;
use serde::{Deserialize, Serialize};

use super::Plan;
use super::order::{Stream, derive};

/// One of the two configurations that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Base,
    Head,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Base, Self::Head];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Head => "head",
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Base => Self::Head,
            Self::Head => Self::Base,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One value for each side. The fields have names, because swapping the sides would reverse every verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides<T> {
    pub base: T,
    pub head: T,
}

impl<T> Sides<T> {
    pub fn get(&self, side: Side) -> &T {
        match side {
            Side::Base => &self.base,
            Side::Head => &self.head,
        }
    }

    pub fn get_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Base => &mut self.base,
            Side::Head => &mut self.head,
        }
    }

    pub fn as_ref(&self) -> Sides<&T> {
        Sides {
            base: &self.base,
            head: &self.head,
        }
    }

    /// Applies `change` to the base and then to the head.
    pub fn map<U>(self, mut change: impl FnMut(Side, T) -> U) -> Sides<U> {
        Sides {
            base: change(Side::Base, self.base),
            head: change(Side::Head, self.head),
        }
    }

    /// Applies `change` to the base and then to the head; after an error of the base the head is not evaluated.
    pub fn try_map<U, E>(
        self,
        mut change: impl FnMut(Side, T) -> Result<U, E>,
    ) -> Result<Sides<U>, E> {
        Ok(Sides {
            base: change(Side::Base, self.base)?,
            head: change(Side::Head, self.head)?,
        })
    }
}

/// One side's share of a block: its servers are made, all its cells of the block run, and its servers are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The block, counted from 1.
    pub block: u32,
    pub side: Side,
}

/// The turns of a session: each side has one turn in every block. Blocks come in pairs, as in a plan: the side that goes first is drawn
/// for the first block and goes second in the other (ABBA or BAAB), so that a steady drift of the host favours neither side.
pub fn turns(repeats: u32, seed: u64) -> Vec<Turn> {
    let first = |block: u32| {
        let pair = (block - 1) / 2;
        let drawn = match derive(seed, Stream::Sides, pair.into()) >> 63 {
            0 => Side::Base,
            _ => Side::Head,
        };
        if block % 2 == 1 { drawn } else { drawn.other() }
    };
    (1..=repeats)
        .flat_map(|block| {
            let first = first(block);
            [first, first.other()].map(|side| Turn { block, side })
        })
        .collect()
}

/// Why two plans cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    #[error(
        "the sides differ in their {field}, so a difference between them would say nothing about servers; make these alike in both profiles"
    )]
    Workload { field: &'static str },
    #[error("the sides differ in how often the probes look; make [probes] alike in both profiles")]
    Probes,
    #[error("base has {base} repetitions and head {head}; give both the same with --repeats")]
    Repeats { base: u32, head: u32 },
    #[error(
        "no mode is on both sides (base: {base}; head: {head}); give each side one mode, or both a common one"
    )]
    Modes { base: String, head: String },
    #[error("base has the seed {base} and head {head}; give both the same with --seed")]
    Seed { base: u64, head: u64 },
}

impl Sides<Plan> {
    /// Gives both sides the same `wal_level`, the higher of the two, as all clusters of one run have.
    pub fn align(&mut self) {
        let wal_level = self.base.wal_level.max(self.head.wal_level);
        self.base.wal_level = wal_level;
        self.head.wal_level = wal_level;
    }

    /// Refuses, before anything runs, plans that could not be compared afterwards. If each side has only one mode the modes may differ:
    /// then the modes are compared.
    pub fn comparable(&self) -> Result<(), Incomparable> {
        let Self { base, head } = self;
        if base.workload_hash() != head.workload_hash() {
            let differs = [
                (base.tables != head.tables, "tables"),
                (base.transactions != head.transactions, "transactions"),
                (base.load != head.load, "load"),
                (base.faults != head.faults, "faults"),
            ];
            let field = differs.iter().find(|(differs, _)| *differs);
            return Err(Incomparable::Workload {
                field: field.map_or("phases", |(_, field)| field),
            });
        }
        if base.probes != head.probes {
            return Err(Incomparable::Probes);
        }
        if base.repeats != head.repeats {
            return Err(Incomparable::Repeats {
                base: base.repeats,
                head: head.repeats,
            });
        }
        if base.seed != head.seed {
            return Err(Incomparable::Seed {
                base: base.seed,
                head: head.seed,
            });
        }
        let is_in_head = |name: &str| head.modes.iter().any(|mode| mode.name == name);
        let is_shared = base.modes.iter().any(|mode| is_in_head(&mode.name));
        if !is_shared && (base.modes.len(), head.modes.len()) != (1, 1) {
            let names = |plan: &Plan| plan.modes.iter().map(|mode| &mode.name).join(", ");
            return Err(Incomparable::Modes {
                base: names(base),
                head: names(head),
            });
        }
        Ok(())
    }

    /// The turns of the session, from the base's plan; [`Sides::comparable`] has checked that the head has the same repetitions and seed.
    pub fn turns(&self) -> Vec<Turn> {
        turns(self.base.repeats, self.base.seed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;
    use proptest::prelude::*;

    fn plan(profile: &str, modes: &[&str], change: impl FnOnce(&mut Overrides)) -> Plan {
        let mut overrides = Overrides {
            modes: Some(modes.iter().map(|mode| mode.parse().unwrap()).collect()),
            ..Overrides::default()
        };
        change(&mut overrides);
        resolve(&Profile::load(profile).unwrap(), &overrides).unwrap()
    }

    fn users(modes: &[&str]) -> Plan {
        plan("users-insert", modes, |_| {})
    }

    proptest! {
        #[test]
        fn every_side_has_its_turn_once_a_block(repeats in 1_u32..40, seed: u64) {
            let turns = turns(repeats, seed);
            prop_assert_eq!(turns.len(), 2 * repeats as usize);
            for (block, pair) in (1..).zip(turns.chunks(2)) {
                prop_assert!(pair.iter().all(|turn| turn.block == block));
                prop_assert_eq!(pair[0].side, pair[1].side.other());
            }
        }

        #[test]
        fn a_linear_drift_favours_no_side(pairs in 1_u32..20, seed: u64) {
            let position = |side| {
                let turns = turns(2 * pairs, seed).into_iter().enumerate();
                turns.filter(|(_, turn)| turn.side == side).map(|(at, _)| at).sum::<usize>()
            };
            prop_assert_eq!(position(Side::Base), position(Side::Head));
        }
    }

    /// Values from a reimplementation of `derive` in Python.
    #[test]
    fn the_seed_decides_which_side_goes_first_and_for_ever() {
        let firsts = |seed| -> String {
            let turns = turns(8, seed);
            let firsts = turns.chunks(2).map(|pair| &pair[0].side.as_str()[..1]);
            firsts.collect()
        };
        assert_eq!(firsts(1), "hbhbhbbh");
        assert_eq!(firsts(2), "bhbhhbbh");
    }

    #[test]
    fn neither_side_goes_first_much_more_often() {
        let heads = (0..1000)
            .filter(|seed| turns(1, *seed)[0].side == Side::Head)
            .count();
        // A fair coin falls outside this range about once in 10^9 series of a thousand tosses.
        assert!((400..=600).contains(&heads), "{heads}");
    }

    #[test]
    fn one_mode_each_may_differ_and_several_must_share_one() {
        let compare = |base: &[&str], head: &[&str]| {
            let (base, head) = (users(base), users(head));
            Sides { base, head }.comparable()
        };
        assert_eq!(compare(&["sync"], &["remote_apply"]), Ok(()));
        assert_eq!(compare(&["async", "sync"], &["sync", "off"]), Ok(()));
        assert_eq!(
            compare(&["async", "sync"], &["off"]),
            Err(Incomparable::Modes {
                base: "async, sync".into(),
                head: "off".into()
            })
        );
    }

    #[test]
    fn different_work_is_refused_by_the_name_of_what_differs() {
        let refused = |head: Plan| {
            let base = users(&["async"]);
            Sides { base, head }.comparable().unwrap_err().to_string()
        };
        let with = |change: fn(&mut Overrides)| plan("users-insert", &["async"], change);
        let other = refused(plan("product-insert", &["async"], |_| {}));
        assert!(other.contains("tables"), "{other}");
        let slower = refused(with(|it| it.connections = Some(3)));
        assert!(slower.contains("load"), "{slower}");
        let shorter = refused(with(|it| it.warmup = Some(Duration::from_millis(10))));
        assert!(shorter.contains("phases"), "{shorter}");
        let fewer = refused(with(|it| it.repeats = Some(2)));
        assert!(
            fewer.contains("2; give both the same with --repeats"),
            "{fewer}"
        );
        let reseeded = refused(with(|it| it.seed = Some(77)));
        assert!(reseeded.contains("--seed"), "{reseeded}");
    }

    #[test]
    fn servers_are_made_for_every_turn_and_the_estimate_counts_them() {
        let sides = Sides {
            base: users(&["async"]),
            head: users(&["async"]),
        };
        let cells = sides.base.estimate() * 2;
        let turns = u32::try_from(sides.turns().len()).unwrap();
        assert!(sides.estimate() >= cells + Duration::from_secs(1) * turns);
    }
}
