//! The profiles inside the binary: one table of names and texts.

/// Name and text of every built-in profile, in the order in which `replbench list` shows them.
pub(super) const BUILT_IN: [(&str, &str); 24] = [
    (
        "sync-vs-async",
        include_str!("../../workloads/sync-vs-async.toml"),
    ),
    (
        "sync-ladder",
        include_str!("../../workloads/sync-ladder.toml"),
    ),
    ("quorum", include_str!("../../workloads/quorum.toml")),
    (
        "logical-fanout",
        include_str!("../../workloads/logical-fanout.toml"),
    ),
    ("cascade", include_str!("../../workloads/cascade.toml")),
    ("archive", include_str!("../../workloads/archive.toml")),
    (
        "pause-replay",
        include_str!("../../workloads/pause-replay.toml"),
    ),
    (
        "slow-standby",
        include_str!("../../workloads/slow-standby.toml"),
    ),
    (
        "frozen-standby",
        include_str!("../../workloads/frozen-standby.toml"),
    ),
    (
        "standby-crash",
        include_str!("../../workloads/standby-crash.toml"),
    ),
    (
        "long-query",
        include_str!("../../workloads/long-query.toml"),
    ),
    ("slot-loss", include_str!("../../workloads/slot-loss.toml")),
    (
        "apply-error",
        include_str!("../../workloads/apply-error.toml"),
    ),
    ("partition", include_str!("../../workloads/partition.toml")),
    (
        "slow-network",
        include_str!("../../workloads/slow-network.toml"),
    ),
    (
        "primary-crash",
        include_str!("../../workloads/primary-crash.toml"),
    ),
    ("failover", include_str!("../../workloads/failover.toml")),
    ("pitr", include_str!("../../workloads/pitr.toml")),
    (
        "switchover",
        include_str!("../../workloads/switchover.toml"),
    ),
    (
        "product-insert",
        include_str!("../../workloads/product-insert.toml"),
    ),
    (
        "users-insert",
        include_str!("../../workloads/users-insert.toml"),
    ),
    ("ecommerce", include_str!("../../workloads/ecommerce.toml")),
    (
        "staleness-budget",
        include_str!("../../workloads/staleness-budget.toml"),
    ),
    (
        "posts-10000",
        include_str!("../../workloads/posts-10000.toml"),
    ),
];
