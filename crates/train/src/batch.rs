//! Batches as the network takes them, made from places and random choices.

use crate::sampler::{Cases, Place, Sampler};
use galen_core::Result;
use galen_models::Targets;
use galen_prep::augment::{Draw, Recipe, Region, Sample};

/// Images and targets of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[n, c, z, y, x]`.
    pub images: Vec<f32>,
    /// One per network output, full resolution first.
    pub targets: Vec<Targets>,
}

/// Makes the batches of a run; every batch is a function of its number alone.
pub struct Batches<'a> {
    /// Where voxels come from.
    pub cases: &'a dyn Cases,
    /// Places for training.
    pub training: Sampler,
    /// Places for validation: boxes of the final size.
    pub validation: Sampler,
    /// Augmentation.
    pub recipe: Recipe,
    /// Sizes of the network's outputs, `(z, y, x)`.
    pub output_sizes: Vec<[usize; 3]>,
}

/// Marks the numbers of validation batches, which have streams of their own.
const VALIDATION: u64 = 1 << 63;

impl Batches<'_> {
    /// Augmented batch of a training iteration.
    pub fn training(&self, iteration: u64) -> Result<Batch> {
        self.assemble(&self.training, |index| {
            let (place, mut rng) = self.training.place(self.cases, iteration, index)?;
            let draw = Draw::new(&self.recipe, self.cases.channels(), &mut rng);
            let part = self.read(place, self.recipe.region(&draw))?;
            Ok(self.recipe.apply(&part, &draw))
        })
    }

    /// Batch `number` of all validation batches of the run; not augmented.
    pub fn validation(&self, number: u64) -> Result<Batch> {
        let whole = Region { lower: [0; 3], size: self.recipe.patch };
        self.assemble(&self.validation, |index| {
            let (place, _) = self.validation.place(self.cases, VALIDATION | number, index)?;
            Ok(self.recipe.plain(self.read(place, whole)?))
        })
    }

    fn read(&self, place: Place, region: Region) -> Result<Sample> {
        let (channels, voxels) = (self.cases.channels(), region.size.iter().product::<usize>());
        let lower = std::array::from_fn(|axis| place.lower[axis] + region.lower[axis] as isize);
        let (mut image, mut labels) = (vec![0.0; channels * voxels], vec![-1; voxels]);
        self.cases.crop(place.case, lower, region.size, &mut image, &mut labels)?;
        Ok(Sample { channels, size: region.size, image, labels, previous: None })
    }

    fn assemble(&self, sampler: &Sampler, sample: impl Fn(usize) -> Result<Sample>) -> Result<Batch> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for index in 0..sampler.batch {
            let sample = sample(index)?;
            images.extend(sample.image);
            labels.extend(sample.labels);
        }
        Ok(Batch { images, targets: Targets::pyramid(labels, self.recipe.patch, &self.output_sizes) })
    }
}
