//! Gates: bounds that figures of a run must keep.
//! Knows which figures there are and in what unit; never a value of one.

mod read;

use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::mode::Mode;
use crate::topology::Topology;

pub(super) use read::gates;

/// One bound on one figure. A manifest carries it, so that an old run can be judged again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What a person calls it.
    pub name: Option<String>,
    pub metric: Metric,
    /// `None`: every mode of the plan.
    pub mode: Option<String>,
    /// `None`: every replica of the mode, where the metric is one of replicas.
    #[serde(alias = "standby")]
    pub node: Option<String>,
    pub limit: Limit,
}

impl Gate {
    /// The nodes of a mode that the gate judges by name; none when its metric is of replicas and the mode has no such one.
    pub fn nodes_in(&self, mode: &Mode) -> Vec<String> {
        let replicas = mode.topology.replicas().map(|node| node.name.clone());
        match &self.node {
            _ if !self.metric.is_of_replica() => Vec::new(),
            Some(name) if name == Topology::PRIMARY => vec![name.clone()],
            Some(name) => replicas.filter(|replica| replica == name).collect(),
            None => replicas.collect(),
        }
    }

    /// Whether it is about this mode.
    pub fn concerns(&self, mode: &str) -> bool {
        self.mode.as_deref().is_none_or(|own| own == mode)
    }

    /// The limit in words: `at most 50 ms`.
    pub fn wanted(&self) -> String {
        let (word, bound) = match self.limit {
            Limit::Max(bound) => ("at most", bound),
            Limit::Min(bound) => ("at least", bound),
        };
        format!("{word} {}", self.metric.unit().exactly(bound))
    }
}

/// The bound, itself allowed, in the base unit of the metric: seconds, bytes, transactions a second, or a count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Max(f64),
    Min(f64),
}

impl Limit {
    pub fn allows(self, value: f64) -> bool {
        match self {
            Self::Max(bound) => value <= bound,
            Self::Min(bound) => value >= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_allows_itself_and_never_an_unknown() {
        assert!(Limit::Max(0.05).allows(0.05) && !Limit::Max(0.05).allows(0.051));
        assert!(Limit::Min(500.0).allows(500.0) && !Limit::Min(500.0).allows(499.0));
        assert!(!Limit::Max(1.0).allows(f64::NAN) && !Limit::Min(1.0).allows(f64::NAN));
    }
}
