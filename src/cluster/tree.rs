//! Who descends from whom, read from /proc. Only `stat` is used, which everybody may read of everybody.

use std::collections::HashMap;

use rustix::process::Pid;

/// All living descendants of a process, nearest first. Backends call setsid, so neither a process group nor a
/// session would find them.
pub(super) fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    if let Ok(all) = procfs::process::all_processes() {
        // A process that ends between the listing and the look is none.
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

/// When a process started, in clock ticks since boot: with the pid, a name that is not used twice.
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}
