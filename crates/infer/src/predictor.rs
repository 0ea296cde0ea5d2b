//! A model ready to segment scans: preparation, sliding window over all folds, export.

use crate::band::{Band, Bands, Extent, Place};
use crate::export::{Export, Logits, Probabilities};
use crate::need::{Need, Sizes, need};
use crate::sliding::{Input, Precision, Window};
use galen_core::{Error, LabelMap, Labels, Result, Volume};
use galen_models::{Bundle, Inference, Network, Storage, Weights};
use galen_prep::resample::{Change, LogitSlabs, Method, PlaneSource, Whole};
use galen_prep::{Configuration, Plans, Prepared, Undo, prepare, target_spacing};
use rayon::prelude::*;
use std::sync::Mutex;

/// How to predict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Average over mirrored copies, along the axes that the model was trained with.
    pub mirror: bool,
    /// Step of the sliding window, as a part of the patch.
    pub step: f64,
    /// Round sums to float16 exactly where nnU-Net does, for comparison with it.
    pub compat_f16: bool,
    /// How the network's activations are stored; its arithmetic is in single precision.
    pub activations: Storage,
}

impl Default for Options {
    fn default() -> Self {
        Self { mirror: true, step: 0.5, compat_f16: false, activations: Storage::F32 }
    }
}

/// Result for one scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Labels on the scan's grid.
    pub labels: LabelMap,
    /// Probabilities on the scan's grid, when asked for.
    pub probabilities: Option<Probabilities>,
}

/// Called with finished and all forward passes.
pub type Progress<'a> = &'a dyn Fn(usize, usize);

/// A model with the weights of one or more folds.
pub struct Predictor {
    plans: Plans,
    configuration: Configuration,
    labels: Labels,
    /// How logits come back to the scan's grid.
    of_logits: Method,
    /// The median training image had one slice.
    trained_on_2d: bool,
    network: Network,
    folds: Vec<Mutex<Inference>>,
    window: Window,
    options: Options,
}

/// What a predictor is made of, when it does not come from a bundle.
pub struct Parts {
    /// Plans of the dataset.
    pub plans: Plans,
    /// Name of the configuration.
    pub configuration: String,
    /// Meaning of the labels.
    pub labels: Labels,
    /// Channels of an image.
    pub image_channels: usize,
    /// Axes that may be mirrored, 0 is the first axis of the patch.
    pub mirror_axes: Vec<usize>,
}

impl Predictor {
    /// Loads the folds of a bundle; all of them when `folds` is empty.
    pub fn new(bundle: &Bundle, folds: &[String], options: Options) -> Result<Self> {
        let parts = Parts {
            plans: Plans::from_json(&bundle.plans_json)?,
            configuration: bundle.configuration.clone(),
            labels: bundle.labels.clone(),
            image_channels: bundle.channel_names.len(),
            mirror_axes: bundle.mirror_axes.clone(),
        };
        let folds = if folds.is_empty() { bundle.folds()? } else { folds.to_vec() };
        let weights = folds.iter().map(|fold| bundle.weights(fold)).collect::<Result<Vec<_>>>()?;
        Self::from_parts(parts, weights, options)
    }

    /// From weights in memory, one set per fold.
    pub fn from_parts(parts: Parts, weights: Vec<Weights>, options: Options) -> Result<Self> {
        if !(options.step > 0.0 && options.step <= 1.0) {
            let what = format!("{} is no step", options.step);
            return Err(Error::input("step of the sliding window", what, "give a number above 0, at most 1"));
        }
        if weights.is_empty() {
            return Err(Error::input("model", "it has no trained fold", "train a fold first"));
        }
        let configuration = parts.plans.configuration(&parts.configuration)?;
        let of_logits = LogitSlabs::method(
            &configuration.resampling_fn_probabilities,
            &configuration.resampling_fn_probabilities_kwargs,
        )?;
        let mirror_axes = mirror_axes(&configuration, &parts.mirror_axes)?;
        let previous =
            if configuration.previous_stage.is_some() { parts.labels.foreground().len() } else { 0 };
        let network = Network::new(
            &configuration.architecture,
            parts.image_channels + previous,
            parts.labels.output_channels(),
        )?;
        let patch = configuration.patch3();
        let prepare =
            |weights| Ok(Mutex::new(network.inference(weights)?.stored(options.activations).fixed(patch)?));
        let folds = weights.into_iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let window = Window::new(patch, options.step, if options.mirror { &mirror_axes } else { &[] });
        let Parts { plans, labels, .. } = parts;
        let trained_on_2d = plans.to_json()["original_median_shape_after_transp"][0] == 1;
        Ok(Self { plans, configuration, labels, of_logits, trained_on_2d, network, folds, window, options })
    }

    /// True for a cascade's second stage, which needs the label map of the first.
    pub fn needs_previous_stage(&self) -> bool {
        self.configuration.previous_stage.is_some()
    }

    /// Segments a scan.
    pub fn predict(
        &self,
        image: &Volume,
        want_probabilities: bool,
        progress: Progress,
    ) -> Result<Prediction> {
        self.predict_stage(image, None, want_probabilities, progress)
    }

    /// Segments a scan; `previous` is the previous stage's label map on the scan's grid.
    pub fn predict_stage(
        &self,
        image: &Volume,
        previous: Option<&LabelMap>,
        want_probabilities: bool,
        progress: Progress,
    ) -> Result<Prediction> {
        let place = self.need(image, want_probabilities).place(None)?;
        self.predict_placed(image, previous, want_probabilities, place, progress)
    }

    /// As [`Self::predict_stage`], with sums of logits where they are told to be.
    pub fn predict_placed(
        &self,
        image: &Volume,
        previous: Option<&LabelMap>,
        want_probabilities: bool,
        place: Place,
        progress: Progress,
    ) -> Result<Prediction> {
        let (prepared, undo) = self.prepare(image, previous)?;
        if want_probabilities {
            let bands = self.all_planes(&prepared, place, progress)?;
            let size = prepared.size;
            drop(prepared);
            let prediction = self.export_from(&bands, size, &undo, true)?;
            bands.check()?;
            return Ok(prediction);
        }
        let slabs = self.slabs(prepared.size, &undo)?;
        let export = Export { labels: &self.labels, undo: &undo, logits: &slabs };
        let mut written = export.begin()?;
        let height = prepared.size[0].min(self.window.patch()[0] + 2);
        let mut bands = self.bands(prepared.size, height, place)?;
        self.slide(&prepared, &mut bands, progress, &mut |bands, ready| {
            export.advance(bands, ready, &mut written);
            bands.check()?;
            let next = written.done();
            Ok(if next < slabs.size()[0] { slabs.reads(next)[0] } else { ready })
        })?;
        Ok(Prediction { labels: export.finish(written), probabilities: None })
    }

    /// Brings a scan onto the network's grid. In a second stage the previous labels follow the image as
    /// one channel per foreground label.
    pub fn prepare(&self, image: &Volume, previous: Option<&LabelMap>) -> Result<(Prepared, Undo)> {
        self.check(image, previous)?;
        let (mut prepared, undo) = prepare(image, previous, &self.plans, &self.configuration)?;
        if self.needs_previous_stage() {
            let labels = prepared.labels.take().unwrap_or_default();
            for label in self.labels.foreground() {
                prepared.image.extend(labels.iter().map(|&v| f32::from(v == label as i16)));
                prepared.channels += 1;
            }
        }
        Ok((prepared, undo))
    }

    /// Mean logits over tiles, mirrored copies and folds, on the network's grid.
    pub fn logits(&self, prepared: &Prepared, progress: Progress) -> Result<Logits> {
        let (size, classes) = (prepared.size, self.labels.output_channels());
        let bands = self.all_planes(prepared, Place::Memory, progress)?;
        let area = size[1] * size[2];
        let mut values = vec![0f32; classes * size[0] * area];
        values.par_chunks_exact_mut(area).enumerate().for_each(|(plane, out)| {
            bands.plane(plane / size[0], plane % size[0], out);
        });
        bands.check()?;
        Ok(Logits { classes, size, values })
    }

    /// Sums of the whole image.
    fn all_planes(&self, prepared: &Prepared, place: Place, progress: Progress) -> Result<Bands> {
        let mut bands = self.bands(prepared.size, prepared.size[0], place)?;
        self.slide(prepared, &mut bands, progress, &mut |_, _| Ok(0))?;
        Ok(bands)
    }

    fn precision(&self) -> Precision {
        if self.options.compat_f16 { Precision::Half } else { Precision::Single }
    }

    /// Empty sums: one for all folds, or one per fold where nnU-Net's rounding is followed.
    fn bands(&self, size: [usize; 3], height: usize, place: Place) -> Result<Bands> {
        let extent = Extent { classes: self.labels.output_channels(), size, height };
        let count = if self.options.compat_f16 { self.folds.len() } else { 1 };
        let bands = (0..count).map(|_| Band::new(extent, self.precision(), place));
        Ok(Bands(bands.collect::<Result<Vec<_>>>()?))
    }

    /// Runs the window over the image, row by row. After each row `row_done(sums, ready)` is told that planes below
    /// `ready` are final; it returns the first plane that it still needs.
    fn slide(
        &self,
        prepared: &Prepared,
        bands: &mut Bands,
        progress: Progress,
        row_done: &mut dyn FnMut(&Bands, usize) -> Result<usize>,
    ) -> Result<()> {
        let size = prepared.size;
        if prepared.channels != self.network.inputs() {
            let (have, want) = (prepared.channels, self.network.inputs());
            return Err(Error::bug("predictor", format!("{have} channels were prepared, {want} are needed")));
        }
        let input = Input { channels: prepared.channels, size, values: &prepared.image };
        let total = self.folds.len() * self.window.passes(size);
        let mut finished = 0;
        let mut done = || {
            finished += 1;
            progress(finished, total);
            Ok(())
        };
        let rows = self.window.rows(size);
        for (number, row) in rows.iter().enumerate() {
            let [_, end] = self.window.planes(row[0], size);
            bands.0.iter_mut().try_for_each(|band| band.enter(end))?;
            let several = bands.0.len() > 1;
            for (index, fold) in self.folds.iter().enumerate() {
                let mut inference =
                    fold.lock().map_err(|_| Error::bug("predictor", "an earlier prediction failed"))?;
                let mut forward =
                    |patch: &[f32], size, logits: &mut [f32]| inference.forward_into(patch, size, logits);
                let band = &mut bands.0[if several { index } else { 0 }];
                self.window.accumulate(input, row, band, &mut forward, &mut done)?;
            }
            let ready = rows.get(number + 1).map_or(size[0], |next| self.window.planes(next[0], size)[0]);
            // What the next output plane reads may lie further on, but the next tiles begin at `ready`.
            let needed = row_done(bands, ready)?.min(ready);
            bands.0.iter_mut().for_each(|band| band.release(needed));
        }
        Ok(())
    }

    fn slabs(&self, size: [usize; 3], undo: &Undo) -> Result<LogitSlabs> {
        let change = Change {
            from: size,
            to: undo.size_after_crop,
            current: target_spacing(&self.configuration, undo.spacing),
            new: undo.spacing,
        };
        LogitSlabs::new(self.labels.output_channels(), self.of_logits, &change, self.options.compat_f16)
    }

    /// Label map, and probabilities when asked for, on the scan's grid.
    pub fn export(&self, logits: &Logits, undo: &Undo, want_probabilities: bool) -> Result<Prediction> {
        let source = Whole { size: logits.size, values: &logits.values };
        self.export_from(&source, logits.size, undo, want_probabilities)
    }

    fn export_from(
        &self,
        source: &dyn PlaneSource,
        size: [usize; 3],
        undo: &Undo,
        want_probabilities: bool,
    ) -> Result<Prediction> {
        let slabs = self.slabs(size, undo)?;
        let export = Export { labels: &self.labels, undo, logits: &slabs };
        if want_probabilities {
            let (labels, probabilities) = export.with_probabilities(source)?;
            return Ok(Prediction { labels, probabilities: Some(probabilities) });
        }
        Ok(Prediction { labels: export.label_map(source)?, probabilities: None })
    }

    /// Bytes that predicting this scan needs at most, the scan itself included.
    pub fn peak_bytes(&self, image: &Volume, want_probabilities: bool) -> u64 {
        let need = self.need(image, want_probabilities);
        match need.place(None) {
            Ok(Place::Memory) => need.in_memory,
            _ => need.with_scratch,
        }
    }

    /// What predicting this scan costs in memory.
    pub fn need(&self, image: &Volume, want_probabilities: bool) -> Need {
        let (geometry, target) = (&image.geometry, &self.configuration.spacing);
        let order = self.plans.transpose_forward;
        let network = [0, 1, 2].map(|axis| {
            let (raw, first) = (order[axis], 3 - target.len());
            let factor = if axis < first { 1.0 } else { geometry.spacing[raw] / target[axis - first] };
            (geometry.size[raw] as f64 * factor).round().max(1.0) as usize
        });
        let folds = self.folds.len() as u64;
        // Every fold keeps weights and activations of its own.
        let cost = self.network.cost_stored(self.window.patch(), 1, self.options.activations);
        let regions = self.labels.regions_class_order.iter().flatten();
        let wide = self.labels.all().iter().chain(regions).any(|&label| label > 255);
        need(&Sizes {
            scan_bytes: image.voxels.bytes() as u64,
            scan: geometry.voxels() as u64,
            scan_size: order.map(|axis| geometry.size[axis]),
            network,
            channels: [image.channels as u64, self.network.inputs() as u64],
            classes: self.labels.output_channels(),
            label: if wide { 2 } else { 1 },
            patch: self.window.patch(),
            mirrors: self.window.passes([1; 3]) > 1,
            bands: if self.options.compat_f16 { folds } else { 1 },
            network_bytes: folds * (cost.inference_weight_bytes + cost.inference_activation_bytes),
            whole: self.needs_previous_stage() || self.configuration.use_mask_for_norm.contains(&true),
            probabilities: want_probabilities,
            precision: self.precision(),
            threads: rayon::current_num_threads() as u64,
        })
    }

    /// What `prep` cannot know; it refuses other channels, 2D images in 3D models and undefined intensities.
    fn check(&self, image: &Volume, previous: Option<&LabelMap>) -> Result<()> {
        if self.trained_on_2d && !image.geometry.size.contains(&1) {
            let remedy = "predict its slices one by one, or use a model trained on volumes";
            return Err(Error::input("image", "it is a volume, the model was trained on 2D images", remedy));
        }
        if let (true, None) = (self.needs_previous_stage(), previous) {
            let remedy =
                "predict with the previous stage first and give its label map (`galen predict --previous`)";
            return Err(Error::input("model", "it is the second stage of a cascade", remedy));
        }
        if let Some(mismatch) = previous.and_then(|map| image.geometry.conflicts(&map.geometry)) {
            let what = format!("its grid differs from the image in {mismatch}");
            return Err(Error::input(
                "label map of the previous stage",
                what,
                "predict it from the same image",
            ));
        }
        Ok(())
    }
}

/// Mirrored axes as axes of `(z, y, x)`.
fn mirror_axes(configuration: &Configuration, stored: &[usize]) -> Result<Vec<usize>> {
    let dimensions = configuration.patch_size.len();
    if stored.iter().any(|&axis| axis >= dimensions) {
        let what = format!("mirror axes {stored:?} for a patch of {dimensions} axes");
        return Err(Error::input("model", what, "use the checkpoint that belongs to this configuration"));
    }
    Ok(stored.iter().map(|axis| axis + 3 - dimensions).collect())
}
