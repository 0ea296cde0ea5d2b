//! Cases that nnU-Net preprocessed become a store as they are.

use galen_data::{Dataset, Store};
use galen_prep::Plans;
use std::fs;
use std::path::Path;

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A dataset of the one case that a golden has preprocessed.
fn only(golden: &Path, case: &str, root: &Path) -> Dataset {
    fs::create_dir_all(root).unwrap();
    let mut description = json(&golden.join("raw/dataset.json"));
    description["numTraining"] = 1.into();
    description.as_object_mut().unwrap().remove("dataset");
    fs::write(root.join("dataset.json"), description.to_string()).unwrap();
    for folder in ["imagesTr", "labelsTr"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        for entry in fs::read_dir(golden.join("raw").join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            if name.to_str().unwrap().starts_with(case) {
                fs::copy(golden.join("raw").join(folder).join(&name), root.join(folder).join(&name)).unwrap();
            }
        }
    }
    Dataset::open(root).unwrap()
}

#[test]
fn golden_preprocessed_folders_become_stores() {
    let Some(root) = crate::synthetic::goldens() else { return };
    let mut compared = 0;
    for golden in fs::read_dir(root.join("nnunet/datasets")).unwrap().map(|entry| entry.unwrap().path()) {
        for prepared in fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()) {
            let name = prepared.file_name().unwrap().to_str().unwrap().to_owned();
            let Some(configuration) = name.strip_prefix("preprocessed_") else { continue };
            let files = fs::read_dir(&prepared).unwrap().map(|entry| entry.unwrap().path());
            let pickle = files.into_iter().find(|file| file.extension().is_some_and(|e| e == "pkl")).unwrap();
            let case = pickle.file_stem().unwrap().to_str().unwrap().to_owned();
            let home = tempfile::tempdir().unwrap();
            let dataset = only(&golden, &case, &home.path().join("raw"));
            let plans: Plans = serde_json::from_value(json(&golden.join("nnUNetPlans.json"))).unwrap();
            let quiet = |_, _| ();
            let adopted =
                Store::adopt(&dataset, &plans, configuration, &prepared, &home.path().join("a"), &quiet)
                    .unwrap();
            let built =
                Store::build(&dataset, &plans, configuration, &home.path().join("b"), &quiet).unwrap();
            let (theirs, ours) = (adopted.entry(0), built.entry(0));
            assert_eq!((theirs.size, theirs.channels), (ours.size, ours.channels), "{case}");
            assert_eq!(adopted.locations(0).unwrap(), built.locations(0).unwrap(), "{case}");
            assert_eq!(theirs.undo, ours.undo, "{case}");
            let whole = |store: &Store| {
                let n: usize = ours.size.iter().product();
                let (mut image, mut labels) = (vec![0.0; n * ours.channels], vec![0; n]);
                store.crop(0, [0; 3], ours.size, &mut image, &mut labels).unwrap();
                (image, labels)
            };
            let ((image, labels), (own_image, own_labels)) = (whole(&adopted), whole(&built));
            assert_eq!(labels, own_labels, "{case}");
            let worst = image.iter().zip(&own_image).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{case}: {worst}");
            println!("{case}, {configuration}: adopted as nnU-Net stored it, ours within {worst:.1e}");
            compared += 1;
        }
    }
    assert!(compared > 0, "the goldens hold no preprocessed case");
}

#[test]
fn what_is_missing_or_dangerous_is_said_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let raw = home.path().join("raw");
    crate::synthetic::dataset(&raw, &[[9, 9, 9]]);
    let dataset = Dataset::open(&raw).unwrap();
    let plans: Plans =
        serde_json::from_str(include_str!("../../../galen/tests/all/house/tiny_plans.json")).unwrap();
    let source = home.path().join("nnUNetPlans_3d_fullres");
    fs::create_dir_all(&source).unwrap();
    let store = home.path().join("store");
    let refusal =
        || Store::adopt(&dataset, &plans, "3d_fullres", &source, &store, &|_, _| ()).unwrap_err().to_string();
    assert!(refusal().contains("neither .b2nd nor .npz nor .npy"), "{}", refusal());
    fs::write(source.join("case_0.npz"), b"").unwrap();
    assert!(refusal().contains(".pkl is missing"), "{}", refusal());
    assert!(!store.exists(), "something was written");
    fs::write(source.join("case_0.pkl"), b"cos\nsystem\nX\x02\x00\x00\x00id\x85R.").unwrap();
    assert!(refusal().contains("`os.system`"), "{}", refusal());
    fs::remove_file(source.join("case_0.npz")).unwrap();
    fs::write(source.join("case_0.b2nd"), b"").unwrap();
    assert!(refusal().contains("_seg.b2nd is missing"), "{}", refusal());
}

#[test]
fn golden_blosc2_arrays_are_those_that_python_reads() {
    let Some(root) = crate::synthetic::goldens() else { return };
    let mut compared = 0;
    let mut open = vec![root.join("nnunet/datasets"), root.join("blosc2")];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "b2nd") {
                let array = galen_io::read_blosc2(&path).unwrap();
                let Some((shape, expected)) = decoded(&path) else { continue };
                assert_eq!(array.shape, shape, "{}", path.display());
                // nnU-Net stores labels in two bytes where the `.npz` has one.
                let wide = || expected.iter().flat_map(|&byte| i16::from(byte as i8).to_le_bytes());
                let same = array.bytes == expected
                    || (array.bytes.len() == 2 * expected.len() && array.bytes.iter().copied().eq(wide()));
                assert!(same, "{}: values differ", path.display());
                compared += 1;
            }
        }
    }
    println!("{compared} arrays equal in every byte");
    assert!(compared > 0, "the goldens hold no Blosc2 array");
}

/// The array as numpy wrote it: `NAME.b2nd.npy` beside `NAME.b2nd`, or in `CASE.npz` for `CASE.b2nd` and `CASE_seg.b2nd`.
fn decoded(path: &Path) -> Option<(Vec<usize>, Vec<u8>)> {
    let beside = path.with_extension("b2nd.npy");
    if beside.is_file() {
        return Some(raw(npyz::NpyFile::new(fs::File::open(beside).unwrap()).unwrap()));
    }
    let stem = path.file_stem()?.to_str()?;
    let (case, key) = stem.strip_suffix("_seg").map_or((stem, "data"), |case| (case, "seg"));
    let mut archive = npyz::npz::NpzArchive::open(path.with_file_name(format!("{case}.npz"))).ok()?;
    Some(raw(archive.by_name(key).unwrap()?))
}

fn raw<R: std::io::Read>(array: npyz::NpyFile<R>) -> (Vec<usize>, Vec<u8>) {
    let shape = array.shape().iter().map(|&length| length as usize).collect();
    let bytes = match array.dtype().descr().as_str() {
        "'<f4'" => array.into_vec::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        "'<i2'" => array.into_vec::<i16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        "'|u1'" => array.into_vec::<u8>().unwrap(),
        "'|i1'" => array.into_vec::<i8>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => panic!("{other}"),
    };
    (shape, bytes)
}
