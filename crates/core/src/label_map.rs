//! A segmentation: one label value per voxel, in the narrowest type that holds them.

use crate::{Geometry, Scalar, Volume, Voxels, with_voxels};
use std::sync::Arc;

/// Label values, `[z, y, x]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelVoxels {
    /// Up to 255 labels.
    U8(Arc<Vec<u8>>),
    /// More.
    U16(Arc<Vec<u16>>),
}

/// The label that a stored value means; `None` for a fraction, a number that is negative or not finite, and above
/// 65535. Some tools store floats: a value within 1e-4 of an integer is that integer.
pub fn label_of(value: f64) -> Option<u16> {
    let label = value.round();
    ((0.0..=65535.0).contains(&label) && (value - label).abs() <= 1e-4).then_some(label as u16)
}

/// A label map on the grid of its scan.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    /// Grid.
    pub geometry: Geometry,
    /// Values, `[z, y, x]`.
    pub voxels: LabelVoxels,
}

impl LabelMap {
    /// From values of the narrow type. Panics when the length is not that of the grid.
    pub fn new(geometry: Geometry, values: Vec<u8>) -> Self {
        assert_eq!(values.len(), geometry.voxels(), "labels must fill the grid");
        Self { geometry, voxels: LabelVoxels::U8(Arc::new(values)) }
    }

    /// From wide values; narrowed when all fit in a byte. Panics when the length is not that of the grid.
    pub fn from_u16(geometry: Geometry, values: Vec<u16>) -> Self {
        assert_eq!(values.len(), geometry.voxels(), "labels must fill the grid");
        let voxels = if values.iter().all(|&v| v < 256) {
            LabelVoxels::U8(Arc::new(values.iter().map(|&v| v as u8).collect()))
        } else {
            LabelVoxels::U16(Arc::new(values))
        };
        Self { geometry, voxels }
    }

    /// Reads an image of one channel as labels (of more, which readers of label maps refuse, the first). The error
    /// is the first value that [`label_of`] refuses.
    pub fn from_volume(volume: &Volume) -> Result<Self, f64> {
        let n = volume.geometry.voxels();
        let plain = volume.slope == 1.0 && volume.intercept == 0.0;
        if let (true, Voxels::U8(values)) = (plain, &volume.voxels)
            && values.len() == n
        {
            return Ok(Self { geometry: volume.geometry.clone(), voxels: LabelVoxels::U8(values.clone()) });
        }
        let mut values = Vec::with_capacity(n);
        with_voxels!(&volume.voxels, v => for &x in &v[..n] {
            let value = if plain { x.as_f64() } else { x.as_f64() * volume.slope + volume.intercept };
            values.push(label_of(value).ok_or(value)?);
        });
        Ok(Self::from_u16(volume.geometry.clone(), values))
    }

    /// Label at a flat index.
    pub fn get(&self, index: usize) -> u16 {
        match &self.voxels {
            LabelVoxels::U8(v) => v[index].into(),
            LabelVoxels::U16(v) => v[index],
        }
    }

    /// All values, widened, in array order.
    pub fn values(&self) -> Vec<u16> {
        match &self.voxels {
            LabelVoxels::U8(v) => v.iter().map(|&x| x.into()).collect(),
            LabelVoxels::U16(v) => v.to_vec(),
        }
    }

    /// Distinct values with their voxel counts, ascending.
    pub fn histogram(&self) -> Vec<(u16, usize)> {
        let mut counts = vec![0usize; 65536];
        match &self.voxels {
            LabelVoxels::U8(v) => v.iter().for_each(|&x| counts[usize::from(x)] += 1),
            LabelVoxels::U16(v) => v.iter().for_each(|&x| counts[usize::from(x)] += 1),
        }
        (0u16..=u16::MAX).zip(counts).filter(|&(_, n)| n > 0).collect()
    }

    /// The same map as an image, for writers.
    pub fn to_volume(&self) -> Volume {
        let voxels = match &self.voxels {
            LabelVoxels::U8(v) => Voxels::U8(v.clone()),
            LabelVoxels::U16(v) => Voxels::U16(v.clone()),
        };
        Volume { geometry: self.geometry.clone(), channels: 1, voxels, slope: 1.0, intercept: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_masks_are_labels_and_fractions_are_not() {
        let g = Geometry::axis_aligned([1, 1, 3], [1.0; 3]);
        let good = Volume::new(g.clone(), vec![0f32, 1.0, 2.0]);
        assert_eq!(LabelMap::from_volume(&good).unwrap().histogram(), [(0, 1), (1, 1), (2, 1)]);
        for bad in [0.5f32, -1.0, f32::NAN, 70000.0] {
            assert!(LabelMap::from_volume(&Volume::new(g.clone(), vec![0.0, bad, 1.0])).is_err(), "{bad}");
        }
    }

    #[test]
    fn wide_labels_are_narrowed_only_when_they_fit() {
        let g = Geometry::axis_aligned([1, 1, 2], [1.0; 3]);
        assert!(matches!(LabelMap::from_u16(g.clone(), vec![0, 255]).voxels, LabelVoxels::U8(_)));
        assert!(matches!(LabelMap::from_u16(g, vec![0, 256]).voxels, LabelVoxels::U16(_)));
    }
}
