//! Work on many like things, done on all CPUs at once.

use std::{panic::resume_unwind, thread};

/// More threads gain little: what they share is the memory.
const MOST_THREADS: usize = 4;

/// What `work` makes of `items`, in as many parts as there are CPUs, in their order. No part but the only one has
/// fewer than `least` items: below that, starting a thread takes longer than it saves.
pub(crate) fn in_parts<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, Into::into).min(MOST_THREADS);
    let parts = (items.len() / least.max(1)).min(cpus);
    if parts < 2 {
        return vec![work(items)];
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(parts));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole_in_order() {
        let least = 10;
        for count in [0, 1, 19, 20, 41, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let parts = in_parts(&items, least, <[usize]>::to_vec);
            assert!(parts.len() == 1 || parts.iter().all(|part| part.len() >= 5), "{parts:?}");
            assert_eq!(parts.concat(), items);
        }
    }
}
