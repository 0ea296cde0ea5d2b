//! Tables computed by numpy, scikit-learn and nnunetv2 2.8.1: random draws, folds, foreground positions, topology.
//! Every entry found under `GALEN_GOLDENS` is run; without the folder the tests say so and pass.

use crate::goldens::{goldens, json, npz, npz_keys, npz_shape};
use galen_core::{LabelValue, Labels};
use galen_prep::foreground_locations;
use galen_prep::numpy::RandomState;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn table(name: &str) -> Option<PathBuf> {
    goldens("nnunet/tables").map(|root| root.join(name)).filter(|file| file.exists())
}

#[test]
fn golden_numpy_draws_agree() {
    let Some(file) = table("numpy_randomstate.json") else { return };
    let theirs = json(&file);
    let seed = theirs["seed"].as_u64().unwrap() as u32;
    let fresh = || RandomState::new(seed);
    let expect = |key: &str, ours: Value| assert_eq!(ours, theirs[key], "{key}");
    let mut random = fresh();
    expect("first_uint32", json!((0..8).map(|_| random.next_u32()).collect::<Vec<_>>()));
    expect("permutation_20", json!(fresh().permutation(20)));
    expect("choice_norepl_50_7", json!(fresh().choice(50, 7)));
    let mut random = fresh();
    expect("uniform_4", json!((0..4).map(|_| random.uniform()).collect::<Vec<_>>()));
    expect("shuffle_12345_10", json!(RandomState::new(12345).permutation(10)));
}

/// Class values of a key such as `labels|1` or `regions|(1, 2, 3)`.
fn values(key: &str) -> Vec<i16> {
    let list = key.split('|').nth(1).unwrap_or_default().trim_matches(['(', ')']);
    list.split(',').filter_map(|v| v.trim().parse().ok()).collect()
}

fn rows(file: &Path, key: &str) -> Vec<[u32; 3]> {
    let flat: Vec<i32> = npz(file, key);
    flat.chunks(4).map(|row| [row[1] as u32, row[2] as u32, row[3] as u32]).collect()
}

fn labels(regions: bool, ignore: bool) -> Labels {
    let one = |name: &str, value| (name.to_owned(), LabelValue::One(value));
    let mut entries = vec![one("background", 0)];
    if regions {
        entries.push(("whole".into(), LabelValue::Region(vec![1, 2, 3])));
        entries.push(("core".into(), LabelValue::Region(vec![2, 3])));
        entries.push(one("enhancing", 3));
    } else {
        entries.extend([one("a", 1), one("b", 2), one("c", 3)]);
    }
    if ignore {
        entries.push(one("ignore", 4));
    }
    Labels::new(entries, regions.then(|| vec![1, 2, 3])).unwrap()
}

/// The table was drawn with 50 positions per class instead of 10000: the same permutation, cut earlier.
fn starts_with(ours: &[[u32; 3]], theirs: &[[u32; 3]], key: &str) {
    assert!(!theirs.is_empty() && theirs.len() <= ours.len(), "{key}");
    assert!(ours[..theirs.len()] == *theirs, "{key}: positions differ");
}

#[test]
fn golden_foreground_locations_agree() {
    let Some(file) = table("foreground_locations.npz") else { return };
    let seg: Vec<i8> = npz(&file, "seg");
    let seg: Vec<i16> = seg.into_iter().map(i16::from).collect();
    let shape = npz_shape(&file, "seg");
    let size = [shape[1], shape[2], shape[3]];
    let mut compared = 0;
    for (set, regions) in [("labels", false), ("regions", true)] {
        let ours = foreground_locations(&seg, size, &labels(regions, false));
        for key in npz_keys(&file).iter().filter(|key| key.starts_with(&format!("{set}|"))) {
            let class = ours.iter().find(|class| class.values == values(key)).unwrap();
            starts_with(&class.voxels, &rows(&file, key), key);
            compared += 1;
        }
    }
    // The set with an ignore label starts with classes 1 and 2; its "annotated" class is compared in the module.
    if npz_keys(&file).iter().any(|key| key.starts_with("with_annotated|(-1")) {
        let one = |name: &str, value| (name.to_owned(), LabelValue::One(value));
        let two = Labels {
            entries: vec![one("background", 0), one("a", 1), one("b", 2)],
            regions_class_order: None,
        };
        let first = foreground_locations(&seg, size, &two);
        for class in &first {
            let key = format!("with_annotated|{}", class.values[0]);
            starts_with(&class.voxels, &rows(&file, &key), &key);
        }
        compared += 2;
    }
    println!("{compared} classes agree");
    assert!(compared > 0);
}

#[test]
fn golden_foreground_of_a_big_volume_agrees() {
    let Some(file) = table("foreground_locations.npz") else { return };
    if !npz_keys(&file).contains(&"big|1_count".to_owned()) {
        return;
    }
    let inside = |i: usize, range: std::ops::Range<usize>| {
        [i / 3600, i / 60 % 60, i % 60].iter().all(|v| range.contains(v))
    };
    let label = |i: usize| if inside(i, 20..30) { 2 } else { i16::from(inside(i, 5..55)) };
    let seg: Vec<i16> = (0..216_000).map(label).collect();
    let one = |name: &str, value| (name.to_owned(), LabelValue::One(value));
    let meaning = Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap();
    for class in foreground_locations(&seg, [60; 3], &meaning) {
        let name = class.values[0];
        let count: Vec<i64> = npz(&file, &format!("big|{name}_count"));
        assert_eq!(class.voxels.len() as i64, count[0]);
        assert_eq!(class.voxels[..100], rows(&file, &format!("big|{name}_first100")));
    }
}
