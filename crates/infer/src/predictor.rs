//! A model ready to segment scans: preparation, sliding window over all folds, export.

use crate::export::{Export, Logits, Probabilities};
use crate::sliding::{Input, Precision, Sum, Window};
use galen_core::{Error, LabelMap, Labels, Result, Volume};
use galen_models::{Bundle, Inference, Network, Weights};
use galen_prep::resample::{Change, LogitSlabs, Method};
use galen_prep::{Configuration, Plans, Prepared, Undo, prepare, target_spacing};
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
}

impl Default for Options {
    fn default() -> Self {
        Self { mirror: true, step: 0.5, compat_f16: false }
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
        let prepare = |weights| Ok(Mutex::new(network.inference(weights)?.fixed(patch)?));
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
        let (prepared, undo) = self.prepare(image, previous)?;
        let logits = self.logits(&prepared, progress)?;
        drop(prepared);
        self.export(&logits, &undo, want_probabilities)
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
        let mut run = |fold: &Mutex<Inference>, sum: &mut Sum| {
            let mut inference =
                fold.lock().map_err(|_| Error::bug("predictor", "an earlier prediction failed"))?;
            let mut forward = |patch: &[f32], size| inference.forward(patch, size);
            self.window.accumulate(input, sum, &mut forward, &mut done)
        };
        let values = if self.options.compat_f16 {
            self.half_mean(|fold| {
                let mut sum = Sum::new(classes, size, Precision::Half);
                run(fold, &mut sum)?;
                sum.finish()
            })?
        } else {
            let mut sum = Sum::new(classes, size, Precision::Single);
            self.folds.iter().try_for_each(|fold| run(fold, &mut sum))?;
            sum.finish()?
        };
        Ok(Logits { classes, size, values })
    }

    /// Mean over folds as nnU-Net computes it: each sum and the quotient rounded to float16.
    fn half_mean(&self, mut of: impl FnMut(&Mutex<Inference>) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        let mut mean = of(&self.folds[0])?;
        for fold in &self.folds[1..] {
            mean.iter_mut().zip(of(fold)?).for_each(|(sum, v)| *sum += v);
            Precision::Half.round(&mut mean);
        }
        if self.folds.len() > 1 {
            let count = self.folds.len() as f32;
            mean.iter_mut().for_each(|v| *v /= count);
            Precision::Half.round(&mut mean);
        }
        Ok(mean)
    }

    /// Label map, and probabilities when asked for, on the scan's grid.
    pub fn export(&self, logits: &Logits, undo: &Undo, want_probabilities: bool) -> Result<Prediction> {
        let change = Change {
            from: logits.size,
            to: undo.size_after_crop,
            current: target_spacing(&self.configuration, undo.spacing),
            new: undo.spacing,
        };
        let (values, classes) = (&logits.values, logits.classes);
        let slabs = LogitSlabs::new(values, classes, self.of_logits, &change, self.options.compat_f16)?;
        let export = Export { labels: &self.labels, undo, logits: &slabs };
        if want_probabilities {
            let (labels, probabilities) = export.with_probabilities()?;
            return Ok(Prediction { labels, probabilities: Some(probabilities) });
        }
        Ok(Prediction { labels: export.label_map()?, probabilities: None })
    }

    /// Bytes that predicting this scan needs at most, the scan itself included.
    pub fn peak_bytes(&self, image: &Volume, want_probabilities: bool) -> u64 {
        let geometry = &image.geometry;
        let target = &self.configuration.spacing;
        let scale = |axis: usize| {
            let raw = self.plans.transpose_forward[axis];
            let first = 3 - target.len();
            let factor = if axis < first { 1.0 } else { geometry.spacing[raw] / target[axis - first] };
            (geometry.size[raw] as f64 * factor).round().max(1.0) as u64
        };
        let (network, scan) = (scale(0) * scale(1) * scale(2), geometry.voxels() as u64);
        let (channels, classes) = (self.network.inputs() as u64, self.labels.output_channels() as u64);
        let folds = self.folds.len() as u64;
        // Per voxel: a channel and its transposed or cut copy, mask, its holes, labels; while a channel is
        // resampled, its double and half-way volume.
        let prepare = scan * (channels * 8 + 12) + network * channels * 4 + 16 * scan.max(network);
        // The image, sums of logits and importance, and the logits; float16 sums of folds are averaged in single.
        let stored = if self.options.compat_f16 { 2 } else { 4 };
        let averaged = if self.options.compat_f16 && folds > 1 { 4 } else { 0 };
        let slide = network * (channels * 4 + (classes + 1) * stored + classes * (4 + averaged));
        // Logits, best values, labels on the cropped grid and on the scan's; probabilities, and their archive.
        let probabilities = if want_probabilities { scan * classes * 8 } else { 0 };
        let export = network * classes * 4 + scan * 8 + probabilities;
        // Every fold keeps weights and activations of its own.
        let cost = self.network.cost(self.window.patch(), 1);
        let model = folds * (cost.inference_weight_bytes + cost.inference_activation_bytes);
        image.voxels.bytes() as u64 + model + prepare.max(slide).max(export)
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
