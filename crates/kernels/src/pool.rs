//! Average pool with window = stride and no padding, as networks have it.

use crate::{AveragePool, Grid, Sink, Source, ValuesMut};

/// Grid after pooling; an incomplete window at the end is left out.
pub fn pooled(input: Grid, window: [usize; 3]) -> Grid {
    Grid { n: input.n, size: std::array::from_fn(|axis| input.size[axis] / window[axis]) }
}

fn of(window: [usize; 3]) -> AveragePool {
    AveragePool { window, stride: window, padding: [0; 3], count_padding: true }
}

/// Mean of each window of the (normed and activated) source.
pub fn average_pool<'a>(input: Grid, source: Source, window: [usize; 3], out: impl Into<ValuesMut<'a>>) {
    of(window).forward(input, &source, out);
}

/// Gradient with respect to the activated source: each voxel of a window gets its share.
pub fn average_pool_gradient(input: Grid, window: [usize; 3], grad_out: &[f32], sink: Sink) {
    of(window).gradient(input, grad_out, sink);
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
