//! Pooling and kernels that a patch allows, and what a U-Net of that topology costs.
//!
//! Source: nnunetv2 2.8.1 `network_topology` and dynamic_network_architectures 0.4.4 `compute_conv_feature_map_size`.

use galen_core::NetworkClass;

/// Smallest edge of a feature map.
const MIN_EDGE: f64 = 4.0;

/// What [`topology`] decides.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Topology {
    /// Stride per stage, the first is 1.
    pub(crate) strides: Vec<Vec<usize>>,
    /// Kernel per stage.
    pub(crate) kernels: Vec<Vec<usize>>,
    /// Patch padded to `divisor`.
    pub(crate) patch: Vec<f64>,
    /// What each axis of the patch is a multiple of.
    pub(crate) divisor: Vec<usize>,
}

/// Pools the axes of highest resolution while they are long enough; the sizes may be fractional, as medians are.
pub(crate) fn topology(spacing: &[f64], patch: &[f64]) -> Topology {
    let rank = spacing.len();
    let (mut mm, mut size) = (spacing.to_vec(), patch.to_vec());
    let mut kernel = vec![1; rank];
    let mut pools = vec![0u32; rank];
    let (mut strides, mut kernels) = (vec![vec![1; rank]], Vec::new());
    loop {
        let mut axes: Vec<usize> = (0..rank).filter(|&a| size[a] >= 2.0 * MIN_EDGE).collect();
        let Some(finest) = axes.iter().map(|&a| mm[a]).reduce(f64::min) else { break };
        axes.retain(|&a| mm[a] / finest < 2.0);
        if axes.is_empty() || (axes.len() == 1 && size[axes[0]] < 3.0 * MIN_EDGE) {
            break;
        }
        // Kernels look at all axes, pooling only at those that are long enough.
        let finest_of_all = mm.iter().copied().fold(f64::INFINITY, f64::min);
        for axis in 0..rank {
            if mm[axis] / finest_of_all < 2.0 {
                kernel[axis] = 3;
            }
        }
        let mut stride = vec![1; rank];
        for &axis in &axes {
            stride[axis] = 2;
            pools[axis] += 1;
            mm[axis] *= 2.0;
            size[axis] = (size[axis] / 2.0).ceil();
        }
        strides.push(stride);
        kernels.push(kernel.clone());
    }
    kernels.push(vec![3; rank]);
    let divisor: Vec<usize> = pools.iter().map(|&n| 1 << n).collect();
    let patch = patch.iter().zip(&divisor).map(|(&p, &d)| pad(p, d as f64)).collect();
    Topology { strides, kernels, patch, divisor }
}

/// Next multiple; a fractional size is completed and the rest cut, as numpy's int conversion does.
fn pad(size: f64, divisor: f64) -> f64 {
    let rest = size % divisor;
    if rest == 0.0 { size.trunc() } else { (size + divisor - rest).trunc() }
}

/// Sizes of all convolution outputs of a U-Net, summed: nnU-Net's estimate of memory.
pub(crate) fn feature_map_size(
    class: NetworkClass,
    topology: &Topology,
    features: &[usize],
    encoder: &[usize],
    decoder: &[usize],
    classes: usize,
) -> f64 {
    let mut size: Vec<usize> = topology.patch.iter().map(|&p| p as usize).collect();
    let voxels = |size: &[usize]| size.iter().product::<usize>();
    let mut total = 0;
    let mut skips = Vec::new();
    let residual = class == NetworkClass::ResidualEncoderUNet;
    if residual {
        total += features[0] * voxels(&size); // stem
    }
    for stage in 0..features.len() {
        size = size.iter().zip(&topology.strides[stage]).map(|(n, s)| n / s).collect();
        let map = features[stage] * voxels(&size);
        if residual {
            let strided = topology.strides[stage].iter().any(|&s| s != 1);
            let widened = features[stage] != features[stage.saturating_sub(1)];
            total += map * (2 * encoder[stage] + usize::from(strided || widened));
        } else {
            total += map * encoder[stage];
        }
        skips.push(size.clone());
    }
    for stage in 0..features.len() - 1 {
        let level = features.len() - 2 - stage;
        total += features[level] * voxels(&skips[level]) * (decoder[stage] + 1);
    }
    (total + classes * voxels(&skips[0])) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_those_of_the_reference() {
        let isotropic = topology(&[1.0; 3], &[128.0; 3]);
        let features = [32, 64, 128, 256, 320, 320];
        let class = NetworkClass::ResidualEncoderUNet;
        let estimate = feature_map_size(class, &isotropic, &features, &[1, 3, 4, 6, 6, 6], &[1; 5], 3);
        // The published figure of 558319104 counts the logits of four deep-supervision scales too.
        assert_eq!(
            estimate,
            558_319_104.0 - 3.0 * (64f64.powi(3) + 32f64.powi(3) + 16f64.powi(3) + 8f64.powi(3))
        );
        let flat = topology(&[1.0; 2], &[512.0; 2]);
        assert_eq!(flat.strides.len(), 8);
    }

    #[test]
    fn golden_topologies_agree() {
        let root = std::env::var_os("GALEN_GOLDENS").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens"),
            std::path::PathBuf::from,
        );
        let file = root.join("nnunet/tables/topology.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            println!("no {}: nothing to compare with", file.display());
            return;
        };
        let table: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(!table.is_empty());
        for theirs in &table {
            let numbers = |key: &str| serde_json::from_value::<Vec<f64>>(theirs[key].clone()).unwrap();
            let axes = |key: &str| serde_json::from_value::<Vec<Vec<usize>>>(theirs[key].clone()).unwrap();
            let ours = topology(&numbers("spacing"), &numbers("patch"));
            assert_eq!(ours.strides, axes("pool_kernels"), "{theirs}");
            assert_eq!(ours.kernels, axes("conv_kernels"), "{theirs}");
            assert_eq!(ours.patch, numbers("patch_padded"), "{theirs}");
            assert_eq!(ours.divisor.iter().map(|&d| d as f64).collect::<Vec<_>>(), numbers("divisible_by"));
        }
    }
}
