//! Weights `[co, ci, kz, ky, kx]` seen as rows (summed over) and columns (written), pad lanes included.

use crate::tensor_blocks::{check, real_lanes};
use crate::{LANES, padded};

/// Which axis of the weights is summed over: input channels going forward, output channels going back.
pub(crate) struct WeightView {
    /// Real channel of every row lane; `None` is a pad lane.
    pub rows: Vec<Option<usize>>,
    /// Real channel of every column lane.
    pub columns: Vec<Option<usize>>,
    row_stride: usize,
    column_stride: usize,
}

impl WeightView {
    /// Rows are inputs, columns are outputs.
    pub(crate) fn forward(inputs: &[usize], outputs: usize, taps: usize) -> Self {
        let total: usize = inputs.iter().sum();
        let (rows, columns) = (lanes(inputs), lanes(&[outputs]));
        Self { rows, columns, row_stride: taps, column_stride: total * taps }
    }

    /// Rows are outputs, columns are inputs.
    pub(crate) fn backward(inputs: &[usize], outputs: usize, taps: usize) -> Self {
        let total: usize = inputs.iter().sum();
        let (rows, columns) = (lanes(&[outputs]), lanes(inputs));
        Self { rows, columns, row_stride: total * taps, column_stride: taps }
    }

    /// Index of the first tap of a row and column, both real.
    #[inline]
    pub(crate) fn at(&self, row: usize, column: usize) -> usize {
        row * self.row_stride + column * self.column_stride
    }

    pub(crate) fn check(&self, weights: usize, taps: usize) {
        let real = |lanes: &[Option<usize>]| lanes.iter().flatten().count();
        check("weights", weights, real(&self.rows) * real(&self.columns) * taps);
    }

    pub(crate) fn row_blocks(&self) -> usize {
        self.rows.len() / LANES
    }

    pub(crate) fn column_blocks(&self) -> usize {
        self.columns.len() / LANES
    }
}

fn lanes(channels: &[usize]) -> Vec<Option<usize>> {
    let mut lanes = vec![None; channels.iter().map(|&c| padded(c)).sum()];
    real_lanes(channels).into_iter().enumerate().for_each(|(channel, lane)| lanes[lane] = Some(channel));
    lanes
}
