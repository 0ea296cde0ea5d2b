//! The fingerprint of a dataset: spacings, shapes, foreground intensities.
//!
//! Source: nnunetv2 2.8.1 `dataset_fingerprint`. The values that nnU-Net draws are drawn here by the same generator,
//! but counted per voxel instead of stored, so a fingerprint needs no gigabyte of samples.

use crate::crop::{bounding_box, cut, nonzero_mask};
use crate::numpy::RandomState;
use galen_core::{Error, LabelMap, Result, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Values drawn over the whole dataset, per channel.
const SAMPLES: usize = 100_000_000;
const SEED: u32 = 1234;

/// `dataset_fingerprint.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Per channel ("0", "1", ...).
    pub foreground_intensity_properties_per_channel: BTreeMap<String, Intensities>,
    /// Median over cases of cropped size over original size.
    pub median_relative_size_after_cropping: f64,
    /// `(z, y, x)` per case, in case order.
    pub shapes_after_crop: Vec<[usize; 3]>,
    /// mm, `(z, y, x)` per case.
    pub spacings: Vec<[f64; 3]>,
}

/// Statistics of one channel over the foreground of all cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
    /// Population standard deviation.
    pub std: f64,
}

/// What one case contributes.
#[derive(Debug, Clone)]
pub struct CaseStatistics {
    spacing: [f64; 3],
    shape_after_crop: [usize; 3],
    relative_size: f64,
    /// Per channel: drawn values ascending, each with how often it was drawn.
    drawn: Vec<Vec<(f32, u32)>>,
}

/// Spacing as nnU-Net's readers give it: a 2D image gets a thick axis in front.
pub(crate) fn reader_spacing(geometry: &galen_core::Geometry) -> [f64; 3] {
    let [z, y, x] = geometry.spacing;
    if geometry.flat { [999.0 * y.max(x), y, x] } else { [z, y, x] }
}

impl CaseStatistics {
    /// Crops a case and draws from its foreground; `cases` is the number of cases of the dataset.
    pub fn of(image: &Volume, labels: &LabelMap, cases: usize) -> Result<Self> {
        let size = image.geometry.size;
        if labels.geometry.size != size {
            let what = format!("{:?} voxels, but the image has {size:?}", labels.geometry.size);
            return Err(Error::input("label map", what, "run `galen check` on the dataset"));
        }
        let channels: Vec<Vec<f32>> = (0..image.channels).map(|c| image.channel_f32(c)).collect();
        let bounds = bounding_box(&nonzero_mask(&channels, size), size);
        let shape_after_crop = bounds.map(|[low, high]| high - low);
        let labels = cut(labels.values(), size, bounds);
        let samples = SAMPLES / cases.max(1);
        let mut random = RandomState::new(SEED);
        let mut drawn = Vec::with_capacity(channels.len());
        for channel in channels {
            let values = cut(channel, size, bounds);
            let inside: Vec<f32> =
                values.iter().zip(&labels).filter(|(_, l)| **l > 0).map(|(v, _)| *v).collect();
            if let Some(bad) = inside.iter().find(|v| !v.is_finite()) {
                let what = format!("holds {bad} in its foreground: NaN or infinite values");
                return Err(Error::input("image", what, "replace them before training"));
            }
            drawn.push(draw(&inside, samples, &mut random));
        }
        Ok(Self {
            spacing: reader_spacing(&image.geometry),
            shape_after_crop,
            relative_size: shape_after_crop.iter().product::<usize>() as f64
                / size.iter().product::<usize>() as f64,
            drawn,
        })
    }
}

fn draw(values: &[f32], samples: usize, random: &mut RandomState) -> Vec<(f32, u32)> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut counts = vec![0u32; values.len()];
    let last = (values.len() - 1) as u32;
    for _ in 0..samples {
        counts[random.up_to(last) as usize] += 1;
    }
    let mut drawn: Vec<(f32, u32)> = values.iter().copied().zip(counts).filter(|&(_, n)| n > 0).collect();
    merge(&mut drawn);
    drawn
}

/// Sorts by value and adds up equal ones.
fn merge(drawn: &mut Vec<(f32, u32)>) {
    drawn.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    drawn.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
}

impl Fingerprint {
    /// Joins cases, in the order of the dataset.
    pub fn of(cases: Vec<CaseStatistics>) -> Result<Self> {
        let channels = cases.first().map_or(0, |case| case.drawn.len());
        if channels == 0 || cases.iter().any(|case| case.drawn.len() != channels) {
            let what = "no cases, or cases with different numbers of channels";
            return Err(Error::input("dataset", what, "run `galen check` on the dataset"));
        }
        let mut properties = BTreeMap::new();
        for channel in 0..channels {
            let all = cases.iter().flat_map(|case| &case.drawn[channel]);
            let mut drawn: Vec<(f32, u32)> = all.copied().collect();
            merge(&mut drawn);
            if drawn.is_empty() {
                let what = "no case has a foreground voxel inside its nonzero region";
                return Err(Error::input("dataset", what, "check the label values in dataset.json"));
            }
            properties.insert(channel.to_string(), Intensities::of(&drawn));
        }
        let mut relative: Vec<f64> = cases.iter().map(|case| case.relative_size).collect();
        relative.sort_by(f64::total_cmp);
        Ok(Self {
            foreground_intensity_properties_per_channel: properties,
            median_relative_size_after_cropping: median(&relative),
            shapes_after_crop: cases.iter().map(|case| case.shape_after_crop).collect(),
            spacings: cases.iter().map(|case| case.spacing).collect(),
        })
    }
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

impl Intensities {
    fn of(drawn: &[(f32, u32)]) -> Self {
        let n: u64 = drawn.iter().map(|&(_, n)| u64::from(n)).sum();
        let weighted = |f: &dyn Fn(f64) -> f64| {
            drawn.iter().map(|&(v, n)| f(v.into()) * f64::from(n)).sum::<f64>() / n as f64
        };
        let mean = weighted(&|v| v);
        let std = weighted(&|v| (v - mean) * (v - mean)).sqrt();
        let single = |v: f64| f64::from(v as f32);
        Self {
            max: drawn[drawn.len() - 1].0.into(),
            mean: single(mean),
            median: percentile(drawn, n, 0.5),
            min: drawn[0].0.into(),
            percentile_00_5: percentile(drawn, n, 0.005),
            percentile_99_5: percentile(drawn, n, 0.995),
            std: single(std),
        }
    }
}

/// numpy's linear percentile of a counted, sorted list.
fn percentile(drawn: &[(f32, u32)], n: u64, fraction: f64) -> f64 {
    let at = fraction * (n - 1) as f64;
    let below = at.floor() as u64;
    let value = |rank: u64| {
        let mut passed = 0;
        let found = drawn.iter().find(|&&(_, count)| {
            passed += u64::from(count);
            passed > rank
        });
        found.unwrap_or(&drawn[drawn.len() - 1]).0
    };
    let (a, b) = (value(below), value((below + 1).min(n - 1)));
    f64::from(a) + f64::from(b - a) * (at - below as f64)
}
