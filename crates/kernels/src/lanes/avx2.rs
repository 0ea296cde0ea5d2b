//! AVX2, FMA and F16C: sixteen values are two registers, sixteen registers.

#![allow(unsafe_code, reason = "intrinsics; values of this type exist only after the processor was asked")]

use super::Lanes;
use crate::cpu::Kernel;
use half::bf16;
use std::arch::x86_64::*;

/// Two 256-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

#[target_feature(enable = "avx2,fma,f16c")]
fn enter<K: Kernel>(kernel: &K) {
    kernel.run::<Avx2>();
}

/// The bits of the nearest bfloat16, in the lower half of each lane.
///
/// # Safety
/// Feature as in `call`.
#[inline(always)]
unsafe fn round(x: __m256) -> __m256i {
    // SAFETY: as promised by the caller.
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        // Carries must not turn what is not a number into one.
        let number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(x, x));
        let bits = _mm256_blendv_epi8(_mm256_set1_epi32(0x7fc0_0000), rounded, number);
        _mm256_srli_epi32::<16>(bits)
    }
}

impl Lanes for Avx2 {
    const PIXELS: usize = 6;
    const COLUMNS: usize = 1;
    const ROWS: usize = 4;

    fn call<K: Kernel>(kernel: &K) {
        // SAFETY: `Cpu::available` found the features before this type was chosen.
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch reads nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe {
            let [low, high] = [0, 8].map(|i| {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(i).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            });
            Self(low, high)
        }
    }

    #[inline(always)]
    unsafe fn round_to(self, to: *mut bf16) {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe {
            let (low, high) = (round(self.0), round(self.1));
            // Packing works on halves of the registers, hence the order behind it.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            _mm256_storeu_si256(to.cast(), packed);
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: features as in `call`.
        let value = unsafe { _mm256_set1_ps(value) };
        Self(value, value)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn fma(self, by: Self, plus: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_fmadd_ps(self.0, by.0, plus.0), _mm256_fmadd_ps(self.1, by.1, plus.1)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: features as in `call`.
        unsafe {
            let power = |x: __m256| {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            };
            Self(power(self.0), power(self.1))
        }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: features as in `call`.
        unsafe { Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe {
            let half = |at: *const u16| _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
            Self(half(from), half(from.add(8)))
        }
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        // SAFETY: features as in `call`; the caller vouches for the memory.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
    }

    #[inline(always)]
    unsafe fn pick(from: *const f32, index: *const i32) -> Self {
        // SAFETY: features as in `call`; the caller vouches for indices and memory.
        unsafe {
            let gather = |index: *const i32| _mm256_i32gather_ps::<4>(from, _mm256_loadu_si256(index.cast()));
            Self(gather(index), gather(index.add(8)))
        }
    }

    #[inline(always)]
    fn any_above(self, other: Self) -> bool {
        // SAFETY: features as in `call`.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0);
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1);
            _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0
        }
    }

    #[inline(always)]
    fn where_positive(self, sign: Self, other: Self) -> Self {
        // SAFETY: features as in `call`.
        unsafe {
            let zero = _mm256_setzero_ps();
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(sign.0, zero);
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(sign.1, zero);
            Self(_mm256_blendv_ps(other.0, self.0, low), _mm256_blendv_ps(other.1, self.1, high))
        }
    }
}
