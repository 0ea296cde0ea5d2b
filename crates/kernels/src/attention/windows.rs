//! Windows over a grid, shifted or not, and the table of relative positions.

use super::Sequence;
use super::block::OTHER_REGION;
use crate::Grid;
use crate::tensor_blocks::check;

/// A grid cut into windows that do not overlap; with a shift the grid is first rolled by it, and tokens that were not
/// neighbours before do not attend to each other (their scores are 100 lower).
#[derive(Clone, PartialEq, Debug)]
pub struct Windows {
    grid: Grid,
    /// Tokens per window.
    tokens: usize,
    /// Rows of a sample, window by window.
    rows: Vec<u32>,
    /// Region of every token, window by window; empty without a shift.
    regions: Vec<f32>,
    /// Rows with the samples added, `[n, windows, tokens]`.
    per_sample: usize,
}

impl Windows {
    /// `window` divides the grid; the shift, `(z, y, x)`, is less than the window.
    pub fn new(grid: Grid, window: [usize; 3], shift: [usize; 3]) -> Self {
        for a in 0..3 {
            let whole = window[a] > 0 && grid.size[a].is_multiple_of(window[a]);
            assert!(whole, "axis {a}: {} voxels are no multiple of a window of {}", grid.size[a], window[a]);
            assert!(shift[a] < window[a], "axis {a}: a shift of {} in a window of {}", shift[a], window[a]);
        }
        let counts = [0, 1, 2].map(|a| grid.size[a] / window[a]);
        let tokens: usize = window.iter().product();
        let shifted = shift != [0; 3];
        let (mut rows, mut regions) = (Vec::with_capacity(grid.voxels()), Vec::new());
        for w in 0..counts.iter().product() {
            let corner = place(w, counts);
            for t in 0..tokens {
                let inner = place(t, window);
                let rolled = [0, 1, 2].map(|a| corner[a] * window[a] + inner[a]);
                let voxel = [0, 1, 2].map(|a| (rolled[a] + shift[a]) % grid.size[a]);
                rows.push(((voxel[0] * grid.size[1] + voxel[1]) * grid.size[2] + voxel[2]) as u32);
                if shifted {
                    let region = |a: usize| {
                        let left = grid.size[a] - rolled[a];
                        usize::from(left <= window[a]) + usize::from(left <= shift[a])
                    };
                    regions.push(((region(0) * 3 + region(1)) * 3 + region(2)) as f32);
                }
            }
        }
        let per_sample = counts.iter().product();
        Self { grid, tokens, rows, regions, per_sample }
    }

    /// Windows of all samples.
    pub fn count(&self) -> usize {
        self.grid.n * self.per_sample
    }

    /// Tokens of a window.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Rows of a sample, window by window.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// What a shift adds to the scores of a sample, `[windows, tokens, tokens]`: zero, or -100 between tokens that do
    /// not attend to each other.
    pub fn far(&self) -> Option<Vec<f32>> {
        let pairs = |own: &[f32]| -> Vec<f32> {
            let apart = |q: &f32, k: &f32| if q == k { 0.0 } else { OTHER_REGION };
            own.iter().flat_map(|q| own.iter().map(move |k| apart(q, k))).collect()
        };
        (!self.regions.is_empty()).then(|| self.regions.chunks(self.tokens).flat_map(pairs).collect())
    }

    pub(super) fn sequence(&self, index: usize) -> Sequence<'_> {
        let (n, window) = (index / self.per_sample, index % self.per_sample);
        let own = window * self.tokens..(window + 1) * self.tokens;
        let regions = (!self.regions.is_empty()).then(|| &self.regions[own.clone()]);
        Sequence { first: [n * self.grid.voxels(); 2], rows: Some(&self.rows[own]), regions }
    }
}

fn place(index: usize, size: [usize; 3]) -> [usize; 3] {
    [index / (size[1] * size[2]), index / size[2] % size[1], index % size[2]]
}

/// A learnt bias per head and offset between two tokens of a window: the table is
/// `[(2z - 1)(2y - 1)(2x - 1), heads]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelativePositions {
    /// Window, `(z, y, x)`.
    pub window: [usize; 3],
    /// Number of heads.
    pub heads: usize,
}

impl RelativePositions {
    /// Values of the table.
    pub fn table_len(&self) -> usize {
        self.window.iter().map(|w| 2 * w - 1).product::<usize>() * self.heads
    }

    fn index(&self, query: usize, key: usize) -> usize {
        let (q, k) = (place(query, self.window), place(key, self.window));
        (0..3).fold(0, |index, a| index * (2 * self.window[a] - 1) + q[a] + self.window[a] - 1 - k[a])
    }

    /// The bias of all pairs of tokens, `[heads, tokens, tokens]`.
    pub fn bias(&self, table: &[f32]) -> Vec<f32> {
        check("table of relative positions", table.len(), self.table_len());
        let tokens: usize = self.window.iter().product();
        let mut bias = vec![0.0; self.heads * tokens * tokens];
        for q in 0..tokens {
            for k in 0..tokens {
                let entry = self.index(q, k) * self.heads;
                for head in 0..self.heads {
                    bias[(head * tokens + q) * tokens + k] = table[entry + head];
                }
            }
        }
        bias
    }

    /// The gradient of the bias to that of the table, overwritten.
    pub fn gradient(&self, grad_bias: &[f32], grad_table: &mut [f32]) {
        let tokens: usize = self.window.iter().product();
        check("gradient of the bias", grad_bias.len(), self.heads * tokens * tokens);
        check("gradient of the table", grad_table.len(), self.table_len());
        let mut sums = vec![0.0f64; grad_table.len()];
        for q in 0..tokens {
            for k in 0..tokens {
                let entry = self.index(q, k) * self.heads;
                for head in 0..self.heads {
                    sums[entry + head] += f64::from(grad_bias[(head * tokens + q) * tokens + k]);
                }
            }
        }
        grad_table.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
    }
}
