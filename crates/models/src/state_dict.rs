//! The names under which PyTorch keeps nnU-Net's weights: every tensor of a convolution block twice, and the
//! encoder once more inside the decoder, in the order of `state_dict()`.
//!
//! Source: dynamic_network_architectures 0.4.4, `ConvDropoutNormReLU` and `UNetDecoder`. Loading with `strict=True`
//! asks for all of these names.

use crate::weights::Weights;

/// Names of the state dict in order, each with the name of the tensor that it shows.
pub(crate) fn state_dict_names(weights: &Weights) -> Vec<(String, String)> {
    let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
    let (encoder, rest): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| name.starts_with("encoder."));
    let encoder = with_block_copies(&encoder);
    let inside_decoder =
        encoder.iter().map(|(name, tensor)| (format!("decoder.{name}"), tensor.clone())).collect();
    let mut parts: [Vec<&str>; 4] = Default::default();
    for name in rest {
        let kinds = ["decoder.stages.", "decoder.transpconvs.", "decoder.seg_layers."];
        parts[kinds.iter().position(|kind| name.starts_with(kind)).unwrap_or(3)].push(name);
    }
    let rest = parts.iter().map(|part| with_block_copies(part));
    [encoder, inside_decoder].into_iter().chain(rest).flatten().collect()
}

/// Adds `all_modules.0` (convolution) and `all_modules.1` (norm) behind each block of `conv` and `norm`.
fn with_block_copies(names: &[&str]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = names;
    while let Some(first) = rest.first() {
        let Some((block, _)) = in_block(first) else {
            all.push(((*first).to_owned(), (*first).to_owned()));
            rest = &rest[1..];
            continue;
        };
        let members = rest.iter().take_while(|name| in_block(name).is_some_and(|(b, _)| b == block)).count();
        let (group, after) = rest.split_at(members);
        all.extend(group.iter().map(|name| ((*name).to_owned(), (*name).to_owned())));
        for name in group {
            let Some((block, member)) = in_block(name) else { continue };
            let (kind, parameter) = member.split_once('.').unwrap_or((member, ""));
            let number = usize::from(kind == "norm");
            all.push((format!("{block}.all_modules.{number}.{parameter}"), (*name).to_owned()));
        }
        rest = after;
    }
    all
}

/// Block and member of `<block>.conv.weight`, `<block>.norm.bias` and the like.
fn in_block(name: &str) -> Option<(&str, &str)> {
    [".conv.", ".norm."].iter().find_map(|kind| {
        let at = name.rfind(kind)?;
        Some((&name[..at], &name[at + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Tensor;

    #[test]
    fn blocks_and_the_encoder_appear_as_pytorch_lists_them() {
        let names = [
            "encoder.stem.convs.0.conv.weight",
            "encoder.stem.convs.0.norm.weight",
            "decoder.stages.0.convs.0.conv.weight",
            "decoder.seg_layers.0.weight",
            "decoder.transpconvs.0.weight",
        ];
        let weights: Weights = names.iter().map(|name| ((*name).to_owned(), Tensor::default())).collect();
        let found: Vec<String> = state_dict_names(&weights).into_iter().map(|(name, _)| name).collect();
        let block = |prefix: &str| {
            ["conv", "norm", "all_modules.0", "all_modules.1"]
                .map(|part| format!("{prefix}encoder.stem.convs.0.{part}.weight"))
        };
        let expected = [
            &block("")[..],
            &block("decoder."),
            &[
                "decoder.stages.0.convs.0.conv.weight".to_owned(),
                "decoder.stages.0.convs.0.all_modules.0.weight".to_owned(),
                "decoder.transpconvs.0.weight".to_owned(),
                "decoder.seg_layers.0.weight".to_owned(),
            ],
        ];
        assert_eq!(found, expected.concat());
    }
}
