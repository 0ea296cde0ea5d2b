//! Which algorithm a convolution of a given size uses.

use crate::weight_view::WeightView;
use crate::winograd::{Tile, Tiling};
use crate::{Grid, LANES};

/// Multiply-adds that take as long as moving one transformed weight (computing, writing and reading it).
const WEIGHT_COST: f64 = 40.0;
/// Multiply-adds that take as long as transforming one value of a tile.
const TRANSFORM_COST: f64 = 8.0;

/// Samples that share the cost of transforming the weights. Not the real number: a sample gets the same algorithm,
/// and so the same bytes, alone and in a batch, in training and in prediction.
const BATCH: usize = 4;

/// An algorithm for a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// Products over all taps.
    Direct,
    /// Minimal filtering with this tile.
    Winograd(Tile),
}

/// The cheapest algorithm by count of operations. Fewer channels than lanes are not worth the transforms, nor the
/// larger rounding error.
pub(crate) fn choose(kernel: [usize; 3], stride: [usize; 3], grid: Grid, view: &WeightView) -> Algorithm {
    let (grid, rows, columns) = (Grid { n: BATCH, ..grid }, view.rows.len(), view.columns.len());
    let three = kernel[2] == 3 && kernel.iter().all(|&k| k == 1 || k == 3) && kernel[1] == 3;
    let channels = view.rows.iter().flatten().count();
    if !three || stride != [1; 3] || channels < LANES {
        return Algorithm::Direct;
    }
    let taps: usize = kernel.iter().product();
    let direct = (taps * rows * columns) as f64 * ((grid.n * grid.voxels()) as f64 + WEIGHT_COST);
    let options = |k: usize| if k == 1 { &[1][..] } else { &[2, 4][..] };
    let mut best = (direct, Algorithm::Direct);
    for &z in options(kernel[0]) {
        for &y in options(kernel[1]) {
            for &x in options(kernel[2]) {
                let tile = Tile([z, y, x]);
                let cost = winograd_cost(tile, grid, rows, columns);
                if cost < best.0 {
                    best = (cost, Algorithm::Winograd(tile));
                }
            }
        }
    }
    best.1
}

fn winograd_cost(tile: Tile, grid: Grid, rows: usize, columns: usize) -> f64 {
    let frequencies = tile.volume() as f64;
    let tiles = Tiling::new(tile, grid).count() as f64;
    let product = tiles * (rows * columns) as f64;
    let transform = tiles * (rows + columns) as f64 * TRANSFORM_COST;
    frequencies * (product + transform + (rows * columns) as f64 * WEIGHT_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kernel: [usize; 3], size: [usize; 3], channels: usize) -> Algorithm {
        let taps = kernel.iter().product();
        choose(kernel, [1; 3], Grid { n: 1, size }, &WeightView::forward(&[channels], channels, taps))
    }

    #[test]
    fn large_volumes_take_large_tiles_and_tiny_or_thin_ones_none() {
        assert_eq!(chosen([3; 3], [40, 56, 40], 32), Algorithm::Winograd(Tile([4; 3])));
        assert_eq!(chosen([1, 3, 3], [1, 64, 64], 64), Algorithm::Winograd(Tile([1, 4, 4])));
        assert_eq!(chosen([3; 3], [2, 2, 2], 320), Algorithm::Direct);
        assert_eq!(chosen([3; 3], [64, 64, 64], 4), Algorithm::Direct);
        assert_eq!(chosen([1; 3], [64, 64, 64], 64), Algorithm::Direct);
    }
}
