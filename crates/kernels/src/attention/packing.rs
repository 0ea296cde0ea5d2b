//! One head of some tokens in the orders that products read, and the product itself.

use super::{Attention, KEYS, Sequence, View};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;
use crate::padded;
use crate::product::{add_products, even_runs, group_width, with_count};
use crate::tensor_blocks::check;

/// Tokens rounded up to whole blocks of keys.
pub(super) fn whole(tokens: usize) -> usize {
    tokens.next_multiple_of(KEYS)
}

/// Some rows of a head, `[count, padded(head channels)]`, times `scale`.
pub(super) fn pack_rows(
    of: &Attention,
    view: &View,
    (sequence, side, head): (&Sequence, usize, usize),
    tokens: std::ops::Range<usize>,
    scale: f32,
    out: &mut [f32],
) {
    let (d, wide) = (of.head_channels, padded(of.head_channels));
    for (token, out) in tokens.zip(out.chunks_exact_mut(wide)) {
        let first = sequence.row(side, token) * view.width + view.first + head * d;
        out[d..].fill(0.0);
        out[..d].iter_mut().zip(&view.values[first..first + d]).for_each(|(to, from)| *to = scale * from);
    }
}

/// Rows to `[groups of tokens, head channels, columns, 16]`: tokens in the lanes. Tokens beyond the last are zero.
pub(super) fn pack_across(rows: &[f32], d: usize, columns: usize, out: &mut [f32]) {
    let (wide, group) = (padded(d), columns * LANES);
    for (g, out) in out.chunks_exact_mut(d * group).enumerate() {
        out.fill(0.0);
        for (t, row) in rows.chunks_exact(wide).skip(g * group).take(group).enumerate() {
            for (c, &value) in row[..d].iter().enumerate() {
                out[c * group + t] = value;
            }
        }
    }
}

/// Rows to `[groups of channels, tokens, columns of the group, 16]`: channels in the lanes. `tokens` is the number of
/// tokens with those beyond the last, which are zero.
pub(super) fn pack_along(rows: &[f32], d: usize, columns: usize, tokens: usize, out: &mut [f32]) {
    let (wide, blocks) = (padded(d), padded(d) / LANES);
    for g in 0..blocks.div_ceil(columns) {
        let (first, width) = (g * columns * LANES, group_width(blocks, columns, g) * LANES);
        let out = &mut out[first * tokens..(first + width) * tokens];
        for (t, to) in out.chunks_exact_mut(width).enumerate() {
            match rows.get(t * wide..(t + 1) * wide) {
                Some(row) => to.copy_from_slice(&row[first..first + width]),
                None => to.fill(0.0),
            }
        }
    }
}

/// The transpose of [`pack_along`]: group-wise sums back to rows.
pub(super) fn unpack_along(
    sums: &[f32],
    d: usize,
    columns: usize,
    tokens: usize,
    mut write: impl FnMut(usize, usize, &[f32]),
) {
    let blocks = padded(d) / LANES;
    for g in 0..blocks.div_ceil(columns) {
        let (first, width) = (g * columns * LANES, group_width(blocks, columns, g) * LANES);
        let own = &sums[first * tokens..(first + width) * tokens];
        for (t, row) in own.chunks_exact(width).enumerate() {
            write(t, first, &row[..width.min(d.saturating_sub(first))]);
        }
    }
}

/// `to = a · weights` or `to += a · weights`: `rows` rows of `run` values, and `columns` vectors of weights per value.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub a: &'a [f32],
    pub a_row: usize,
    pub rows: usize,
    pub run: usize,
    pub weights: &'a [f32],
    pub columns: usize,
    pub to_row: usize,
    pub add: bool,
}

impl Product<'_> {
    /// Runs it; `to` has `rows` rows.
    pub(super) fn run<V: Lanes>(&self, to: &mut [f32]) {
        assert!(self.a.len() >= (self.rows - 1) * self.a_row + self.run, "rows of a product");
        check("weights of a product", self.weights.len(), self.run * self.columns * LANES);
        assert!(to.len() >= (self.rows - 1) * self.to_row + self.columns * LANES, "target of a product");
        for (first, count) in even_runs(self.rows, V::PIXELS) {
            let (a, to) = (self.a[first * self.a_row..].as_ptr(), to[first * self.to_row..].as_mut_ptr());
            with_count!(count, N => match self.columns {
                1 => V::call(&Rows::<N, 1> { product: *self, a, to }),
                2 => V::call(&Rows::<N, 2> { product: *self, a, to }),
                other => unreachable!("a product of {other} columns"),
            });
        }
    }
}

struct Rows<'a, const N: usize, const C: usize> {
    product: Product<'a>,
    a: *const f32,
    to: *mut f32,
}

impl<const N: usize, const C: usize> Kernel for Rows<'_, N, C> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let Product { a_row, run, weights, to_row, add, .. } = self.product;
        // SAFETY: `Product::run` checked that `N` rows of both sides and the weights are there.
        unsafe {
            let mut sums = [[V::zero(); C]; N];
            if add {
                for n in 0..N {
                    for c in 0..C {
                        sums[n][c] = V::load(self.to.add(n * to_row + c * LANES));
                    }
                }
            }
            let at: [*const f32; N] = std::array::from_fn(|n| self.a.wrapping_add(n * a_row));
            add_products::<V, N, C, 0>(&mut sums, &at, &[0], run, weights.as_ptr());
            for n in 0..N {
                for c in 0..C {
                    sums[n][c].store(self.to.add(n * to_row + c * LANES));
                }
            }
        }
    }
}
