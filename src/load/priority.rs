//! The priority of a load thread, which decides how soon the kernel lets it run when an arrival is due or an answer has come.

use rustix::process::setpriority_process;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::plan::Priority;

/// The nice value of [`Priority::Raised`]: half-way to -20, the highest priority.
const NICE: i32 = -10;

/// Gives the calling thread the wanted priority, or the nearest lower one that is permitted. Returns the priority that it has then.
pub(super) fn take(wanted: Priority) -> Priority {
    match wanted {
        Priority::Normal => Priority::Normal,
        Priority::Raised => raised(),
        Priority::Realtime => {
            let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
            let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, fifo);
            set.map_or_else(|_| raised(), |()| Priority::Realtime)
        }
    }
}

/// On Linux this changes the nice value of the calling thread, not of its process.
fn raised() -> Priority {
    let set = setpriority_process(None, NICE);
    set.map_or(Priority::Normal, |()| Priority::Raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_what_the_kernel_says() {
        for wanted in Priority::ALL {
            let thread = std::thread::spawn(move || {
                let taken = take(wanted);
                let me = rustix::thread::gettid().as_raw_nonzero();
                let stat = std::fs::read_to_string(format!("/proc/self/task/{me}/stat")).unwrap();
                // The fields after the process name, which may contain any character: state is field 3, nice 19, policy 41.
                let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
                (taken, fields[16].to_owned(), fields[38].to_owned())
            });
            let (taken, nice, policy) = thread.join().unwrap();
            let own_nice = rustix::process::getpriority_process(None).unwrap();
            match taken {
                Priority::Normal => assert_eq!((nice, policy), (own_nice.to_string(), "0".into())),
                Priority::Raised => assert_eq!((nice.as_str(), policy.as_str()), ("-10", "0")),
                Priority::Realtime => assert_eq!(policy, "1"),
            }
            assert!(taken <= wanted, "{taken} instead of {wanted}");
        }
    }
}
