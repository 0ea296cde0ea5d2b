//! What every network of ours promises, checked on small ones.

use galen_core::{Architecture, NetworkClass};
use galen_kernels::Cpu;
use galen_models::{LossSpec, Network, Sgd, Storage, Targets, Tensor, Weights, deep_supervision_weights};

fn architecture(class: NetworkClass, dimensions: usize, leak: f64) -> Architecture {
    let axes = |value: usize| vec![value; dimensions];
    Architecture {
        class,
        features: vec![4, 6, 8],
        kernels: vec![axes(3); 3],
        strides: vec![axes(1), axes(2), axes(2)],
        encoder_depth: vec![1, 2, 1],
        decoder_depth: vec![1, 1],
        bias: true,
        norm_eps: 1e-5,
        norm_affine: true,
        leak,
    }
}

fn networks(leak: f64) -> Vec<(Network, [usize; 3])> {
    let mut networks = Vec::new();
    for class in [NetworkClass::PlainConvUNet, NetworkClass::ResidualEncoderUNet] {
        for (dimensions, size) in [(2, [1, 12, 8]), (3, [8, 12, 8])] {
            networks.push((Network::new(&architecture(class, dimensions, leak), 2, 3).unwrap(), size));
        }
    }
    networks
}

/// Smooth values without meaning.
fn images(n: usize, size: [usize; 3]) -> Vec<f32> {
    (0..n * 2 * size.iter().product::<usize>())
        .map(|i| (i as f32 * 0.37).sin() + (i as f32 * 0.011).cos())
        .collect()
}

fn targets(network: &Network, n: usize, size: [usize; 3]) -> Vec<Targets> {
    let labels = (0..n * size.iter().product::<usize>()).map(|i| (i / 5 % 3) as i16).collect();
    Targets::pyramid(labels, size, &network.output_sizes(size))
}

fn loss(network: &Network) -> LossSpec {
    let scale_weights = deep_supervision_weights(network.scales());
    LossSpec { batch_dice: true, regions: None, ignore: None, scale_weights }
}

/// Initial weights, with the norms moved off their special values so that every weight matters.
fn weights(network: &Network) -> Weights {
    let mut weights = network.initial_weights(3);
    for (i, (name, tensor)) in weights.iter_mut().enumerate() {
        if name.ends_with("norm.weight") {
            tensor.values.iter_mut().zip(0..).for_each(|(v, c)| *v = 0.8 + 0.05 * ((i + c) % 7) as f32);
        }
    }
    weights
}

#[test]
fn a_batch_is_the_same_as_its_images_one_by_one() {
    for (network, size) in networks(0.01) {
        let weights = weights(&network);
        let images = images(2, size);
        let both =
            network.training(weights.clone(), loss(&network)).unwrap().forward(&images, 2, size).unwrap();
        let mut inference = network.inference(weights.clone()).unwrap();
        let half = images.len() / 2;
        let first = inference.forward(&images[..half], size).unwrap();
        let allocations = inference.allocations();
        let second = inference.forward(&images[half..], size).unwrap();
        assert_eq!([first, second].concat(), both[0]);
        assert_eq!(inference.allocations(), allocations, "the second image allocates nothing");
    }
}

/// Large enough that convolutions overwrite their sources slab by slab, which training never does.
#[test]
fn slabs_change_no_bytes_and_spare_memory() {
    let size = [24, 96, 96];
    for class in [NetworkClass::PlainConvUNet, NetworkClass::ResidualEncoderUNet] {
        let small = architecture(class, 3, 0.01);
        let network = Network::new(&Architecture { features: vec![16, 32, 32], ..small }, 2, 3).unwrap();
        let (weights, image) = (weights(&network), images(1, size));
        for storage in [Storage::F32, Storage::Bf16] {
            let mut training = network.training(weights.clone(), loss(&network)).unwrap().stored(storage);
            let whole = training.forward(&image, 1, size).unwrap();
            let inference = network.inference(weights.clone()).unwrap();
            let mut inference = inference.stored(storage).fixed(size).unwrap();
            let logits = inference.forward(&image, size).unwrap();
            assert!(logits == whole[0], "{class:?} {storage:?}");
            let allocations = inference.allocations();
            assert!(inference.forward(&image, size).unwrap() == whole[0]);
            assert_eq!(inference.allocations(), allocations, "the second image allocates nothing");
            let cost = network.cost_stored(size, 1, storage);
            assert_eq!(cost.inference_activation_bytes as usize, inference.activation_bytes());
            let tensor = 4 * storage.words(16 * size.iter().product::<usize>());
            // The image and some rows of logits are in single precision whatever the others are.
            let fixed = 4 * (3 * image.len() / 2 + (16 << 16)) * usize::from(storage == Storage::Bf16);
            if class == NetworkClass::PlainConvUNet {
                // Held whole, skip connection, upsampled tensor and output are three, and the other scales half of one.
                assert!(
                    2 * (inference.activation_bytes() - fixed) < 7 * tensor,
                    "{storage:?} {}",
                    inference.activation_bytes()
                );
            }
            let error = inference.forward(&images(1, [16, 96, 96]), [16, 96, 96]).unwrap_err().to_string();
            assert!(error.contains("was prepared for"), "{error}");
        }
    }
}

#[test]
fn half_the_memory_costs_little_precision() {
    for (network, small) in networks(0.01) {
        let size = [small[0], 4 * small[1], 4 * small[2]];
        let (weights, images) = (weights(&network), images(2, size));
        let step = |storage| {
            let mut training = network.training(weights.clone(), loss(&network)).unwrap().stored(storage);
            let logits = training.forward(&images, 2, size).unwrap().remove(0);
            let loss = training.step(&images, 2, size, &targets(&network, 2, size)).unwrap().loss;
            let gradients: Vec<f32> =
                training.gradients().iter().flat_map(|(_, g)| g.values.clone()).collect();
            (logits, loss, gradients, training.activation_bytes())
        };
        let (wide, half) = (step(Storage::F32), step(Storage::Bf16));
        let far = |a: &[f32], b: &[f32]| {
            let square =
                |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
            (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut a.iter().copied())).sqrt()
        };
        let (of_logits, of_gradients) = (far(&wide.0, &half.0), far(&wide.2, &half.2));
        assert!((1e-5..2e-2).contains(&of_logits), "logits {of_logits}");
        assert!((1e-5..0.1).contains(&of_gradients), "gradients {of_gradients}");
        assert!((wide.1 - half.1).abs() < 5e-3, "loss {} and {}", wide.1, half.1);
        assert!(10 * half.3 < 9 * wide.3, "{} and {} bytes", half.3, wide.3);
    }
}

#[test]
fn every_operation_has_code_for_this_processor() {
    for (network, size) in networks(0.01) {
        network.inference(weights(&network)).unwrap().forward(&images(1, size), size).unwrap();
        let mut training = network.training(weights(&network), loss(&network)).unwrap();
        training.step(&images(2, size), 2, size, &targets(&network, 2, size)).unwrap();
    }
    // Other tests of this process run the same networks, so the counts are theirs too.
    for (cpu, tasks) in Cpu::entered() {
        assert_eq!(tasks > 0, cpu == Cpu::detected(), "{tasks} tasks by {}", cpu.name());
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut results = Vec::new();
            for (network, size) in networks(0.01) {
                let mut training = network.training(weights(&network), loss(&network)).unwrap();
                let mut sgd = Sgd::default();
                for _ in 0..2 {
                    let step = training.step(&images(2, size), 2, size, &targets(&network, 2, size)).unwrap();
                    let norm = training.update(&mut sgd, 0.01);
                    results.push((step.loss.to_bits(), norm.to_bits(), training.weights().clone()));
                }
            }
            results
        })
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn training_lowers_the_loss_and_leaves_the_uncounted_head_alone() {
    for (network, size) in networks(0.01) {
        let start = network.initial_weights(1);
        let mut training = network.training(start.clone(), loss(&network)).unwrap();
        let (images, targets) = (images(2, size), targets(&network, 2, size));
        let mut sgd = Sgd { momentum: 0.9, ..Sgd::default() };
        let first = training.step(&images, 2, size, &targets).unwrap().loss;
        for _ in 0..20 {
            training.step(&images, 2, size, &targets).unwrap();
            training.update(&mut sgd, 0.02);
        }
        let after = training.evaluate(&images, 2, size, &targets).unwrap();
        assert!(after.loss < first - 0.05, "{first} to {}", after.loss);
        assert_eq!(after.counts.len(), 2);
        let head = "decoder.seg_layers.0.weight";
        assert!(training.gradients().get(head).is_none());
        assert_eq!(training.weights().get(head), start.get(head));
    }
}

/// With a weak kink in the activation, so that a finite step does not cross much of it.
#[test]
fn gradients_are_those_of_finite_differences() {
    for (network, size) in networks(0.9) {
        let (images, targets) = (images(2, size), targets(&network, 2, size));
        let start = weights(&network);
        let mut training = network.training(start.clone(), loss(&network)).unwrap();
        training.step(&images, 2, size, &targets).unwrap();
        let gradients = training.gradients().clone();
        for (name, gradient) in gradients.iter().filter(|(name, _)| name.ends_with("weight")) {
            let largest = (0..gradient.values.len())
                .max_by(|&a, &b| gradient.values[a].abs().total_cmp(&gradient.values[b].abs()));
            let place = largest.unwrap();
            let mut at = |step: f32| {
                let weight = training.weights_mut().get_mut(name).unwrap();
                weight.values[place] = start.get(name).unwrap().values[place] + step;
                training.evaluate(&images, 2, size, &targets).unwrap().loss
            };
            let numeric = (at(2e-3) - at(-2e-3)) / 4e-3;
            at(0.0);
            let analytic = f64::from(gradient.values[place]);
            assert!(
                (numeric - analytic).abs() < 0.02 * analytic.abs() + 2e-4,
                "{name}: {numeric}, {analytic}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_name() {
    let network = Network::new(&architecture(NetworkClass::PlainConvUNet, 3, 0.01), 1, 2).unwrap();
    let weights = network.initial_weights(0);
    let mut inference = network.inference(weights.clone()).unwrap();
    let flat = inference.forward(&[0.0; 64], [1, 8, 8]).unwrap_err().to_string();
    assert!(flat.contains("3D network on a 2D image"), "{flat}");
    assert!(inference.forward(&[0.0; 6], [4, 4, 4]).is_err());
    let mut other: Weights = weights.iter().skip(1).map(|(n, t)| (n.to_owned(), t.clone())).collect();
    other.insert("decoder.stages.0.convs.0.conv.bias", Tensor::filled(&[7], 0.0));
    other.insert("head.weight", Tensor::filled(&[1], 0.0));
    let error = network.inference(other).unwrap_err().to_string();
    for part in
        ["encoder.stages.0.0.convs.0.conv.weight is missing", "[7], expected [6]", "head.weight is not part"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let mut wrong = architecture(NetworkClass::PlainConvUNet, 3, 0.01);
    wrong.kernels[1] = vec![3, 3];
    assert!(Network::new(&wrong, 1, 2).is_err());
    let flat_network = Network::new(&architecture(NetworkClass::PlainConvUNet, 2, 0.01), 1, 2).unwrap();
    assert!(flat_network.check_size([4, 8, 8]).is_err());
}

#[test]
fn the_told_cost_is_the_memory_used() {
    let both = |(network, size)| {
        [Storage::F32, Storage::Bf16].map(|storage| (Network::clone(&network), size, storage))
    };
    for (network, size, storage) in networks(0.01).into_iter().flat_map(both) {
        let cost = network.cost_stored(size, 2, storage);
        let values = 4 * network.parameter_count();
        let mut inference = network.inference(weights(&network)).unwrap().stored(storage);
        let half = images(1, size);
        inference.forward(&half, size).unwrap();
        assert_eq!(cost.inference_activation_bytes as usize, inference.activation_bytes());
        let spec = LossSpec { scale_weights: vec![1.0; network.scales()], ..loss(&network) };
        let mut training = network.training(weights(&network), spec).unwrap().stored(storage);
        training.step(&images(2, size), 2, size, &targets(&network, 2, size)).unwrap();
        assert_eq!(cost.training_bytes as usize - 3 * values, training.activation_bytes());
    }
}
