//! Both layouts, on real and on made folders.

use galen_data::{Dataset, ProblemKind, check};
use std::fs;

#[test]
fn the_decathlon_hippocampus_opens() {
    let Some(data) = crate::synthetic::real_data() else { return };
    let dataset = Dataset::open(&data.join("msd_hippocampus")).unwrap();
    assert_eq!((dataset.training.len(), dataset.num_training, dataset.problems.len()), (205, 205, 0));
    assert_eq!(
        (dataset.channel_names.as_slice(), dataset.file_ending.as_str()),
        (&["MRI".into()][..], ".nii.gz")
    );
    assert_eq!(
        (dataset.labels.all(), dataset.reader_name().unwrap().as_str()),
        (vec![0, 1, 2], "SimpleITKIO")
    );
    let case = &dataset.training[0];
    let (image, labels) = (dataset.read_image(case).unwrap(), dataset.read_labels(case).unwrap());
    assert_eq!((image.geometry.size, image.channels), (labels.geometry.size, 1));
}

#[test]
fn all_three_traps_are_named_and_the_good_cases_stay() {
    let Some(data) = crate::synthetic::real_data() else { return };
    let dataset = Dataset::open(&data.join("msd_hippocampus_traps")).unwrap();
    assert_eq!(dataset.training_ids(), ["hippocampus_001", "hippocampus_003"]);
    let problems: Vec<(&str, ProblemKind)> =
        dataset.problems.iter().map(|p| (p.case.as_str(), p.kind)).collect();
    assert_eq!(
        problems,
        [
            ("hippocampus_010", ProblemKind::LabelWithoutImage),
            ("hippocampus_118", ProblemKind::MissingLabel),
            ("hippocampus_281", ProblemKind::LabelWithoutImage),
        ]
    );
    let findings = check(&dataset, &|_, _| {});
    for case in ["hippocampus_010", "hippocampus_118", "hippocampus_281"] {
        assert_eq!(findings.iter().filter(|finding| finding.case == case).count(), 1, "{findings:#?}");
    }
    assert!(
        findings.iter().all(|f| f.case != "hippocampus_001" && f.case != "hippocampus_003"),
        "{findings:#?}"
    );
}

#[test]
fn golden_datasets_of_nnunet_open_and_are_clean() {
    let Some(goldens) = crate::synthetic::goldens() else { return };
    for entry in fs::read_dir(goldens.join("nnunet/datasets")).unwrap() {
        let root = entry.unwrap().path();
        if !root.join("raw/dataset.json").is_file() {
            continue;
        }
        let dataset = Dataset::open(&root.join("raw")).unwrap();
        assert_eq!(dataset.training.len(), dataset.num_training, "{}", root.display());
        let plans: serde_json::Value =
            serde_json::from_slice(&fs::read(root.join("nnUNetPlans.json")).unwrap()).unwrap();
        assert_eq!(plans["image_reader_writer"], dataset.reader_name().unwrap(), "{}", root.display());
        let findings = check(&dataset, &|_, _| {});
        let errors: Vec<_> = findings.iter().filter(|f| f.severity == galen_data::Severity::Error).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", root.display());
    }
}

#[test]
fn folders_that_are_no_dataset_say_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let message = |what: &str| {
        let error = Dataset::open(root).unwrap_err().to_string();
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    };
    message("the folder is empty");
    fs::write(root.join("readme.txt"), "x").unwrap();
    message("no known dataset layout");
    for (text, what) in [
        ("", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "channel_names"),
        ("{\"channel_names\": {\"1\": \"CT\"}}", "without \"0\""),
        ("{\"channel_names\": {\"0\": \"CT\"}}", "labels"),
        ("{\"channel_names\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0, \"a\": 1}}", "file_ending"),
        (
            "{\"channel_names\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0}, \"file_ending\": \"nii\"}",
            "dot",
        ),
        (
            "{\"channel_names\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0}, \"file_ending\": \".nii\"}",
            "no case",
        ),
    ] {
        fs::write(root.join("dataset.json"), text).unwrap();
        message(what);
    }
    assert!(Dataset::open(&root.join("nowhere")).is_err());
}

#[test]
fn an_explicit_mapping_replaces_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    crate::synthetic::dataset(root, &[[4, 5, 6], [4, 5, 6]]);
    let text = "{\"channel_names\": {\"0\": \"MRI\"}, \"labels\": {\"background\": 0, \"a\": 1, \"b\": 2}, \
        \"numTraining\": 1, \"file_ending\": \".nii.gz\", \"dataset\": {\
        \"one\": {\"images\": [\"imagesTr/case_1_0000.nii.gz\"], \"label\": \"labelsTr/case_1.nii.gz\"},\
        \"gone\": {\"images\": [\"imagesTr/case_9_0000.nii.gz\"], \"label\": \"labelsTr/case_1.nii.gz\"}}}";
    fs::write(root.join("dataset.json"), text).unwrap();
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(dataset.training_ids(), ["one"]);
    assert_eq!((dataset.problems.len(), dataset.problems[0].case.as_str()), (1, "gone"));
    assert!(dataset.read_image(&dataset.training[0]).is_ok());
}
