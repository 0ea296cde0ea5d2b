//! `check` finds every fault that is put into a dataset, in one run, and nothing else.

use crate::synthetic::{case, grid, image, mask, values};
use galen_core::Geometry;
use galen_data::{Dataset, Finding, FindingKind, Severity, check};
use std::fs;
use std::path::Path;

const SIZE: [usize; 3] = [8, 9, 10];

fn findings(root: &Path) -> Vec<Finding> {
    check(&Dataset::open(root).unwrap(), &|_, _| {})
}

fn kinds<'a>(findings: &'a [Finding], case: &str) -> Vec<(FindingKind, &'a str)> {
    findings.iter().filter(|f| f.case == case).map(|f| (f.kind, f.message.as_str())).collect()
}

#[test]
fn a_clean_dataset_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    crate::synthetic::dataset(folder.path(), &[SIZE, SIZE]);
    assert_eq!(findings(folder.path()), []);
}

#[test]
fn every_fault_is_found_in_one_run() {
    use FindingKind::*;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let n: usize = SIZE.iter().product();
    crate::synthetic::description(root, 3);
    let expected: Vec<(&str, FindingKind, Severity)> = vec![
        ("constant", ConstantImage, Severity::Warning),
        ("direction", DirectionMismatch, Severity::Error),
        ("empty", EmptyMask, Severity::Warning),
        ("flat", MixedDimensions, Severity::Error),
        ("fraction", FractionalLabels, Severity::Error),
        ("grey", GreyMask, Severity::Error),
        ("nan", NotFinite, Severity::Error),
        ("noimage", LabelWithoutImage, Severity::Error),
        ("nomask", MissingLabel, Severity::Error),
        ("origin", OriginMismatch, Severity::Error),
        ("size", SizeMismatch, Severity::Error),
        ("spacing", SpacingMismatch, Severity::Error),
        ("truncated", Unreadable, Severity::Error),
        ("twin_a", Duplicate, Severity::Warning),
        ("unexpected", UnexpectedLabels, Severity::Error),
    ];
    for (seed, (id, _, _)) in expected.iter().enumerate() {
        if *id != "flat" {
            case(root, id, SIZE, 10 + seed);
        }
    }
    case(root, "twin_b", SIZE, 10 + expected.iter().position(|e| e.0 == "twin_a").unwrap());
    let (images, labels) = (
        |id: &str| root.join(format!("imagesTr/{id}_0000.nii.gz")),
        |id: &str| root.join(format!("labelsTr/{id}.nii.gz")),
    );
    fs::remove_file(images("noimage")).unwrap();
    fs::remove_file(labels("nomask")).unwrap();
    image(images("constant"), &grid(SIZE), vec![7i16; n]);
    let mut broken: Vec<f32> = values(SIZE, 50).iter().map(|&v| f32::from(v)).collect();
    (broken[3], broken[9]) = (f32::NAN, f32::INFINITY);
    image(images("nan"), &grid(SIZE), broken);
    image(labels("empty"), &grid(SIZE), vec![0u8; n]);
    image(
        labels("fraction"),
        &grid(SIZE),
        (0..n).map(|i| if i == 5 { 0.5f32 } else { (i % 3) as f32 }).collect(),
    );
    image(labels("grey"), &grid(SIZE), (0..n).map(|i| (i % 200) as u8).collect());
    image(labels("unexpected"), &grid(SIZE), (0..n).map(|i| [0u8, 1, 2, 9][i % 4]).collect());
    let smaller = [8, 9, 9];
    image(labels("size"), &grid(smaller), mask(smaller));
    let moved = |change: &dyn Fn(&mut Geometry)| {
        let mut geometry = grid(SIZE);
        change(&mut geometry);
        geometry
    };
    image(labels("spacing"), &moved(&|g| g.spacing[0] = 2.0), mask(SIZE));
    image(labels("origin"), &moved(&|g| g.origin[1] = 30.0), mask(SIZE));
    image(labels("direction"), &moved(&|g| g.direction[2] = [-1.0, 0.0, 0.0]), mask(SIZE));
    case(root, "flat", [1, 9, 10], 70);
    let whole = fs::read(images("truncated")).unwrap();
    fs::write(images("truncated"), &whole[..whole.len() / 2]).unwrap();

    let found = findings(root);
    for (id, kind, severity) in &expected {
        let of_case: Vec<&Finding> = found.iter().filter(|finding| finding.case == *id).collect();
        assert_eq!(of_case.len(), 1, "{id}: {of_case:#?}");
        assert_eq!((of_case[0].kind, of_case[0].severity), (*kind, *severity), "{id}");
        assert!(!of_case[0].remedy.is_empty() && !of_case[0].message.is_empty());
    }
    let count = kinds(&found, "dataset.json");
    assert_eq!(count, [(WrongCount, "numTraining is 3, but 14 training cases are complete")]);
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
    assert!(
        found.windows(2).all(|pair| (pair[0].severity, pair[0].kind) <= (pair[1].severity, pair[1].kind))
    );
    assert_eq!(found, findings(root), "the same list again");
    let json = serde_json::to_value(&found[0]).unwrap();
    assert_eq!((json["severity"].as_str(), json["kind"].as_str()), (Some("error"), Some("unreadable file")));
}

#[test]
fn channels_are_compared_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    crate::synthetic::dataset(root, &[SIZE, SIZE, SIZE]);
    let text = fs::read_to_string(root.join("dataset.json")).unwrap();
    fs::write(root.join("dataset.json"), text.replace("\"0\": \"MRI\"", "\"0\": \"T1\", \"1\": \"T2\""))
        .unwrap();
    // All cases have one of two channels.
    let found = findings(root);
    assert_eq!(found.iter().filter(|f| f.kind == FindingKind::ChannelCount).count(), 3, "{found:#?}");
    // Now one has both, one has a second channel on another grid, and one has none.
    image(root.join("imagesTr/case_0_0001.nii.gz"), &grid(SIZE), values(SIZE, 40));
    image(
        root.join("imagesTr/case_1_0001.nii.gz"),
        &Geometry::axis_aligned([7, 9, 10], [1.0, 1.0, 2.0]),
        values([7, 9, 10], 41),
    );
    let found = findings(root);
    assert_eq!(kinds(&found, "case_0"), []);
    let second: Vec<FindingKind> = kinds(&found, "case_1").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(second, [FindingKind::SizeMismatch, FindingKind::SpacingMismatch]);
    assert_eq!(kinds(&found, "case_2"), [(FindingKind::MissingChannel, "no imagesTr/case_2_0001.nii.gz")]);
    let dataset = Dataset::open(root).unwrap();
    assert!(dataset.read_image(&dataset.training[1]).unwrap_err().to_string().contains("case_1"));
}

#[test]
fn label_values_must_be_consecutive_and_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    crate::synthetic::dataset(root, &[SIZE]);
    let text = fs::read_to_string(root.join("dataset.json")).unwrap();
    fs::write(root.join("dataset.json"), text.replace("\"b\": 2", "\"b\": 2, \"c\": 5")).unwrap();
    let found = findings(root);
    assert_eq!(
        kinds(&found, "dataset.json"),
        [
            (FindingKind::LabelsNotConsecutive, "labels go up to 5, without 3, 4"),
            (FindingKind::UnusedLabel, "no mask holds label 5")
        ]
    );
}

#[test]
fn the_list_does_not_depend_on_the_number_of_threads() {
    let Some(data) = crate::synthetic::real_data() else { return };
    let mut dataset = Dataset::open(&data.join("msd_hippocampus")).unwrap();
    dataset.training.truncate(12);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&dataset, &|_, _| {}))
    };
    let one = with(1);
    assert_eq!(one, with(3));
    assert!(one.iter().all(|f| f.case == "dataset.json" && f.kind == FindingKind::WrongCount), "{one:#?}");
}
