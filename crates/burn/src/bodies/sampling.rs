//! Values between voxels: interpolation to another grid, and sampling at positions.

use burn_tensor::{Device, Int, Tensor, TensorData};
use galen_kernels::{GridSample, Interpolation, Padding};

/// Interpolation to `size`, `(z, y, x)`, axis by axis as a product with a matrix.
pub fn interpolation(x: Tensor<5>, how: Interpolation, size: [usize; 3], device: &Device) -> Tensor<5> {
    let mut x = x;
    for (axis, &to) in size.iter().enumerate() {
        let from = x.dims()[2 + axis];
        let mut matrix = vec![0.0f32; from * to];
        for o in 0..to {
            let (low, rest) = place(how, from, to, o);
            matrix[low * to + o] += 1.0 - rest;
            matrix[(low + 1).min(from - 1) * to + o] += rest;
        }
        let matrix = Tensor::<2>::from_data(TensorData::new(matrix, [from, to]), device);
        let turned = x.swap_dims(2 + axis, 4);
        let [n, c, a, b, _] = turned.dims();
        let rows = turned.reshape([n * c * a * b, from]).matmul(matrix);
        x = rows.reshape([n, c, a, b, to]).swap_dims(2 + axis, 4);
    }
    x
}

/// Place read for place `o` of `to`, and the weight of the next one.
fn place(how: Interpolation, from: usize, to: usize, o: usize) -> (usize, f32) {
    let (at, scale) = (o as f32, from as f32 / to as f32);
    let at = match how {
        Interpolation::Nearest => return (((at * scale) as usize).min(from - 1), 0.0),
        Interpolation::Linear => ((at + 0.5) * scale - 0.5).max(0.0),
        Interpolation::LinearAlignCorners if to > 1 => at * ((from - 1) as f32 / (to - 1) as f32),
        Interpolation::LinearAlignCorners => 0.0,
    };
    let low = (at as usize).min(from - 1);
    (low, (at - low as f32).clamp(0.0, 1.0))
}

/// Values at `positions`, `[n, z, y, x, 3]` in the order `(x, y, z)` from -1 to 1.
pub fn grid_sample(x: Tensor<5>, positions: Tensor<5>, how: &GridSample) -> Tensor<5> {
    let [n, c, depth, height, width] = x.dims();
    let [_, z, y, x_size, _] = positions.dims();
    let points = z * y * x_size;
    let positions = positions.reshape([n, points, 3]);
    let axis = |axis: usize, size: usize| {
        let own = positions.clone().slice([0..n, 0..points, axis..axis + 1]).reshape([n, points]);
        Axis::new(own, size, how)
    };
    let axes = [axis(2, depth), axis(1, height), axis(0, width)];
    let flat = x.reshape([n, c, depth * height * width]);
    let corners = if how.nearest { 1 } else { 8 };
    let mut sum: Option<Tensor<3>> = None;
    for corner in 0..corners {
        let [a, b, d] = [0, 1, 2].map(|axis| axes[axis].side(corner >> axis & 1 == 1));
        let index = (a.0 * height as f64 + b.0) * width as f64 + d.0;
        let weight = (a.1 * b.1 * d.1).reshape([n, 1, points]);
        let index: Tensor<3, Int> = index.int().reshape([n, 1, points]).expand([n, c, points]);
        let term = flat.clone().gather(2, index) * weight;
        sum = Some(match sum {
            Some(sum) => sum + term,
            None => term,
        });
    }
    sum.unwrap_or(flat).reshape([n, c, z, y, x_size])
}

/// All positions on one axis, `[n, points]`.
struct Axis {
    low: Tensor<2>,
    rest: Option<Tensor<2>>,
    size: usize,
    zeros: bool,
}

impl Axis {
    fn new(position: Tensor<2>, size: usize, how: &GridSample) -> Self {
        let length = size as f64;
        let at = if how.align_corners {
            (position + 1.0) * ((length - 1.0) / 2.0)
        } else {
            ((position + 1.0) * length - 1.0) / 2.0
        };
        let zeros = how.padding == Padding::Zeros;
        // Two voxels beyond the border nothing changes any more.
        let (first, last) = if zeros { (-2.0, length + 1.0) } else { (0.0, length - 1.0) };
        let at = at.clamp(first, last);
        if how.nearest {
            return Self { low: at.detach().round(), rest: None, size, zeros };
        }
        let low = at.clone().detach().floor();
        Self { rest: Some(at - low.clone()), low, size, zeros }
    }

    /// The voxel below or above, moved inside, and its weight.
    fn side(&self, above: bool) -> (Tensor<2>, Tensor<2>) {
        let voxel = if above { self.low.clone() + 1.0 } else { self.low.clone() };
        let inside = voxel.clone().clamp(0.0, self.size as f64 - 1.0);
        let weight = match (&self.rest, above) {
            (Some(rest), true) => rest.clone(),
            (Some(rest), false) => rest.clone().neg() + 1.0,
            (None, _) => inside.clone() * 0.0 + 1.0,
        };
        let weight = match self.zeros {
            true => weight * voxel.equal(inside.clone()).float(),
            false => weight,
        };
        (inside, weight)
    }
}
