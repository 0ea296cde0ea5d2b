//! Losses and their gradients agree with nnU-Net's.

use crate::golden::{Array, folder, json, largest_difference, npz};
use galen_kernels::loss::{Comparison, IGNORED, Truth};
use galen_kernels::padded;
use std::collections::HashMap;

/// `[n, c, ...]` to `[n, voxels, padded(c)]`.
fn channels_last(array: &Array) -> (usize, usize, usize, Vec<f32>) {
    let (n, channels) = (array.shape[0], array.shape[1]);
    let voxels = array.values.len() / n / channels;
    let width = padded(channels);
    let mut out = vec![0.0; n * voxels * width];
    for (i, &value) in array.values.iter().enumerate() {
        let (sample, c, voxel) = (i / (channels * voxels), i / voxels % channels, i % voxels);
        out[(sample * voxels + voxel) * width + c] = value;
    }
    (n, channels, voxels, out)
}

/// Masks `[n, r (+ ignore), ...]` as bits per voxel.
fn members(masks: &Array, regions: usize) -> Vec<u32> {
    let (n, channels, voxels, last) = channels_last(masks);
    let width = padded(channels);
    let bit = |channel: usize| if channel == regions { IGNORED } else { 1 << channel };
    let voxel = |v: usize| (0..channels).filter(|c| last[v * width + c] > 0.5).map(bit).sum();
    (0..n * voxels).map(voxel).collect()
}

#[test]
fn golden_losses_agree_in_value_and_gradient() {
    let Some(folder) = folder("nnunet/losses") else { return };
    let arrays: HashMap<String, Array> = npz(&folder.join("arrays.npz")).into_iter().collect();
    let values = json(&folder.join("values.json"));
    for (name, value) in values.as_object().unwrap() {
        let (dimensions, regions, ignore) = (&name[..2], name.contains("bce"), name.contains("ignore"));
        let kind = if regions { "region_" } else { "" };
        let (n, channels, voxels, logits) = channels_last(&arrays[&format!("{dimensions}_{kind}logits")]);
        let suffix = match (regions, ignore) {
            (_, false) => String::new(),
            (false, true) => format!("_ignore{channels}"),
            (true, true) => "_ignore_last".into(),
        };
        let target = &arrays[&format!("{dimensions}_{kind}target{suffix}")];
        let labels: Vec<i16> = target.values.iter().map(|&x| x as i16).collect();
        let members = if regions { members(target, channels) } else { Vec::new() };
        let truth = if regions {
            Truth::Regions { members: &members, ignore }
        } else {
            Truth::Classes { labels: &labels, ignore: ignore.then_some(channels as i16) }
        };
        let batch_dice = name.ends_with("batchdice1");
        let compared = Comparison { n, voxels, channels, logits: &logits, truth, batch_dice };
        let mut grad = vec![7.0; logits.len()];
        let loss = compared.gradient(1.0, &mut grad);
        let expected = value.as_f64().unwrap();
        assert!(
            (loss - expected).abs() < 1e-6 * expected.abs().max(1.0),
            "{name}: {loss}, expected {expected}"
        );
        assert_eq!(loss, compared.value(), "{name}");
        let (_, _, _, wanted) = channels_last(&arrays[&format!("grad_{name}")]);
        let largest = wanted.iter().fold(0f32, |m, g| m.max(g.abs()));
        let error = largest_difference(&grad, &wanted);
        assert!(error < 2e-6 * f64::from(largest), "{name}: gradient differs by {error}, largest {largest}");
    }
}
