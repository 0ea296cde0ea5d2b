//! From MSD to nnU-Net raw.

use crate::synthetic::{grid, mask, values};
use galen_core::{Scalar, Volume};
use galen_data::{Dataset, Imported, Severity, check, import_msd};
use std::fs;
use std::path::Path;

const SIZE: [usize; 3] = [6, 7, 8];

fn import(from: &Path, to: &Path, keep_going: bool) -> galen_core::Result<Imported> {
    import_msd(from, to, keep_going, &|_, _| {})
}

/// Two 4D training cases and a test case, as MSD lays them out.
fn four_dimensional(root: &Path) {
    let label = |id: &str| root.join(format!("labelsTr/{id}.nii.gz"));
    for (folder, id) in [("imagesTr", "a"), ("imagesTr", "b"), ("imagesTs", "t")] {
        let voxels: Vec<i16> = [values(SIZE, 1), values(SIZE, 2)].concat();
        let volume = Volume {
            geometry: grid(SIZE),
            channels: 2,
            voxels: i16::wrap(voxels),
            slope: 1.0,
            intercept: 0.0,
        };
        galen_io::write(&root.join(format!("{folder}/{id}.nii.gz")), &volume).unwrap();
        if folder == "imagesTr" {
            crate::synthetic::image(label(id), &grid(SIZE), mask(SIZE));
        }
    }
    let text = r#"{"name": "Two", "licence": "CC0", "modality": {"0": "T1w", "1": "FLAIR"},
        "labels": {"0": "background", "1": "one", "2": "two"}, "numTraining": 2, "numTest": 1,
        "training": [{"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
                     {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/t.nii.gz"]}"#;
    fs::write(root.join("dataset.json"), text).unwrap();
}

#[test]
fn channels_are_split_and_names_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("Task01_Two"), folder.path().join("out/Dataset001_Two"));
    four_dimensional(&from);
    let imported = import(&from, &to, false).unwrap();
    assert_eq!((imported.training, imported.test, imported.left_out.len()), (2, 1, 0));
    let (old, new) = (Dataset::open(&from).unwrap(), Dataset::open(&to).unwrap());
    assert_eq!((new.training_ids(), new.training[0].images.len()), (old.training_ids(), 2));
    assert_eq!((&new.labels, &new.channel_names, new.test.len()), (&old.labels, &old.channel_names, 1));
    assert_eq!(new.name, "Dataset001_Two");
    for (a, b) in old.training.iter().zip(&new.training) {
        let (a, b) = (old.read_image(a).unwrap(), new.read_image(b).unwrap());
        assert_eq!(a.geometry, b.geometry);
        assert!((0..2).all(|channel| a.channel_f32(channel) == b.channel_f32(channel)));
    }
    let part = galen_io::read(&new.training[0].images[1]).unwrap();
    assert_eq!((part.channels, part.voxels.type_name()), (1, "int16"));
    let errors = check(&new, &|_, _| {}).into_iter().filter(|f| f.severity == Severity::Error).count();
    assert_eq!(errors, 0);
    let text = fs::read_to_string(to.join("dataset.json")).unwrap();
    assert!(text.contains("\"licence\": \"CC0\"") && text.contains("\"one\": 1"), "{text}");
    let beside = fs::read_dir(to.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing unfinished is left");
}

#[test]
fn an_existing_target_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("msd"), folder.path().join("raw"));
    four_dimensional(&from);
    import(&from, &to, false).unwrap();
    let before = fs::metadata(to.join("dataset.json")).unwrap().modified().unwrap();
    import(&from, &to, false).expect("the same again is no error");
    assert_eq!(fs::metadata(to.join("dataset.json")).unwrap().modified().unwrap(), before);
    fs::write(to.join("labelsTr/a.nii.gz"), b"other").unwrap();
    let error = import(&from, &to, false).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(fs::read(to.join("labelsTr/a.nii.gz")).unwrap(), b"other");
    assert!(import(&to, &folder.path().join("x"), false).unwrap_err().to_string().contains("no MSD dataset"));
}

#[test]
fn incomplete_cases_are_all_named_and_left_out_only_when_told() {
    let Some(data) = crate::synthetic::real_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (data.join("msd_hippocampus_traps"), folder.path().join("Dataset004_Traps"));
    let error = import(&from, &to, false).unwrap_err().to_string();
    for case in ["hippocampus_010", "hippocampus_118", "hippocampus_281"] {
        assert!(error.contains(case), "{error}");
    }
    assert!(!to.exists());
    let imported = import(&from, &to, true).unwrap();
    assert_eq!((imported.training, imported.left_out.len()), (2, 3));
    let new = Dataset::open(&to).unwrap();
    assert_eq!((new.training.len(), new.num_training, check(&new, &|_, _| {}).len()), (2, 2, 0));
}

/// `training` of a small MSD dataset whose images lie at these places below imagesTr.
fn flat(root: &Path, images: &[&str], listed: &[&str]) {
    for (seed, image) in images.iter().enumerate() {
        crate::synthetic::image(root.join(format!("imagesTr/{image}")), &grid(SIZE), values(SIZE, seed));
    }
    crate::synthetic::image(root.join("labelsTr/img.nii.gz"), &grid(SIZE), mask(SIZE));
    let training: Vec<String> = listed
        .iter()
        .map(|image| format!(r#"{{"image": "./imagesTr/{image}", "label": "./labelsTr/img.nii.gz"}}"#))
        .collect();
    let text = format!(
        r#"{{"modality": {{"0": "CT"}}, "labels": {{"0": "background", "1": "one", "2": "two"}},
            "numTraining": {}, "training": [{}], "test": []}}"#,
        listed.len(),
        training.join(", ")
    );
    fs::write(root.join("dataset.json"), text).unwrap();
}

#[test]
fn two_cases_of_one_name_are_refused_and_their_images_stay() {
    let listings: [(&[&str], &[&str]); 2] = [
        (&["a/img.nii.gz", "b/img.nii.gz"], &["a/img.nii.gz", "b/img.nii.gz"]),
        (&["img.nii.gz"], &["img.nii.gz", "img.nii.gz"]),
    ];
    for (images, listed) in listings {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        flat(&from, images, listed);
        let read = || images.iter().map(|name| fs::read(from.join("imagesTr").join(name)).unwrap());
        let before: Vec<Vec<u8>> = read().collect();
        let error = import(&from, &folder.path().join("to"), true).unwrap_err().to_string();
        assert!(error.contains("two cases have this name"), "{error}");
        assert!(read().eq(before), "an image of the source was changed");
    }
}

#[test]
fn detached_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    flat(&from, &["img.nii.gz"], &["img.nii.gz"]);
    let header =
        "ObjectType = Image\nNDims = 3\nDimSize = 8 7 6\nElementType = MET_SHORT\nElementDataFile = x.raw\n";
    for name in ["imagesTr/img.mhd", "labelsTr/img.mhd"] {
        fs::write(from.join(name), header).unwrap();
        fs::write(from.join(name).with_file_name("x.raw"), vec![1u8; 2 * 8 * 7 * 6]).unwrap();
    }
    let text = fs::read_to_string(from.join("dataset.json")).unwrap().replace("img.nii.gz", "img.mhd");
    fs::write(from.join("dataset.json"), text).unwrap();
    let error = import(&from, &folder.path().join("to"), false).unwrap_err().to_string();
    assert!(error.contains("x.raw"), "{error}");
    assert!(!folder.path().join("to").exists());
}
