//! One-dimensional transforms on registers: data in, products out, and their transposes for weights.

#![allow(unsafe_code, reason = "an axis of a tile is transformed in place through a pointer")]

use crate::LANES;
use crate::lanes::Lanes;

/// Interpolation points of tiles of four: 0, ±P, ±Q, ∞.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const PP: f32 = P * P;
const QQ: f32 = Q * Q;

/// `A` inputs to `A` frequencies (Bᵀ).
#[inline(always)]
pub(super) fn data<V: Lanes, const A: usize>(x: [V; A]) -> [V; A] {
    let mut out = x;
    if A == 4 {
        out[0] = x[0].sub(x[2]);
        out[1] = x[1].add(x[2]);
        out[2] = x[2].sub(x[1]);
        out[3] = x[1].sub(x[3]);
    } else if A == 6 {
        let by = |value: f32| V::splat(value);
        let (even_q, odd_q) = (x[2].fma(by(-QQ), x[4]), x[1].fma(by(-QQ), x[3]));
        let (even_p, odd_p) = (x[2].fma(by(-PP), x[4]), x[1].fma(by(-PP), x[3]));
        out[0] = x[2].fma(by(-(PP + QQ)), x[0].fma(by(PP * QQ), x[4]));
        out[1] = odd_q.fma(by(P), even_q);
        out[2] = odd_q.fma(by(-P), even_q);
        out[3] = odd_p.fma(by(Q), even_p);
        out[4] = odd_p.fma(by(-Q), even_p);
        out[5] = x[3].fma(by(-(PP + QQ)), x[1].fma(by(PP * QQ), x[5]));
    }
    out
}

/// `A` frequencies to `M` outputs (Aᵀ).
#[inline(always)]
pub(super) fn output<V: Lanes, const A: usize, const M: usize>(x: [V; A]) -> [V; M] {
    let mut out = [V::zero(); M];
    if A == 1 {
        out[0] = x[0];
    } else if A == 4 {
        out[0] = x[0].add(x[1]).add(x[2]);
        out[1] = x[1].sub(x[2]).sub(x[3]);
    } else {
        let by = |value: f32| V::splat(value);
        let (p, q) = (x[1].add(x[2]), x[3].add(x[4]));
        let (dp, dq) = (x[1].sub(x[2]), x[3].sub(x[4]));
        out[0] = x[0].add(p).add(q);
        out[1] = dq.fma(by(Q), dp.mul(by(P)));
        out[2] = q.fma(by(QQ), p.mul(by(PP)));
        out[3] = dq.fma(by(Q * QQ), dp.fma(by(P * PP), x[5]));
    }
    out
}

/// `M` output gradients to `A` frequencies (A).
#[inline(always)]
pub(super) fn gradient<V: Lanes, const M: usize, const A: usize>(x: [V; M]) -> [V; A] {
    let mut out = [V::zero(); A];
    if A == 1 {
        out[0] = x[0];
    } else if A == 4 {
        out[0] = x[0];
        out[1] = x[0].add(x[1]);
        out[2] = x[0].sub(x[1]);
        out[3] = V::zero().sub(x[1]);
    } else {
        let by = |value: f32| V::splat(value);
        let (even_p, odd_p) = (x[2].fma(by(PP), x[0]), x[3].fma(by(PP), x[1]));
        let (even_q, odd_q) = (x[2].fma(by(QQ), x[0]), x[3].fma(by(QQ), x[1]));
        out[0] = x[0];
        out[1] = odd_p.fma(by(P), even_p);
        out[2] = odd_p.fma(by(-P), even_p);
        out[3] = odd_q.fma(by(Q), even_q);
        out[4] = odd_q.fma(by(-Q), even_q);
        out[5] = x[3];
    }
    out
}

/// The matrix G, frequencies by taps, of an axis with `frequencies` (1, 4 or 6).
pub(super) fn weight_matrix(frequencies: usize) -> Vec<Vec<f32>> {
    match frequencies {
        1 => vec![vec![1.0]],
        4 => vec![vec![1.0, 0.0, 0.0], vec![0.5, 0.5, 0.5], vec![0.5, -0.5, 0.5], vec![0.0, 0.0, 1.0]],
        _ => {
            let (p, q) = (f64::from(P), f64::from(Q));
            let row = |x: f64, other: f64| {
                let scale = 2.0 * x * x * (x * x - other * other);
                vec![(1.0 / scale) as f32, (x / scale) as f32, (x * x / scale) as f32]
            };
            let first = vec![(1.0 / (p * p * q * q)) as f32, 0.0, 0.0];
            vec![first, row(p, q), row(-p, q), row(q, p), row(-q, p), vec![0.0, 0.0, 1.0]]
        }
    }
}

/// Reads `N` vectors that lie `step` values apart.
///
/// # Safety
/// They can be read.
#[inline(always)]
pub(super) unsafe fn gather<V: Lanes, const N: usize>(from: *const f32, step: usize) -> [V; N] {
    let mut out = [V::zero(); N];
    for i in 0..N {
        // SAFETY: as promised by the caller.
        out[i] = unsafe { V::load(from.add(i * step)) };
    }
    out
}

/// Writes `N` vectors `step` values apart.
///
/// # Safety
/// They can be written.
#[inline(always)]
pub(super) unsafe fn scatter<V: Lanes, const N: usize>(values: [V; N], to: *mut f32, step: usize) {
    for i in 0..N {
        // SAFETY: as promised by the caller.
        unsafe { values[i].store(to.add(i * step)) };
    }
}

/// Values of the largest tile in the frequency domain.
pub(super) const TILE_VALUES: usize = 6 * 6 * 6 * LANES;

/// Room for one tile of sixteen channels.
#[repr(align(64))]
pub(super) struct TileRoom(pub std::mem::MaybeUninit<[f32; TILE_VALUES]>);

impl TileRoom {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(std::mem::MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Portable;

    fn lane0(v: Portable) -> f32 {
        let mut out = [0.0; LANES];
        // SAFETY: sixteen values fit.
        unsafe { v.store(out.as_mut_ptr()) };
        out[0]
    }

    /// `output(G w ∘ data(x))` is the correlation of `x` with `w`.
    fn correlate<const A: usize, const M: usize>() {
        let w = [0.3f32, -1.1, 0.7];
        let x: Vec<f32> = (0..A).map(|i| (i as f32 * 1.7).sin()).collect();
        let mut spread = [Portable::zero(); A];
        (0..A).for_each(|i| spread[i] = Portable::splat(x[i]));
        let mut product = data::<Portable, A>(spread);
        for (f, row) in weight_matrix(A).iter().enumerate() {
            let u: f32 = row.iter().zip(&w).map(|(g, w)| g * w).sum();
            product[f] = product[f].mul(Portable::splat(u));
        }
        for (i, y) in output::<Portable, A, M>(product).into_iter().enumerate() {
            let expected: f32 = (0..3).map(|k| w[k] * x[i + k]).sum();
            assert!((lane0(y) - expected).abs() < 1e-5, "{A} {i}: {} {expected}", lane0(y));
        }
    }

    #[test]
    fn the_transforms_correlate() {
        correlate::<4, 2>();
        correlate::<6, 4>();
    }

    #[test]
    fn the_gradient_transform_is_the_transpose_of_the_output_transform() {
        for f in 0..6 {
            for m in 0..4 {
                let mut x = [Portable::zero(); 6];
                x[f] = Portable::splat(1.0);
                let mut g = [Portable::zero(); 4];
                g[m] = Portable::splat(1.0);
                let forward = lane0(output::<Portable, 6, 4>(x)[m]);
                let back = lane0(gradient::<Portable, 4, 6>(g)[f]);
                assert!((forward - back).abs() < 1e-6);
            }
        }
    }
}
