//! Sixteen `f32` that are computed together, for each instruction set.

#![allow(unsafe_code, reason = "loads and stores go through pointers that the kernels have checked")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use crate::cpu::Kernel;
use half::{bf16, f16};

/// Words of the quarter rounds of a double round: columns, then diagonals.
const CHACHA: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

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
    /// Reads bfloat16.
    ///
    /// # Safety
    /// Sixteen values can be read.
    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: as promised by the caller; both arrays have sixteen values.
        unsafe {
            let wide: [f32; 16] = from.cast::<[bf16; 16]>().read_unaligned().map(bf16::to_f32);
            Self::load(wide.as_ptr())
        }
    }
    /// Writes bfloat16, rounded to the nearest, ties to even; what is not a number stays so.
    ///
    /// # Safety
    /// Sixteen values can be written.
    #[inline(always)]
    unsafe fn round_to(self, to: *mut bf16) {
        let mut wide = [0.0; 16];
        // SAFETY: as promised by the caller; the array has sixteen values.
        unsafe {
            self.store(wide.as_mut_ptr());
            to.cast::<[bf16; 16]>().write_unaligned(wide.map(bf16::from_f32));
        }
    }
    fn splat(value: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self · by + plus`
    fn fma(self, by: Self, plus: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` where either is not a number.
    fn min(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The nearest whole number, ties to the even one.
    fn round(self) -> Self;
    /// `2^self` for whole numbers from -126 to 127.
    fn power_of_two(self) -> Self;
    /// `self` where `sign` is above zero, elsewhere `other`.
    fn where_positive(self, sign: Self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// # Safety
    /// Sixteen halves can be read.
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        let mut values = [0.0; 16];
        for (i, value) in values.iter_mut().enumerate() {
            // SAFETY: as promised by the caller.
            *value = f16::from_bits(unsafe { *from.add(i) }).to_f32();
        }
        // SAFETY: the array has sixteen values.
        unsafe { Self::load(values.as_ptr()) }
    }
    /// Rounds to the nearest half, ties to the even one.
    ///
    /// # Safety
    /// Sixteen halves can be written.
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        let mut values = [0.0; 16];
        // SAFETY: the array has sixteen values; the caller vouches for `to`.
        unsafe {
            self.store(values.as_mut_ptr());
            values.iter().enumerate().for_each(|(i, value)| *to.add(i) = f16::from_f32(*value).to_bits());
        }
    }
    /// Values at sixteen indices from `from` on.
    ///
    /// # Safety
    /// Sixteen indices can be read, all lie in 0 to 31, and 32 values can be read.
    #[inline(always)]
    unsafe fn pick(from: *const f32, index: *const i32) -> Self {
        let mut values = [0.0; 16];
        for (i, value) in values.iter_mut().enumerate() {
            // SAFETY: as promised by the caller.
            *value = unsafe { *from.add(*index.add(i) as usize) };
        }
        // SAFETY: the array has sixteen values.
        unsafe { Self::load(values.as_ptr()) }
    }
    /// Double rounds of ChaCha on sixteen blocks, word `w` of block `b` at `[w][b]`.
    #[inline(always)]
    fn chacha(state: &mut [[u32; 16]; 16], double_rounds: usize) {
        for _ in 0..double_rounds {
            for [a, b, c, d] in CHACHA {
                for [turn, other] in [[16, 12], [8, 7]] {
                    for i in 0..16 {
                        state[a][i] = state[a][i].wrapping_add(state[b][i]);
                        state[d][i] = (state[d][i] ^ state[a][i]).rotate_left(turn);
                        state[c][i] = state[c][i].wrapping_add(state[d][i]);
                        state[b][i] = (state[b][i] ^ state[c][i]).rotate_left(other);
                    }
                }
            }
        }
    }
    /// Some value is above its counterpart.
    fn any_above(self, other: Self) -> bool;

    /// `e^self` to 1.5 units in the last place; 0 below -87, and nothing above 88 grows further.
    #[inline(always)]
    fn exp(self) -> Self {
        let (low, high) = (Self::splat(-87.0), Self::splat(88.0));
        // In this order what is not a number stays so.
        let x = high.min(low.max(self));
        let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
        // The logarithm of 2 in two parts, the first of which has few enough digits to multiply exactly.
        let r = n.fma(Self::splat(-0.693_145_75), x);
        let r = n.fma(Self::splat(-1.428_606_8e-6), r);
        let mut sum = Self::splat(1.0 / 5040.0);
        for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum.fma(r, Self::splat(factor));
        }
        Self::zero().where_positive(low.sub(self), sum.mul(n.power_of_two()))
    }

    /// Sum of the sixteen values, pairwise.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut values = [0.0; 16];
        // SAFETY: the array has sixteen values.
        unsafe { self.store(values.as_mut_ptr()) };
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                values[i] += values[i + half];
            }
        }
        values[0]
    }

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
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no place for a fraction; valid below 2^22, where all callers stay.
        const SHIFT: f32 = 12_582_912.0;
        self.zip(self, |a, _| (a + SHIFT) - SHIFT)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }

    #[inline(always)]
    fn any_above(self, other: Self) -> bool {
        self.0.iter().zip(other.0).fold(false, |any, (a, b)| any | (*a > b))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Task};
    use std::cell::Cell;

    struct Halves {
        x: [f32; 16],
        out: Cell<([bf16; 16], [f32; 16])>,
    }

    impl Task for Halves {
        fn run<V: Lanes>(&self) {
            V::call(self);
        }
    }

    impl Kernel for Halves {
        #[inline(always)]
        fn run<V: Lanes>(&self) {
            let mut out = ([bf16::ZERO; 16], [0.0; 16]);
            // SAFETY: all arrays have sixteen values.
            unsafe {
                V::load(self.x.as_ptr()).round_to(out.0.as_mut_ptr());
                V::widen(out.0.as_ptr()).store(out.1.as_mut_ptr());
            }
            self.out.set(out);
        }
    }

    #[test]
    fn bfloat16_is_rounded_as_by_the_crate() {
        // All exponents, with mantissas below, at and above the middle between two neighbours.
        let tails = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0x1_7fff, 0x1_8000, 0x1_8001, 0x7f_8000, 0x7f_ffff];
        let bits = (0..512u32).flat_map(|top| tails.map(|tail| f32::from_bits((top << 23) | tail)));
        let values: Vec<f32> = bits.collect();
        for cpu in Cpu::available() {
            for x in values.as_chunks::<16>().0 {
                let halves = Halves { x: *x, out: Cell::default() };
                cpu.run(&halves);
                let (rounded, wide) = halves.out.get();
                for i in 0..16 {
                    let good = bf16::from_f32(x[i]);
                    if x[i].is_nan() {
                        assert!(wide[i].is_nan(), "{} {:x}", cpu.name(), x[i].to_bits());
                        continue;
                    }
                    assert_eq!(rounded[i], good, "{} {:x}", cpu.name(), x[i].to_bits());
                    assert_eq!(wide[i], good.to_f32(), "{}", cpu.name());
                }
            }
        }
    }

    struct Functions {
        x: [f32; 16],
        out: Cell<[[f32; 16]; 3]>,
    }

    impl Task for Functions {
        fn run<V: Lanes>(&self) {
            V::call(self);
        }
    }

    impl Kernel for Functions {
        #[inline(always)]
        fn run<V: Lanes>(&self) {
            let mut out = [[0.0; 16]; 3];
            // SAFETY: all arrays have sixteen values.
            unsafe {
                let x = V::load(self.x.as_ptr());
                x.exp().store(out[0].as_mut_ptr());
                x.round().store(out[1].as_mut_ptr());
                V::splat(x.sum()).store(out[2].as_mut_ptr());
            }
            self.out.set(out);
        }
    }

    #[test]
    fn exponential_rounding_and_sum_are_those_of_the_scalars() {
        for cpu in Cpu::available() {
            for start in (-90..88).step_by(3) {
                let x: [f32; 16] = std::array::from_fn(|i| start as f32 + i as f32 * 0.173);
                let functions = Functions { x, out: Cell::default() };
                cpu.run(&functions);
                let [exp, round, sum] = functions.out.get();
                for (i, &x) in x.iter().enumerate() {
                    let good = if x < -87.0 { 0.0 } else { f64::from(x.min(88.0)).exp() };
                    assert!(
                        (f64::from(exp[i]) - good).abs() <= 2e-7 * good,
                        "{} exp {x}: {}",
                        cpu.name(),
                        exp[i]
                    );
                    assert_eq!(round[i], x.round_ties_even(), "{}", cpu.name());
                }
                let good: f64 = x.iter().map(|&x| f64::from(x)).sum();
                assert!((f64::from(sum[0]) - good).abs() < 1e-3, "{}", cpu.name());
            }
            let functions = Functions { x: [f32::NAN; 16], out: Cell::default() };
            cpu.run(&functions);
            assert!(functions.out.get()[0][3].is_nan(), "{}", cpu.name());
        }
    }
}
