//! Labels from the mean of several models' probabilities, one class at a time.
//!
//! Source: nnU-Net v2.8.1, `ensemble` (`average_probabilities`, `convert_probabilities_to_segmentation`). Differs: no
//! more than one class is held, so 100 classes need no more memory than two.

use galen_core::{Error, Geometry, LabelMap, Labels, Result};

/// Label map in the making.
pub struct Ensemble<'a> {
    labels: &'a Labels,
    class: usize,
    best: Vec<f32>,
    map: Vec<u16>,
}

impl<'a> Ensemble<'a> {
    /// Nothing decided on `voxels` voxels.
    pub fn new(labels: &'a Labels, voxels: usize) -> Self {
        let best = if labels.has_regions() { Vec::new() } else { vec![f32::NEG_INFINITY; voxels] };
        Self { labels, class: 0, best, map: vec![0; voxels] }
    }

    /// The next class (background first) or region: sums the models' probabilities into the first of them, divides
    /// by their number as float32, and lets it win where it is larger than all before (regions: above one half).
    pub fn add(&mut self, mean: &mut [f32], others: &[Vec<f32>]) -> Result<()> {
        if mean.len() != self.map.len() || others.iter().any(|other| other.len() != mean.len()) {
            return Err(Error::bug("ensemble", "probabilities of different sizes"));
        }
        for other in others {
            mean.iter_mut().zip(other).for_each(|(sum, v)| *sum += v);
        }
        let count = (others.len() + 1) as f32;
        mean.iter_mut().for_each(|v| *v /= count);
        let label = self.label()?;
        if self.labels.has_regions() {
            let inside = self.map.iter_mut().zip(mean.iter()).filter(|(_, p)| **p > 0.5);
            inside.for_each(|(voxel, _)| *voxel = label);
        } else {
            for ((voxel, best), &value) in self.map.iter_mut().zip(&mut self.best).zip(mean.iter()) {
                if value > *best {
                    (*voxel, *best) = (label, value);
                }
            }
        }
        self.class += 1;
        Ok(())
    }

    /// Label that the next channel stands for.
    fn label(&self) -> Result<u16> {
        let order = match (self.labels.has_regions(), &self.labels.regions_class_order) {
            (true, Some(order)) => order.clone(),
            _ => self.labels.all(),
        };
        order.get(self.class).copied().ok_or_else(|| {
            let what = format!("more than the {} channels of its labels", order.len());
            Error::input("probabilities", what, "use the dataset.json that the models were trained with")
        })
    }

    /// The label map on its grid, once every class was added.
    pub fn finish(self, geometry: Geometry) -> Result<LabelMap> {
        let want = self.labels.output_channels();
        if self.class != want || geometry.voxels() != self.map.len() {
            let what = format!(
                "{} channels of {} voxels, expected {want} of {}",
                self.class,
                self.map.len(),
                geometry.voxels()
            );
            return Err(Error::input("probabilities", what, "use the dataset.json of the models"));
        }
        if self.map.iter().all(|&label| label < 256) {
            return Ok(LabelMap::new(geometry, self.map.iter().map(|&label| label as u8).collect()));
        }
        Ok(LabelMap::from_u16(geometry, self.map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::LabelValue;

    fn geometry(voxels: usize) -> Geometry {
        Geometry::axis_aligned([1, 1, voxels], [1.0; 3])
    }

    fn one(name: &str, value: u16) -> (String, LabelValue) {
        (name.to_string(), LabelValue::One(value))
    }

    #[test]
    fn the_first_of_equal_means_wins() {
        let labels = Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap();
        let mut ensemble = Ensemble::new(&labels, 3);
        for (first, second) in [
            ([0.2, 0.5, 0.0], [0.6, 0.0, 0.0]),
            ([0.4, 0.25, 0.5], [0.2, 0.5, 0.5]),
            ([0.4, 0.25, 0.5], [0.2, 0.5, 0.5]),
        ] {
            ensemble.add(&mut first.to_vec(), &[second.to_vec()]).unwrap();
        }
        assert_eq!(ensemble.finish(geometry(3)).unwrap().values(), [0, 1, 1]);
    }

    #[test]
    fn regions_lie_on_top_of_each_other_above_one_half() {
        let entries =
            vec![one("background", 0), ("whole".to_string(), LabelValue::Region(vec![1, 2])), one("core", 2)];
        let labels = Labels::new(entries, Some(vec![1, 2])).unwrap();
        let mut ensemble = Ensemble::new(&labels, 3);
        ensemble.add(&mut [0.5, 0.8, 0.9], &[vec![0.5, 0.4, 0.9]]).unwrap();
        assert!(ensemble.finish(geometry(3)).is_err(), "a region is missing");
        let mut ensemble = Ensemble::new(&labels, 3);
        ensemble.add(&mut [0.5, 0.8, 0.9], &[vec![0.5, 0.4, 0.9]]).unwrap();
        ensemble.add(&mut [0.0, 0.5, 0.6], &[vec![0.0, 0.5, 0.6]]).unwrap();
        assert!(ensemble.add(&mut [0.0; 3], &[]).is_err(), "a region too many");
        assert_eq!(ensemble.finish(geometry(3)).unwrap().values(), [0, 1, 2]);
    }
}
