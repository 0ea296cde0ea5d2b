//! The store: boxes equal slices of the prepared arrays, and a killed run leaves nothing half done.

use galen_data::{Dataset, Store};
use galen_prep::{DatasetFacts, Fingerprint, Intensities, Planner, Plans, Prepared};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

const SIZES: [[usize; 3]; 3] = [[21, 34, 40], [17, 9, 23], [33, 33, 12]];

fn plans(dataset: &Dataset) -> Plans {
    let intensities = Intensities {
        max: 500.0,
        mean: 250.0,
        median: 250.0,
        min: 0.0,
        percentile_00_5: 2.0,
        percentile_99_5: 498.0,
        std: 100.0,
    };
    let fingerprint = Fingerprint {
        foreground_intensity_properties_per_channel: BTreeMap::from([("0".into(), intensities)]),
        median_relative_size_after_cropping: 1.0,
        shapes_after_crop: SIZES.to_vec(),
        spacings: vec![[1.0; 3]; SIZES.len()],
    };
    let facts = DatasetFacts {
        name: dataset.name.clone(),
        channel_names: dataset.channel_names.clone(),
        planner_classes: dataset.labels.planner_classes(),
        num_training: dataset.num_training,
        reader: dataset.reader_name().unwrap(),
    };
    galen_prep::plan(&fingerprint, &facts, Planner::Default, None).unwrap()
}

fn build(root: &Path, folder: &Path) -> galen_core::Result<Store> {
    let dataset = Dataset::open(root)?;
    Store::build(&dataset, &plans(&dataset), "3d_fullres", folder, &|_, _| {})
}

/// A store and the arrays it was made from.
fn shared() -> &'static (tempfile::TempDir, Store, Vec<Prepared>) {
    static SHARED: OnceLock<(tempfile::TempDir, Store, Vec<Prepared>)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("raw");
        crate::synthetic::dataset(&root, &SIZES);
        let store = build(&root, &folder.path().join("store")).unwrap();
        let dataset = Dataset::open(&root).unwrap();
        let plans = plans(&dataset);
        let configuration = plans.configuration("3d_fullres").unwrap();
        let prepared = dataset.training.iter().map(|case| {
            let (image, labels) = (dataset.read_image(case).unwrap(), dataset.read_labels(case).unwrap());
            galen_prep::prepare(&image, Some(&labels), &plans, &configuration).unwrap().0
        });
        let prepared = prepared.collect();
        (folder, store, prepared)
    })
}

/// The value at a position, or what stands outside.
fn at<T: Copy>(values: &[T], size: [usize; 3], position: [isize; 3], outside: T) -> T {
    let inside = position.iter().zip(size).all(|(&p, s)| p >= 0 && p < s as isize);
    let [z, y, x] = position.map(|p| p as usize);
    if inside { values[(z * size[1] + y) * size[2] + x] } else { outside }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn boxes_equal_slices(case in 0usize..3, z in -30isize..50, y in -30isize..50, x in -30isize..50,
                          size in [0usize..30, 0usize..30, 0usize..45]) {
        let (_, store, prepared) = shared();
        let (prepared, lower) = (&prepared[case], [z, y, x]);
        let n: usize = size.iter().product();
        let (mut image, mut labels) = (vec![7.0f32; n], vec![7i16; n]);
        store.crop(case, lower, size, &mut image, &mut labels).unwrap();
        for i in 0..n {
            let inner = [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
            let position = std::array::from_fn(|axis| lower[axis] + inner[axis] as isize);
            prop_assert_eq!(image[i].to_bits(), at(&prepared.image, prepared.size, position, 0.0).to_bits());
            prop_assert_eq!(labels[i], at(prepared.labels.as_deref().unwrap(), prepared.size, position, -1));
        }
    }
}

#[test]
fn entries_know_the_case() {
    let (_, store, prepared) = shared();
    assert_eq!(store.ids(), ["case_0", "case_1", "case_2"]);
    for (index, prepared) in prepared.iter().enumerate() {
        let entry = store.entry(index);
        assert_eq!((entry.size, entry.channels), (prepared.size, 1));
        let locations = store.locations(index).unwrap();
        assert_eq!(locations.len(), 2);
        let label = |voxel: [u32; 3]| {
            at(prepared.labels.as_deref().unwrap(), prepared.size, voxel.map(|axis| axis as isize), -1)
        };
        for class in locations.iter() {
            assert!(!class.voxels.is_empty());
            assert!(class.voxels.iter().all(|&voxel| class.values.contains(&label(voxel))));
        }
        assert_eq!(store.index_of(&entry.id), Some(index));
    }
}

/// Time of change and length of every case file.
fn state(folder: &Path) -> BTreeMap<String, (std::time::SystemTime, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|ending| ending == "galen"))
        .map(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            (name, (fs::metadata(&file).unwrap().modified().unwrap(), fs::read(&file).unwrap()))
        })
        .collect()
}

#[test]
fn a_killed_run_is_completed_and_whole_cases_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("raw"), folder.path().join("store"));
    crate::synthetic::dataset(&root, &SIZES);
    build(&root, &out).unwrap();
    let before = state(&out);
    // What a kill may leave: no list of cases, a case missing, a file in the making; and worse, half a case.
    fs::remove_file(out.join("store.json")).unwrap();
    fs::remove_file(out.join("case_0.galen")).unwrap();
    let whole = fs::read(out.join("case_1.galen")).unwrap();
    fs::write(out.join("case_1.galen"), &whole[..whole.len() / 2]).unwrap();
    fs::write(out.join(".galen-x7Yz.part"), &whole[..100]).unwrap();
    let error = Store::open(&out).unwrap_err().to_string();
    assert!(error.contains("no finished store"), "{error}");
    let store = build(&root, &out).unwrap();
    assert_eq!(store.ids().len(), 3);
    let after = state(&out);
    assert_eq!(before["case_2.galen"], after["case_2.galen"], "kept as it was");
    for (name, (_, bytes)) in &before {
        assert_eq!(bytes, &after[name].1, "{name}: the same bytes again");
    }
    assert!(!out.join(".galen-x7Yz.part").exists());
    assert_eq!(after.len(), 3);
}

#[test]
fn changed_inputs_make_only_their_cases_again() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("raw"), folder.path().join("store"));
    crate::synthetic::dataset(&root, &SIZES);
    build(&root, &out).unwrap();
    let before = state(&out);
    crate::synthetic::case(&root, "case_1", [18, 10, 23], 99);
    let store = build(&root, &out).unwrap();
    let after = state(&out);
    assert_eq!(store.entry(1).size[0], 18);
    assert_eq!(
        (&before["case_0.galen"], &before["case_2.galen"]),
        (&after["case_0.galen"], &after["case_2.galen"])
    );
    assert_ne!(before["case_1.galen"].1, after["case_1.galen"].1);
}

#[test]
fn damage_is_an_error_that_names_the_case() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("raw"), folder.path().join("store"));
    crate::synthetic::dataset(&root, &SIZES[1..2]);
    build(&root, &out).unwrap();
    let file = out.join("case_0.galen");
    let whole = fs::read(&file).unwrap();
    let size = SIZES[1];
    let n: usize = size.iter().product();
    for at in (0..whole.len()).step_by(whole.len() / 150) {
        let mut bad = whole.clone();
        bad[at] ^= 0x40;
        fs::write(&file, &bad).unwrap();
        let read = Store::open(&out).and_then(|store| {
            let (mut image, mut labels) = (vec![0.0; n], vec![0; n]);
            store.crop(0, [0; 3], size, &mut image, &mut labels)?;
            store.locations(0)
        });
        let error = read.expect_err("every byte is covered by a checksum").to_string();
        assert!(error.contains("case_0") && error.contains("delete the file"), "byte {at}: {error}");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(Store::open(&out).unwrap_err().to_string().contains("case_0.galen"));
    }
    fs::remove_file(&file).unwrap();
    assert!(Store::open(&out).unwrap_err().to_string().contains("case_0.galen"));
}

#[test]
fn a_case_that_fails_is_named_and_the_others_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("raw"), folder.path().join("store"));
    crate::synthetic::dataset(&root, &SIZES);
    fs::write(root.join("imagesTr/case_1_0000.nii.gz"), b"cut").unwrap();
    let error = build(&root, &out).unwrap_err().to_string();
    assert!(error.contains("case_1"), "{error}");
    assert_eq!(state(&out).len(), 2);
    assert!(Store::open(&out).is_err());
}

#[test]
fn only_one_build_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("raw"), folder.path().join("store"));
    crate::synthetic::dataset(&root, &SIZES[1..2]);
    fs::create_dir(&out).unwrap();
    let other = fs::File::create(out.join(".lock")).unwrap();
    other.lock().unwrap();
    let error = build(&root, &out).unwrap_err().to_string();
    assert!(error.contains("another run"), "{error}");
    drop(other);
    build(&root, &out).unwrap();
}
