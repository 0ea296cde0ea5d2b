//! Average pool with window = stride and no padding, on channels-last tensors, and its gradient.

use crate::{Cpu, Grid, Sink, Source, ValuesMut, padded};
use rayon::prelude::*;

/// Grid after pooling; an incomplete window at the end is left out.
pub fn pooled(input: Grid, window: [usize; 3]) -> Grid {
    Grid { n: input.n, size: std::array::from_fn(|axis| input.size[axis] / window[axis]) }
}

/// Mean of each window of the (normed and activated) source.
pub fn average_pool<'a>(input: Grid, source: Source, window: [usize; 3], out: impl Into<ValuesMut<'a>>) {
    let values = source.values.widened();
    out.into().fill(|out| pool_rows(input, &source, &values, window, out));
}

fn pool_rows(input: Grid, source: &Source, values: &[f32], window: [usize; 3], out: &mut [f32]) {
    let grid = pooled(input, window);
    let width = padded(source.channels);
    let share = 1.0 / window.iter().product::<usize>() as f32;
    let [depth, rows, columns] = grid.size;
    out.par_chunks_mut(columns * width).enumerate().for_each(|(row, out)| {
        let (sample, z, y) = (row / (depth * rows), row / rows % depth, row % rows);
        Cpu::detected().compile(|| {
            out.fill(0.0);
            for (dz, dy) in (0..window[0]).flat_map(|dz| (0..window[1]).map(move |dy| (dz, dy))) {
                let from = input_row(input, sample, z * window[0] + dz, y * window[1] + dy) * width;
                for (x, out) in out.chunks_exact_mut(width).enumerate() {
                    for dx in 0..window[2] {
                        let from = from + (x * window[2] + dx) * width;
                        add_activated(source, sample, &values[from..from + width], out);
                    }
                }
            }
            out.iter_mut().for_each(|value| *value *= share);
        });
    });
}

fn input_row(input: Grid, sample: usize, z: usize, y: usize) -> usize {
    ((sample * input.size[0] + z) * input.size[1] + y) * input.size[2]
}

/// Adds one voxel of a source, norm and activation applied.
fn add_activated(source: &Source, sample: usize, voxel: &[f32], out: &mut [f32]) {
    match source.pending {
        None => out.iter_mut().zip(voxel).for_each(|(o, v)| *o += v),
        Some(pending) => {
            let own = sample * voxel.len()..(sample + 1) * voxel.len();
            let (scale, shift) = (&pending.scale[own.clone()], &pending.shift[own]);
            for c in 0..voxel.len() {
                let t = voxel[c] * scale[c] + shift[c];
                out[c] += if t >= 0.0 { t } else { pending.slope * t };
            }
        }
    }
}

/// Gradient with respect to the activated source: each voxel of a window gets its share.
pub fn average_pool_gradient(input: Grid, window: [usize; 3], grad_out: &[f32], sink: Sink) {
    let grid = pooled(input, window);
    let width = padded(sink.channels);
    let share = 1.0 / window.iter().product::<usize>() as f32;
    let [depth, rows, columns] = input.size;
    let add = sink.add;
    sink.values.par_chunks_mut(columns * width).enumerate().for_each(|(row, out)| {
        let (sample, z, y) = (row / (depth * rows), row / rows % depth / window[0], row % rows / window[1]);
        if !add {
            out.fill(0.0);
        }
        if z >= grid.size[0] || y >= grid.size[1] {
            return;
        }
        let from = input_row(grid, sample, z, y) * width;
        Cpu::detected().compile(|| {
            for (x, out) in out.chunks_exact_mut(width).enumerate().take(grid.size[2] * window[2]) {
                let from = from + x / window[2] * width;
                out.iter_mut().zip(&grad_out[from..from + width]).for_each(|(o, g)| *o += share * g);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LANES, Pending};

    #[test]
    fn pooling_averages_activated_values_and_its_gradient_is_the_transpose() {
        let (input, window) = (Grid { n: 2, size: [1, 4, 3] }, [1, 2, 2]);
        let grid = pooled(input, window);
        assert_eq!(grid.size, [1, 2, 1]);
        let values: Vec<f32> =
            (0..24 * LANES).map(|i| if i % LANES == 0 { (i / LANES) as f32 - 5.0 } else { 0.0 }).collect();
        let (mut scale, mut shift) = (vec![0.0; 2 * LANES], vec![0.0; 2 * LANES]);
        (scale[0], shift[0], scale[LANES]) = (2.0, 1.0, 1.0);
        let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.5 });
        let mut out = vec![9.0; 4 * LANES];
        average_pool(input, Source::new(&values, 1, pending), window, &mut out);
        // Voxels 0, 1, 3, 4 are -5, -4, -2, -1: twice plus one gives -9, -7, -3, -1, halved by the slope.
        assert_eq!((out[0], out[1]), (-2.5, 0.0));
        let mut grad = vec![1.0; 24 * LANES];
        let sink = Sink { values: &mut grad, channels: 1, add: true };
        average_pool_gradient(input, window, &out, sink);
        assert_eq!((grad[0], grad[2 * LANES]), (1.0 - 2.5 / 4.0, 1.0));
    }
}
