//! One-dimensional transforms on registers: data in, products out, and their transposes for weights.

#![allow(unsafe_code, reason = "an axis of a tile is transformed in place through a pointer")]

use super::tiling::Axis;
use crate::LANES;
use crate::lanes::Lanes;

/// Interpolation points of tiles of four with three taps: 0, ±P, ±Q, ∞.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const PP: f32 = P * P;
const QQ: f32 = Q * Q;

/// Those of tiles of four with two taps (the odd voxels of a stride of 2): ±R, ±S, ∞. Tiles of two take 0, 1, ∞.
const R: f32 = 0.5;
const S: f32 = 1.25;
const RR: f32 = R * R;
const SS: f32 = S * S;

/// Calls `$body` with the places read and the frequencies of an axis as constants.
macro_rules! with_data {
    ($axis:expr, $N:ident, $A:ident => $body:expr) => {
        with_data!(@ $axis, $N, $A, $body, (Single, 1, 1) (Dense(2), 4, 4) (Dense(_), 6, 6)
            (Halving(2), 5, 5) (Halving(_), 9, 9) (Doubling(2), 3, 5) (Doubling(_), 5, 9))
    };
    (@ $axis:expr, $N:ident, $A:ident, $body:expr, $(($kind:pat, $n:literal, $a:literal))*) => {{
        use $crate::winograd::tiling::Axis::*;
        match $axis { $($kind => { const $N: usize = $n; const $A: usize = $a; $body })* }
    }};
}
pub(super) use with_data;

/// Calls `$body` with the frequencies and the places written of an axis as constants.
macro_rules! with_output {
    ($axis:expr, $A:ident, $M:ident => $body:expr) => {
        with_output!(@ $axis, $A, $M, $body, (Single, 1, 1) (Dense(2), 4, 2) (Dense(_), 6, 4)
            (Halving(2), 5, 2) (Halving(_), 9, 4) (Doubling(2), 5, 4) (Doubling(_), 9, 8))
    };
    (@ $axis:expr, $A:ident, $M:ident, $body:expr, $(($kind:pat, $a:literal, $m:literal))*) => {{
        use $crate::winograd::tiling::Axis::*;
        match $axis { $($kind => { const $A: usize = $a; const $M: usize = $m; $body })* }
    }};
}
pub(super) use with_output;

/// `N` places read to `A` frequencies (Bᵀ).
#[inline(always)]
pub(super) fn data<V: Lanes, const N: usize, const A: usize>(x: [V; N]) -> [V; A] {
    let mut out = [V::zero(); A];
    match (N, A) {
        (4, 4) => {
            out[0] = x[0].sub(x[2]);
            out[1] = x[1].add(x[2]);
            out[2] = x[2].sub(x[1]);
            out[3] = x[1].sub(x[3]);
        }
        (6, 6) => {
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
        (5, 5) => {
            let odd = two_taps_of_two([x[0], x[2], x[4]]);
            out[..3].copy_from_slice(&odd);
            (out[3], out[4]) = (x[1], x[3]);
        }
        (3, 5) => {
            let odd = two_taps_of_two([x[0], x[1], x[2]]);
            out[..3].copy_from_slice(&odd);
            (out[3], out[4]) = (x[0], x[1]);
        }
        (9, 9) => {
            let odd = two_taps_of_four([x[0], x[2], x[4], x[6], x[8]]);
            out[..5].copy_from_slice(&odd);
            for i in 0..4 {
                out[5 + i] = x[2 * i + 1];
            }
        }
        (5, 9) => {
            let odd = two_taps_of_four([x[0], x[1], x[2], x[3], x[4]]);
            out[..5].copy_from_slice(&odd);
            out[5..9].copy_from_slice(&x[..4]);
        }
        _ => out[0] = x[0],
    }
    out
}

#[inline(always)]
fn two_taps_of_two<V: Lanes>(x: [V; 3]) -> [V; 3] {
    [x[0].sub(x[1]), x[1], x[2].sub(x[1])]
}

#[inline(always)]
fn two_taps_of_four<V: Lanes>(x: [V; 5]) -> [V; 5] {
    let by = |value: f32| V::splat(value);
    let (even_s, odd_s) = (x[1].fma(by(-SS), x[3]), x[0].fma(by(-SS), x[2]));
    let (even_r, odd_r) = (x[1].fma(by(-RR), x[3]), x[0].fma(by(-RR), x[2]));
    [
        odd_s.fma(by(R), even_s),
        odd_s.fma(by(-R), even_s),
        odd_r.fma(by(S), even_r),
        odd_r.fma(by(-S), even_r),
        x[2].fma(by(-(RR + SS)), x[0].fma(by(RR * SS), x[4])),
    ]
}

/// `A` frequencies to `M` places written (Aᵀ).
#[inline(always)]
pub(super) fn output<V: Lanes, const A: usize, const M: usize>(x: [V; A]) -> [V; M] {
    let mut out = [V::zero(); M];
    match (A, M) {
        (4, 2) => {
            out[0] = x[0].add(x[1]).add(x[2]);
            out[1] = x[1].sub(x[2]).sub(x[3]);
        }
        (6, 4) => {
            let by = |value: f32| V::splat(value);
            let (p, q) = (x[1].add(x[2]), x[3].add(x[4]));
            let (dp, dq) = (x[1].sub(x[2]), x[3].sub(x[4]));
            out[0] = x[0].add(p).add(q);
            out[1] = dq.fma(by(Q), dp.mul(by(P)));
            out[2] = q.fma(by(QQ), p.mul(by(PP)));
            out[3] = dq.fma(by(Q * QQ), dp.fma(by(P * PP), x[5]));
        }
        (5, 2) => {
            out[0] = x[0].add(x[1]).add(x[3]);
            out[1] = x[1].add(x[2]).add(x[4]);
        }
        (5, 4) => {
            (out[0], out[2]) = (x[3], x[4]);
            out[1] = x[0].add(x[1]);
            out[3] = x[1].add(x[2]);
        }
        (9, 4) => {
            let odd = four_of_two_taps([x[0], x[1], x[2], x[3], x[4]]);
            for i in 0..4 {
                out[i] = odd[i].add(x[5 + i]);
            }
        }
        (9, 8) => {
            let odd = four_of_two_taps([x[0], x[1], x[2], x[3], x[4]]);
            for i in 0..4 {
                (out[2 * i], out[2 * i + 1]) = (x[5 + i], odd[i]);
            }
        }
        _ => out[0] = x[0],
    }
    out
}

#[inline(always)]
fn four_of_two_taps<V: Lanes>(x: [V; 5]) -> [V; 4] {
    let by = |value: f32| V::splat(value);
    let (r, s) = (x[0].add(x[1]), x[2].add(x[3]));
    let (dr, ds) = (x[0].sub(x[1]), x[2].sub(x[3]));
    [
        r.add(s),
        ds.fma(by(S), dr.mul(by(R))),
        s.fma(by(SS), r.mul(by(RR))),
        ds.fma(by(S * SS), dr.fma(by(R * RR), x[4])),
    ]
}

/// `M` output gradients to `A` frequencies (A).
#[inline(always)]
pub(super) fn gradient<V: Lanes, const M: usize, const A: usize>(x: [V; M]) -> [V; A] {
    let mut out = [V::zero(); A];
    match (M, A) {
        (2, 4) => {
            out[0] = x[0];
            out[1] = x[0].add(x[1]);
            out[2] = x[0].sub(x[1]);
            out[3] = V::zero().sub(x[1]);
        }
        (4, 6) => {
            let [p, minus_p] = at_points([x[0], x[1], x[2], x[3]], P);
            let [q, minus_q] = at_points([x[0], x[1], x[2], x[3]], Q);
            out.copy_from_slice(&[x[0], p, minus_p, q, minus_q, x[3]]);
        }
        (2, 5) => out.copy_from_slice(&[x[0], x[0].add(x[1]), x[1], x[0], x[1]]),
        (4, 9) => {
            let [r, minus_r] = at_points([x[0], x[1], x[2], x[3]], R);
            let [s, minus_s] = at_points([x[0], x[1], x[2], x[3]], S);
            out[..5].copy_from_slice(&[r, minus_r, s, minus_s, x[3]]);
            out[5..].copy_from_slice(&x);
        }
        _ => out[0] = x[0],
    }
    out
}

/// The polynomial with these coefficients at `point` and at `-point`.
#[inline(always)]
fn at_points<V: Lanes>(x: [V; 4], point: f32) -> [V; 2] {
    let square = V::splat(point * point);
    let (even, odd) = (x[2].fma(square, x[0]), x[3].fma(square, x[1]));
    [odd.fma(V::splat(point), even), odd.fma(V::splat(-point), even)]
}

/// The matrix G of an axis, different frequencies by taps.
pub(super) fn weight_matrix(axis: Axis) -> Vec<Vec<f32>> {
    let powers = |x: f64, other: f64, least: i32| {
        let scale = 2.0 * x.powi(least) * (x * x - other * other);
        [0, 1, 2].map(|k| (x.powi(k) / scale) as f32)
    };
    match axis {
        Axis::Single => vec![vec![1.0]],
        Axis::Dense(2) => {
            vec![vec![1.0, 0.0, 0.0], vec![0.5, 0.5, 0.5], vec![0.5, -0.5, 0.5], vec![0.0, 0.0, 1.0]]
        }
        Axis::Dense(_) => {
            let (p, q) = (f64::from(P), f64::from(Q));
            let row = |x, other| powers(x, other, 2).to_vec();
            let first = vec![(1.0 / (p * p * q * q)) as f32, 0.0, 0.0];
            vec![first, row(p, q), row(-p, q), row(q, p), row(-q, p), vec![0.0, 0.0, 1.0]]
        }
        Axis::Halving(2) | Axis::Doubling(2) => {
            vec![vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0], vec![0.0, 1.0, 0.0]]
        }
        Axis::Halving(_) | Axis::Doubling(_) => {
            let (r, s) = (f64::from(R), f64::from(S));
            let row = |x, other| {
                let [low, high, _] = powers(x, other, 1);
                vec![low, 0.0, high]
            };
            let last = [vec![0.0, 0.0, 1.0], vec![0.0, 1.0, 0.0]];
            [vec![row(r, s), row(-r, s), row(s, r), row(-s, r)], last.to_vec()].concat()
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
pub(super) const TILE_VALUES: usize = 9 * 9 * 9 * LANES;

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

    /// `output(G w ∘ data(x))` for `w`.
    fn filtered<const N: usize, const A: usize, const M: usize>(
        axis: Axis,
        w: [f32; 3],
        x: &[f32],
    ) -> Vec<f32> {
        let mut spread = [Portable::zero(); N];
        (0..N).for_each(|i| spread[i] = Portable::splat(x[i]));
        let mut product = data::<Portable, N, A>(spread);
        let matrix = weight_matrix(axis);
        for (f, value) in product.iter_mut().enumerate() {
            let u: f32 = matrix[f.min(matrix.len() - 1)].iter().zip(&w).map(|(g, w)| g * w).sum();
            *value = value.mul(Portable::splat(u));
        }
        output::<Portable, A, M>(product).into_iter().map(lane0).collect()
    }

    #[test]
    fn the_transforms_correlate() {
        let w = [0.3f32, -1.1, 0.7];
        let x: Vec<f32> = (0..9).map(|i| (i as f32 * 1.7).sin()).collect();
        let close = |found: Vec<f32>, expected: &dyn Fn(usize) -> f32| {
            for (i, y) in found.into_iter().enumerate() {
                assert!((y - expected(i)).abs() < 1e-5, "{i}: {y} {}", expected(i));
            }
        };
        let dense = |i: usize| (0..3).map(|k| w[k] * x[i + k]).sum();
        close(filtered::<4, 4, 2>(Axis::Dense(2), w, &x), &dense);
        close(filtered::<6, 6, 4>(Axis::Dense(4), w, &x), &dense);
        let halving = |i: usize| (0..3).map(|k| w[k] * x[2 * i + k]).sum();
        close(filtered::<5, 5, 2>(Axis::Halving(2), w, &x), &halving);
        close(filtered::<9, 9, 4>(Axis::Halving(4), w, &x), &halving);
        let doubling = |i: usize| {
            if i.is_multiple_of(2) { w[1] * x[i / 2] } else { w[0] * x[i / 2] + w[2] * x[i / 2 + 1] }
        };
        close(filtered::<3, 5, 4>(Axis::Doubling(2), w, &x), &doubling);
        close(filtered::<5, 9, 8>(Axis::Doubling(4), w, &x), &doubling);
    }

    fn transposes<const A: usize, const M: usize>() {
        for f in 0..A {
            for m in 0..M {
                let mut x = [Portable::zero(); A];
                x[f] = Portable::splat(1.0);
                let mut g = [Portable::zero(); M];
                g[m] = Portable::splat(1.0);
                let forward = lane0(output::<Portable, A, M>(x)[m]);
                let back = lane0(gradient::<Portable, M, A>(g)[f]);
                assert!((forward - back).abs() < 1e-6, "{A} {M}: {forward} {back}");
            }
        }
    }

    #[test]
    fn the_gradient_transform_is_the_transpose_of_the_output_transform() {
        transposes::<4, 2>();
        transposes::<6, 4>();
        transposes::<5, 2>();
        transposes::<9, 4>();
    }
}
