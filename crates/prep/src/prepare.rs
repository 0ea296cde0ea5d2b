//! From a scan to the network's grid, and what is needed to come back.
//!
//! Source: nnunetv2 2.8.1 `default_preprocessor`: transpose, crop, normalise, resample, in this order.

use crate::crop::{bounding_box, cut, nonzero_mask};
use crate::fingerprint::reader_spacing;
use crate::frugal;
use crate::normalise::normalise;
use crate::planner::new_shape;
use crate::plans::{Configuration, Plans};
use crate::resample::{Change, Method, TieRule, permuted};
use galen_core::{Error, Geometry, LabelMap, Result, Volume};
use serde::{Deserialize, Serialize};

/// Values of a prepared image beyond which its spacing must be wrong: 16 GiB, a CT of 1600 voxels a side.
const MOST_VALUES: usize = 1 << 32;

/// A case on the network's grid and axis order.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Image channels.
    pub channels: usize,
    /// `(z, y, x)` in the network's axis order.
    pub size: [usize; 3],
    /// `[c, z, y, x]`, normalised.
    pub image: Vec<f32>,
    /// `[z, y, x]`; -1 is outside the nonzero region.
    pub labels: Option<Vec<i16>>,
}

/// The way back to the scan; sizes and spacing are in the network's axis order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// Grid of the scan.
    pub geometry: Geometry,
    /// Network axis `i` is axis `transpose[i]` of the scan.
    pub transpose: [usize; 3],
    /// Before cropping.
    pub size_before_crop: [usize; 3],
    /// Half-open box that was kept.
    pub bbox: [[usize; 2]; 3],
    /// After cropping, before resampling.
    pub size_after_crop: [usize; 3],
    /// mm, of the scan.
    pub spacing: [f64; 3],
}

/// Prepares a case for a configuration.
pub fn prepare(
    image: &Volume,
    labels: Option<&LabelMap>,
    plans: &Plans,
    configuration: &Configuration,
) -> Result<(Prepared, Undo)> {
    prepare_with(image, labels, plans, configuration, TieRule::default())
}

/// As [`prepare`], with the rule by which labels meet: [`TieRule::Half`] repeats older nnU-Net releases.
pub fn prepare_with(
    image: &Volume,
    labels: Option<&LabelMap>,
    plans: &Plans,
    configuration: &Configuration,
    rule: TieRule,
) -> Result<(Prepared, Undo)> {
    if labels.is_some() || frugal::needs_mask(configuration) {
        return prepare_whole(image, labels, plans, configuration, rule);
    }
    check(image, None, configuration)?;
    let transpose = plans.transpose_forward;
    let raw = frugal::nonzero_box(image)?;
    let undo = Undo::of(image, transpose, transpose.map(|axis| raw[axis]));
    let change = change(&undo, configuration, image.channels)?;
    let c = configuration;
    let method = Method::parse(&c.resampling_fn_data, &c.resampling_fn_data_kwargs)?;
    let size = method.size(&change);
    let mut prepared = Vec::new();
    for channel in 0..image.channels {
        let planes = frugal::Channel::new(image, channel, transpose, undo.bbox, plans, configuration)?;
        let values = method.image_of(&planes, &change);
        match image.channels {
            1 => prepared = values,
            count => {
                prepared.reserve_exact(if channel == 0 { count * values.len() } else { 0 });
                prepared.extend(values);
            }
        }
    }
    Ok((Prepared { channels: image.channels, size, image: prepared, labels: None }, undo))
}

/// With a copy of the scan in single precision, for labels and for intensities inside a mask.
pub(crate) fn prepare_whole(
    image: &Volume,
    labels: Option<&LabelMap>,
    plans: &Plans,
    configuration: &Configuration,
    rule: TieRule,
) -> Result<(Prepared, Undo)> {
    check(image, labels, configuration)?;
    let cropped = Cropped::of(image, labels, plans.transpose_forward)?;
    let change = change(&cropped.undo, configuration, cropped.channels.len())?;
    let from = change.from;
    let Cropped { mut channels, labels: marked, undo } = cropped;
    for (channel, values) in channels.iter_mut().enumerate() {
        normalise(values, channel, &marked, plans, configuration)?;
    }
    let c = configuration;
    let of_image = Method::parse(&c.resampling_fn_data, &c.resampling_fn_data_kwargs)?;
    let of_labels = Method::parse(&c.resampling_fn_seg, &c.resampling_fn_seg_kwargs)?;
    let size = of_image.size(&change);
    if labels.is_some() && of_labels.size(&change) != size {
        let what = "images and label maps are resampled to different sizes";
        return Err(Error::input(format!("plans {}", plans.plans_name), what, "resample both or none"));
    }
    let labels = labels.map(|_| of_labels.labels(&marked, &change, rule));
    drop(marked);
    let count = channels.len();
    let mut image = Vec::with_capacity(count * size.iter().product::<usize>());
    for values in channels {
        match size == from {
            true => image.extend_from_slice(&values),
            false => image.extend(of_image.image(&values, &change)),
        }
    }
    Ok((Prepared { channels: count, size, image, labels }, undo))
}

impl Undo {
    fn of(image: &Volume, transpose: [usize; 3], bbox: [[usize; 2]; 3]) -> Self {
        let (raw, spacing) = (image.geometry.size, reader_spacing(&image.geometry));
        Self {
            geometry: image.geometry.clone(),
            transpose,
            size_before_crop: transpose.map(|axis| raw[axis]),
            bbox,
            size_after_crop: bbox.map(|[low, high]| high - low),
            spacing: transpose.map(|axis| spacing[axis]),
        }
    }
}

/// From the cropped scan's grid to the network's.
fn change(undo: &Undo, configuration: &Configuration, channels: usize) -> Result<Change> {
    let (spacing, from) = (undo.spacing, undo.size_after_crop);
    let target = target_spacing(configuration, spacing);
    let to = new_shape(&spacing, &target, &from);
    if to.contains(&0) {
        let what = format!("{from:?} voxels vanish at the spacing of the plan ({target:?} mm)");
        return Err(Error::input("image", what, "check its spacing: galen info"));
    }
    let values = to.iter().try_fold(channels, |n, &length| n.checked_mul(length));
    if values.is_none_or(|values| values > MOST_VALUES) {
        let what =
            format!("{from:?} voxels of {spacing:?} mm would become {to:?}, more than {MOST_VALUES} values");
        return Err(Error::input("image", what, "check its spacing: galen info"));
    }
    Ok(Change { from, to, current: spacing, new: target })
}

/// A case in the network's axis order, cut to its nonzero box.
struct Cropped {
    /// Per channel, `[z, y, x]`.
    channels: Vec<Vec<f32>>,
    /// Background outside the nonzero mask is -1; without labels the rest is 0.
    labels: Vec<i16>,
    undo: Undo,
}

impl Cropped {
    fn of(image: &Volume, labels: Option<&LabelMap>, transpose: [usize; 3]) -> Result<Self> {
        let raw = image.geometry.size;
        let size = transpose.map(|axis| raw[axis]);
        let mut channels = Vec::with_capacity(image.channels);
        for channel in 0..image.channels {
            let values = image.channel_f32(channel);
            refuse_not_finite(&values, channel, raw)?;
            channels.push(transposed(values, raw, transpose));
        }
        let mask = nonzero_mask(&channels, size);
        let bbox = bounding_box(&mask, size);
        let mask = cut(mask, size, bbox);
        let undo = Undo::of(image, transpose, bbox);
        let labels = match labels {
            None => mask.iter().map(|&inside| if inside { 0 } else { -1 }).collect(),
            Some(labels) => {
                outside_marked(cut(transposed(labels.values(), raw, transpose), size, bbox), &mask)?
            }
        };
        let channels = channels.into_iter().map(|values| cut(values, size, bbox)).collect();
        Ok(Self { channels, labels, undo })
    }
}

fn refuse_not_finite(values: &[f32], channel: usize, size: [usize; 3]) -> Result<()> {
    let Some(bad) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let at = [bad / (size[1] * size[2]), bad / size[2] % size[1], bad % size[2]];
    Err(not_finite(values[bad], channel, at))
}

/// A value that no network can take, at a voxel `(z, y, x)` of the scan.
pub(crate) fn not_finite(value: f32, channel: usize, at: [usize; 3]) -> Error {
    let what = format!("holds {value} (channel {channel}, voxel z y x {at:?}): NaN or infinite values");
    Error::input("image", what, "replace them before training or prediction")
}

/// Background outside the nonzero mask becomes -1.
fn outside_marked(labels: Vec<u16>, mask: &[bool]) -> Result<Vec<i16>> {
    if let Some(&large) = labels.iter().find(|&&v| i16::try_from(v).is_err()) {
        let what = format!("holds the label {large}; nnU-Net's preprocessed labels end at {}", i16::MAX);
        return Err(Error::input("label map", what, "number the labels consecutively from 0"));
    }
    let mark = |(&label, &inside): (&u16, &bool)| if label == 0 && !inside { -1 } else { label as i16 };
    Ok(labels.iter().zip(mask).map(mark).collect())
}

fn check(image: &Volume, labels: Option<&LabelMap>, configuration: &Configuration) -> Result<()> {
    let geometry = &image.geometry;
    if geometry.size.contains(&0) || geometry.spacing.iter().any(|mm| !(*mm > 0.0 && mm.is_finite())) {
        let what = format!("has {:?} voxels of {:?} mm", geometry.size, geometry.spacing);
        return Err(Error::input("image", what, "mend its header"));
    }
    let channels = configuration.normalization_schemes.len();
    if image.channels != channels {
        let what = format!("has {} channels, the plan was made for {channels}", image.channels);
        return Err(Error::input("image", what, "give all channels, in the order of the dataset"));
    }
    if image.geometry.flat && !configuration.is_2d() {
        let what = format!("is 2D, but {} is a 3D configuration", configuration.name);
        return Err(Error::input("image", what, "use a model of a 2d configuration"));
    }
    if let Some(labels) = labels
        && labels.geometry.size != image.geometry.size
    {
        let what = format!("{:?} voxels, but its image has {:?}", labels.geometry.size, image.geometry.size);
        return Err(Error::input("label map", what, "run `galen check` on the dataset"));
    }
    Ok(())
}

/// Spacing of the network's grid for a case of this spacing, mm, `(z, y, x)` in the network's axis order: 2D
/// configurations keep the case's own between slices.
pub fn target_spacing(configuration: &Configuration, spacing: [f64; 3]) -> [f64; 3] {
    match *configuration.spacing.as_slice() {
        [y, x] => [spacing[0], y, x],
        [z, y, x] => [z, y, x],
        _ => unreachable!("checked when the plans were read"),
    }
}

/// The network's axis order; the usual one costs nothing.
fn transposed<T: Copy>(values: Vec<T>, size: [usize; 3], order: [usize; 3]) -> Vec<T> {
    if order == [0, 1, 2] { values } else { permuted(&values, size, order) }
}
