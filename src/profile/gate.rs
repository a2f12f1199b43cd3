//! Gates: limits that figures of a run must keep.
//! Knows which figures exist and their units, but never a measured value.

mod read;

use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::mode::Mode;
use crate::topology::Topology;

pub(super) use read::gates;

/// One limit on one figure. The manifest stores the gates, so that an old run can be judged again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The name that the profile gives the gate.
    pub name: Option<String>,
    pub metric: Metric,
    /// The mode that the gate applies to; `None` for every mode of the plan.
    pub mode: Option<String>,
    /// The node that the gate applies to; `None` for every replica of the mode, if the metric is measured per replica.
    #[serde(alias = "standby")]
    pub node: Option<String>,
    pub limit: Limit,
}

impl Gate {
    /// The names of the mode's nodes that the gate judges. Empty if the metric is not measured per replica, or if the mode has no such
    /// node.
    pub fn nodes_in(&self, mode: &Mode) -> Vec<String> {
        let replicas = mode.topology.replicas().map(|node| node.name.clone());
        match &self.node {
            _ if !self.metric.is_of_replica() => Vec::new(),
            Some(name) if name == Topology::PRIMARY => vec![name.clone()],
            Some(name) => replicas.filter(|replica| replica == name).collect(),
            None => replicas.collect(),
        }
    }

    /// Whether the gate applies to the mode of this name.
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

/// An inclusive limit, in the base unit of the metric: seconds, bytes, transactions a second, a share, or a count.
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
