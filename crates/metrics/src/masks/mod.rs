//! Two masks of one structure under the conventions of several tools, and structure by structure of lesions.

pub mod border;
pub mod conventions;
mod definitions;
pub mod lesions;
pub mod skeleton;

use galen_core::{Error, Result};

/// Reference and predicted mask on one grid: `[z, y, x]`, values 0 and 1.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Voxels `(z, y, x)`; one slice for flat images.
    pub size: [usize; 3],
    /// Millimetres per voxel `(z, y, x)`.
    pub spacing: [f64; 3],
    /// Two-dimensional: neither border nor skeleton nor component looks above or below.
    pub flat: bool,
    /// Reference.
    pub reference: Vec<u8>,
    /// Prediction.
    pub prediction: Vec<u8>,
}

impl Pair {
    /// Checks that both masks fill the grid.
    pub fn new(
        size: [usize; 3],
        spacing: [f64; 3],
        flat: bool,
        reference: Vec<u8>,
        prediction: Vec<u8>,
    ) -> Result<Self> {
        let voxels: usize = size.iter().product();
        if reference.len() != voxels || prediction.len() != voxels || (flat && size[0] != 1) {
            let what = format!("{} and {} voxels for {size:?}", reference.len(), prediction.len());
            return Err(Error::input("reference and prediction", what, "give masks of the same grid"));
        }
        Ok(Self { size, spacing, flat, reference, prediction })
    }

    /// Volume of a voxel in ml; for flat images the area in cm^2 times 0.1 (one millimetre thick).
    pub fn voxel_ml(&self) -> f64 {
        let [z, y, x] = self.spacing;
        (if self.flat { 1.0 } else { z }) * y * x / 1000.0
    }

    /// The smallest box around both masks with a voxel of background around it; `None` when both are empty.
    pub fn cropped(&self) -> Option<Pair> {
        let [nz, ny, nx] = self.size;
        let (mut low, mut high) = ([usize::MAX; 3], [0usize; 3]);
        for z in 0..nz {
            for y in 0..ny {
                let row = (z * ny + y) * nx..(z * ny + y + 1) * nx;
                let set = |i: usize| self.reference[i] | self.prediction[i] != 0;
                // Most rows hold nothing, and a fold over a whole row runs in vectors.
                let pairs = self.reference[row.clone()].iter().zip(&self.prediction[row.clone()]);
                if pairs.fold(0, |any, (r, p)| any | r | p) == 0 {
                    continue;
                }
                let Some(first) = row.clone().find(|&i| set(i)) else { continue };
                let last = row.clone().rev().find(|&i| set(i)).unwrap_or(first);
                let (from, to) = ([z, y, first - row.start], [z + 1, y + 1, last - row.start + 1]);
                for axis in 0..3 {
                    low[axis] = low[axis].min(from[axis]);
                    high[axis] = high[axis].max(to[axis]);
                }
            }
        }
        if high[0] == 0 {
            return None;
        }
        let pad = [usize::from(!self.flat), 1, 1];
        let size = [0, 1, 2].map(|axis| high[axis] - low[axis] + 2 * pad[axis]);
        let cut = |mask: &[u8]| {
            let mut box_ = vec![0u8; size.iter().product()];
            for z in low[0]..high[0] {
                for y in low[1]..high[1] {
                    let from = (z * ny + y) * nx;
                    let to = ((z - low[0] + pad[0]) * size[1] + y - low[1] + pad[1]) * size[2] + pad[2];
                    let row = &mask[from + low[2]..from + high[2]];
                    box_[to..to + row.len()].copy_from_slice(row);
                }
            }
            box_
        };
        let (reference, prediction) = (cut(&self.reference), cut(&self.prediction));
        Some(Pair { size, spacing: self.spacing, flat: self.flat, reference, prediction })
    }
}
