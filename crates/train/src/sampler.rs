//! Which case and which box a training sample comes from.
//! Source: nnU-Net 2.8.1 `dataloading/data_loader`. Differs: one random stream per (seed, iteration,
//! sample), so a sample does not depend on what was drawn before it.

use galen_core::Result;
use galen_prep::ClassLocations;
use galen_prep::augment::{below, stream};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Share of a batch whose boxes are placed on foreground.
const OVERSAMPLED: f64 = 0.33;

/// Training cases as the sampler sees them; the store, or arrays in a test.
pub trait Cases: Sync {
    /// Image channels, the same for all cases.
    fn channels(&self) -> usize;
    /// Stored size of a case, `(z, y, x)`.
    fn size(&self, case: usize) -> [usize; 3];
    /// Voxels per label or region.
    fn locations(&self, case: usize) -> Result<Arc<Vec<ClassLocations>>>;
    /// Reads a box of a case: image 0 and label -1 outside.
    fn crop(
        &self,
        case: usize,
        lower: [isize; 3],
        size: [usize; 3],
        image: &mut [f32],
        labels: &mut [i16],
    ) -> Result<()>;
}

/// Where a sample comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of the case.
    pub case: usize,
    /// First voxel of the box, `(z, y, x)`; may lie outside the case.
    pub lower: [isize; 3],
}

/// Draws places for one list of cases.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Indices of the cases to draw from, uniformly with replacement.
    pub cases: Vec<usize>,
    /// Box that is read, `(z, y, x)`.
    pub initial: [usize; 3],
    /// Box that the network sees, `(z, y, x)`.
    pub patch: [usize; 3],
    /// Samples per batch.
    pub batch: usize,
    /// The dataset has an ignore label: free boxes are placed on annotated voxels.
    pub has_ignore: bool,
    /// Seed of the run.
    pub seed: u64,
}

impl Sampler {
    /// The place of sample `index` of batch `iteration`, and the stream that goes on with its augmentation.
    pub fn place(&self, cases: &dyn Cases, iteration: u64, index: usize) -> Result<(Place, ChaCha8Rng)> {
        let mut rng = stream(self.seed, iteration, index as u64);
        let case = self.cases[below(&mut rng, self.cases.len())];
        let (low, high) = bounds(cases.size(case), self.initial, self.patch);
        let voxel = if is_forced(index, self.batch) {
            foreground_voxel(&cases.locations(case)?, &mut rng)
        } else if self.has_ignore {
            annotated_voxel(&cases.locations(case)?, &mut rng)
        } else {
            None
        };
        let lower = std::array::from_fn(|axis| match voxel {
            // Not held below the upper bound: a box on foreground at the border reaches beyond it.
            Some(voxel) => low[axis].max(voxel[axis] as isize - (self.initial[axis] / 2) as isize),
            None => low[axis] + below(&mut rng, (high[axis] - low[axis] + 1).max(1) as usize) as isize,
        });
        Ok((Place { case, lower }, rng))
    }
}

/// True for the last samples of a batch, a third of it.
fn is_forced(index: usize, batch: usize) -> bool {
    index >= (batch as f64 * (1.0 - OVERSAMPLED)).round_ties_even() as usize
}

/// First and last position of a box: it may reach beyond the case by half of what augmentation cuts off,
/// or by half of what the case is too small.
fn bounds(size: [usize; 3], initial: [usize; 3], patch: [usize; 3]) -> ([isize; 3], [isize; 3]) {
    let of = |axis: usize| {
        let (n, box_size) = (size[axis] as isize, initial[axis] as isize);
        let margin = (box_size - patch[axis] as isize).max(box_size - n);
        let low = (-margin).div_euclid(2);
        (low, n + margin / 2 + margin % 2 - box_size)
    };
    let both: [(isize, isize); 3] = std::array::from_fn(of);
    (both.map(|b| b.0), both.map(|b| b.1))
}

/// Key of the class that stands for all annotated voxels.
fn is_annotated(class: &ClassLocations) -> bool {
    class.values.first() == Some(&-1)
}

fn foreground_voxel(classes: &[ClassLocations], rng: &mut ChaCha8Rng) -> Option<[u32; 3]> {
    let mut present: Vec<&ClassLocations> = classes.iter().filter(|class| !class.voxels.is_empty()).collect();
    if present.len() > 1 {
        present.retain(|class| !is_annotated(class));
    }
    if present.is_empty() {
        return None;
    }
    let class = present[below(rng, present.len())];
    Some(class.voxels[below(rng, class.voxels.len())])
}

fn annotated_voxel(classes: &[ClassLocations], rng: &mut ChaCha8Rng) -> Option<[u32; 3]> {
    let class = classes.iter().find(|class| is_annotated(class) && !class.voxels.is_empty())?;
    Some(class.voxels[below(rng, class.voxels.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_samples_are_those_of_nnunet() {
        for (batch, want) in [(2, 1), (3, 1), (4, 1), (9, 3), (12, 4)] {
            assert_eq!((0..batch).filter(|&i| is_forced(i, batch)).count(), want, "{batch}");
        }
    }

    #[test]
    fn bounds_follow_python_floor_division() {
        // Wider than the patch by 5: half of it, rounded down for a negative number, before and behind.
        assert_eq!(bounds([20; 3], [15; 3], [10; 3]), ([-3; 3], [8; 3]));
        // The case is smaller than the box by 7.
        assert_eq!(bounds([8; 3], [15; 3], [10; 3]), ([-4; 3], [-3; 3]));
        assert_eq!(bounds([10; 3], [10; 3], [10; 3]), ([0; 3], [0; 3]));
    }

    struct Two;

    impl Cases for Two {
        fn channels(&self) -> usize {
            1
        }
        fn size(&self, _: usize) -> [usize; 3] {
            [10, 12, 14]
        }
        fn locations(&self, case: usize) -> Result<Arc<Vec<ClassLocations>>> {
            let class = |value: i16, voxels: Vec<[u32; 3]>| ClassLocations { values: vec![value], voxels };
            let first = vec![class(-1, vec![[1, 1, 1]]), class(1, vec![[9, 11, 13]]), class(2, vec![])];
            Ok(Arc::new(if case == 0 { first } else { Vec::new() }))
        }
        fn crop(
            &self,
            _: usize,
            _: [isize; 3],
            _: [usize; 3],
            _: &mut [f32],
            _: &mut [i16],
        ) -> galen_core::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn foreground_boxes_hold_their_voxel_and_free_ones_stay_in_bounds() {
        let mut sampler = Sampler {
            cases: vec![0, 1],
            initial: [6; 3],
            patch: [4; 3],
            batch: 2,
            has_ignore: false,
            seed: 1,
        };
        for iteration in 0..200 {
            let (place, _) = sampler.place(&Two, iteration, 1).unwrap();
            if place.case == 0 {
                assert_eq!(
                    place.lower,
                    [6, 8, 10],
                    "class 1 is the only one with voxels besides the annotated"
                );
            }
            let (place, _) = sampler.place(&Two, iteration, 0).unwrap();
            for (lower, size) in place.lower.into_iter().zip([10, 12, 14]) {
                assert!((-1..=size + 1 - 6).contains(&lower), "{lower}");
            }
        }
        sampler.has_ignore = true;
        let (place, _) = sampler.place(&Two, 0, 0).unwrap();
        assert!(place.case == 1 || place.lower == [-1; 3]);
        let again = sampler.place(&Two, 7, 0).unwrap().0;
        assert_eq!(sampler.place(&Two, 7, 0).unwrap().0, again);
    }
}
