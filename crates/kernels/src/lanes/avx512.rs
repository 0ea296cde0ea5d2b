//! AVX-512F: sixteen values are one register, thirty-two registers.

#![allow(unsafe_code, reason = "intrinsics; values of this type exist only after the processor was asked")]

use super::{CHACHA, Lanes};
use crate::cpu::Kernel;
use half::bf16;
use std::arch::x86_64::*;

/// One 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

#[target_feature(enable = "avx512f,avx2,fma")]
fn enter<K: Kernel>(kernel: &K) {
    kernel.run::<Avx512>();
}

/// A quarter round of ChaCha on sixteen blocks.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn quarter(s: &mut [__m512i; 16], [a, b, c, d]: [usize; 4]) {
    // SAFETY: as promised by the caller.
    unsafe {
        s[a] = _mm512_add_epi32(s[a], s[b]);
        s[d] = _mm512_rol_epi32::<16>(_mm512_xor_si512(s[d], s[a]));
        s[c] = _mm512_add_epi32(s[c], s[d]);
        s[b] = _mm512_rol_epi32::<12>(_mm512_xor_si512(s[b], s[c]));
        s[a] = _mm512_add_epi32(s[a], s[b]);
        s[d] = _mm512_rol_epi32::<8>(_mm512_xor_si512(s[d], s[a]));
        s[c] = _mm512_add_epi32(s[c], s[d]);
        s[b] = _mm512_rol_epi32::<7>(_mm512_xor_si512(s[b], s[c]));
    }
}

impl Lanes for Avx512 {
    const PIXELS: usize = 14;
    const COLUMNS: usize = 2;
    const ROWS: usize = 8;

    fn call<K: Kernel>(kernel: &K) {
        // SAFETY: `Cpu::available` found the feature before this type was chosen.
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: feature as in `call`; the caller vouches for memory and alignment.
        unsafe { _mm512_stream_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn widen(from: *const bf16) -> Self {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
        }
    }

    #[inline(always)]
    unsafe fn round_to(self, to: *mut bf16) {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // Carries must not turn what is not a number into one.
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(self.0, self.0);
            let bits = _mm512_mask_blend_epi32(number, _mm512_set1_epi32(0x7fc0_0000), rounded);
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits)));
        }
    }

    #[inline(always)]
    fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch reads nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn fma(self, by: Self, plus: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_fmadd_ps(self.0, by.0, plus.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), self.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: feature as in `call`.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    unsafe fn pick(from: *const f32, index: *const i32) -> Self {
        // SAFETY: feature as in `call`; the caller vouches for the memory.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            Self(_mm512_permutex2var_ps(low, _mm512_loadu_si512(index.cast()), high))
        }
    }

    #[inline(always)]
    fn chacha(state: &mut [[u32; 16]; 16], double_rounds: usize) {
        // SAFETY: feature as in `call`; every row has sixteen words.
        unsafe {
            let mut s = state.each_ref().map(|row| _mm512_loadu_si512(row.as_ptr().cast()));
            for _ in 0..double_rounds {
                // Written out, so that all sixteen rows stay in registers.
                quarter(&mut s, CHACHA[0]);
                quarter(&mut s, CHACHA[1]);
                quarter(&mut s, CHACHA[2]);
                quarter(&mut s, CHACHA[3]);
                quarter(&mut s, CHACHA[4]);
                quarter(&mut s, CHACHA[5]);
                quarter(&mut s, CHACHA[6]);
                quarter(&mut s, CHACHA[7]);
            }
            for (row, s) in state.iter_mut().zip(s) {
                _mm512_storeu_si512(row.as_mut_ptr().cast(), s);
            }
        }
    }

    #[inline(always)]
    fn any_above(self, other: Self) -> bool {
        // SAFETY: feature as in `call`.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) != 0 }
    }

    #[inline(always)]
    fn where_positive(self, sign: Self, other: Self) -> Self {
        // SAFETY: feature as in `call`.
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sign.0, _mm512_setzero_ps());
            Self(_mm512_mask_blend_ps(positive, other.0, self.0))
        }
    }
}
