//! What can be measured of one case, to be compared with all others.

use galen_core::{Geometry, LabelMap};
use serde::Serialize;

/// Cells per axis of the small copy that near duplicates are found by: of a volume, of a 2D image.
const SMALL: [usize; 2] = [12, 40];

/// Orientation of a 2D image.
const FLAT: &str = "2D";

/// Measures of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traits {
    /// Case.
    pub case: String,
    /// A case without reference.
    pub test: bool,
    /// Voxels `(z, y, x)`.
    pub size: [usize; 3],
    /// Spacing `(z, y, x)`, mm.
    pub spacing: [f64; 3],
    /// Where the array axes x, y, z run to, such as `LPS`.
    pub orientation: String,
    /// Per channel.
    pub channels: Vec<Intensity>,
    /// Per label but background.
    pub labels: Vec<LabelTraits>,
    /// The first channel on a few cells, mean 0 and length 1.
    #[serde(skip)]
    pub(crate) small: Vec<f32>,
}

/// Grey values of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intensity {
    /// First percentile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// 99th percentile.
    pub high: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// One label of one case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LabelTraits {
    /// Value.
    pub value: u16,
    /// mm³; mm² of a 2D image.
    pub volume: f64,
    /// Mean of the first channel inside it, in standard deviations of the image from its mean.
    pub brightness: Option<f64>,
}

impl Traits {
    /// A 2D image, or a volume of one slice.
    pub fn is_flat(&self) -> bool {
        self.size[0] == 1
    }

    /// Unit of volumes.
    pub fn unit(&self) -> &'static str {
        if self.orientation == FLAT { "mm²" } else { "mm³" }
    }

    /// Nothing but the grid yet.
    pub(super) fn of_grid(case: &str, grid: &Geometry) -> Self {
        Self {
            case: case.to_owned(),
            test: false,
            size: grid.size,
            spacing: grid.spacing,
            orientation: orientation(grid),
            channels: Vec::new(),
            labels: Vec::new(),
            small: Vec::new(),
        }
    }

    /// Adds a channel of an image; values that are not finite are left out.
    pub(super) fn add(&mut self, values: &[f32], size: [usize; 3]) {
        if self.channels.is_empty() {
            self.small = small(values, size);
        }
        self.channels.push(intensity(values));
    }

    /// Adds the labels of the mask; `first` is the image that the brightness comes from.
    pub(super) fn add_labels(&mut self, map: &LabelMap, first: Option<&[f32]>) {
        let voxel = map.geometry.voxel_volume();
        let values = first.filter(|values| values.len() == map.geometry.voxels());
        let counts: Vec<(u16, usize)> =
            map.histogram().into_iter().filter(|(value, n)| *value > 0 && *n > 0).collect();
        let mut sums = vec![0.0; counts.last().map_or(0, |(value, _)| usize::from(*value) + 1)];
        for (i, &grey) in values.unwrap_or_default().iter().enumerate() {
            let value = usize::from(map.get(i));
            if value > 0 && grey.is_finite() {
                sums[value] += f64::from(grey);
            }
        }
        let scale = self.channels.first().filter(|grey| values.is_some() && grey.deviation > 0.0);
        self.labels = counts
            .into_iter()
            .map(|(value, count)| LabelTraits {
                value,
                volume: count as f64 * voxel,
                brightness: scale
                    .map(|grey| (sums[usize::from(value)] / count as f64 - grey.mean) / grey.deviation),
            })
            .collect();
    }
}

/// Letters of the patient's axes that the array axes x, y, z run to, nearest first.
fn orientation(grid: &Geometry) -> String {
    if grid.flat {
        return FLAT.to_owned();
    }
    let letter = |axis: [f64; 3]| {
        let largest = (0..3).max_by(|&a, &b| axis[a].abs().total_cmp(&axis[b].abs())).unwrap_or(0);
        [["R", "L"], ["A", "P"], ["I", "S"]][largest][usize::from(axis[largest] > 0.0)]
    };
    [2, 1, 0].map(|axis| letter(grid.direction[axis])).concat()
}

fn intensity(values: &[f32]) -> Intensity {
    let mut values: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return Intensity { low: 0.0, median: 0.0, high: 0.0, mean: 0.0, deviation: 0.0 };
    }
    let n = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let deviation = (values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut quantile = |part: f64| {
        let at = ((values.len() - 1) as f64 * part).round() as usize;
        f64::from(*values.select_nth_unstable_by(at, f32::total_cmp).1)
    };
    Intensity { low: quantile(0.01), median: quantile(0.5), high: quantile(0.99), mean, deviation }
}

/// Means over cells, mean 0 and length 1; empty for a constant image.
fn small(values: &[f32], size: [usize; 3]) -> Vec<f32> {
    let most = SMALL[usize::from(size[0] == 1)];
    let cells = size.map(|length| length.min(most));
    let (mut sums, mut counts) = (vec![0f64; cells.iter().product()], vec![0u32; cells.iter().product()]);
    let cell = |axis: usize, place: usize| place * cells[axis] / size[axis];
    for z in 0..size[0] {
        for y in 0..size[1] {
            let row = &values[(z * size[1] + y) * size[2]..][..size[2]];
            let first = (cell(0, z) * cells[1] + cell(1, y)) * cells[2];
            for (x, &value) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                sums[first + cell(2, x)] += f64::from(value);
                counts[first + cell(2, x)] += 1;
            }
        }
    }
    let mut means: Vec<f64> = sums.iter().zip(&counts).map(|(sum, &n)| sum / f64::from(n.max(1))).collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    means.iter_mut().for_each(|value| *value -= mean);
    let length = means.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length <= f64::EPSILON * mean.abs() * means.len() as f64 {
        return Vec::new();
    }
    means.into_iter().map(|value| (value / length) as f32).collect()
}
