//! Working memory of the kernels: per thread for tasks, shared for whole operations, always used again.

#![allow(unsafe_code, reason = "threads write disjoint parts of one slice through a pointer")]

use crate::LANES;
use crate::buffer::Buffer;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Free shared buffers kept at most, bytes.
const KEPT: usize = 256 << 20;
/// Values that a buffer may be too long by: fresh memory is cleared page by page, which costs as much as a small layer.
const SLACK: usize = 4 << 20;

thread_local! {
    static OWN: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}
static SHARED: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

/// Lends `len` values with undefined content, kept by this thread for its next task.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let free = OWN.with(|own| own.borrow_mut().pop()).filter(|buffer| buffer.len() >= len);
    let mut buffer = free.unwrap_or_else(|| Buffer::zeroed(len.next_multiple_of(1 << 14)));
    let result = f(&mut buffer[..len]);
    OWN.with(|own| own.borrow_mut().push(buffer));
    result
}

/// A large buffer with undefined content that goes back to a common store when dropped.
#[derive(Debug)]
pub(crate) struct Recycled {
    buffer: Option<Buffer>,
    len: usize,
}

impl Recycled {
    /// `len` values; the caller writes what it will read.
    pub(crate) fn new(len: usize) -> Self {
        let mut store = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        let fits = |b: &Buffer| b.len() >= len && b.len() <= 2 * len + SLACK;
        let best = (0..store.len()).filter(|&i| fits(&store[i])).min_by_key(|&i| store[i].len());
        let buffer = best.map(|i| store.swap_remove(i));
        drop(store);
        Self { buffer: Some(buffer.unwrap_or_else(|| Buffer::zeroed(len.max(LANES)))), len }
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let mut store = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
        store.push(buffer);
        while store.iter().map(|b| b.len() * size_of::<f32>()).sum::<usize>() > KEPT {
            store.remove(0);
        }
    }
}

impl Deref for Recycled {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer.as_deref().expect("present until dropped")[..self.len]
    }
}

impl DerefMut for Recycled {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_deref_mut().expect("present until dropped")[..self.len]
    }
}

/// A slice that tasks write at places which do not overlap.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32, usize);

// SAFETY: only a pointer; each use says why its places are its own.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// The slice from a value on.
    pub(crate) fn from(self, first: usize) -> Self {
        Self(self.at(first), self.1 - first)
    }

    /// Values from the first on.
    pub(crate) fn len(self) -> usize {
        self.1
    }

    /// Pointer to the value at `index`, which is inside.
    pub(crate) fn at(self, index: usize) -> *mut f32 {
        debug_assert!(index <= self.1, "scratch index {index} of {}", self.1);
        self.0.wrapping_add(index)
    }
}
