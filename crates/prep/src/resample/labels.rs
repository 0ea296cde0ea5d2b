//! Label maps onto another grid: linear weights per label, in the reference's order of arithmetic, because equal
//! scores decide.
//!
//! Source: batchgenerators 0.25.5 `resize_segmentation` on scikit-image 0.26 `resize`.

use super::taps::{self, Linear};
use rayon::prelude::*;

/// What decides where several labels meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TieRule {
    /// The largest score; a tie goes to the nearest voxel's label when it is tied, else to the smallest
    /// (batchgenerators 0.25.5).
    #[default]
    Largest,
    /// The largest label with a score of one half or more, else 0 (batchgenerators 0.25.1).
    Half,
}

impl TieRule {
    /// What a model says about the label maps that it was trained with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Largest => "largest score (batchgenerators 0.25.5)",
            Self::Half => "half or more, later labels on top (batchgenerators up to 0.25.1)",
        }
    }
}

/// Resamples a label map `[z, y, x]` with order 0 or 1.
pub(super) fn volume(values: &[i16], from: [usize; 3], to: [usize; 3], order: u8, rule: TieRule) -> Vec<i16> {
    let near = [0, 1, 2].map(|axis| taps::nearest(from[axis], to[axis], taps::coordinate));
    let linear = [0, 1, 2].map(|axis| taps::linear(from[axis], to[axis], taps::coordinate));
    let mut out = vec![0; to.iter().product()];
    out.par_chunks_exact_mut(to[2]).enumerate().for_each(|(row, out)| {
        let (z, y) = (row / to[1], row % to[1]);
        let input_row = |z: usize, y: usize| &values[(z * from[1] + y) * from[2]..][..from[2]];
        let nearest_row = input_row(near[0][z], near[1][y]);
        if order == 0 {
            out.iter_mut().zip(&near[2]).for_each(|(out, &x)| *out = nearest_row[x]);
            return;
        }
        let corners = Corners::new(&linear[0][z], &linear[1][y], input_row);
        for (x, out) in out.iter_mut().enumerate() {
            let tap = &linear[2][x];
            let first = corners.rows[0][tap.at[0]];
            let uniform = corners.rows.iter().all(|row| row[tap.at[0]] == first && row[tap.at[1]] == first);
            *out = if uniform { first } else { corners.decide(tap, nearest_row[near[2][x]], rule) };
        }
    });
    out
}

/// The four rows of input voxels around a row of output voxels.
struct Corners<'a> {
    rows: [&'a [i16]; 4],
    z: [f64; 2],
    y: [f64; 2],
}

impl<'a> Corners<'a> {
    fn new(z: &Linear, y: &Linear, row: impl Fn(usize, usize) -> &'a [i16]) -> Self {
        let rows = [0, 1, 2, 3].map(|i| row(z.at[i / 2], y.at[i % 2]));
        Self { rows, z: z.weights, y: y.weights }
    }

    fn decide(&self, x: &Linear, nearest: i16, rule: TieRule) -> i16 {
        let mut scores = [(0i16, 0f64); 8];
        let mut count = 0;
        for (i, row) in self.rows.iter().enumerate() {
            for k in 0..2 {
                let weight = self.z[i / 2] * self.y[i % 2] * x.weights[k];
                let label = row[x.at[k]];
                match scores[..count].iter_mut().find(|(l, _)| *l == label) {
                    Some((_, score)) => *score += weight,
                    None => {
                        scores[count] = (label, weight);
                        count += 1;
                    }
                }
            }
        }
        let scores = &scores[..count];
        match rule {
            TieRule::Largest => largest(scores, nearest),
            TieRule::Half => {
                scores.iter().filter(|&&(_, s)| s >= 0.5).map(|&(label, _)| label).max().unwrap_or(0)
            }
        }
    }
}

fn largest(scores: &[(i16, f64)], nearest: i16) -> i16 {
    // The reference clips each label's score to [0, 1] before it compares.
    let clipped = |score: f64| score.clamp(0.0, 1.0);
    let best = scores.iter().map(|&(_, s)| clipped(s)).fold(f64::MIN, f64::max);
    let tied = || scores.iter().filter(|&&(_, s)| clipped(s) == best).map(|&(label, _)| label);
    if tied().any(|label| label == nearest) { nearest } else { tied().min().unwrap_or(nearest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_rule_leaves_three_way_meetings_empty() {
        let values = [1, 2, 3, 4];
        let new = volume(&values, [1, 2, 2], [1, 1, 1], 1, TieRule::Largest);
        let old = volume(&values, [1, 2, 2], [1, 1, 1], 1, TieRule::Half);
        assert_eq!((new, old), (vec![4], vec![0]));
    }
}
