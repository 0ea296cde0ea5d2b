//! Decoder of nnU-Net's U-Nets: upsample, concatenate with the skip, convolve, with a head per stage.
//!
//! Names: `decoder.transpconvs.{s}`, `decoder.stages.{s}.convs.{i}`, `decoder.seg_layers.{s}`; `s = 0` is deepest.

use crate::graph::{BlockStyle, Builder, Start, TensorId};
use galen_core::Architecture;

/// Appends the decoder to an encoder with these stage outputs (full resolution first, the bottleneck last).
/// Returns the heads, full resolution first.
pub(crate) fn decoder(
    builder: &mut Builder,
    architecture: &Architecture,
    stages: &[TensorId],
    classes: usize,
) -> Vec<TensorId> {
    let style = style(architecture);
    let mut deep = stages[stages.len() - 1];
    let mut heads = Vec::new();
    for (s, level) in (0..stages.len() - 1).rev().enumerate() {
        let features = architecture.features[level];
        let stride = architecture.stride3(level + 1);
        let up = builder.up(&format!("decoder.transpconvs.{s}"), deep, features, stride, architecture.bias);
        let mut sources = vec![up, stages[level]];
        for i in 0..architecture.decoder_depth[s] {
            let name = format!("decoder.stages.{s}.convs.{i}");
            let kernel = architecture.kernel3(level);
            sources = vec![builder.conv_norm(&name, &sources, features, kernel, [1; 3], style)];
        }
        deep = sources[0];
        heads.push(builder.conv(&format!("decoder.seg_layers.{s}"), deep, classes, [1; 3]));
    }
    heads.reverse();
    heads
}

/// Norm and activation of all blocks.
pub(crate) fn style(architecture: &Architecture) -> BlockStyle {
    BlockStyle {
        bias: architecture.bias,
        affine: architecture.norm_affine,
        eps: architecture.norm_eps,
        slope: architecture.leak as f32,
        scale: Start::One,
    }
}
