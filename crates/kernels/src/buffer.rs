//! Large `f32` buffers that are used again: aligned, on huge pages where the system has them.

#![allow(unsafe_code, reason = "aligned memory is asked from the allocator and the system by hand")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of small buffers: one cache line, one AVX-512 register.
const LINE: usize = 64;
/// Alignment of large buffers: one huge page.
const HUGE_PAGE: usize = 2 << 20;

/// An aligned slice of `f32`. Its content is whatever the last user left, at first zero.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<f32>,
    len: usize,
    capacity: usize,
}

// SAFETY: a buffer owns its memory alone, like a `Vec<f32>`.
unsafe impl Send for Buffer {}
// SAFETY: shared references give read access only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// New buffer of zeros.
    pub fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout is never empty (`layout` rounds up to one line).
        let start = unsafe { alloc(layout) }.cast::<f32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if layout.align() == HUGE_PAGE {
            huge_pages(start, layout.size());
        }
        // SAFETY: the block has at least `len` values, and all-zero bytes are valid for f32.
        unsafe { start.write_bytes(0, len) };
        Self { start, len, capacity: len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<f32>()).map(|bytes| bytes.max(LINE));
        let align = if bytes >= Some(2 * HUGE_PAGE) { HUGE_PAGE } else { LINE };
        let layout = bytes.and_then(|bytes| Layout::from_size_align(bytes, align).ok());
        layout.expect("a buffer is smaller than the address space")
    }

    /// Values that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(target_os = "linux")]
fn huge_pages(start: NonNull<f32>, bytes: usize) {
    unsafe extern "C" {
        fn madvise(start: *mut std::ffi::c_void, bytes: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;
    // SAFETY: the range is the caller's own and starts on a page; advice does not change its content, and a
    // refusal only means ordinary pages.
    unsafe { madvise(start.as_ptr().cast(), bytes, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn huge_pages(_: NonNull<f32>, _: usize) {}

/// Asks for huge pages under values that were not touched since they were allocated as zeros: each page that is written
/// first costs a call into the system, and a huge one stands for 512 of them.
pub fn on_large_pages<T>(values: &mut [T]) {
    let range = values.as_mut_ptr_range();
    let skip = (range.start as usize).next_multiple_of(HUGE_PAGE) - range.start as usize;
    let bytes = size_of_val(values).saturating_sub(skip) / HUGE_PAGE * HUGE_PAGE;
    if bytes > 0 {
        // SAFETY: `skip < size_of_val(values)`, as whole pages lie behind it: the pointer stays inside the slice.
        let start = unsafe { values.as_mut_ptr().cast::<u8>().add(skip) };
        huge_pages(NonNull::new(start.cast()).expect("inside a slice"), bytes);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the layout of the same capacity.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) };
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len <= capacity` values were initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Free buffers, handed out again to whoever asks for a fitting length.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Buffer>,
    allocations: usize,
    bytes: usize,
}

impl BufferPool {
    /// A buffer of `len` values with undefined content; the caller writes all of it.
    pub fn take(&mut self, len: usize) -> Buffer {
        let capacities: Vec<usize> = self.free.iter().map(Buffer::capacity).collect();
        if let Some(index) = fitting(&capacities, len) {
            let mut buffer = self.free.swap_remove(index);
            buffer.len = len;
            return buffer;
        }
        let buffer = Buffer::zeroed(len);
        self.allocations += 1;
        self.bytes += len * size_of::<f32>();
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        self.free.push(buffer);
    }

    /// Releases all free buffers to the system.
    pub fn trim(&mut self) {
        self.bytes -= self.free.iter().map(|buffer| buffer.capacity * size_of::<f32>()).sum::<usize>();
        self.free.clear();
    }

    /// How often memory was asked from the system.
    pub fn allocations(&self) -> usize {
        self.allocations
    }

    /// Bytes of all buffers, free or lent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Which of the free buffers of these capacities serves a request of `len` values: the smallest that is
/// large enough and wastes less than a third; `None` means a new one. Public so that a cost estimate can
/// play the pool without memory.
pub fn fitting(capacities: &[usize], len: usize) -> Option<usize> {
    let good = |capacity: usize| capacity >= len && capacity - len <= len / 2;
    (0..capacities.len()).filter(|&i| good(capacities[i])).min_by_key(|&i| capacities[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_are_not_wasted_on_small_requests() {
        let mut pool = BufferPool::default();
        let mut first = pool.take(1000);
        assert_eq!(first.as_ptr() as usize % LINE, 0);
        first[999] = 5.0;
        pool.give(first);
        assert_eq!(pool.take(900).len(), 900);
        let tiny = pool.take(10);
        assert_eq!((tiny.len(), pool.allocations(), pool.bytes()), (10, 2, 4040));
    }

    #[test]
    fn advice_changes_no_value() {
        for len in [0, 3, 5 << 20] {
            let mut values = vec![0u8; len];
            on_large_pages(&mut values);
            assert!(values.iter().all(|v| *v == 0));
        }
    }

    #[test]
    fn large_buffers_start_on_a_huge_page() {
        let buffer = Buffer::zeroed(2 << 20);
        assert_eq!(buffer.as_ptr() as usize % HUGE_PAGE, 0);
        assert!(buffer.iter().all(|&x| x == 0.0));
    }
}
