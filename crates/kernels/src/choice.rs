//! Which algorithm a convolution of a given size uses.

use crate::winograd::{Tile, Tiling};
use crate::Grid;
use crate::direct;
use crate::weight_view::WeightView;

/// Multiply-adds that take as long as moving one transformed weight (computing, writing and reading it).
const WEIGHT_COST: f64 = 40.0;
/// Multiply-adds that take as long as transforming one value of a tile.
const TRANSFORM_COST: f64 = 8.0;

/// An algorithm for a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// Products over all taps.
    Direct,
    /// Minimal filtering with this tile.
    Winograd(Tile),
}

/// The cheapest algorithm by count of operations.
pub(crate) fn choose(kernel: [usize; 3], stride: [usize; 3], grid: Grid, view: &WeightView) -> Algorithm {
    let (rows, columns) = (view.rows.len(), view.columns.len());
    let three = kernel[2] == 3 && kernel.iter().all(|&k| k == 1 || k == 3) && kernel[1] == 3;
    if !three || stride != [1; 3] || grid.n == 0 {
        return Algorithm::Direct;
    }
    let taps: usize = kernel.iter().product();
    let direct_rows = direct::packed_rows(view);
    let direct = (taps * direct_rows * columns) as f64 * ((grid.n * grid.voxels()) as f64 + WEIGHT_COST);
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
