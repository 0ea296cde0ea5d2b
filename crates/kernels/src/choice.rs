//! Which algorithm a convolution of a given size uses.

use crate::weight_view::WeightView;
use crate::winograd::{Axis, Tile, Tiling};
use crate::{Grid, LANES};

/// Multiply-adds that take as long as moving one transformed weight (computing, writing and reading it).
const WEIGHT_COST: f64 = 40.0;
/// Multiply-adds that take as long as transforming one value of a tile.
const TRANSFORM_COST: f64 = 8.0;

/// Samples that share the cost of transforming the weights. Not the real number: a sample gets the same algorithm,
/// and so the same bytes, alone and in a batch, in training and in prediction.
const BATCH: usize = 2;

/// Tiles from which on a weight gradient is taken in the frequency domain.
const FEWEST_TILES: usize = 24;

/// An algorithm for a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// Products over all taps.
    Direct,
    /// Minimal filtering with this tile.
    Winograd(Tile),
}

impl Algorithm {
    /// The same for the gradient with respect to the input.
    pub(crate) fn transposed(self) -> Self {
        match self {
            Self::Direct => Self::Direct,
            Self::Winograd(tile) => Self::Winograd(tile.transposed()),
        }
    }

    /// The same for the gradient with respect to the weights, whose sums are moved for every frequency, not for every
    /// tap: with few tiles that costs more than the products, and with stride 2 half as many sums are worth more products.
    pub(crate) fn of_weights(self, read: Grid, written: Grid) -> Self {
        match self {
            Self::Winograd(Tile([Axis::Halving(_), y, x])) => Self::Winograd(Tile([Axis::Halving(2), y, x])),
            Self::Winograd(tile) if Tiling::new(tile, read, written).count() < FEWEST_TILES => Self::Direct,
            other => other,
        }
    }
}

/// The cheapest algorithm by count of operations, in terms of the forward pass from grid `read` to grid `written`.
/// Fewer channels than lanes are not worth the transforms, nor the larger rounding error.
pub(crate) fn choose(
    kernel: [usize; 3],
    stride: [usize; 3],
    read: Grid,
    written: Grid,
    view: &WeightView,
) -> Algorithm {
    let (rows, columns) = (view.rows.len(), view.columns.len());
    let axes = [0, 1, 2].map(|a| options(kernel[a], stride[a]));
    let channels = view.rows.iter().flatten().count();
    if axes.iter().any(|axis| axis.is_empty()) || kernel[1..] != [3, 3] || channels < LANES {
        return Algorithm::Direct;
    }
    let taps: usize = kernel.iter().product();
    let voxels = (BATCH * written.voxels()) as f64;
    let mut best = ((taps * rows * columns) as f64 * (voxels + WEIGHT_COST), Algorithm::Direct);
    for &z in axes[0] {
        for &y in axes[1] {
            for &x in axes[2] {
                let tile = Tile([z, y, x]);
                let tiling = Tiling::new(tile, Grid { n: BATCH, ..read }, Grid { n: BATCH, ..written });
                let cost = winograd_cost(&tiling, rows, columns);
                if cost < best.0 {
                    best = (cost, Algorithm::Winograd(tile));
                }
            }
        }
    }
    best.1
}

/// Ways to filter an axis; none where only the direct algorithm can.
fn options(kernel: usize, stride: usize) -> &'static [Axis] {
    match (kernel, stride) {
        (1, 1) => &[Axis::Single],
        (3, 1) => &[Axis::Dense(2), Axis::Dense(4)],
        (3, 2) => &[Axis::Halving(2), Axis::Halving(4)],
        _ => &[],
    }
}

fn winograd_cost(tiling: &Tiling, rows: usize, columns: usize) -> f64 {
    let (tile, tiles) = (tiling.tile, tiling.count() as f64);
    let product = tiles * (rows * columns) as f64;
    let transform = tiles * (rows + columns) as f64 * TRANSFORM_COST;
    let weights = (tile.weight_volume() * rows * columns) as f64 * WEIGHT_COST;
    tile.volume() as f64 * (product + transform) + weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conv;

    fn chosen(kernel: [usize; 3], stride: usize, size: [usize; 3], channels: usize) -> Algorithm {
        let conv = Conv { kernel, stride: [stride; 3], inputs: vec![channels], outputs: channels };
        let read = Grid { n: 1, size };
        let view = WeightView::forward(&[channels], channels, kernel.iter().product());
        choose(kernel, conv.stride, read, conv.output(read), &view)
    }

    #[test]
    fn large_volumes_take_large_tiles_and_tiny_or_thin_ones_none() {
        let four = Axis::Dense(4);
        assert_eq!(chosen([3; 3], 1, [40, 56, 40], 32), Algorithm::Winograd(Tile([four; 3])));
        let plane = Tile([Axis::Single, four, four]);
        assert_eq!(chosen([1, 3, 3], 1, [1, 64, 64], 64), Algorithm::Winograd(plane));
        assert!(matches!(chosen([3; 3], 2, [64; 3], 32), Algorithm::Winograd(_)));
        assert_eq!(chosen([3; 3], 1, [2, 2, 2], 320), Algorithm::Direct);
        assert_eq!(chosen([3; 3], 1, [64, 64, 64], 4), Algorithm::Direct);
        assert_eq!(chosen([1; 3], 1, [64, 64, 64], 64), Algorithm::Direct);
        assert_eq!(chosen([1, 3, 3], 2, [64, 64, 64], 64), Algorithm::Direct);
    }
}
