//! The networks agree with the reference: outputs, gradients, parameter counts.

use crate::golden::{architecture, cases, folder, largest_difference};
use galen_models::{LossSpec, Network, Weights};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// The cotangent that the gradients of the goldens belong to: a hash of the flat index.
fn cotangent(output: usize, length: usize) -> Vec<f32> {
    let value = |j: usize| {
        let mut x =
            (j as u32).wrapping_mul(0x9E37_79B9).wrapping_add((output as u32 + 1).wrapping_mul(0x7F4A_7C15));
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (f64::from(x >> 8) / 8_388_608.0 - 1.0) as f32
    };
    (0..length).map(value).collect()
}

struct Golden {
    metadata: HashMap<String, Value>,
    tensors: Weights,
}

fn metadata(path: &Path) -> HashMap<String, Value> {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let parse = |(key, text): (&String, &String)| Some((key.clone(), serde_json::from_str(text).ok()?));
    header.metadata().as_ref().unwrap().iter().filter_map(parse).collect()
}

impl Golden {
    fn weights(&self) -> Weights {
        let own = self.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("weights/")?, t)));
        own.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
    }

    fn number(&self, key: &str, name: &str) -> f64 {
        self.metadata[key][name].as_f64().unwrap()
    }
}

#[test]
fn golden_networks_agree_in_outputs_and_gradients() {
    let Some(folder) = folder("networks") else { return };
    let mut checked = 0;
    for case in cases(&folder) {
        let path = case.join("golden.safetensors");
        if !path.is_file() {
            continue;
        }
        let metadata = metadata(&path);
        let class = metadata.get("config").and_then(|config| config["cls"].as_str());
        if matches!(class, Some("PlainConvUNet" | "ResidualEncoderUNet")) {
            let golden = Golden { tensors: Weights::read_safetensors(&path).unwrap(), metadata };
            agrees(&golden, &case.display().to_string());
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} networks of ours in {}", folder.display());
}

fn agrees(golden: &Golden, place: &str) {
    let config = &golden.metadata["config"];
    let class = config["cls"].as_str().unwrap();
    let count = |key: &str| config[key].as_u64().unwrap() as usize;
    let network =
        Network::new(&architecture(class, config), count("input_channels"), count("num_classes")).unwrap();
    assert_eq!(network.parameter_count() as u64, golden.metadata["parameters"].as_u64().unwrap(), "{place}");
    let weights = golden.weights();
    network.check(&weights).unwrap();

    let input = golden.tensors.get("input").unwrap();
    let n = input.shape[0];
    let mut size = [1; 3];
    size[5 - input.shape.len()..].copy_from_slice(&input.shape[2..]);
    let scale_weights = vec![1.0; network.scales()];
    let loss = LossSpec { batch_dice: false, regions: None, ignore: None, scale_weights };
    let mut training = network.training(weights.clone(), loss).unwrap();
    let outputs = training.forward(&input.values, n, size).unwrap();
    for (i, output) in outputs.iter().enumerate() {
        let limit = (20.0 * golden.metadata["f32_vs_f64_max_abs_err"][i].as_f64().unwrap()).min(1e-3);
        let error = largest_difference(output, &golden.tensors.get(&format!("output/{i}")).unwrap().values);
        println!("{place}: output {i}: {error:.2e} of {limit:.2e}");
        assert!(error <= limit, "{place}: output {i} differs by {error}, limit {limit}");
    }

    let cotangents: Vec<Vec<f32>> = outputs.iter().enumerate().map(|(i, o)| cotangent(i, o.len())).collect();
    let of_image = training.backward(&cotangents).unwrap();
    check_gradients(golden, place, &of_image, training.gradients());

    let mut inference = network.inference(weights.clone()).unwrap();
    let voxels = input.values.len() / n;
    for sample in 0..n {
        let logits = inference.forward(&input.values[sample * voxels..(sample + 1) * voxels], size).unwrap();
        let golden = &outputs[0][sample * logits.len()..(sample + 1) * logits.len()];
        assert!(
            largest_difference(&logits, golden) <= 1e-5,
            "{place}: prediction differs from training's forward"
        );
    }
}

/// Length of the difference relative to the length of the reference.
fn relative_l2(have: &[f32], wanted: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = have.iter().zip(wanted).map(|(h, w)| square(f64::from(*h) - f64::from(*w))).sum();
    let all: f64 = wanted.iter().map(|&w| square(f64::from(w))).sum();
    (off / all).sqrt()
}

/// Gradients within 20 times the error of the reference's own 32-bit run. A leaky ReLU has a kink: an input
/// within rounding of zero may fall on its other side in any 32-bit run, which moves the gradient of that one
/// sample by some tenths of a percent. So: one sample at least must agree strictly, everything within 1 %.
fn check_gradients(golden: &Golden, place: &str, of_image: &[f32], gradients: &Weights) {
    let limit = |name: &str| {
        let own = 20.0 * golden.number("grad_f32_vs_f64_max_abs_err", name);
        own.max(1e-4 * golden.number("grad_max_abs", name))
    };
    let mut kink = false;
    for (name, wanted) in golden.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("grad/")?, t)))
    {
        let have = if name == "input" { of_image } else { &gradients.get(name).unwrap().values };
        let (error, relative) = (largest_difference(have, &wanted.values), relative_l2(have, &wanted.values));
        println!("{place}: gradient of {name}: {error:.2e} of {:.2e}, relative {relative:.2e}", limit(name));
        kink |= error > limit(name);
        assert!(relative <= 1e-2, "{place}: gradient of {name} is off by {relative} of its length");
    }
    let wanted = golden.tensors.get("grad/input").unwrap();
    let sample = wanted.values.len() / wanted.shape[0];
    let mut samples = of_image.chunks(sample).zip(wanted.values.chunks(sample));
    let strict = samples.any(|(have, wanted)| largest_difference(have, wanted) <= limit("input"));
    assert!(strict, "{place}: the image gradient of no sample agrees");

    let tolerance = if kink { 1e-2 } else { 1e-3 };
    let norms = golden.metadata["grad_l2_norms"].as_object().unwrap();
    let largest = norms.values().map(|norm| norm.as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(norms.len(), gradients.len());
    for (name, norm) in norms {
        let norm = norm.as_f64().unwrap();
        let have =
            gradients.get(name).unwrap().values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let negligible = norm < 1e-6 * largest;
        assert!(
            negligible || (have / norm - 1.0).abs() < tolerance,
            "{place}: norm of {name}: {have}, expected {norm}"
        );
    }
}

#[test]
fn full_configurations_have_the_published_parameter_counts() {
    let build = |class: &str, blocks: &[usize], decoder: usize, classes: usize| {
        let stages = blocks.len();
        let features: Vec<usize> = (0..stages).map(|s| (32 << s).min(320)).collect();
        let strides: Vec<[usize; 3]> = (0..stages).map(|s| if s == 0 { [1; 3] } else { [2; 3] }).collect();
        let arguments = serde_json::json!({
            "features_per_stage": features, "strides": strides, "kernel_sizes": vec![[3; 3]; stages],
            "n_conv_per_stage": blocks, "n_blocks_per_stage": blocks,
            "n_conv_per_stage_decoder": vec![decoder; stages - 1],
        });
        Network::new(&architecture(class, &arguments), 1, classes).unwrap().parameter_count()
    };
    assert_eq!(build("PlainConvUNet", &[2; 6], 2, 14), 31_205_254);
    assert_eq!(build("PlainConvUNet", &[2; 6], 2, 16), 31_206_864);
    assert_eq!(build("PlainConvUNet", &[2; 5], 2, 14), 16_553_400);
    assert_eq!(build("ResidualEncoderUNet", &[1, 3, 4, 6, 6, 6], 1, 14), 102_359_430);
    assert_eq!(build("ResidualEncoderUNet", &[1, 3, 4, 6, 6, 6, 6], 1, 14), 141_903_124);
}
