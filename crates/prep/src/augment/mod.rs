//! Augmentation of training patches: nnU-Net v2's default recipe.
//!
//! A [`Recipe`] follows from the plan; a [`Draw`] holds all random choices of one sample; applying it is
//! a pure function. What is drawn tells which part of the initial patch is read ([`Recipe::region`]), so
//! a sample that is only cropped never loads the margin. Regions and the ignore label are matters of the loss.
//!
//! Source: nnU-Net 2.8.1 `nnUNetTrainer.get_training_transforms`, batchgeneratorsv2 0.3.6.
//! Golden: `augmentation/transforms.npz`, `tables/initial_patch_size.json`.

mod binary_operators;
mod blur;
mod brightness;
mod cascade;
mod contrast;
mod draw;
mod gamma;
mod initial_patch;
mod low_resolution;
mod mirror;
mod nearest;
mod noise;
mod spatial;
mod statistics;

#[cfg(test)]
mod golden;

pub use binary_operators::{Operator, apply as binary_operator};
pub use blur::gaussian_blur;
pub use brightness::brightness;
pub use cascade::previous_channels;
pub use contrast::contrast;
pub use draw::{CascadeDraw, Draw, Noise, below, stream, uniform};
pub use gamma::gamma;
pub use initial_patch::initial_patch;
pub use low_resolution::low_resolution;
pub use mirror::mirror;
pub use nearest::{deep_supervision_scales, downsample, target_size};
pub use noise::gaussian_noise;
pub use spatial::{Affine, Region, affine_2d, affine_3d, region, transform};

use std::f64::consts::PI;

/// A patch with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Image channels.
    pub channels: usize,
    /// Voxels per axis, `(z, y, x)`.
    pub size: [usize; 3],
    /// `[c, z, y, x]`, normalised.
    pub image: Vec<f32>,
    /// `[z, y, x]`; -1 outside the body and outside the scan.
    pub labels: Vec<i16>,
    /// Label map of the previous stage, `[z, y, x]`; cascades only.
    pub previous: Option<Vec<i16>>,
}

/// How patches of one plan are augmented.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Final patch, `(z, y, x)`; z is 1 in 2D.
    pub patch: [usize; 3],
    /// Patch to draw from, `(z, y, x)`.
    pub initial: [usize; 3],
    /// The plan is 2D.
    pub flat: bool,
    /// 3D, but so anisotropic that rotation and scaling stay in the plane.
    pub dummy_2d: bool,
    /// Largest rotation to either side, radians.
    pub rotation: f64,
    /// Axes `(z, y, x)` that may be mirrored, as indices 0 to 2.
    pub mirror_axes: Vec<usize>,
    /// Channels that are 0 outside the body.
    pub masked: Vec<bool>,
    /// Foreground labels of the previous stage; empty unless the plan is a cascade.
    pub previous_labels: Vec<u16>,
}

impl Recipe {
    /// nnU-Net's choice for a patch `(z, y, x)` or `(y, x)`; `previous_labels`: the foreground labels for a
    /// cascade, else none.
    pub fn for_plan(patch: &[usize], use_mask_for_norm: &[bool], previous_labels: &[u16]) -> Self {
        let flat = patch.len() == 2;
        let (smallest, largest) = (
            patch.iter().copied().min().unwrap_or(1) as f64,
            patch.iter().copied().max().unwrap_or(1) as f64,
        );
        let dummy_2d = !flat && largest / patch[0] as f64 > 3.0;
        let rotation = match (flat, dummy_2d) {
            (true, _) if largest / smallest > 1.5 => 15.0,
            (true, _) | (_, true) => 180.0,
            _ => 30.0,
        } * PI
            / 180.0;
        let three = |axes: &[usize]| match *axes {
            [y, x] => [1, y, x],
            [z, y, x] => [z, y, x],
            _ => [1; 3],
        };
        Self {
            patch: three(patch),
            initial: three(&initial_patch(patch, rotation, dummy_2d)),
            flat,
            dummy_2d,
            rotation,
            mirror_axes: if flat { vec![1, 2] } else { vec![0, 1, 2] },
            masked: use_mask_for_norm.to_vec(),
            previous_labels: previous_labels.to_vec(),
        }
    }

    /// The part of the initial patch that this draw reads.
    pub fn region(&self, draw: &Draw) -> Region {
        region(self.initial, self.patch, draw.affine.as_ref())
    }

    /// Augments; `part` is the [`Recipe::region`] of the initial patch. The result has the final size, no
    /// label -1, and for a cascade the previous labels as further channels.
    pub fn apply(&self, part: &Sample, draw: &Draw) -> Sample {
        let in_plane = self.flat || self.dummy_2d;
        let region = self.region(draw);
        let mut sample = transform(part, region, self.initial, self.patch, draw.affine.as_ref(), in_plane);
        if let Some(noise) = draw.noise {
            gaussian_noise(&mut sample.image, noise);
        }
        let voxels: usize = self.patch.iter().product();
        for (c, channel) in sample.image.chunks_exact_mut(voxels).enumerate() {
            self.change_intensities(channel, c, draw);
        }
        for channel in sample.image.chunks_exact_mut(voxels) {
            mirror(channel, self.patch, draw.mirror);
        }
        mirror(&mut sample.labels, self.patch, draw.mirror);
        if let Some(previous) = &mut sample.previous {
            mirror(previous, self.patch, draw.mirror);
        }
        for (channel, _) in
            sample.image.chunks_exact_mut(voxels).zip(&self.masked).filter(|(_, masked)| **masked)
        {
            for (value, label) in channel.iter_mut().zip(&sample.labels) {
                *value = if *label < 0 { 0.0 } else { *value };
            }
        }
        self.finish(sample, draw)
    }

    /// What validation does: only the label changes, on a patch of the final size.
    pub fn plain(&self, sample: Sample) -> Sample {
        let nothing = Draw::nothing(sample.channels);
        self.finish(sample, &nothing)
    }

    fn change_intensities(&self, channel: &mut [f32], c: usize, draw: &Draw) {
        if let Some(sigma) = draw.blur[c] {
            gaussian_blur(channel, self.patch, sigma, usize::from(self.flat));
        }
        if let Some(factor) = draw.brightness[c] {
            brightness(channel, factor);
        }
        if let Some(factor) = draw.contrast[c] {
            contrast(channel, factor);
        }
        if let Some(scale) = draw.low_resolution[c] {
            let first = if self.flat || self.dummy_2d { 1.0 } else { scale };
            low_resolution(channel, self.patch, [first, scale, scale]);
        }
        if let Some(exponent) = draw.gamma_inverted[c] {
            gamma(channel, exponent, true);
        }
        if let Some(exponent) = draw.gamma[c] {
            gamma(channel, exponent, false);
        }
    }

    fn finish(&self, mut sample: Sample, draw: &Draw) -> Sample {
        for label in &mut sample.labels {
            *label = (*label).max(0);
        }
        if let Some(previous) = sample.previous.take() {
            let more =
                previous_channels(&previous, sample.size, &self.previous_labels, &draw.cascade, self.flat);
            sample.image.extend(more);
            sample.channels += self.previous_labels.len();
        }
        sample
    }
}
