//! Lists processes and their descendants from /proc. Descendants are found through `stat` alone, which every user may read of every
//! process.

use std::collections::HashMap;
use std::path::PathBuf;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// Identifies one process, even if another process gets the same id later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub started: u64,
    pub boot_id: String,
}

impl ProcessId {
    pub(super) fn of(pid: i32) -> Self {
        Self {
            pid,
            started: started(pid).unwrap_or(0),
            boot_id: boot_id(),
        }
    }

    /// Whether this very process is still running.
    pub fn is_running(&self) -> bool {
        self.boot_id == boot_id() && started(self.pid) == Some(self.started)
    }
}

fn boot_id() -> String {
    // If the boot id is unknown it is empty, and only the start times are compared.
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// A process of a cluster, and its working directory, which is the cluster's directory or lies below it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) directory: PathBuf,
    pub(super) is_postmaster: bool,
}

/// The keepers, servers and PostgreSQL programs on this machine, as far as this user may inspect them.
pub(super) fn workers() -> Vec<Worker> {
    const NAMES: [&str; 4] = ["pgkeeper", "postgres", "initdb", "pg_basebackup"];
    let all = procfs::process::all_processes();
    let of_a_cluster = all.into_iter().flatten().flatten().filter_map(|process| {
        // A process that ends meanwhile is left out.
        let stat = process.stat().ok()?;
        if !NAMES.contains(&stat.comm.as_str()) {
            return None;
        }
        let line = process.cmdline().unwrap_or_default();
        Some(Worker {
            pid: Pid::from_raw(process.pid())?,
            directory: process.cwd().ok()?,
            // The postmaster's children change their command line.
            is_postmaster: stat.comm == "postgres"
                && line.get(1).is_some_and(|option| option == "-D"),
        })
    });
    of_a_cluster.collect()
}

/// All living descendants of a process, parents before their children. They are not found by process group or session, because backends
/// call setsid.
pub(super) fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    if let Ok(all) = procfs::process::all_processes() {
        // A process that ends between the listing and the reading of its `stat` is left out.
        for stat in all.flatten().filter_map(|process| process.stat().ok()) {
            if stat.state != 'Z' {
                children.entry(stat.ppid).or_default().push(stat.pid);
            }
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.extend(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

/// Start time of a process in clock ticks since boot; `None` if it has ended. Process id and start time together identify one process.
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}
