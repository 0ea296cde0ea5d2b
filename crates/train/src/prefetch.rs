//! Work done ahead on threads of its own, handed out strictly in order, so that results do not depend on
//! the number of threads.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Items that may lie ready or be in the making.
const AHEAD: u64 = 6;

struct State<T> {
    ready: BTreeMap<u64, T>,
    /// Next number that no thread has taken.
    next: u64,
    /// Number that the consumer waits for.
    wanted: u64,
    end: u64,
    closed: bool,
    /// A maker panicked: the consumer must not wait for what never comes.
    broken: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, guard: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The consumer's end.
pub struct Queue<'a, T> {
    shared: &'a Shared<T>,
}

impl<T> Queue<'_, T> {
    /// The next item in order; `None` behind the last one, or when a maker died.
    pub fn next(&mut self) -> Option<T> {
        let mut state = self.shared.lock();
        loop {
            let wanted = state.wanted;
            if let Some(item) = state.ready.remove(&wanted) {
                state.wanted += 1;
                self.shared.changed.notify_all();
                return Some(item);
            }
            if state.broken || wanted >= state.end {
                return None;
            }
            state = self.shared.wait(state);
        }
    }
}

/// Closes the queue however the consumer leaves.
struct CloseOnDrop<'a, T>(&'a Shared<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// Tells the consumer when a maker unwinds.
struct Maker<'a, T>(&'a Shared<T>);

impl<T> Drop for Maker<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}

/// Calls `consume` with a queue of `make(first)`, `make(first + 1)`, ... up to `end`, made by `threads`
/// threads.
pub fn ordered<T: Send, R>(
    first: u64,
    end: u64,
    threads: usize,
    make: impl Fn(u64) -> T + Sync,
    consume: impl FnOnce(&mut Queue<'_, T>) -> R,
) -> R {
    let state =
        State { ready: BTreeMap::new(), next: first, wanted: first, end, closed: false, broken: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| produce(&shared, &make))).collect();
        let result = {
            let _close = CloseOnDrop(&shared);
            consume(&mut Queue { shared: &shared })
        };
        // The consumer was told of a maker that died; joined here, its panic does not end the process as well.
        makers.into_iter().for_each(|maker| drop(maker.join()));
        result
    })
}

fn produce<T>(shared: &Shared<T>, make: &impl Fn(u64) -> T) {
    let _maker = Maker(shared);
    loop {
        let mut state = shared.lock();
        while !state.closed && state.next < state.end && state.next >= state.wanted + AHEAD {
            state = shared.wait(state);
        }
        if state.closed || state.next >= state.end {
            return;
        }
        let number = state.next;
        state.next += 1;
        drop(state);
        let item = make(number);
        shared.lock().ready.insert(number, item);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_with_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let slow_when_even = |n: u64| {
                if n.is_multiple_of(2) {
                    std::thread::yield_now();
                }
                n * n
            };
            let got = ordered(3, 40, threads, slow_when_even, |queue| {
                std::iter::from_fn(|| queue.next()).collect::<Vec<u64>>()
            });
            assert_eq!(got, (3..40).map(|n| n * n).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn a_maker_that_dies_ends_the_queue_and_not_the_process() {
        let die_at_3 = |n: u64| assert!(n < 3);
        let got = ordered(0, 10, 1, die_at_3, |queue| std::iter::from_fn(|| queue.next()).count());
        assert!(got <= 3);
    }

    #[test]
    fn leaving_early_ends_the_makers() {
        assert_eq!(ordered(0, u64::MAX, 2, |n| n, |queue| queue.next()), Some(0));
    }
}
