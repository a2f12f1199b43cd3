//! Work on many files at once.

use std::num::NonZero;

/// Does a piece of work for each item on as many threads as there are processors; the answers are in the items' order.
pub(crate) fn in_parallel<'a, I: Sync, O: Send>(
    items: &'a [I],
    work: impl Fn(&'a I) -> O + Sync,
) -> Vec<O> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<O>>()))
            .collect();
        let parts = parts.into_iter().map(|part| {
            part.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        parts.flatten().collect()
    })
}
