//! Preparation of a scan without labels: its voxels are cropped, normalised and widened plane by plane while they are
//! resampled, so no copy of the scan in single precision exists.
//!
//! The filled mask of nonzero voxels is not needed: a hole never reaches beyond the box of what encloses it.

use crate::normalise::Intensity;
use crate::plans::{Configuration, Plans};
use crate::resample::Planes;
use galen_core::{Error, Result, Scalar, Volume, with_voxels};
use rayon::prelude::*;

/// True where a filled mask decides intensities, so that the scan must be prepared as a whole.
pub(crate) fn needs_mask(configuration: &Configuration) -> bool {
    configuration.use_mask_for_norm.contains(&true)
}

/// Tight half-open box of nonzero voxels of any channel, `(z, y, x)` of the scan; the whole grid when all are zero.
/// A value that is not finite is an error.
pub(crate) fn nonzero_box(image: &Volume) -> Result<[[usize; 2]; 3]> {
    let [nz, ny, nx] = image.geometry.size;
    let empty = [[usize::MAX, 0]; 3];
    let grown = |a: [[usize; 2]; 3], b: [[usize; 2]; 3]| {
        [0, 1, 2].map(|axis| [a[axis][0].min(b[axis][0]), a[axis][1].max(b[axis][1])])
    };
    let mut found = empty;
    for channel in 0..image.channels {
        let of_plane = |z: usize| -> std::result::Result<[[usize; 2]; 3], usize> {
            let (mut row, mut bounds) = (vec![0f32; nx], empty);
            for y in 0..ny {
                let start = (z * ny + y) * nx;
                widen(image, channel * nz * ny * nx + start, &mut row);
                if let Some(bad) = row.iter().position(|v| !v.is_finite()) {
                    return Err(start + bad);
                }
                let Some(first) = row.iter().position(|v| *v != 0.0) else { continue };
                let last = row.iter().rposition(|v| *v != 0.0).unwrap_or(first);
                bounds = grown(bounds, [[z, z + 1], [y, y + 1], [first, last + 1]]);
            }
            Ok(bounds)
        };
        let planes: Vec<_> = (0..nz).into_par_iter().map(of_plane).collect();
        for bounds in planes {
            found = grown(found, bounds.map_err(|at| not_finite(image, channel, at))?);
        }
    }
    Ok(if found == empty { [[0, nz], [0, ny], [0, nx]] } else { found })
}

fn not_finite(image: &Volume, channel: usize, at: usize) -> Error {
    let [nz, ny, nx] = image.geometry.size;
    let mut value = [0f32];
    widen(image, channel * nz * ny * nx + at, &mut value);
    crate::prepare::not_finite(value[0], channel, [at / (ny * nx), at / nx % ny, at % nx])
}

/// True values from a flat index on, as [`Volume::channel_f32`] gives them.
fn widen(image: &Volume, start: usize, out: &mut [f32]) {
    let (slope, intercept) = (image.slope, image.intercept);
    with_voxels!(&image.voxels, voxels => {
        let part = &voxels[start..start + out.len()];
        if slope == 1.0 && intercept == 0.0 {
            out.iter_mut().zip(part).for_each(|(o, v)| *o = v.as_f32());
        } else {
            out.iter_mut().zip(part).for_each(|(o, v)| *o = (v.as_f64() * slope + intercept) as f32);
        }
    });
}

/// One channel of a scan, cropped, in the network's axis order, normalised.
pub(crate) struct Channel<'a> {
    image: &'a Volume,
    /// Flat index of the first voxel.
    start: usize,
    /// Steps along the network's axes.
    steps: [usize; 3],
    size: [usize; 3],
    intensity: Intensity,
}

impl<'a> Channel<'a> {
    /// `bounds` is the box in the network's axis order.
    pub(crate) fn new(
        image: &'a Volume,
        channel: usize,
        transpose: [usize; 3],
        bounds: [[usize; 2]; 3],
        plans: &Plans,
        configuration: &Configuration,
    ) -> Result<Self> {
        let [_, ny, nx] = image.geometry.size;
        let raw = [ny * nx, nx, 1];
        let steps = transpose.map(|axis| raw[axis]);
        let inside: usize = (0..3).map(|axis| bounds[axis][0] * steps[axis]).sum();
        let start = channel * image.geometry.voxels() + inside;
        let size = bounds.map(|[low, high]| high - low);
        let mut made = Self { image, start, steps, size, intensity: Intensity::Stored };
        made.intensity = Intensity::fit(channel, plans, configuration, size[0], &|z, take| {
            let mut plane = vec![0.0; size[1] * size[2]];
            made.read(z, &mut plane);
            take(&plane)
        })?;
        Ok(made)
    }
}

impl Planes for Channel<'_> {
    fn read(&self, z: usize, out: &mut [f32]) {
        let [_, ny, nx] = self.size;
        for (y, row) in out.chunks_exact_mut(nx).take(ny).enumerate() {
            let start = self.start + z * self.steps[0] + y * self.steps[1];
            match self.steps[2] {
                1 => widen(self.image, start, row),
                step => {
                    row.chunks_mut(1).enumerate().for_each(|(x, v)| widen(self.image, start + x * step, v))
                }
            }
        }
        self.intensity.apply(out);
    }

    fn range(&self) -> [f64; 2] {
        let of_plane = |z: usize| {
            let mut plane = vec![0.0; self.size[1] * self.size[2]];
            self.read(z, &mut plane);
            plane.iter().fold([f32::MAX, f32::MIN], |[low, high], &v| [low.min(v), high.max(v)])
        };
        let all = (0..self.size[0]).into_par_iter().map(of_plane);
        all.reduce(|| [f32::MAX, f32::MIN], |a, b| [a[0].min(b[0]), a[1].max(b[1])]).map(f64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::{prepare, prepare_whole};
    use crate::resample::TieRule;
    use galen_core::Geometry;
    use serde_json::json;

    fn plans(scheme: &str, transpose: [usize; 3], function: &str, spacing: [f64; 3]) -> Plans {
        let back: Vec<usize> = (0..3).map(|i| transpose.iter().position(|&t| t == i).unwrap()).collect();
        let arguments = if function == "resample_data_or_seg_to_shape" {
            json!({ "is_seg": false, "order": 3, "order_z": 0, "force_separate_z": null })
        } else {
            json!({ "is_seg": false, "force_separate_z": null })
        };
        let mut plans: serde_json::Value =
            serde_json::from_str(include_str!("../tests/frugal_plans.json")).unwrap();
        plans["transpose_forward"] = json!(transpose);
        plans["transpose_backward"] = json!(back);
        let configuration = &mut plans["configurations"]["3d_fullres"];
        configuration["spacing"] = json!(spacing);
        configuration["normalization_schemes"] = json!([scheme, "NoNormalization"]);
        for kind in ["data", "seg", "probabilities"] {
            configuration[format!("resampling_fn_{kind}")] = json!(function);
            configuration[format!("resampling_fn_{kind}_kwargs")] = arguments.clone();
        }
        Plans::from_json(&plans).unwrap()
    }

    #[test]
    fn a_scan_is_prepared_as_if_it_were_copied_first() {
        let size = [7, 9, 8];
        let n: usize = size.iter().product();
        let voxel = |i: usize| {
            let at = [i / 72 % 7, i / 8 % 9, i % 8];
            let border = at[0] == 0 || at[1] < 2 || at[2] == 7;
            if border { 0 } else { ((i * 37 % 101) as i16).abs() }
        };
        let values: Vec<i16> = (0..2 * n).map(voxel).collect();
        let mut image = Volume::new(Geometry::axis_aligned(size, [2.0, 0.9, 1.1]), values[..n].to_vec());
        (image.channels, image.voxels) = (2, Scalar::wrap(values));
        for (slope, intercept) in [(1.0, 0.0), (0.5, 0.0)] {
            (image.slope, image.intercept) = (slope, intercept);
            for scheme in
                ["CTNormalization", "ZScoreNormalization", "RescaleTo01Normalization", "RGBTo01Normalization"]
            {
                for transpose in [[0, 1, 2], [2, 0, 1], [1, 0, 2]] {
                    for function in
                        ["resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack"]
                    {
                        for spacing in [[1.5; 3], [2.0, 0.9, 1.1], [6.0, 1.0, 1.0]] {
                            let plans = plans(scheme, transpose, function, spacing);
                            let configuration = plans.configuration("3d_fullres").unwrap();
                            let whole =
                                prepare_whole(&image, None, &plans, &configuration, TieRule::default())
                                    .unwrap();
                            let frugal = prepare(&image, None, &plans, &configuration).unwrap();
                            assert_eq!(whole.1, frugal.1);
                            assert_eq!(whole.0.size, frugal.0.size);
                            let off = whole.0.image.iter().zip(&frugal.0.image).map(|(a, b)| (a - b).abs());
                            // Sums of mean and deviation are taken plane by plane.
                            let bound = if scheme == "ZScoreNormalization" { 1e-6 } else { 0.0 };
                            assert!(
                                off.fold(0.0, f32::max) <= bound,
                                "{scheme} {transpose:?} {function} {spacing:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
