//! `check` finds every fault that is put into a dataset, in one run, and nothing else.

use crate::synthetic::{self, case, grid, image, mask, values};
use galen_core::Geometry;
use galen_data::{Dataset, Finding, FindingKind, Patients, Severity, check, patient_leaks, survey};
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
    let expected = |f: &Finding| {
        let count = f.case == "dataset.json" && f.kind == FindingKind::WrongCount;
        count || f.kind == FindingKind::IntensityOutlier
    };
    assert!(one.iter().all(expected), "{one:#?}");
}

/// Twelve cases alike, and one odd one in each respect.
#[test]
fn cases_unlike_the_others_are_named() {
    let house = tempfile::tempdir().unwrap();
    let root = house.path().join("Dataset001_T");
    let size = [10, 12, 14];
    let case = |id: &str, geometry: &Geometry, image: Vec<i16>, mask: Vec<u8>| {
        synthetic::image(root.join(format!("imagesTr/{id}_0000.nii.gz")), geometry, image);
        synthetic::image(root.join(format!("labelsTr/{id}.nii.gz")), geometry, mask);
    };
    let n: usize = size.iter().product();
    // Every image another pattern; label 1 is a bright block of about the same size.
    let mask =
        |voxels: usize| -> Vec<u8> { (0..n).map(|i| u8::from((600..600 + voxels).contains(&i))).collect() };
    let image = |seed: usize, mask: &[u8]| -> Vec<i16> {
        let noise = |i: usize| ((i * (seed * 7 + 3) * 31 + i * i % (seed + 11)) % 200) as i16;
        (0..n).map(|i| noise(i) + 400 * i16::from(mask[i])).collect()
    };
    for seed in 0..12 {
        let own = mask(60 + seed);
        case(&format!("c{seed:02}"), &grid(size), image(seed, &own), own.clone());
    }
    let own = mask(66);
    let bright = image(20, &own).iter().map(|value| value * 40).collect();
    case("grey", &grid(size), bright, own.clone());
    case("large", &grid(size), image(21, &mask(660)), mask(660));
    case("shifted", &grid(size), image(22, &own), (0..n).map(|i| u8::from((10..76).contains(&i))).collect());
    let wide = Geometry { spacing: [4.0, 1.0, 1.0], ..grid(size) };
    case("spacing", &wide, image(23, &own), own.clone());
    let mut turned = grid(size);
    turned.direction[0] = turned.direction[0].map(|x| -x);
    case("turned", &turned, image(24, &own), own.clone());
    let near: Vec<i16> = image(3, &mask(63)).iter().enumerate().map(|(i, v)| v + (i % 3) as i16).collect();
    case("zz_copy", &grid(size), near, mask(63));
    fs::write(
        root.join("dataset.json"),
        r#"{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "numTraining": 18, "file_ending": ".nii.gz"}"#,
    )
    .unwrap();
    let survey = survey(&Dataset::open(&root).unwrap(), &|_, _| {});
    let found = |kind: FindingKind| -> Vec<&str> {
        survey.findings.iter().filter(|f| f.kind == kind).map(|f| f.case.as_str()).collect()
    };
    assert_eq!(found(FindingKind::IntensityOutlier), ["grey"]);
    assert!(found(FindingKind::VolumeOutlier).contains(&"large"), "{:?}", survey.findings);
    // What covers a third of the image is not far from its mean.
    assert_eq!(found(FindingKind::LabelNoise), ["large", "shifted"]);
    assert_eq!(found(FindingKind::SpacingOutlier), ["spacing"]);
    assert_eq!(found(FindingKind::OrientationOutlier), ["turned"]);
    let pair = survey.findings.iter().find(|f| f.kind == FindingKind::NearDuplicate).unwrap();
    assert_eq!((pair.case.as_str(), pair.other.as_deref()), ("c03", Some("zz_copy")));
    assert_eq!(found(FindingKind::NearDuplicate).len(), 1);
    assert!(found(FindingKind::Duplicate).is_empty());
    assert_eq!(survey.cases.len(), 18);
    assert_eq!(survey.cases.iter().find(|one| one.case == "turned").unwrap().orientation, "LPI");
    assert!(survey.criteria.iter().all(|criterion| criterion.share == 1.0), "{:?}", survey.criteria);
    let patients =
        Patients::from_regex("^(c0)", &survey.cases.iter().map(|c| c.case.clone()).collect::<Vec<_>>());
    assert!(
        patients.is_err()
            || !patient_leaks(&Dataset::open(&root).unwrap(), &patients.unwrap()).unwrap().is_empty()
    );
}

/// The collections of the test data that are known to hold what must be found.
#[test]
fn real_near_duplicates_and_scales() {
    let Some(data) = synthetic::real_data() else { return };
    let house = tempfile::tempdir().unwrap();
    let to = house.path().join("busi");
    let from = data.join("img2d/busi_seg");
    let (cases, problems) = galen_data::find_pairs(&from).unwrap();
    galen_data::import_found(&from, cases, problems, &galen_data::Wishes::default(), &to, &|_, _| {})
        .unwrap();
    let busi = survey(&Dataset::open(&to).unwrap(), &|_, _| {});
    let pairs: Vec<_> = busi
        .findings
        .iter()
        .filter(|f| f.kind == FindingKind::NearDuplicate)
        .map(|f| (f.case.as_str(), f.other.as_deref().unwrap()))
        .collect();
    assert_eq!(pairs, [("malignant_4", "malignant_5"), ("malignant_8", "malignant_9")]);
    // Grey values of one Hippocampus scan in seven differ by factors of hundreds.
    let hippocampus = survey(&Dataset::open(&data.join("msd_hippocampus")).unwrap(), &|_, _| {});
    let far = hippocampus.findings.iter().filter(|f| f.kind == FindingKind::IntensityOutlier).count();
    assert!((25..60).contains(&far), "{far}");
    assert!(hippocampus.findings.iter().all(|f| f.kind != FindingKind::NearDuplicate));
}
