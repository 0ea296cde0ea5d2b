//! Average and max pool.

use burn_tensor::ops::PadMode;
use burn_tensor::{Slice, Tensor};
use galen_kernels::{Grid, MaxPool};

/// Average over windows that do not overlap; voxels of an incomplete window at the end are left out.
pub fn average_pool(x: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    let [n, c, z, y, x_size] = x.dims();
    let [oz, oy, ox] = [z / window[0], y / window[1], x_size / window[2]];
    let whole = x.slice([0..n, 0..c, 0..oz * window[0], 0..oy * window[1], 0..ox * window[2]]);
    // One axis at a time: shader code for eight axes is more than some drivers take.
    let whole = whole.reshape([n * c * oz, window[0], oy * window[1] * ox * window[2]]).mean_dim(1);
    let whole = whole.reshape([n * c * oz * oy, window[1], ox * window[2]]).mean_dim(1);
    whole.reshape([n * c * oz * oy * ox, window[2], 1]).mean_dim(1).reshape([n, c, oz, oy, ox])
}

/// Largest value of every window, one axis after the other. Beyond the border lies the smallest finite number.
pub fn max_pool(x: Tensor<5>, of: &MaxPool) -> Tensor<5> {
    let [n, _, z, y, x_size] = x.dims();
    let size = of.output(Grid { n, size: [z, y, x_size] }).size;
    let mut x = match of.padding {
        [0, 0, 0] => x,
        padding => x.pad(padding.map(|p| (p, p)), PadMode::Constant(f32::MIN)),
    };
    for axis in 0..3 {
        let reach = (size[axis] - 1) * of.stride[axis] + 1;
        let taps = (0..of.window[axis]).map(|tap| {
            let (first, end) = (tap as isize, (tap + reach) as isize);
            x.clone().slice_dim(2 + axis, Slice::new(first, Some(end), of.stride[axis] as isize))
        });
        let largest = taps.reduce(Tensor::max_pair);
        x = largest.unwrap_or(x);
    }
    x
}
