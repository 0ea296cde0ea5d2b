//! Small networks: outputs on every backend, gradients by automatic differentiation.

use crate::layout::{devices, noise, off};
use galen_burn::Accelerated;
#[cfg(feature = "vulkan")]
use galen_burn::Place;
use galen_core::{Architecture, NetworkClass};
use galen_models::{LossSpec, Network, Weights};
use std::time::Instant;

/// A network by name, and the size of an image for it.
struct Case {
    name: &'static str,
    class: NetworkClass,
    size: [usize; 3],
    /// Kernels and strides of three stages.
    stages: [[Vec<usize>; 2]; 3],
}

fn cases() -> Vec<Case> {
    let even = |dimensions: usize| [1, 2, 2].map(|stride| [vec![3; dimensions], vec![stride; dimensions]]);
    let uneven = [([1, 3, 3], [1, 1, 1]), ([1, 3, 3], [1, 2, 2]), ([3, 3, 3], [2, 2, 2])];
    let uneven = || uneven.map(|(kernel, stride)| [kernel.to_vec(), stride.to_vec()]);
    let (plain, residual) = (NetworkClass::PlainConvUNet, NetworkClass::ResidualEncoderUNet);
    let case = |name, class, size, stages| Case { name, class, size, stages };
    vec![
        case("plain 3D", plain, [8, 16, 16], even(3)),
        case("plain 2D", plain, [1, 24, 16], even(2)),
        case("plain 3D, anisotropic", plain, [6, 16, 24], uneven()),
        case("residual 3D", residual, [8, 16, 16], even(3)),
        case("residual 2D", residual, [1, 16, 24], even(2)),
        case("residual 3D, anisotropic", residual, [6, 16, 24], uneven()),
    ]
}

impl Case {
    fn network(&self) -> Network {
        let residual = self.class == NetworkClass::ResidualEncoderUNet;
        let architecture = Architecture {
            class: self.class,
            features: vec![8, 12, 20],
            kernels: self.stages.iter().map(|[kernel, _]| kernel.clone()).collect(),
            strides: self.stages.iter().map(|[_, stride]| stride.clone()).collect(),
            encoder_depth: if residual { vec![1, 2, 2] } else { vec![2, 2, 2] },
            decoder_depth: if residual { vec![1, 1] } else { vec![2, 2] },
            bias: true,
            norm_eps: 1e-5,
            norm_affine: true,
            leak: 0.01,
        };
        Network::new(&architecture, 2, 3).unwrap()
    }

    fn voxels(&self) -> usize {
        self.size.iter().product()
    }
}

/// Starting weights, with the zeros that residual blocks begin with made something else.
fn weights(network: &Network) -> Weights {
    let mut weights = network.initial_weights(3);
    for (name, tensor) in weights.iter_mut() {
        if name.ends_with("norm.weight") || name.ends_with(".bias") {
            let offset = if name.ends_with(".bias") { 0.0 } else { 1.0 };
            let varied = |(i, value): (usize, &mut f32)| *value = offset + 0.2 * (i as f32 * 1.3).sin();
            tensor.values.iter_mut().enumerate().for_each(varied);
        }
    }
    weights
}

fn loss(network: &Network) -> LossSpec {
    LossSpec { batch_dice: false, regions: None, ignore: None, scale_weights: vec![1.0; network.scales()] }
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().any(|x| x.abs() > 0.1), "logits that are all nearly zero compare nothing");
    found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_the_cpu_engine() {
    for case in cases() {
        let network = case.network();
        let weights = weights(&network);
        let image = noise(2 * case.voxels(), 0.1);
        let expected = network.inference(weights.clone()).unwrap().forward(&image, case.size).unwrap();
        for (place, _) in devices() {
            let burn = Accelerated::new(&network, &weights, place).unwrap();
            let start = Instant::now();
            let first = burn.forward(&image, case.size).unwrap();
            let (compiled, start) = (start.elapsed(), Instant::now());
            let again = burn.forward(&image, case.size).unwrap();
            let off = difference(&first, &expected);
            println!(
                "{} on {place}: largest difference {off:.1e}; {:.2} s, then {:.3} s",
                case.name,
                compiled.as_secs_f64(),
                start.elapsed().as_secs_f64()
            );
            assert!(off < 1e-4, "{} on {place}: {off}", case.name);
            assert_eq!(first, again, "{} on {place}: the second run differs", case.name);
        }
    }
}

#[test]
fn deep_supervision_gives_all_outputs() {
    for case in cases() {
        let network = case.network();
        let weights = weights(&network);
        let images = noise(2 * 2 * case.voxels(), 0.2);
        let mut training = network.training(weights.clone(), loss(&network)).unwrap();
        let expected = training.forward(&images, 2, case.size).unwrap();
        assert_eq!(expected.len(), 2, "three stages give two outputs");
        for (place, _) in devices() {
            let burn = Accelerated::new(&network, &weights, place).unwrap();
            let found = burn.forward_all(&images, 2, case.size).unwrap();
            assert_eq!(found.len(), expected.len());
            for (scale, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let off = difference(found, expected);
                println!("{} on {place}, output {scale}: largest difference {off:.1e}", case.name);
                assert!(off < 1e-4, "{} on {place}, output {scale}: {off}", case.name);
            }
        }
    }
}

#[test]
fn gradients_are_those_of_automatic_differentiation() {
    for case in cases() {
        let network = case.network();
        let weights = weights(&network);
        let images = noise(2 * 2 * case.voxels(), 0.1);
        let lengths = network.output_sizes(case.size).into_iter().map(|size| size.iter().product::<usize>());
        let cotangents: Vec<_> = lengths.map(|voxels| noise(2 * 3 * voxels, 0.3)).collect();
        let mut training = network.training(weights.clone(), loss(&network)).unwrap();
        training.forward(&images, 2, case.size).unwrap();
        let of_image = training.backward(&cotangents).unwrap();
        for (place, _) in devices() {
            let burn = Accelerated::differentiable(&network, &weights, place).unwrap();
            let (found, found_image) = burn.gradients(&images, 2, case.size, &cotangents).unwrap();
            let mut worst = ("the image".to_owned(), off(&found_image, &of_image));
            let mut compared = 0;
            for (name, expected) in training.gradients().iter() {
                let Some(found) = found.get(name) else {
                    let zero = expected.values.iter().all(|&x| x == 0.0);
                    assert!(zero, "{}: {name} has a gradient on the CPU engine only", case.name);
                    continue;
                };
                let off = off(found, &expected.values);
                if off.is_nan() || off > worst.1 {
                    worst = (name.to_owned(), off);
                }
                compared += 1;
            }
            println!(
                "{} on {place}: {compared} weights, {} off by {:.1e} of the RMS",
                case.name, worst.0, worst.1
            );
            assert!(
                worst.1 < 1e-4 && compared > 20,
                "{} on {place}: {worst:?}, {compared} weights",
                case.name
            );
        }
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn a_device_that_is_not_there_is_an_error() {
    let error = Place::Vulkan(999).device().unwrap_err().to_string();
    assert!(error.contains("999") && error.contains("driver"), "{error}");
}

#[test]
fn sizes_and_weights_that_do_not_fit_are_errors() {
    let network = cases().remove(0).network();
    let weights = weights(&network);
    for (place, _) in devices() {
        let burn = Accelerated::new(&network, &weights, place).unwrap();
        assert!(burn.forward(&noise(2 * 9 * 16 * 16, 0.1), [9, 16, 16]).is_err());
        assert!(burn.forward(&noise(7, 0.1), [8, 16, 16]).unwrap_err().to_string().contains("7 values"));
        assert!(Accelerated::new(&network, &Weights::default(), place).is_err());
    }
}
