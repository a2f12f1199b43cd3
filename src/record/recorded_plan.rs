//! The plan of a run as the run's manifest has it, parsed once into types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mode::Mode;
use crate::plan::{Client, Expect, Fault, LoadPlan, Plan, ProbePlan};

/// The resolved plan of a run.
///
/// A part that is missing, or that another version of replbench wrote in another form, is `None`; this does not affect the other parts. The
/// plan is also kept as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub struct RecordedPlan {
    /// The profile's name.
    pub profile: Option<String>,
    pub description: Option<String>,
    /// How many tables the workload has.
    pub tables: Option<usize>,
    pub load: Option<LoadPlan>,
    /// `pool` in runs that were recorded before there was a choice.
    pub client: Option<Client>,
    pub probes: Option<ProbePlan>,
    pub expect: Option<Expect>,
    /// In the order of the profile.
    pub modes: Vec<RecordedMode>,
    pub faults: Vec<Fault>,
    written: Value,
}

/// A mode of a recorded plan.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedMode {
    pub name: String,
    pub mode: Option<Mode>,
}

impl Default for RecordedPlan {
    fn default() -> Self {
        Self::from(Value::Null)
    }
}

impl RecordedPlan {
    /// A part of the plan as it was written, to be shown or compared; `null` if the plan does not have it.
    pub fn part(&self, name: &str) -> &Value {
        self.written.get(name).unwrap_or(&Value::Null)
    }

    /// The gates as they were written: a gate that cannot be read must not be left out.
    pub fn gates(&self) -> &[Value] {
        match self.part("gates") {
            Value::Null => &[],
            Value::Array(gates) => gates,
            other => std::slice::from_ref(other),
        }
    }
}

impl From<&Plan> for RecordedPlan {
    fn from(plan: &Plan) -> Self {
        let written = serde_json::to_value(plan);
        Self::from(written.expect("a plan is plain data, whose maps have text as keys"))
    }
}

impl From<Value> for RecordedPlan {
    fn from(written: Value) -> Self {
        fn read<T: for<'de> Deserialize<'de>>(plan: &Value, part: &str) -> Option<T> {
            T::deserialize(plan.get(part)?).ok()
        }
        let modes: Vec<Value> = read(&written, "modes").unwrap_or_default();
        let modes = modes.iter().filter_map(|mode| {
            Some(RecordedMode {
                name: read(mode, "name")?,
                mode: Mode::deserialize(mode).ok(),
            })
        });
        Self {
            profile: read(&written, "profile"),
            description: read(&written, "description"),
            tables: read::<Vec<Value>>(&written, "tables").map(|tables| tables.len()),
            load: read(&written, "load"),
            client: match written.get("client") {
                Some(client) => Client::deserialize(client).ok(),
                None => Some(Client::of_older_runs()),
            },
            probes: read(&written, "probes"),
            expect: read(&written, "expect"),
            modes: modes.collect(),
            faults: read(&written, "faults").unwrap_or_default(),
            written,
        }
    }
}

impl From<RecordedPlan> for Value {
    fn from(plan: RecordedPlan) -> Self {
        plan.written
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    #[test]
    fn a_plan_is_read_as_it_was_recorded() {
        for name in Profile::built_in_names() {
            let profile = Profile::load(name).unwrap();
            let plan = resolve(&profile, &Overrides::default()).unwrap();
            let text = serde_json::to_string(&RecordedPlan::from(&plan)).unwrap();
            let recorded: RecordedPlan = serde_json::from_str(&text).unwrap();
            assert_eq!(recorded.profile.as_deref(), Some(name));
            assert_eq!(recorded.load, Some(plan.load));
            assert_eq!(recorded.expect, Some(plan.expect));
            let modes: Vec<_> = recorded.modes.into_iter().map(|it| it.mode).collect();
            assert_eq!(modes, plan.modes.into_iter().map(Some).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_whole_plan_is_read_back() {
        let profile = Profile::load("ecommerce").unwrap();
        let plan = resolve(&profile, &Overrides::default()).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_hides_nothing_else() {
        let written = json!({
            "profile": "x", "load": {"offered": "by carrier pigeon"}, "modes": [{"name": "async"}, {"of": "later"}],
            "gates": "a word", "later": 1,
        });
        let recorded = RecordedPlan::from(written.clone());
        assert_eq!(recorded.profile.as_deref(), Some("x"));
        assert_eq!(recorded.load, None);
        let [mode] = &recorded.modes[..] else {
            panic!("{:?}", recorded.modes);
        };
        assert!(mode.name == "async" && mode.mode.is_none());
        assert_eq!(recorded.gates(), [json!("a word")]);
        assert_eq!(Value::from(recorded), written);
        assert_eq!(RecordedPlan::from(Value::Null), RecordedPlan::default());
    }
}
