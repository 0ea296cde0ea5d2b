//! From fingerprint to plan, number for number as nnU-Net v2.8.1 (default planner and ResEnc M, L, XL).

mod preset;

pub use preset::Planner;

use crate::fingerprint::Fingerprint;
use crate::normalise::Normalization;
use crate::plans::Plans;
use crate::topology::{Topology, feature_map_size, topology};
use galen_core::{Error, NetworkClass, Result};
use preset::Preset;
use serde_json::{Map, Value, json};

/// What the planner must know beside the fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetFacts {
    /// Folder name of the dataset.
    pub name: String,
    /// Channel names in order; they decide the normalisation.
    pub channel_names: Vec<String>,
    /// Entries of `labels` in dataset.json, background, ignore and regions included.
    pub planner_classes: usize,
    /// `numTraining`.
    pub num_training: usize,
    /// nnU-Net's reader class.
    pub reader: String,
}

const MAX_FEATURES: [usize; 2] = [512, 320];
const REFERENCE_BATCH: [f64; 2] = [12.0, 2.0];
const LOWRES_STEP: f64 = 1.03;
const LOWRES_BELOW: f64 = 0.25;
const RESIDUAL_BLOCKS: [usize; 14] = [1, 3, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6];

/// What a user may ask of a planner.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PlanOptions {
    /// Memory target in GB instead of the preset's.
    pub gpu_memory_gb: Option<f64>,
    /// Spacing of the 3D configuration in mm, `(z, y, x)` of the scans, instead of the one that the fingerprint
    /// suggests.
    pub target_spacing: Option<[f64; 3]>,
}

/// Makes the plan of a dataset. `gpu_memory_gb` replaces the preset's memory target.
pub fn plan(
    fingerprint: &Fingerprint,
    facts: &DatasetFacts,
    planner: Planner,
    gpu_memory_gb: Option<f64>,
) -> Result<Plans> {
    plan_with(fingerprint, facts, planner, PlanOptions { gpu_memory_gb, target_spacing: None })
}

/// As [`plan`], with all that a user may ask for.
pub fn plan_with(
    fingerprint: &Fingerprint,
    facts: &DatasetFacts,
    planner: Planner,
    options: PlanOptions,
) -> Result<Plans> {
    check(fingerprint, facts, options)?;
    let preset = planner.preset();
    let scale = options.gpu_memory_gb.unwrap_or(preset.gigabytes) / preset.gigabytes;
    let work = Work { fingerprint, facts, preset, scale, target: options.target_spacing };
    Plans::from_json(&Value::Object(work.plans()?))
}

fn check(fingerprint: &Fingerprint, facts: &DatasetFacts, options: PlanOptions) -> Result<()> {
    let positive = |v: &f64| *v > 0.0 && v.is_finite();
    let again = "compute it again from the dataset";
    let cases = fingerprint.spacings.len();
    if cases == 0 || cases != fingerprint.shapes_after_crop.len() {
        let what = format!("{cases} spacings and {} shapes", fingerprint.shapes_after_crop.len());
        return Err(Error::input("fingerprint", what, again));
    }
    if let Some(bad) = fingerprint.spacings.iter().find(|mm| !mm.iter().all(positive)) {
        return Err(Error::input("fingerprint", format!("a case has the spacing {bad:?} mm"), again));
    }
    if fingerprint.shapes_after_crop.iter().any(|shape| shape.contains(&0)) {
        return Err(Error::input("fingerprint", "a case has no voxels", again));
    }
    if facts.channel_names.is_empty() || facts.planner_classes < 2 {
        let what = format!("{} channels and {} labels", facts.channel_names.len(), facts.planner_classes);
        return Err(Error::input(
            "dataset.json",
            what,
            "name at least one channel, background and one label",
        ));
    }
    if let Some(bad) = options.gpu_memory_gb.filter(|gb| !positive(gb)) {
        return Err(Error::input(
            "memory target",
            format!("{bad} GB"),
            "give a positive number of gigabytes",
        ));
    }
    if let Some(bad) = options.target_spacing.filter(|mm| !mm.iter().all(positive)) {
        return Err(Error::input("target spacing", format!("{bad:?} mm"), "give three positive numbers"));
    }
    Ok(())
}

struct Work<'a> {
    fingerprint: &'a Fingerprint,
    facts: &'a DatasetFacts,
    preset: Preset,
    scale: f64,
    target: Option<[f64; 3]>,
}

/// A planned configuration, before it becomes JSON.
struct Planned {
    patch: Vec<usize>,
    spacing: Vec<f64>,
    json: Map<String, Value>,
}

impl Work<'_> {
    fn plans(&self) -> Result<Map<String, Value>> {
        let target = self.target.unwrap_or_else(|| self.target_spacing());
        let thick = first_largest(&target);
        let mut forward = vec![thick];
        forward.extend((0..3).filter(|&axis| axis != thick));
        let backward: Vec<usize> = (0..3)
            .map(|axis| forward.iter().position(|&a| a == axis).expect("an order of all axes"))
            .collect();
        let transposed = |v: &[f64; 3]| -> Vec<f64> { forward.iter().map(|&axis| v[axis]).collect() };
        let spacing = transposed(&target);
        let cases = self.fingerprint.spacings.iter().zip(&self.fingerprint.shapes_after_crop);
        let shapes: Vec<[f64; 3]> =
            cases.map(|(mm, shape)| new_shape(mm, &target, shape).map(|n| n as f64)).collect();
        let median = transposed(&per_axis(&shapes, 50.0));
        let configurations = self.configurations(&spacing, &median)?;
        let sizes: Vec<[f64; 3]> =
            self.fingerprint.shapes_after_crop.iter().map(|shape| shape.map(|n| n as f64)).collect();
        let original: Vec<i64> =
            transposed(&per_axis(&sizes, 50.0)).iter().map(|n| n.round_ties_even() as i64).collect();
        let json = json!({
            "dataset_name": self.facts.name,
            "plans_name": self.preset.plans_name,
            "original_median_spacing_after_transp": transposed(&per_axis(&self.fingerprint.spacings, 50.0)),
            "original_median_shape_after_transp": original,
            "image_reader_writer": self.facts.reader,
            "transpose_forward": forward,
            "transpose_backward": backward,
            "configurations": configurations,
            "experiment_planner_used": self.preset.class_name,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel":
                self.fingerprint.foreground_intensity_properties_per_channel,
        });
        match json {
            Value::Object(map) => Ok(map),
            _ => unreachable!("an object was written"),
        }
    }

    /// Median spacing; a thick axis gets its 10th percentile, but never less than the others.
    fn target_spacing(&self) -> [f64; 3] {
        let mut target = per_axis(&self.fingerprint.spacings, 50.0);
        let sizes: Vec<[f64; 3]> =
            self.fingerprint.shapes_after_crop.iter().map(|shape| shape.map(|n| n as f64)).collect();
        let size = per_axis(&sizes, 50.0);
        let thick = first_largest(&target);
        let others: Vec<usize> = (0..3).filter(|&axis| axis != thick).collect();
        let coarsest = others.iter().map(|&a| target[a]).fold(f64::MIN, f64::max);
        let shortest = others.iter().map(|&a| size[a]).fold(f64::MAX, f64::min);
        if target[thick] > 3.0 * coarsest && size[thick] * 3.0 < shortest {
            let fine = per_axis(&self.fingerprint.spacings, 10.0)[thick];
            target[thick] = if fine < coarsest { coarsest.max(fine) + 1e-5 } else { fine };
        }
        target
    }

    fn configurations(&self, spacing: &[f64], median: &[f64]) -> Result<Map<String, Value>> {
        let training = self.facts.num_training as f64;
        let voxels = product(median);
        let mut all = Map::new();
        let medians: Vec<Value> = median.iter().map(|&n| json!(n)).collect();
        let mut flat =
            self.configuration("2d", &spacing[1..], &median[1..], &medians[1..], voxels * training)?;
        flat.json.insert("batch_dice".into(), true.into());
        all.insert("2d".into(), flat.json.into());
        if median[0] == 1.0 {
            return Ok(all);
        }
        let mut full = self.configuration("3d_fullres", spacing, median, &medians, voxels * training)?;
        let low = self.lowres(&full, median)?;
        full.json.insert("batch_dice".into(), low.is_some().into());
        let cascade = low.is_some();
        if let Some(mut low) = low {
            low.json.insert("batch_dice".into(), false.into());
            low.json.insert("next_stage".into(), "3d_cascade_fullres".into());
            all.insert("3d_lowres".into(), low.json.into());
        }
        all.insert("3d_fullres".into(), full.json.into());
        if cascade {
            let json = json!({ "inherits_from": "3d_fullres", "previous_stage": "3d_lowres" });
            all.insert("3d_cascade_fullres".into(), json);
        }
        Ok(all)
    }

    /// Coarser and coarser until a patch covers a quarter of the image; dropped when that is hardly coarser.
    fn lowres(&self, full: &Planned, median: &[f64]) -> Result<Option<Planned>> {
        let patch = |planned: &Planned| planned.patch.iter().product::<usize>() as f64;
        let mut spacing = full.spacing.clone();
        let (mut covered, mut voxels) = (patch(full), product(median));
        let mut low = None;
        while covered / voxels < LOWRES_BELOW {
            let coarsest = spacing.iter().copied().fold(f64::MIN, f64::max);
            let finer: Vec<bool> = spacing.iter().map(|&mm| coarsest / mm > 2.0).collect();
            let any = finer.contains(&true);
            for (mm, finer) in spacing.iter_mut().zip(&finer) {
                if *finer || !any {
                    *mm *= LOWRES_STEP;
                }
            }
            let size: Vec<f64> = full
                .spacing
                .iter()
                .zip(&spacing)
                .zip(median)
                .map(|((full, low), n)| full / low * n)
                .collect();
            voxels = product(&size);
            let rounded: Vec<f64> = size.iter().map(|n| n.round_ties_even()).collect();
            let medians: Vec<Value> = rounded.iter().map(|&n| json!(n as i64)).collect();
            let training = self.facts.num_training as f64;
            let planned = self.configuration("3d_lowres", &spacing, &rounded, &medians, voxels * training)?;
            covered = patch(&planned);
            low = Some(planned);
        }
        Ok(low.filter(|_| product(median) / voxels >= 2.0))
    }

    fn configuration(
        &self,
        name: &str,
        spacing: &[f64],
        median: &[f64],
        median_json: &[Value],
        dataset_voxels: f64,
    ) -> Result<Planned> {
        let rank = spacing.len();
        let kind = usize::from(rank == 3);
        let reference = self.preset.reference[kind] * self.scale;
        let mut t = topology(spacing, &initial_patch(spacing, median));
        if t.strides.len() < 2 {
            let what = format!("the median image of {name} has only {median:?} voxels");
            return Err(Error::input(
                "dataset",
                what,
                "a U-Net needs 8 voxels or more along two axes, or a finer target spacing",
            ));
        }
        let mut estimate = self.estimate(&t, rank);
        // The default planner compares per two samples, which in 2D is six times more permissive.
        let per_two = if self.preset.residual { 1.0 } else { 2.0 / REFERENCE_BATCH[kind] };
        while estimate * per_two > reference {
            let axis = last_largest_ratio(&t.patch, median);
            let mut shorter = t.patch.clone();
            shorter[axis] -= t.divisor[axis] as f64;
            let divisor = topology(spacing, &shorter).divisor[axis] as f64;
            let mut patch = t.patch.clone();
            patch[axis] -= divisor;
            t = topology(spacing, &patch);
            if patch[axis] < 1.0 || t.strides.len() < 2 {
                let what = format!("too small for any patch of {name}");
                return Err(Error::input("memory target", what, "give more gigabytes"));
            }
            estimate = self.estimate(&t, rank);
        }
        let patch: Vec<usize> = t.patch.iter().map(|&p| p as usize).collect();
        let fits = (reference / estimate * REFERENCE_BATCH[kind]).round_ties_even();
        let covers = (dataset_voxels * self.preset.cover / product(&t.patch)).round_ties_even();
        let batch = fits.min(covers).max(2.0) as usize;
        let json = self.json(name, &t, &patch, batch, spacing, median_json);
        Ok(Planned { patch, spacing: spacing.to_vec(), json })
    }

    fn depths(&self, stages: usize) -> (Vec<usize>, Vec<usize>) {
        if self.preset.residual {
            let blocks = (0..stages).map(|stage| RESIDUAL_BLOCKS[stage.min(13)]).collect();
            (blocks, vec![1; stages - 1])
        } else {
            (vec![2; stages], vec![2; stages - 1])
        }
    }

    fn features(stages: usize, rank: usize) -> Vec<usize> {
        let most = MAX_FEATURES[usize::from(rank == 3)];
        (0..stages).map(|stage| (32usize << stage.min(16)).min(most)).collect()
    }

    fn class(&self) -> NetworkClass {
        if self.preset.residual { NetworkClass::ResidualEncoderUNet } else { NetworkClass::PlainConvUNet }
    }

    fn estimate(&self, t: &Topology, rank: usize) -> f64 {
        let stages = t.strides.len();
        let (encoder, decoder) = self.depths(stages);
        let features = Self::features(stages, rank);
        feature_map_size(self.class(), t, &features, &encoder, &decoder, self.facts.planner_classes)
    }

    fn json(
        &self,
        name: &str,
        t: &Topology,
        patch: &[usize],
        batch: usize,
        spacing: &[f64],
        median: &[Value],
    ) -> Map<String, Value> {
        let schemes: Vec<Normalization> =
            self.facts.channel_names.iter().map(|channel| Normalization::for_channel(channel)).collect();
        let small = self.fingerprint.median_relative_size_after_cropping < 0.75;
        let masks: Vec<bool> = schemes.iter().map(|s| small && *s == Normalization::ZScore).collect();
        // ResEnc plans share the preprocessed cases of the default plans where they are equal.
        let owner = if name == "3d_lowres" { self.preset.plans_name } else { "nnUNetPlans" };
        let resampling = "resample_data_or_seg_to_shape";
        let arguments = |seg: bool, order: u8| json!({"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": null});
        let json = json!({
            "data_identifier": format!("{owner}_{name}"),
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": batch,
            "patch_size": patch,
            "median_image_size_in_voxels": median,
            "spacing": spacing,
            "normalization_schemes": schemes.iter().map(|s| s.class()).collect::<Vec<_>>(),
            "use_mask_for_norm": masks,
            "resampling_fn_data": resampling,
            "resampling_fn_seg": resampling,
            "resampling_fn_data_kwargs": arguments(false, 3),
            "resampling_fn_seg_kwargs": arguments(true, 1),
            "resampling_fn_probabilities": resampling,
            "resampling_fn_probabilities_kwargs": arguments(false, 1),
            "architecture": self.architecture(t, spacing.len()),
        });
        match json {
            Value::Object(map) => map,
            _ => unreachable!("an object was written"),
        }
    }

    fn architecture(&self, t: &Topology, rank: usize) -> Value {
        let stages = t.strides.len();
        let (encoder, decoder) = self.depths(stages);
        let (class, depth) = match self.class() {
            NetworkClass::PlainConvUNet => ("PlainConvUNet", "n_conv_per_stage"),
            NetworkClass::ResidualEncoderUNet => ("ResidualEncoderUNet", "n_blocks_per_stage"),
        };
        json!({
            "network_class_name": format!("dynamic_network_architectures.architectures.unet.{class}"),
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": Self::features(stages, rank),
                "conv_op": format!("torch.nn.modules.conv.Conv{rank}d"),
                "kernel_sizes": t.kernels,
                "strides": t.strides,
                depth: encoder,
                "n_conv_per_stage_decoder": decoder,
                "conv_bias": true,
                "norm_op": format!("torch.nn.modules.instancenorm.InstanceNorm{rank}d"),
                "norm_op_kwargs": { "eps": 1e-5, "affine": true },
                "dropout_op": null,
                "dropout_op_kwargs": null,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": { "inplace": true },
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        })
    }
}

/// Voxels per axis after resampling; Python's rounding, half to even.
pub(crate) fn new_shape(from: &[f64; 3], to: &[f64; 3], shape: &[usize; 3]) -> [usize; 3] {
    [0, 1, 2].map(|axis| (from[axis] / to[axis] * shape[axis] as f64).round_ties_even() as usize)
}

/// An isotropic 256³ (2048²) in millimetres, at most the median image.
fn initial_patch(spacing: &[f64], median: &[f64]) -> Vec<f64> {
    let inverse: Vec<f64> = spacing.iter().map(|mm| 1.0 / mm).collect();
    let edge = if spacing.len() == 3 {
        (256f64.powi(3) / product(&inverse)).powf(1.0 / 3.0)
    } else {
        (2048f64.powi(2) / product(&inverse)).powf(0.5)
    };
    inverse.iter().zip(median).map(|(i, &n)| (i * edge).round_ties_even().min(n)).collect()
}

fn product(values: &[f64]) -> f64 {
    values.iter().product()
}

fn first_largest(values: &[f64; 3]) -> usize {
    (0..3).fold(0, |best, axis| if values[axis] > values[best] { axis } else { best })
}

/// Among equal ratios the last axis, as numpy's argsort leaves short lists.
fn last_largest_ratio(patch: &[f64], median: &[f64]) -> usize {
    let ratio = |axis: usize| patch[axis] / median[axis];
    (0..patch.len()).fold(0, |best, axis| if ratio(axis) >= ratio(best) { axis } else { best })
}

/// numpy's linear percentile per axis.
fn per_axis(rows: &[[f64; 3]], percent: f64) -> [f64; 3] {
    [0, 1, 2].map(|axis| {
        let mut values: Vec<f64> = rows.iter().map(|row| row[axis]).collect();
        values.sort_by(f64::total_cmp);
        let at = percent / 100.0 * (values.len() - 1) as f64;
        let below = at.floor() as usize;
        let (a, b) = (values[below], values[(below + 1).min(values.len() - 1)]);
        let part = at - below as f64;
        if part < 0.5 { a + (b - a) * part } else { b - (b - a) * (1.0 - part) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Intensities;

    fn facts() -> DatasetFacts {
        DatasetFacts {
            name: "Dataset001_Test".into(),
            channel_names: vec!["CT".into()],
            planner_classes: 2,
            num_training: 10,
            reader: "SimpleITKIO".into(),
        }
    }

    fn fingerprint(shape: [usize; 3], spacing: [f64; 3]) -> Fingerprint {
        let zero = Intensities {
            max: 1.0,
            mean: 0.5,
            median: 0.5,
            min: 0.0,
            percentile_00_5: 0.0,
            percentile_99_5: 1.0,
            std: 0.1,
        };
        Fingerprint {
            foreground_intensity_properties_per_channel: [("0".to_owned(), zero)].into(),
            median_relative_size_after_cropping: 1.0,
            shapes_after_crop: vec![shape; 10],
            spacings: vec![spacing; 10],
        }
    }

    #[test]
    fn a_wanted_spacing_is_the_plan_s() {
        let options = PlanOptions { target_spacing: Some([2.0, 1.0, 1.5]), ..PlanOptions::default() };
        let print = fingerprint([60, 120, 120], [1.0; 3]);
        let plans = plan_with(&print, &facts(), Planner::Default, options).unwrap();
        let full = plans.configuration("3d_fullres").unwrap();
        assert_eq!(plans.transpose_forward, [0, 1, 2]);
        assert_eq!(
            (full.spacing, full.median_image_size_in_voxels),
            (vec![2.0, 1.0, 1.5], vec![30.0, 120.0, 80.0])
        );
    }

    #[test]
    fn what_cannot_be_planned_is_said() {
        let say =
            |print: &Fingerprint, gb| plan(print, &facts(), Planner::Default, gb).unwrap_err().to_string();
        let good = fingerprint([60, 120, 120], [1.0; 3]);
        assert!(say(&good, Some(1e-4)).contains("memory target"));
        assert!(say(&good, Some(f64::NAN)).contains("memory target"));
        assert!(say(&fingerprint([4, 4, 4], [1.0; 3]), None).contains("median image"));
        assert!(say(&fingerprint([60, 120, 120], [0.0, 1.0, 1.0]), None).contains("spacing"));
    }
}
