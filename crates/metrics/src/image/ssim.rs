//! Structural similarity in the plane and in space, and over several scales.
//!
//! Source: Wang et al. 2004 (K1 = 0.01, K2 = 0.03), Wang et al. 2003 for several scales. Means are taken over
//! windows that lie wholly inside the image, so no padding enters.

use super::Images;
use crate::measures::{Definition, Measures, define};
use galen_core::{Error, Result};
use galen_kernels::local_statistics::Similarity;

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "ssim/uniform7/sample-cov (skimage default)",
        "7-voxel box window, covariances with N - 1",
        "-1..1",
        "constant equal images: 1",
        "a wrong data range raises it",
        "skimage structural_similarity",
    ),
    define(
        "ssim/uniform7/population",
        "7-voxel box window, covariances with N",
        "-1..1",
        "constant equal images: 1",
        "a wrong data range raises it",
        "MONAI SSIMMetric(kernel_type='uniform', win_size=7)",
    ),
    define(
        "ssim/gauss11 s1.5/population/valid (skimage)",
        "gaussian window of 11 taps, sigma 1.5, covariances with N, whole windows only",
        "-1..1",
        "constant equal images: 1",
        "torchmetrics keeps padded windows and gets another value",
        "skimage gaussian_weights=True, use_sample_covariance=False; MONAI SSIMMetric",
    ),
    define(
        "ssim/slice-mean/gauss11",
        "mean over slices along z of the 2D value",
        "-1..1",
        "constant equal images: 1",
        "not the 3D value",
        "skimage per slice",
    ),
    define(
        "ms-ssim/5 scales",
        "product of contrast-structure at four scales and the full value at the fifth, each to its power; 2-voxel means between; negative terms are 0",
        "0..1",
        "a side below 176 voxels: not measured",
        "another treatment of negative terms gives other values",
        "Wang et al. 2003; MONAI MultiScaleSSIMMetric",
    ),
];

const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Window of the local statistics, along each axis.
#[derive(Debug, Clone)]
pub struct Window {
    taps: Vec<f64>,
}

impl Window {
    /// Equal weights.
    pub fn uniform(width: usize) -> Self {
        Self { taps: vec![1.0 / width as f64; width] }
    }

    /// Gaussian weights that add up to 1.
    pub fn gaussian(width: usize, sigma: f64) -> Self {
        let middle = (width / 2) as f64;
        let weights: Vec<f64> =
            (0..width).map(|i| (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        Self { taps: weights.into_iter().map(|w| w / sum).collect() }
    }
}

/// Mean structural similarity and mean contrast-structure term.
pub fn similarity(images: &Images, window: &Window, sample: bool) -> Result<(f64, f64)> {
    let width = window.taps.len();
    let axes = images.size.iter().enumerate().filter(|(axis, n)| *axis != 0 || **n > 1);
    let count: usize = axes.clone().map(|_| width).product();
    if let Some((_, n)) = axes.clone().find(|(_, n)| **n < width) {
        let what = format!("a side of {n} voxels is shorter than the window of {width}");
        return Err(Error::input("image", what, "give larger images; SSIM needs whole windows"));
    }
    let norm = if sample { count as f64 / (count as f64 - 1.0) } else { 1.0 };
    let constants = [(0.01 * images.range).powi(2), (0.03 * images.range).powi(2)];
    let similarity = Similarity {
        reference: &images.reference,
        image: &images.image,
        size: images.size,
        taps: &window.taps,
        norm,
        constants,
    };
    let ([full, contrast], windows) = similarity.sums();
    let n = windows as f64;
    Ok((full / n, contrast / n))
}

/// Means of blocks of two voxels along every axis longer than 1; an odd last voxel is dropped.
fn halved(values: &[f64], size: [usize; 3]) -> (Vec<f64>, [usize; 3]) {
    let steps = [if size[0] > 1 { 2 } else { 1 }, 2, 2];
    let half = [size[0] / steps[0], size[1] / 2, size[2] / 2];
    let mut out = Vec::with_capacity(half.iter().product());
    for z in 0..half[0] {
        for y in 0..half[1] {
            for x in 0..half[2] {
                let mut sum = 0.0;
                for (dz, dy) in (0..steps[0]).flat_map(|dz| [(dz, 0), (dz, 1)]) {
                    let at = ((z * steps[0] + dz) * size[1] + 2 * y + dy) * size[2] + 2 * x;
                    sum += values[at] + values[at + 1];
                }
                out.push(sum / (4 * steps[0]) as f64);
            }
        }
    }
    (out, half)
}

/// Similarity over five scales; `None` when a side is too short.
pub fn multi_scale(images: &Images) -> Option<f64> {
    if images.size.iter().enumerate().any(|(axis, n)| (axis != 0 || *n > 1) && *n < 176) {
        return None;
    }
    let window = Window::gaussian(11, 1.5);
    let mut scale = images.clone();
    let mut product = 1.0;
    for (level, weight) in WEIGHTS.into_iter().enumerate() {
        let (full, contrast) = similarity(&scale, &window, false).ok()?;
        let term = if level == 4 { full } else { contrast };
        product *= term.max(0.0).powf(weight);
        let (reference, size) = halved(&scale.reference, scale.size);
        let (image, _) = halved(&scale.image, scale.size);
        scale = Images { size, reference, image, range: scale.range };
    }
    Some(product)
}

pub(super) fn measure(images: &Images, m: &mut Measures) -> Result<()> {
    let (uniform, gaussian) = (Window::uniform(7), Window::gaussian(11, 1.5));
    m.put("ssim/uniform7/sample-cov (skimage default)", similarity(images, &uniform, true)?.0);
    m.put("ssim/uniform7/population", similarity(images, &uniform, false)?.0);
    m.put("ssim/gauss11 s1.5/population/valid (skimage)", similarity(images, &gaussian, false)?.0);
    if images.size[0] > 1 {
        let plane = images.size[1] * images.size[2];
        let slices: Vec<f64> = (0..images.size[0])
            .map(|z| {
                let cut = |v: &[f64]| v[z * plane..(z + 1) * plane].to_vec();
                let size = [1, images.size[1], images.size[2]];
                let slice = Images {
                    size,
                    reference: cut(&images.reference),
                    image: cut(&images.image),
                    range: images.range,
                };
                Ok(similarity(&slice, &gaussian, false)?.0)
            })
            .collect::<Result<_>>()?;
        m.put("ssim/slice-mean/gauss11", slices.iter().sum::<f64>() / slices.len() as f64);
    }
    if let Some(value) = multi_scale(images) {
        m.put("ms-ssim/5 scales", value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_images_are_alike_and_small_ones_refused() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i * 7 % 31)).collect();
        let images = Images::new([1, 20, 20], values.clone(), values.clone(), 31.0).unwrap();
        let m = images.measure().unwrap();
        assert!((m.number("ssim/uniform7/population") - 1.0).abs() < 1e-12);
        assert_eq!(m.number("psnr"), f64::INFINITY);
        let small = Images::new([1, 10, 40], values.clone(), values.clone(), 31.0).unwrap();
        assert!(small.measure().unwrap_err().to_string().contains("shorter than the window"));
        assert!(Images::new([1, 20, 20], values.clone(), values, 0.0).is_err());
    }
}
