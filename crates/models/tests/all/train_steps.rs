//! Four optimiser steps end at the weights that nnU-Net reaches.

use crate::golden::{Array, architecture, folder, json, largest_difference, npz};
use galen_models::{LossSpec, Network, Sgd, Targets, Tensor, Weights, polynomial_rate};
use std::collections::HashMap;

fn weights_of(arrays: &HashMap<String, Array>, when: &str, network: &Network) -> Weights {
    let tensor = |name: &str| {
        let array = &arrays[&format!("{when}|{name}")];
        (name.to_owned(), Tensor { shape: array.shape.clone(), values: array.values.clone() })
    };
    network.parameters().iter().map(|parameter| tensor(&parameter.name)).collect()
}

#[test]
fn golden_train_steps_reach_the_same_weights() {
    let Some(folder) = folder("nnunet/train_steps") else { return };
    let arrays: HashMap<String, Array> = npz(&folder.join("arrays.npz")).into_iter().collect();
    let info = json(&folder.join("info.json"));
    let arguments = serde_json::json!({
        "features_per_stage": [4, 6, 8], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
    });
    let network = Network::new(&architecture("PlainConvUNet", &arguments), 1, 3).unwrap();
    let order: Vec<&str> =
        info["parameter_order"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let names: Vec<&str> = network.parameters().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, order);
    assert_eq!(network.parameter_count() as u64, info["total_parameters"].as_u64().unwrap());

    let loss = LossSpec {
        batch_dice: info["batch_dice"].as_bool().unwrap(),
        regions: None,
        ignore: None,
        scale_weights: serde_json::from_value(info["deep_supervision_weights"].clone()).unwrap(),
    };
    let input = &arrays["input"];
    let (n, size) = (input.shape[0], [input.shape[2], input.shape[3], input.shape[4]]);
    let labels = arrays["target"].values.iter().map(|&x| x as i16).collect();
    let targets = Targets::pyramid(labels, size, &network.output_sizes(size));
    let mut training = network.training(weights_of(&arrays, "init", &network), loss).unwrap();
    for (i, output) in training.forward(&input.values, n, size).unwrap().iter().enumerate() {
        let error = largest_difference(output, &arrays[&format!("output{i}_step0")].values);
        assert!(error < 2e-5, "output {i} differs by {error}");
    }

    let mut sgd = Sgd::default();
    for (i, step) in info["steps"].as_array().unwrap().iter().enumerate() {
        let number = |key: &str| step[key].as_f64().unwrap();
        let rate = polynomial_rate(0.01, step["epoch_for_lr"].as_u64().unwrap() as usize, 1000);
        assert!((rate / number("lr") - 1.0).abs() < 1e-12);
        let result = training.step(&input.values, n, size, &targets).unwrap();
        assert!((result.loss - number("loss")).abs() < 2e-6, "step {i}: loss {}", result.loss);
        let norm = training.update(&mut sgd, rate);
        assert!((norm / number("grad_norm_before_clip") - 1.0).abs() < 1e-4, "step {i}: norm {norm}");
        if arrays.contains_key(&format!("after_step{i}|{}", names[0])) {
            let wanted = weights_of(&arrays, &format!("after_step{i}"), &network);
            for (name, tensor) in training.weights().iter() {
                let error = largest_difference(&tensor.values, &wanted.get(name).unwrap().values);
                assert!(error < 1e-5, "step {i}: {name} differs by {error}");
            }
        }
    }
}
