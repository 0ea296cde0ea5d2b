//! Plans, fingerprints, preprocessed cases and tables as nnunetv2 2.8.1 wrote them.
//! Every case found under `GALEN_GOLDENS` is run; without the folder the tests say so and pass.

use galen_core::{LabelMap, LabelValue, Labels, Volume};
use galen_prep::numpy::RandomState;
use galen_prep::{CaseStatistics, DatasetFacts, Fingerprint, Planner, Plans, foreground_locations, plan, prepare, resample};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn goldens(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GALEN_GOLDENS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens"), PathBuf::from);
    let folder = root.join(part);
    if !folder.is_dir() {
        println!("no {part} under {}: nothing to compare with", root.display());
        return None;
    }
    Some(folder)
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| path.is_dir());
    all.sort();
    all
}

const PLANNERS: [(Planner, &str); 4] = [
    (Planner::Default, "nnUNetPlans.json"),
    (Planner::ResEncM, "nnUNetResEncUNetMPlans.json"),
    (Planner::ResEncL, "nnUNetResEncUNetLPlans.json"),
    (Planner::ResEncXL, "nnUNetResEncUNetXLPlans.json"),
];

/// Equal, numbers within 1e-9 relative and of the same kind (integer or float); key order counts.
fn same(ours: &Value, theirs: &Value, at: &str) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |m: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = m.keys().cloned().collect();
                // nnU-Net copies the intensities in the order in which its fingerprint file has them.
                if m.contains_key("percentile_99_5") {
                    keys.sort();
                }
                keys
            };
            assert_eq!(keys(a), keys(b), "{at}: keys");
            a.iter().for_each(|(key, value)| same(value, &b[key], &format!("{at}.{key}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}: length of {ours} and {theirs}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| same(a, b, &format!("{at}[{i}]")));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert_eq!(a.is_f64(), b.is_f64(), "{at}: {a} and {b}");
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-9 * b.abs(), "{at}: {a}, the reference has {b}");
        }
        _ => assert_eq!(ours, theirs, "{at}"),
    }
}

fn facts(dataset: &Value, name: &str, reader: &str) -> DatasetFacts {
    let channels = dataset.get("channel_names").unwrap_or(&dataset["modality"]).as_object().unwrap();
    DatasetFacts {
        name: name.to_owned(),
        channel_names: (0..channels.len()).map(|c| channels[&c.to_string()].as_str().unwrap().to_owned()).collect(),
        planner_classes: dataset["labels"].as_object().unwrap().len(),
        num_training: dataset["numTraining"].as_u64().unwrap() as usize,
        reader: reader.to_owned(),
    }
}

fn plans_agree(folder: &Path, dataset: &Value) -> usize {
    let fingerprint: Fingerprint = serde_json::from_value(json(&folder.join("dataset_fingerprint.json"))).unwrap();
    let arguments = folder.join("planner_arguments.json");
    let memory = arguments.exists().then(|| json(&arguments)["gpu_memory_target_in_gb"].as_f64().unwrap());
    let mut compared = 0;
    for (planner, file) in PLANNERS {
        let file = folder.join(file);
        if !file.exists() {
            continue;
        }
        let theirs = json(&file);
        let name = theirs["dataset_name"].as_str().unwrap();
        let reader = theirs["image_reader_writer"].as_str().unwrap();
        let ours = plan(&fingerprint, &facts(dataset, name, reader), planner, memory).unwrap();
        same(&ours.to_json(), &theirs, &file.display().to_string());
        compared += 1;
    }
    compared
}

#[test]
fn golden_plans_agree_in_every_number() {
    let Some(root) = goldens("nnunet/planner") else { return };
    let compared: usize = folders(&root).iter().map(|f| plans_agree(f, &json(&f.join("dataset.json")))).sum();
    println!("{compared} plans of synthetic fingerprints agree");
    assert!(compared > 0);
}

#[test]
fn golden_dataset_plans_agree_in_every_number() {
    let Some(root) = goldens("nnunet/datasets") else { return };
    let compared: usize =
        folders(&root).iter().map(|f| plans_agree(f, &json(&f.join("raw/dataset.json")))).sum();
    println!("{compared} plans of datasets agree");
    assert!(compared > 0);
}

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
        let theirs: Fingerprint = serde_json::from_value(json(&folder.join("dataset_fingerprint.json"))).unwrap();
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

fn npz<T: npyz::Deserialize>(file: &Path, key: &str) -> Vec<T> {
    let mut npz = npyz::npz::NpzArchive::open(file).unwrap();
    npz.by_name(key).unwrap().unwrap().into_vec().unwrap()
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
        let worst = data.iter().zip(&ours.image).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{case}: images differ by {worst}");
        let expected: Vec<i8> = npz(&file, "seg");
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

#[test]
fn golden_numpy_draws_agree() {
    let Some(root) = goldens("nnunet/tables") else { return };
    let file = root.join("numpy_randomstate.json");
    if !file.exists() {
        return;
    }
    let theirs = json(&file);
    let seed = theirs["seed"].as_u64().unwrap() as u32;
    let fresh = || RandomState::new(seed);
    let expect = |key: &str, ours: Value| assert_eq!(ours, theirs[key], "{key}");
    let mut random = fresh();
    expect("first_uint32", serde_json::json!((0..8).map(|_| random.next_u32()).collect::<Vec<_>>()));
    expect("permutation_20", serde_json::json!(fresh().permutation(20)));
    expect("choice_norepl_50_7", serde_json::json!(fresh().choice(50, 7)));
    let mut random = fresh();
    expect("choice_repl_50_9", serde_json::json!((0..9).map(|_| random.up_to(49)).collect::<Vec<_>>()));
    let mut random = fresh();
    expect("choice_repl_100000_5", serde_json::json!((0..5).map(|_| random.up_to(99_999)).collect::<Vec<_>>()));
    let mut random = fresh();
    expect("uniform_4", serde_json::json!((0..4).map(|_| random.uniform()).collect::<Vec<_>>()));
    expect("shuffle_12345_10", serde_json::json!(RandomState::new(12345).permutation(10)));
}

#[test]
fn golden_resampling_agrees() {
    let Some(root) = goldens("nnunet/resampling") else { return };
    let mut compared = 0;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "npz"));
    files.sort();
    for file in &files {
        compared += resampling(file);
    }
    println!("{compared} arrays agree");
    assert!(compared > 0);
}

/// One in/out file of the reference's resampling functions; returns how many arrays were compared.
fn resampling(file: &Path) -> usize {
    let name = file.file_stem().unwrap().to_string_lossy().into_owned();
    let shape = |key: &str| -> Vec<u64> {
        let mut archive = npyz::npz::NpzArchive::open(file).unwrap();
        let array = archive.by_name(key).unwrap().unwrap();
        array.shape().to_vec()
    };
    let full = shape("input_f64");
    let from = [1, 2, 3].map(|axis| full[axis] as usize);
    let to: Vec<i64> = npz(file, "new_shape");
    let to = [0, 1, 2].map(|axis| to[axis] as usize);
    let axis: Vec<i64> = npz(file, "axis");
    let thick = usize::try_from(axis[0]).ok();
    let n: usize = from.iter().product();
    let input: Vec<f64> = npz(file, "input_f64");
    let range = input.iter().copied().fold(f64::MIN, f64::max) - input.iter().copied().fold(f64::MAX, f64::min);
    let worst = |order: u8, thick: Option<usize>, input: &[f64], theirs: &[f64]| {
        let ours: Vec<f64> = input.chunks(n).flat_map(|c| resample::image_f64(c, from, to, order, thick)).collect();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    for (key, order) in [("default_data_order3_f64", 3), ("default_probs_order1_f64", 1)] {
        let error = worst(order, thick, &input, &npz::<f64>(file, key));
        assert!(error <= 1e-10 * range.max(1.0), "{name}, {key}: {error}");
    }
    for order in [0, 1, 3] {
        let theirs: Vec<f64> = npz(file, &format!("skimage_resize_order{order}_ch0_f64"));
        let error = worst(order, None, &input[..n], &theirs);
        assert!(error <= 1e-10 * range.max(1.0), "{name}, resize of order {order}: {error}");
    }
    let seg: Vec<i8> = npz(file, "seg");
    let seg: Vec<i16> = seg.into_iter().map(i16::from).collect();
    let ours: Vec<i16> = seg.chunks(n).flat_map(|c| resample::labels(c, from, to, 1, thick)).collect();
    let theirs: Vec<i8> = npz(file, "default_seg_order1_f32");
    let different = ours.iter().zip(&theirs).filter(|(a, b)| **a != i16::from(**b)).count();
    assert_eq!(different, 0, "{name}: labels differ in {different} of {} voxels", ours.len());
    6
}
