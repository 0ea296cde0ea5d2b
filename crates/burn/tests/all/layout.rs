//! Numbers to compute with, and tensors between Burn's layout and the kernels'.

use burn_tensor::{Device, Tensor, TensorData};
use galen_burn::Place;
use galen_kernels::padded;

/// Numbers without a pattern, and without equal ones.
pub fn noise(len: usize, seed: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.7391 + seed).sin() + 0.5 * (i as f32 * 0.113 + 2.0 * seed).cos()).collect()
}

/// `[n, c, voxels]` to `[n, voxels, padded(c)]`.
pub fn channels_last(values: &[f32], n: usize, c: usize) -> Vec<f32> {
    let (voxels, width) = (values.len() / n / c, padded(c));
    let mut out = vec![0.0; n * voxels * width];
    for (i, &value) in values.iter().enumerate() {
        out[(i / voxels / c * voxels + i % voxels) * width + i / voxels % c] = value;
    }
    out
}

/// `[n, voxels, padded(c)]` to `[n, c, voxels]`.
pub fn planes(values: &[f32], n: usize, c: usize) -> Vec<f32> {
    let (width, voxels) = (padded(c), values.len() / n / padded(c));
    let place = |i: usize| (i / voxels / c * voxels + i % voxels) * width + i / voxels % c;
    (0..n * c * voxels).map(|i| values[place(i)]).collect()
}

/// `[rows, c]` to `[rows, padded(c)]`.
pub fn wide(values: &[f32], c: usize) -> Vec<f32> {
    values.chunks(c).flat_map(|row| row.iter().copied().chain((c..padded(c)).map(|_| 0.0))).collect()
}

/// `[rows, padded(c)]` to `[rows, c]`.
pub fn bare(values: &[f32], c: usize) -> Vec<f32> {
    values.chunks(padded(c)).flat_map(|row| row[..c].to_vec()).collect()
}

/// Sum and sum of squares, `[n, padded(c), 2]`, of `[n, voxels, padded(c)]`.
pub fn moments(values: &[f32], n: usize, c: usize) -> Vec<f64> {
    let (width, voxels) = (padded(c), values.len() / n / padded(c));
    let mut moments = vec![0.0; n * width * 2];
    for (i, &v) in values.iter().enumerate() {
        let at = i / (voxels * width) * width + i % width;
        moments[2 * at] += f64::from(v);
        moments[2 * at + 1] += f64::from(v).powi(2);
    }
    moments
}

/// A leaf that gradients are asked of.
pub fn leaf<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::<D>::from_data(TensorData::new(values.to_vec(), shape), device).require_grad()
}

/// All devices of this build with automatic differentiation; a Vulkan build without a driver fails.
pub fn devices() -> Vec<(Place, Device)> {
    let places = Place::all();
    #[cfg(feature = "vulkan")]
    assert!(places.contains(&Place::Vulkan(0)), "no Vulkan driver; a software one will do");
    places.into_iter().map(|place| (place, place.device().expect("a device").autodiff())).collect()
}

/// Largest difference as a part of the root mean square of what is expected.
pub fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let rms = (expected.iter().map(|x| x * x).sum::<f32>() / expected.len() as f32).sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max) / rms
}
