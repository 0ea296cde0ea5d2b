//! The preprocessed cases of a dataset as the sampler sees them, and the call that trains on them.

use crate::sampler::Cases;
use crate::setup::{Options, Outcome, Setup, train};
use crate::watch::Watch;
use galen_core::{Error, Result};
use galen_data::{Dataset, Split, Store};
use galen_prep::{ClassLocations, Configuration, Plans};
use std::sync::Arc;

/// A store with one number of channels.
struct StoreCases<'a> {
    store: &'a Store,
    channels: usize,
}

impl Cases for StoreCases<'_> {
    fn channels(&self) -> usize {
        self.channels
    }

    fn size(&self, case: usize) -> [usize; 3] {
        self.store.entry(case).size
    }

    fn locations(&self, case: usize) -> Result<Arc<Vec<ClassLocations>>> {
        self.store.locations(case)
    }

    fn crop(
        &self,
        case: usize,
        lower: [isize; 3],
        size: [usize; 3],
        image: &mut [f32],
        labels: &mut [i16],
    ) -> Result<()> {
        self.store.crop(case, lower, size, image, labels)
    }
}

/// Trains one fold on a store; `options.out` is a model folder when it returns.
pub fn fit(
    store: &Store,
    plans: &Plans,
    configuration: &Configuration,
    dataset: &Dataset,
    split: &Split,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    if let Some(previous) = &configuration.previous_stage {
        let what = format!(
            "{} needs the label maps of {previous}, which training does not read yet",
            configuration.name
        );
        return Err(Error::input("configuration", what, format!("train {previous} or 3d_fullres")));
    }
    let training = indices(store, &split.train)?;
    let validation = indices(store, &split.val)?;
    let cases = StoreCases { store, channels: channels(store, &training, &validation)? };
    let setup = Setup {
        cases: &cases,
        training,
        validation,
        case_names: [split.train.clone(), split.val.clone()],
        dataset: dataset.name.clone(),
        channel_names: dataset.channel_names.clone(),
        file_ending: dataset.file_ending.clone(),
        labels: &dataset.labels,
        plans: plans.to_json(),
        configuration: configuration.name.clone(),
        architecture: configuration.architecture.clone(),
        patch: configuration.patch_size.clone(),
        batch_size: configuration.batch_size,
        batch_dice: configuration.batch_dice,
        use_mask_for_norm: configuration.use_mask_for_norm.clone(),
        label_resampling: store.label_resampling().to_owned(),
    };
    train(&setup, options, watch)
}

/// Places of cases in the store.
fn indices(store: &Store, ids: &[String]) -> Result<Vec<usize>> {
    let find = |id: &String| {
        store.index_of(id).ok_or_else(|| {
            Error::input(
                id,
                "the split names this case, but it is not among the preprocessed ones",
                "preprocess again",
            )
        })
    };
    ids.iter().map(find).collect()
}

fn channels(store: &Store, training: &[usize], validation: &[usize]) -> Result<usize> {
    let mut all = training.iter().chain(validation).map(|&case| store.entry(case));
    let Some(first) = all.next() else { return Ok(1) };
    match all.find(|entry| entry.channels != first.channels) {
        None => Ok(first.channels),
        Some(odd) => {
            let what = format!("{} channels, but {} has {}", odd.channels, first.id, first.channels);
            Err(Error::input(&odd.id, what, "preprocess again, after `galen check`"))
        }
    }
}
