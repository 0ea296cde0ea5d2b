//! Fingerprints and preprocessed cases of raw datasets as nnunetv2 2.8.1 made them.
//! Every dataset found under `GALEN_GOLDENS` is run; without the folder the tests say so and pass.

use crate::goldens::{folders, goldens, json, npz};
use galen_core::{LabelMap, LabelValue, Labels, Volume};
use galen_prep::{CaseStatistics, Fingerprint, Plans, foreground_locations, prepare};
use serde_json::Value;
use std::path::Path;

/// A raw training case: image with all channels, and labels.
fn raw_case(folder: &Path, case: &str, channels: usize, ending: &str) -> (Volume, LabelMap) {
    let images = (0..channels).map(|c| folder.join(format!("imagesTr/{case}_{c:04}{ending}")));
    let images = images.filter(|file| file.exists()).map(|file| galen_io::read(&file).unwrap()).collect();
    let labels = galen_io::read_label_map(&folder.join(format!("labelsTr/{case}{ending}"))).unwrap();
    (Volume::stack(images).unwrap(), labels)
}

fn cases(raw: &Path, ending: &str) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(raw.join("labelsTr"))
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(ending).map(str::to_owned))
        .collect();
    all.sort();
    all
}

#[test]
fn golden_fingerprints_agree() {
    let Some(root) = goldens("nnunet/datasets") else { return };
    for folder in folders(&root) {
        let dataset = json(&folder.join("raw/dataset.json"));
        let ending = dataset["file_ending"].as_str().unwrap();
        let channels = dataset["channel_names"].as_object().unwrap().len();
        let names = cases(&folder.join("raw"), ending);
        let statistics = names.iter().map(|case| {
            let (image, labels) = raw_case(&folder.join("raw"), case, channels, ending);
            CaseStatistics::of(&image, &labels, names.len()).unwrap()
        });
        let ours = Fingerprint::of(statistics.collect()).unwrap();
        let theirs: Fingerprint =
            serde_json::from_value(json(&folder.join("dataset_fingerprint.json"))).unwrap();
        let name = folder.display();
        assert_eq!(ours.shapes_after_crop, theirs.shapes_after_crop, "{name}");
        assert_eq!(ours.spacings, theirs.spacings, "{name}");
        let near = |a: f64, b: f64, what: &str| {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-3), "{name}: {what} {a}, the reference has {b}");
        };
        let (a, b) = (ours.median_relative_size_after_cropping, theirs.median_relative_size_after_cropping);
        near(a, b, "relative size");
        for (channel, b) in &theirs.foreground_intensity_properties_per_channel {
            let a = &ours.foreground_intensity_properties_per_channel[channel];
            near(a.min, b.min, "min");
            near(a.max, b.max, "max");
            near(a.mean, b.mean, "mean");
            near(a.std, b.std, "std");
            near(a.median, b.median, "median");
            near(a.percentile_00_5, b.percentile_00_5, "0.5 %");
            near(a.percentile_99_5, b.percentile_99_5, "99.5 %");
        }
        println!("{name}: fingerprint of {} cases agrees", names.len());
    }
}

fn labels_of(dataset: &Value) -> Labels {
    let entries = dataset["labels"].as_object().unwrap().iter();
    let value = |v: &Value| serde_json::from_value::<LabelValue>(v.clone()).unwrap();
    let order = dataset.get("regions_class_order").map(|v| serde_json::from_value(v.clone()).unwrap());
    Labels::new(entries.map(|(name, v)| (name.clone(), value(v))).collect(), order).unwrap()
}

#[test]
fn golden_preprocessed_cases_agree() {
    let Some(root) = goldens("nnunet/datasets") else { return };
    for folder in folders(&root) {
        let dataset = json(&folder.join("raw/dataset.json"));
        let plans: Plans = serde_json::from_value(json(&folder.join("nnUNetPlans.json"))).unwrap();
        for prepared in folders(&folder) {
            let name = prepared.file_name().unwrap().to_str().unwrap();
            if let Some(configuration) = name.strip_prefix("preprocessed_") {
                preprocessed(&folder, &prepared, &dataset, &plans, configuration);
            }
        }
    }
}

fn preprocessed(folder: &Path, prepared: &Path, dataset: &Value, plans: &Plans, configuration: &str) {
    let ending = dataset["file_ending"].as_str().unwrap();
    let channels = dataset["channel_names"].as_object().unwrap().len();
    let meaning = labels_of(dataset);
    let configuration = plans.configuration(configuration).unwrap();
    for (case, theirs) in json(&prepared.join("all_cases_statistics.json")).as_object().unwrap() {
        let (image, labels) = raw_case(&folder.join("raw"), case, channels, ending);
        let (ours, undo) = prepare(&image, Some(&labels), plans, &configuration).unwrap();
        let seg = ours.labels.as_ref().unwrap();
        let shape = [ours.channels, ours.size[0], ours.size[1], ours.size[2]];
        assert_eq!(serde_json::json!(shape), theirs["shape"], "{case}");
        for (value, count) in theirs["seg_histogram"].as_object().unwrap() {
            let value: i16 = value.parse().unwrap();
            let have = seg.iter().filter(|&&v| v == value).count() as u64;
            assert_eq!(have, count.as_u64().unwrap(), "{case}: voxels of label {value}");
        }
        for (c, channel) in ours.image.chunks(ours.image.len() / ours.channels).enumerate() {
            let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / channel.len() as f64;
            assert!((mean - theirs["mean"][c].as_f64().unwrap()).abs() < 1e-4, "{case}: mean of channel {c}");
        }
        let file = prepared.join(format!("{case}.npz"));
        if !file.exists() {
            continue;
        }
        let data: Vec<f32> = npz(&file, "data");
        assert_eq!(data.len(), ours.image.len(), "{case}");
        let worst = data.iter().zip(&ours.image).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{case}: images differ by {worst}");
        let expected: Vec<i8> = npz(&file, "seg");
        assert_eq!(expected.len(), seg.len(), "{case}");
        assert!(expected.iter().zip(seg).all(|(a, b)| i16::from(*a) == *b), "{case}: labels differ");
        let properties = json(&prepared.join(format!("{case}_properties.json")));
        assert_eq!(serde_json::json!(undo.bbox), properties["bbox_used_for_cropping"], "{case}");
        assert_eq!(serde_json::json!(undo.size_before_crop), properties["shape_before_cropping"], "{case}");
        positions(case, seg, ours.size, &meaning, &properties["class_locations_summary"]);
        println!("{case}, {}: images within {worst:.1e}, labels and positions identical", configuration.name);
    }
}

fn positions(case: &str, seg: &[i16], size: [usize; 3], meaning: &Labels, theirs: &Value) {
    for class in foreground_locations(seg, size, meaning) {
        let key = match class.values.as_slice() {
            [one] if !meaning.has_regions() => one.to_string(),
            [one] => format!("({one},)"),
            many => format!("({})", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let Some(expected) = theirs.get(&key).or_else(|| theirs.get(class.values[0].to_string())) else {
            assert!(class.voxels.is_empty(), "{case}: class {key} is not in the reference");
            continue;
        };
        assert_eq!(expected["count"].as_u64().unwrap(), class.voxels.len() as u64, "{case}: class {key}");
        for (row, ours) in expected["first5"].as_array().unwrap().iter().zip(&class.voxels) {
            assert_eq!(*row, serde_json::json!([0, ours[0], ours[1], ours[2]]), "{case}: class {key}");
        }
        let sum = [0, 1, 2].map(|axis| class.voxels.iter().map(|v| u64::from(v[axis])).sum::<u64>());
        assert_eq!(expected["sum"], serde_json::json!([0, sum[0], sum[1], sum[2]]), "{case}: class {key}");
    }
}
