//! The profiles inside the binary: one table of names and texts.

/// Name and text of every built-in profile, in the order in which `replbench list` shows them.
pub(super) const BUILT_IN: [(&str, &str); 12] = [
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
    ("failover", include_str!("../../workloads/failover.toml")),
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
