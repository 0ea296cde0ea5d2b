//! What a predictor promises: refusals in one line, the same bytes for any number of threads.

use galen_core::{Geometry, LabelMap, LabelValue, Labels, Volume};
use galen_infer::{Options, Parts, Predictor};
use galen_models::{Network, Weights};
use galen_prep::Plans;
use serde_json::{Value, json};

/// Plans of a tiny network for volumes or slices of 1 mm voxels.
fn plans(dimensions: usize, median: [usize; 3]) -> Value {
    let each = |n: usize| vec![n; dimensions];
    let resampling = |is_seg: bool, order: usize| json!({"is_seg": is_seg, "order": order, "order_z": 0});
    let architecture = json!({
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2, "features_per_stage": [4, 8],
            "conv_op": format!("torch.nn.modules.conv.Conv{dimensions}d"),
            "kernel_sizes": [each(3), each(3)], "strides": [each(1), each(2)],
            "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1], "conv_bias": true,
            "norm_op": format!("torch.nn.modules.instancenorm.InstanceNorm{dimensions}d"),
            "norm_op_kwargs": {"eps": 1e-5, "affine": true},
            "dropout_op": null, "dropout_op_kwargs": null,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": true}
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]
    });
    json!({
        "dataset_name": "Tiny", "plans_name": "tiny", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "original_median_shape_after_transp": median,
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"tiny": {
            "data_identifier": "tiny", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
            "patch_size": each(8), "spacing": vec![1.0; dimensions],
            "median_image_size_in_voxels": each(12),
            "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [false],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling(false, 3),
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": resampling(true, 1),
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling(false, 1),
            "batch_dice": false,
            "architecture": architecture
        }}
    })
}

fn predictor(dimensions: usize, median: [usize; 3], folds: u64, options: Options) -> Predictor {
    let plans = Plans::from_json(&plans(dimensions, median)).unwrap();
    let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
    let labels = Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap();
    let network = Network::new(&plans.configuration("tiny").unwrap().architecture, 1, 3).unwrap();
    let weights: Vec<Weights> = (0..folds).map(|seed| network.initial_weights(seed)).collect();
    let mirror_axes = (0..dimensions).collect();
    let parts = Parts { plans, configuration: "tiny".into(), labels, image_channels: 1, mirror_axes };
    Predictor::from_parts(parts, weights, options).unwrap()
}

fn image(size: [usize; 3], spacing: [f64; 3]) -> Volume {
    let values =
        (0..size.iter().product::<usize>()).map(|i| ((i as f32 * 0.7).sin() * 50.0) + 60.0).collect();
    Volume::new(Geometry::axis_aligned(size, spacing), values)
}

fn refusal(predictor: &Predictor, image: &Volume) -> String {
    predictor.predict(image, false, &|_, _| ()).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_segmented_is_refused_in_one_line() {
    let volumes = predictor(3, [12; 3], 1, Options::default());
    let mut two = image([9, 9, 9], [1.0; 3]);
    (two.channels, two.voxels) = (2, image([18, 9, 9], [1.0; 3]).voxels);
    assert!(refusal(&volumes, &two).contains("has 2 channels"));
    let mut slice = image([1, 20, 20], [1.0; 3]);
    slice.geometry.flat = true;
    assert!(refusal(&volumes, &slice).contains("is 2D"));
    let slices = predictor(2, [1, 12, 12], 1, Options::default());
    assert!(refusal(&slices, &image([9, 9, 9], [1.0; 3])).contains("trained on 2D images"));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![1f32; 729];
        values[5] = bad;
        let image = Volume::new(Geometry::axis_aligned([9; 3], [1.0; 3]), values);
        assert!(refusal(&volumes, &image).contains("NaN or infinite"));
    }
}

#[test]
fn slices_of_a_volume_are_segmented_one_by_one() {
    let predictor = predictor(2, [12; 3], 1, Options::default());
    let volume = image([3, 11, 13], [4.0, 1.0, 1.0]);
    let count = std::cell::Cell::new((0, 0));
    let labels = predictor.predict(&volume, false, &|done, all| count.set((done, all))).unwrap().labels;
    assert_eq!(labels.geometry, volume.geometry);
    // Three slices of 2 × 3 tiles (patches of 8 on 11 and 13 voxels, in steps of at most 4), four mirrored copies.
    assert_eq!(count.get(), (72, 72));
}

#[test]
fn folds_are_averaged_and_the_threads_do_not_matter() {
    let scan = image([10, 14, 9], [1.3, 0.9, 1.1]);
    let run = |folds: u64, compat_f16: bool, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let predictor = predictor(3, [12; 3], folds, Options { compat_f16, ..Options::default() });
            predictor.predict(&scan, true, &|_, _| ()).unwrap()
        })
    };
    for compat_f16 in [false, true] {
        let (one, three) = (run(2, compat_f16, 1), run(2, compat_f16, 3));
        assert_eq!(one, three);
        let probabilities = one.probabilities.unwrap();
        assert_eq!((probabilities.classes, probabilities.size), (3, [10, 14, 9]));
        assert_ne!(one.labels, LabelMap::new(scan.geometry.clone(), vec![0; scan.geometry.voxels()]));
    }
    assert_ne!(run(1, false, 2).probabilities, run(2, false, 2).probabilities);
}

#[test]
fn the_memory_estimate_grows_with_what_is_asked_for() {
    let predictor = predictor(3, [12; 3], 1, Options::default());
    let (small, large) = (image([10; 3], [1.0; 3]), image([40; 3], [1.0; 3]));
    assert!(predictor.peak_bytes(&large, false) > predictor.peak_bytes(&small, false));
    assert!(predictor.peak_bytes(&large, true) >= predictor.peak_bytes(&large, false));
    // Small labels are taken in steps: the scan itself is always part of it.
    assert!(predictor.peak_bytes(&large, false) > large.voxels.bytes() as u64);
}
