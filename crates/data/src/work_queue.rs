//! Cases in parallel with bounded memory.
//!
//! Own threads rather than rayon tasks: a case waits here until there is memory for it, and a rayon worker
//! that waits could be the one that the case it waits for needs.

use crate::Progress;
use crate::memory::available_bytes;
use galen_core::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Memory to share when the system does not say how much is free.
const FALLBACK_BYTES: usize = 4 << 30;

/// Runs `work` for every index and returns the results in index order. At most as many run at once as rayon
/// has threads, and as many as their `bytes` fit into half of the free memory (one always runs).
pub(crate) fn for_each_case<T: Send>(
    count: usize,
    bytes: impl Fn(usize) -> usize + Sync,
    progress: Progress,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let memory = Memory::new(available_bytes().unwrap_or(FALLBACK_BYTES) / 2);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worker = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return results;
            }
            let lent = memory.borrow(bytes(index));
            results.push((index, work(index)));
            drop(lent);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..rayon::current_num_threads().min(count)).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    all.sort_unstable_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// All values, or one error that names every failed case (the first with its full message).
pub(crate) fn all_or_first<T>(results: Vec<Result<T>>, ids: &[&str]) -> Result<Vec<T>> {
    let (mut values, mut first, mut others) = (Vec::with_capacity(results.len()), None, Vec::new());
    for (result, id) in results.into_iter().zip(ids) {
        match result {
            Ok(value) => values.push(value),
            Err(error) if first.is_none() => first = Some(error.within(id)),
            Err(_) => others.push(*id),
        }
    }
    match first {
        None => Ok(values),
        Some(error) if others.is_empty() => Err(error),
        Some(error) => {
            Err(error.within(format!("{} more cases failed too ({})", others.len(), others.join(", "))))
        }
    }
}

struct Memory {
    free: Mutex<usize>,
    total: usize,
    returned: Condvar,
}

struct Lent<'a> {
    memory: &'a Memory,
    bytes: usize,
}

impl Memory {
    fn new(total: usize) -> Self {
        Self { free: Mutex::new(total), total, returned: Condvar::new() }
    }

    /// Waits for memory; a case larger than all of it runs when nothing else does.
    fn borrow(&self, bytes: usize) -> Lent<'_> {
        let bytes = bytes.min(self.total);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Lent { memory: self, bytes }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.memory.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.memory.returned.notify_all();
    }
}

/// Fails when there is nothing to work on.
pub(crate) fn require_cases(count: usize, place: impl std::fmt::Display) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    Err(Error::input(place, "no complete training case", "run `galen check` on it to see what is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let squares = for_each_case(50, |index| index << 40, &|_, _| {}, |index| index * index);
        assert!(squares.iter().enumerate().all(|(index, &square)| square == index * index));
        assert!(for_each_case(0, |_| 0, &|_, _| {}, |index| index).is_empty());
    }

    #[test]
    fn cases_that_do_not_fit_together_run_one_after_the_other() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: usize| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| for_each_case(200, |_| usize::MAX, &|_, _| {}, work));
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn every_failed_case_is_named() {
        let failed = |name: &str| Err::<(), _>(Error::input(name, "bad", ""));
        let error = all_or_first(vec![Ok(()), failed("x"), failed("y")], &["a", "b", "c"]).unwrap_err();
        assert_eq!(error.to_string(), "1 more cases failed too (c): b: x: bad");
    }
}
