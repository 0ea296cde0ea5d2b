//! Layouts of the catalogue into nnU-Net raw: trees with the real naming, and the real pictures where they are there.

use crate::synthetic::{grid, image, real_data};
use galen_core::Result;
use galen_data::{
    Dataset, Found, Imported, Severity, Wishes, check, find_bids, find_pairs, find_subjects, import_found,
    known,
};
use std::fs;
use std::path::Path;

const SIZE: [usize; 3] = [4, 6, 8];

fn scan(file: impl AsRef<Path>) {
    let voxels: Vec<i16> = (0..4 * 6 * 8).map(|i| (i * 31 % 97) as i16).collect();
    image(file.as_ref().to_owned(), &grid(SIZE), voxels);
}

/// A mask that holds these values one after the other, from voxel `first` on.
fn mask(file: impl AsRef<Path>, first: usize, values: &[u8]) {
    let mut voxels = vec![0u8; 4 * 6 * 8];
    voxels[first..first + values.len()].copy_from_slice(values);
    image(file.as_ref().to_owned(), &grid(SIZE), voxels);
}

fn import(
    from: &Path,
    found: Result<(Vec<Found>, Vec<String>)>,
    wishes: &Wishes,
    to: &Path,
) -> Result<Imported> {
    let (cases, incomplete) = found?;
    import_found(from, cases, incomplete, wishes, to, &|_, _| {})
}

fn labels(to: &Path, id: &str) -> Vec<u16> {
    galen_io::read_label_map(&to.join(format!("labelsTr/{id}.nii.gz"))).unwrap().values()
}

fn no_errors(to: &Path) -> Dataset {
    let dataset = Dataset::open(to).unwrap();
    let errors: Vec<_> =
        check(&dataset, &|_, _| {}).into_iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    dataset
}

#[test]
fn brats_becomes_four_channels_and_labels_without_gaps() {
    let house = tempfile::tempdir().unwrap();
    let (from, to) = (house.path().join("train"), house.path().join("Dataset050_B"));
    for case in ["BraTS2021_00000", "BraTS2021_00002"] {
        for channel in ["t1", "t1ce", "t2", "flair"] {
            scan(from.join(format!("{case}/{case}_{channel}.nii.gz")));
        }
        mask(from.join(format!("{case}/{case}_seg.nii.gz")), 10, &[1, 2, 4]);
    }
    let brats = known("BraTS21").unwrap();
    let wishes =
        Wishes { channels: brats.channels.clone(), labels: brats.labels.clone(), ..Wishes::default() };
    let found = || find_subjects(&from, &brats.channels, brats.mask.as_deref().unwrap());
    let imported = import(&from, found(), &wishes, &to).unwrap();
    assert_eq!((imported.training, imported.test), (2, 0));
    assert_eq!(imported.notes, ["labels were renumbered without gaps: 4 became 3 (enhancing tumour)"]);
    assert_eq!(labels(&to, "BraTS2021_00002")[9..14], [0, 1, 2, 3, 0]);
    let dataset = no_errors(&to);
    assert_eq!(dataset.channel_names, ["t1", "t1ce", "t2", "flair"]);
    assert_eq!(dataset.labels.foreground(), [1, 2, 3]);
    // A channel that is missing is named, and nothing is written.
    fs::remove_file(from.join("BraTS2021_00002/BraTS2021_00002_t2.nii.gz")).unwrap();
    let other = house.path().join("other");
    let error = import(&from, found(), &wishes, &other).unwrap_err().to_string();
    assert!(error.contains("BraTS2021_00002: no file `t2`") && error.contains("--keep-going"), "{error}");
    assert!(!other.exists());
    let wishes = Wishes { keep_going: true, ..wishes };
    assert_eq!(import(&from, found(), &wishes, &other).unwrap().training, 1);
}

#[test]
fn a_folder_of_masks_becomes_one_label_map() {
    let house = tempfile::tempdir().unwrap();
    let (from, to) = (house.path().join("total"), house.path().join("out"));
    for (case, masks) in [("s0000", vec![("liver", 3), ("spleen", 9)]), ("s0001", vec![("liver", 5)])] {
        scan(from.join(case).join("ct.nii.gz"));
        for (name, first) in masks {
            mask(from.join(case).join(format!("segmentations/{name}.nii.gz")), first, &[1, 1]);
        }
    }
    let found = || find_subjects(&from, &["ct".to_owned()], "segmentations/");
    let wishes = Wishes { channels: vec!["CT".into()], ..Wishes::default() };
    import(&from, found(), &wishes, &to).unwrap();
    assert_eq!(labels(&to, "s0000")[2..12], [0, 1, 1, 0, 0, 0, 0, 2, 2, 0]);
    assert_eq!(labels(&to, "s0001")[4..8], [0, 1, 1, 0]);
    let names: Vec<String> = no_errors(&to).labels.entries.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["background", "liver", "spleen"]);
    // Organs that overlap are no label map.
    mask(from.join("s0000/segmentations/stomach.nii.gz"), 10, &[1]);
    let error = import(&from, found(), &wishes, &house.path().join("no")).unwrap_err().to_string();
    assert!(error.contains("stomach") && error.contains("1 of its voxels"), "{error}");
}

#[test]
fn bids_masks_are_found_among_the_derivatives() {
    let house = tempfile::tempdir().unwrap();
    let (from, to) = (house.path().join("feta"), house.path().join("out"));
    for sub in ["sub-001", "sub-002"] {
        scan(from.join(format!("{sub}/anat/{sub}_rec-mial_T2w.nii.gz")));
        mask(from.join(format!("derivatives/seg/{sub}/anat/{sub}_rec-mial_dseg.nii.gz")), 0, &[1, 2]);
    }
    let found = find_bids(&from, &["T2w".to_owned()], "dseg");
    let imported = import(&from, found, &Wishes::default(), &to).unwrap();
    assert_eq!(imported.training, 2);
    assert_eq!(imported.notes.len(), 1, "the channel has no name: {:?}", imported.notes);
    assert_eq!(no_errors(&to).training_ids(), ["sub-001", "sub-002"]);
    let error = find_bids(&from, &["FLAIR".to_owned()], "dseg").unwrap_err().to_string();
    assert!(error.contains("no subject has `FLAIR`"), "{error}");
}

#[test]
fn what_does_not_pair_is_named() {
    let house = tempfile::tempdir().unwrap();
    let from = house.path().join("lits");
    for number in 0..3 {
        scan(from.join(format!("volume-{number}.nii")));
        mask(from.join(format!("segmentation-{number}.nii")), number, &[1, 2]);
    }
    scan(from.join("test/volume-7.nii"));
    let to = house.path().join("whole");
    let imported = import(&from, find_pairs(&from), &Wishes::default(), &to).unwrap();
    assert_eq!((imported.training, imported.test), (3, 1));
    assert_eq!(no_errors(&to).labels.entries[1].0, "label_1");
    // A value that nobody named, a mask on another grid, a mask without an image.
    let wishes = Wishes { labels: vec![(1, "liver".into())], ..Wishes::default() };
    let error = import(&from, find_pairs(&from), &wishes, &house.path().join("no")).unwrap_err().to_string();
    assert!(error.contains("the masks hold the value 2"), "{error}");
    image(from.join("segmentation-1.nii"), &grid([4, 6, 7]), vec![1u8; 4 * 6 * 7]);
    fs::remove_file(from.join("volume-2.nii")).unwrap();
    let error = import(&from, find_pairs(&from), &Wishes::default(), &house.path().join("no")).unwrap_err();
    let error = error.to_string();
    for part in ["2 cases are no good", "its grid differs from the image", "segmentation-2.nii has no image"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let empty = house.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(import(&empty, find_pairs(&empty), &Wishes::default(), &house.path().join("no")).is_err());
    assert!(!house.path().join("no").exists());
}

#[test]
fn masks_of_one_image_are_laid_over_each_other() {
    let house = tempfile::tempdir().unwrap();
    let (from, to) = (house.path().join("busi"), house.path().join("out"));
    scan(from.join("benign (4).nii.gz"));
    mask(from.join("benign (4)_mask.nii.gz"), 0, &[255, 255]);
    mask(from.join("benign (4)_mask_1.nii.gz"), 7, &[255]);
    import(&from, find_pairs(&from), &Wishes::default(), &to).unwrap();
    assert_eq!(labels(&to, "benign_4")[..9], [1, 1, 0, 0, 0, 0, 0, 1, 0]);
}

/// The pictures of the test data, as their collections name them.
#[test]
fn real_pictures_with_masks() {
    let Some(data) = real_data().map(|data| data.join("img2d")) else { return };
    let house = tempfile::tempdir().unwrap();
    for (name, count, label) in [
        ("busi_seg", 12, "tumour"),
        ("kvasir_polyp", 17, "polyp"),
        ("isic2017", 9, "lesion"),
        ("chase_db1", 10, "vessel"),
    ] {
        let (from, to) = (data.join(name), house.path().join(name));
        let wishes = Wishes { labels: vec![(1, label.into())], ..Wishes::default() };
        let imported = import(&from, find_pairs(&from), &wishes, &to).unwrap();
        assert_eq!((imported.training, imported.test), (count, 0), "{name}");
        let dataset = no_errors(&to);
        assert_eq!(dataset.labels.entries[1].0, label);
        for case in &dataset.training {
            let image = dataset.read_image(case).unwrap();
            let map = galen_io::read_label_map(case.label.as_ref().unwrap()).unwrap();
            assert!(
                map.histogram().iter().all(|(value, _)| *value < 2) && map.histogram().len() == 2,
                "{name} {}",
                case.id
            );
            assert!(image.geometry.conflicts(&map.geometry).is_none(), "{name}");
        }
    }
    // Nuclei by number are no classes.
    let cells = data.join("dsb2018");
    let to = house.path().join("cells");
    let error = import(&cells, find_pairs(&cells), &Wishes::default(), &to).unwrap_err().to_string();
    assert!(error.contains("the masks hold 146 values"), "{error}");
    let wishes = Wishes { threshold: Some(1.0), ..Wishes::default() };
    assert_eq!(import(&cells, find_pairs(&cells), &wishes, &to).unwrap().training, 27);
    // A mask that was compressed with loss is questioned.
    let lossy = house.path().join("lossy");
    fs::create_dir_all(lossy.join("images")).unwrap();
    fs::create_dir_all(lossy.join("masks")).unwrap();
    fs::copy(data.join("chase_db1/images/Image_01L.jpg"), lossy.join("images/Image_01L.jpg")).unwrap();
    fs::copy(data.join("traps/jpeg_mask_chase_Image_01L.jpg"), lossy.join("masks/Image_01L.jpg")).unwrap();
    let to = house.path().join("lossy_out");
    let error = import(&lossy, find_pairs(&lossy), &Wishes::default(), &to).unwrap_err().to_string();
    assert!(error.contains("compressed with loss") && error.contains("--threshold"), "{error}");
    let wishes = Wishes { threshold: Some(128.0), ..Wishes::default() };
    assert_eq!(import(&lossy, find_pairs(&lossy), &wishes, &to).unwrap().training, 1);
}
