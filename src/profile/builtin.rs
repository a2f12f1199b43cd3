//! The profiles inside the binary: one table of names and texts.

/// Pairs each profile name with the text of its file in `workloads`.
macro_rules! with_texts {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../workloads/", $name, ".toml")))),*]
    };
}

/// Name and text of every built-in profile, in the order in which `replbench list` shows them.
pub(super) const BUILT_IN: [(&str, &str); 24] = with_texts![
    "sync-vs-async",
    "sync-ladder",
    "quorum",
    "logical-fanout",
    "cascade",
    "archive",
    "pause-replay",
    "slow-standby",
    "frozen-standby",
    "standby-crash",
    "long-query",
    "slot-loss",
    "apply-error",
    "partition",
    "slow-network",
    "primary-crash",
    "failover",
    "pitr",
    "switchover",
    "product-insert",
    "users-insert",
    "ecommerce",
    "staleness-budget",
    "posts-10000",
];
