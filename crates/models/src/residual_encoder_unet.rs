//! U-Net with a residual encoder (nnU-Net's ResEnc presets).
//! Paper: Isensee 2024 (nnU-Net revisited); block of He 2016 with the pooling skip of ResNet-D.
//! Golden: `networks/nnunet-resenc`.

use crate::graph::{BlockStyle, Builder, Graph, Parameter, Start, TensorId};
use crate::unet_decoder::{decoder, style};
use galen_core::Architecture;

/// Image `[inputs, z, y, x]` → one head per decoder stage, full resolution first.
pub(crate) fn build(architecture: &Architecture, inputs: usize, classes: usize) -> (Graph, Vec<Parameter>) {
    let mut builder = Builder::new(inputs, architecture.dimensions());
    let (stem, kernel) = (architecture.features[0], architecture.kernel3(0));
    let mut tensor =
        builder.conv_norm("encoder.stem.convs.0", &[0], stem, kernel, [1; 3], style(architecture));
    let mut stages = Vec::new();
    for s in 0..architecture.stages() {
        for b in 0..architecture.encoder_depth[s] {
            let stride = if b == 0 { architecture.stride3(s) } else { [1; 3] };
            tensor = block(&mut builder, architecture, s, b, tensor, stride);
        }
        stages.push(tensor);
    }
    let heads = decoder(&mut builder, architecture, &stages, classes);
    builder.finish(heads)
}

/// Two convolutions beside a skip, then the sum and the activation.
fn block(
    builder: &mut Builder,
    architecture: &Architecture,
    stage: usize,
    index: usize,
    source: TensorId,
    stride: [usize; 3],
) -> TensorId {
    let name = format!("encoder.stages.{stage}.blocks.{index}");
    let style = style(architecture);
    let linear = BlockStyle { slope: 1.0, ..style };
    let from_zero = BlockStyle { scale: Start::Zero, ..linear };
    let (features, kernel) = (architecture.features[stage], architecture.kernel3(stage));
    let conv1 = builder.conv_norm(&format!("{name}.conv1"), &[source], features, kernel, stride, style);
    // Starts as the identity: the norm before the sum begins at zero.
    let conv2 = format!("{name}.conv2");
    let conv2 = builder.conv_norm(&conv2, &[conv1], features, kernel, [1; 3], from_zero);
    let strided = stride != [1; 3];
    let mut skip = if strided { builder.average_pool(source, stride) } else { source };
    if builder.channels(source) != features {
        let name = format!("{name}.skip.{}", usize::from(strided));
        let style = BlockStyle { bias: false, ..linear };
        skip = builder.conv_norm(&name, &[skip], features, [1; 3], [1; 3], style);
    }
    builder.add(conv2, skip, style.slope)
}
