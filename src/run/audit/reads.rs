//! What reads on the replicas saw while the load ran, and which promises about reads were kept.

use std::collections::BTreeMap;

use crate::cluster::RunningNode;
use crate::mode::Mode;
use crate::plan::{FaultKind, Plan};
use crate::probe::VisibilitySecond;
use crate::sample::{AuditCheck, AuditResult, AuditRow};
use crate::topology::Role;

/// If a commit was not visible this many nanoseconds after its acknowledgement, it was not visible when the acknowledgement came. The
/// clocks of the client and of a server on the same host differ by less.
const CERTAIN: i64 = 1_000_000;

/// What reads saw on each replica.
#[derive(Debug, Default)]
pub(in crate::run) struct Reads {
    by_node: BTreeMap<String, OfNode>,
}

#[derive(Debug, Default)]
struct OfNode {
    seen: u64,
    /// Commits that were certainly not visible when they were acknowledged.
    late: u64,
    /// Looks that saw less than an earlier look.
    backwards: u64,
}

impl Reads {
    pub(in crate::run) fn visibility(&mut self, second: &VisibilitySecond) {
        let node = self.by_node.entry(second.node.clone()).or_default();
        let late = second.delays.iter().filter(|it| it.lo > CERTAIN);
        node.late += late.count() as u64;
        node.seen += second.delays.len() as u64;
    }

    pub(in crate::run) fn backwards(&mut self, node: &str, looks: u64) {
        self.by_node.entry(node.to_owned()).or_default().backwards += looks;
    }

    /// The promises about reads, for the nodes that are replicas now. `warned` says whether commits were acknowledged that may not have
    /// been replicated.
    pub(in crate::run) fn rows(
        &self,
        cell_id: u32,
        (plan, mode): (&Plan, &Mode),
        nodes: &[RunningNode],
        warned: bool,
    ) -> Vec<AuditRow> {
        let mut rows = Vec::new();
        let faults = &plan.faults;
        // The standbys that commits wait for may change if a standby is gone or another node becomes the primary.
        let keeps_standbys = !warned
            && !faults
                .iter()
                .any(|it| it.kind.stops_streaming() || it.kind.stops_primary());
        let awaited = if keeps_standbys {
            mode.awaits_replay_of()
        } else {
            Vec::new()
        };
        for node in nodes.iter().map(|it| &it.node) {
            let Some(seen) = self.by_node.get(&node.name) else {
                continue;
            };
            let row = |check, violations| {
                AuditRow::new(cell_id, &node.name, check, seen.seen, violations, "")
            };
            if node.role.is_physical() && node.role != Role::Primary {
                let mut row = row(AuditCheck::MonotonicReads, seen.backwards);
                let restarts = [FaultKind::StandbyCrash, FaultKind::SlotLoss];
                let mut own = faults.iter().filter(|it| it.target == node.name);
                if own.any(|it| restarts.contains(&it.kind)) {
                    row.detail = "its server was started anew, and takes reads before it has replayed all WAL that it had".into();
                    if row.violations > 0 {
                        row.result = AuditResult::Permitted;
                    }
                }
                rows.push(row);
            }
            if awaited.contains(&node.name) {
                rows.push(row(AuditCheck::VisibleWhenAcked, seen.late));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::plan::{Overrides, resolve};
    use crate::probe::Delay;
    use crate::profile::Profile;

    /// The audit rows of the standby `s1`.
    fn rows(
        mode: &str,
        faults: &[&str],
        lo: i64,
        backwards: u64,
    ) -> Vec<(AuditCheck, AuditResult, u64)> {
        let overrides = Overrides {
            faults: faults.iter().map(|it| it.parse().unwrap()).collect(),
            modes: Some(vec![mode.parse().unwrap()]),
            ..Overrides::default()
        };
        let plan = resolve(&Profile::load("users-insert").unwrap(), &overrides).unwrap();
        let mode = &plan.modes[0];
        let delay = |lo| Delay {
            acked: Stamp::default(),
            lo,
            hi: lo + 1_000,
            hi_from_send: 5_000_000,
        };
        let mut reads = Reads::default();
        reads.visibility(&VisibilitySecond {
            node: "s1".into(),
            index: 0,
            commits: 2,
            delays: vec![delay(-50_000), delay(lo)],
            behind: 0,
        });
        reads.backwards("s1", backwards);
        let nodes = mode.topology.nodes().iter().map(|node| RunningNode {
            node: node.clone(),
            endpoint: crate::pg::Endpoint::on_loopback(&node.name, 1, "x", None),
            process: None,
        });
        let nodes: Vec<_> = nodes.collect();
        let found = reads.rows(1, (&plan, mode), &nodes, false);
        found
            .into_iter()
            .map(|it| (it.check, it.result, it.violations))
            .collect()
    }

    #[test]
    fn reads_go_forward_and_awaited_commits_are_visible_when_they_are_acknowledged() {
        use AuditCheck::{MonotonicReads, VisibleWhenAcked};
        use AuditResult::{Fail, Pass, Permitted};
        let late = 1_200_000;
        assert_eq!(rows("async", &[], late, 0), [(MonotonicReads, Pass, 0)]);
        assert_eq!(
            rows("remote_apply", &[], 900_000, 2),
            [(MonotonicReads, Fail, 2), (VisibleWhenAcked, Pass, 0)]
        );
        assert_eq!(
            rows("remote_apply", &[], late, 0),
            [(MonotonicReads, Pass, 0), (VisibleWhenAcked, Fail, 1)]
        );
        // Commits may have waited for another standby meanwhile.
        assert_eq!(
            rows("remote_apply", &["standby-crash s1 at 1s for 1s"], late, 2),
            [(MonotonicReads, Permitted, 2)]
        );
    }
}
