//! Sixteen `f32` that are computed together, for each instruction set.

#![allow(unsafe_code, reason = "loads and stores go through pointers that the kernels have checked")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use crate::cpu::Kernel;

/// Sixteen values. Everything is `#[inline(always)]`, so a kernel's loop compiles as one piece inside [`Lanes::call`].
pub(crate) trait Lanes: Copy {
    /// Pixels (or tiles) of one register block of a product.
    const PIXELS: usize;
    /// Vectors of output channels of one register block.
    const COLUMNS: usize;
    /// Rows of one register block of an outer product.
    const ROWS: usize;

    /// Enters a kernel with this instruction set switched on.
    fn call<K: Kernel>(kernel: &K);

    /// # Safety
    /// Sixteen values can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// Sixteen values can be written.
    unsafe fn store(self, to: *mut f32);
    /// Writes past the caches where the instruction set can.
    ///
    /// # Safety
    /// Sixteen values can be written, and `to` is aligned to 64 bytes.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { self.store(to) }
    }
    /// Makes streamed values visible to other threads.
    #[inline(always)]
    fn fence() {}
    /// Asks for a cache line that may lie anywhere.
    #[inline(always)]
    fn prefetch(_: *const f32) {}
    fn splat(value: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self · by + plus`
    fn fma(self, by: Self, plus: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    fn max(self, other: Self) -> Self;
    /// `self` where `sign` is above zero, elsewhere `other`.
    fn where_positive(self, sign: Self, other: Self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
}

/// Plain arrays: any processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = f(self.0[i], other.0[i]);
        }
        Self(out)
    }
}

impl Lanes for Portable {
    const PIXELS: usize = 3;
    const COLUMNS: usize = 1;
    const ROWS: usize = 2;

    fn call<K: Kernel>(kernel: &K) {
        kernel.run::<Self>();
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for sixteen readable values; arrays of f32 have its alignment.
        Self(unsafe { from.cast::<[f32; 16]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for sixteen writable values.
        unsafe { to.cast::<[f32; 16]>().write(self.0) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn fma(self, by: Self, plus: Self) -> Self {
        // Two roundings: `mul_add` is a library call where the processor has no such instruction.
        self.mul(by).add(plus)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn where_positive(self, sign: Self, other: Self) -> Self {
        let mut out = other.0;
        for i in 0..16 {
            if sign.0[i] > 0.0 {
                out[i] = self.0[i];
            }
        }
        Self(out)
    }
}
