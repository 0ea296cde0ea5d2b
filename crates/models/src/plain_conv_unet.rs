//! Plain convolutional U-Net, nnU-Net's default.
//! Paper: Isensee 2021 (nnU-Net). Differs: nothing; the norm is applied by the reader instead of stored.
//! Golden: `networks/nnunet-plain`.

use crate::graph::{Builder, Graph, Parameter};
use crate::unet_decoder::{decoder, style};
use galen_core::Architecture;

/// Image `[inputs, z, y, x]` → one head per decoder stage, full resolution first.
pub(crate) fn build(architecture: &Architecture, inputs: usize, classes: usize) -> (Graph, Vec<Parameter>) {
    let mut builder = Builder::new(inputs, architecture.dimensions());
    let mut tensor = 0;
    let mut stages = Vec::new();
    for s in 0..architecture.stages() {
        for i in 0..architecture.encoder_depth[s] {
            let name = format!("encoder.stages.{s}.0.convs.{i}");
            let stride = if i == 0 { architecture.stride3(s) } else { [1; 3] };
            let (features, kernel) = (architecture.features[s], architecture.kernel3(s));
            tensor = builder.conv_norm(&name, &[tensor], features, kernel, stride, style(architecture));
        }
        stages.push(tensor);
    }
    let heads = decoder(&mut builder, architecture, &stages, classes);
    builder.finish(heads)
}
