//! From a scan to the network's grid, and what is needed to come back.
//!
//! Source: nnunetv2 2.8.1 `default_preprocessor`: transpose, crop, normalise, resample, in this order.

use crate::crop::{bounding_box, cut, nonzero_mask};
use crate::fingerprint::reader_spacing;
use crate::normalise::normalise;
use crate::planner::new_shape;
use crate::plans::{Configuration, Plans};
use crate::resample::{self, Method, thick_axis};
use galen_core::{Error, Geometry, LabelMap, Result, Volume};
use serde::{Deserialize, Serialize};

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
    check(image, labels, configuration)?;
    let transpose = plans.transpose_forward;
    let raw_size = image.geometry.size;
    let size = transpose.map(|axis| raw_size[axis]);
    let raw_spacing = reader_spacing(&image.geometry);
    let spacing = transpose.map(|axis| raw_spacing[axis]);
    let n: usize = size.iter().product();
    let mut channels = Vec::with_capacity(n * image.channels);
    for channel in 0..image.channels {
        let values = image.channel_f32(channel);
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let at = [bad / (raw_size[1] * raw_size[2]), bad / raw_size[2] % raw_size[1], bad % raw_size[2]];
            let what = format!("holds {} (channel {channel}, voxel z y x {at:?}): NaN or infinite values", values[bad]);
            return Err(Error::input("image", what, "replace them before training or prediction"));
        }
        channels.extend(transposed(values, raw_size, transpose));
    }
    let mask = nonzero_mask(&channels, size);
    let bbox = bounding_box(&mask, size);
    let cropped = bbox.map(|[low, high]| high - low);
    let mut cut_image = Vec::with_capacity(cropped.iter().product::<usize>() * image.channels);
    channels.chunks_exact(n).for_each(|channel| cut_image.extend(cut(channel, size, bbox)));
    drop(channels);
    let cut_labels = outside_marked(labels, raw_size, transpose, size, bbox, &mask);
    let voxels = cropped.iter().product();
    normalise(&mut cut_image, voxels, &cut_labels, plans, configuration)?;
    let target = target_spacing(configuration, spacing);
    let to = new_shape(&spacing, &target, &cropped);
    if to.contains(&0) {
        let what = format!("{cropped:?} voxels vanish at the spacing of the plan ({target:?} mm)");
        return Err(Error::input("image", what, "check its spacing: galen info"));
    }
    let (image_out, size, labels_out) =
        resampled(&cut_image, labels.map(|_| cut_labels.as_slice()), cropped, to, (spacing, target), configuration)?;
    let undo = Undo {
        geometry: image.geometry.clone(),
        transpose,
        size_before_crop: transpose.map(|axis| raw_size[axis]),
        bbox,
        size_after_crop: cropped,
        spacing,
    };
    Ok((Prepared { channels: image.channels, size, image: image_out, labels: labels_out }, undo))
}

fn check(image: &Volume, labels: Option<&LabelMap>, configuration: &Configuration) -> Result<()> {
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

/// 2D configurations keep the case's own spacing between slices.
fn target_spacing(configuration: &Configuration, spacing: [f64; 3]) -> [f64; 3] {
    match *configuration.spacing.as_slice() {
        [y, x] => [spacing[0], y, x],
        [z, y, x] => [z, y, x],
        _ => unreachable!("checked when the plans were read"),
    }
}

/// Cropped labels; background outside the nonzero mask becomes -1.
fn outside_marked(
    labels: Option<&LabelMap>,
    raw_size: [usize; 3],
    transpose: [usize; 3],
    size: [usize; 3],
    bbox: [[usize; 2]; 3],
    mask: &[bool],
) -> Vec<i16> {
    let mask = cut(mask, size, bbox);
    match labels {
        None => mask.iter().map(|&inside| if inside { 0 } else { -1 }).collect(),
        Some(labels) => {
            let values = transposed(labels.values(), raw_size, transpose);
            let values = cut(&values, size, bbox);
            let mark = |(&label, &inside): (&u16, &bool)| if label == 0 && !inside { -1 } else { label as i16 };
            values.iter().zip(&mask).map(mark).collect()
        }
    }
}

fn resampled(
    image: &[f32],
    labels: Option<&[i16]>,
    from: [usize; 3],
    to: [usize; 3],
    (current, new): ([f64; 3], [f64; 3]),
    configuration: &Configuration,
) -> Result<(Vec<f32>, [usize; 3], Option<Vec<i16>>)> {
    let c = configuration;
    let of_image = Method::parse(&c.resampling_fn_data, &c.resampling_fn_data_kwargs, 3)?;
    let of_labels = Method::parse(&c.resampling_fn_seg, &c.resampling_fn_seg_kwargs, 1)?;
    let Method::Default { order, separate } = of_image else {
        return Ok((image.to_vec(), from, labels.map(<[i16]>::to_vec)));
    };
    let thick = thick_axis(separate, current, new);
    let mut out = Vec::with_capacity(image.len() / from.iter().product::<usize>() * to.iter().product::<usize>());
    for channel in image.chunks_exact(from.iter().product()) {
        out.extend(resample::image(channel, from, to, order, thick));
    }
    let labels = labels.map(|labels| match of_labels {
        Method::Default { order, separate } => {
            resample::labels(labels, from, to, order, thick_axis(separate, current, new))
        }
        Method::None => labels.to_vec(),
    });
    Ok((out, to, labels))
}

/// `[z, y, x]` with its axes in another order; the usual order costs nothing.
fn transposed<T: Copy>(values: Vec<T>, size: [usize; 3], order: [usize; 3]) -> Vec<T> {
    if order == [0, 1, 2] {
        return values;
    }
    let step = [size[1] * size[2], size[2], 1];
    let [n0, n1, n2] = order.map(|axis| size[axis]);
    let [s0, s1, s2] = order.map(|axis| step[axis]);
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n0 {
        for j in 0..n1 {
            out.extend((0..n2).map(|k| values[i * s0 + j * s1 + k * s2]));
        }
    }
    out
}
