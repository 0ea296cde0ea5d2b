//! The catalogue, and imports that it names.

use crate::house::House;
use serde_json::Value;

fn json(house: &House, arguments: &[&str]) -> Value {
    let output = house.galen(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn filters_of_the_catalogue_all_hold() {
    let house = House::empty();
    let count = |arguments: &[&str]| json(&house, arguments)["datasets"].as_array().unwrap().len();
    assert_eq!(count(&["datasets"]), 136);
    let found =
        json(&house, &["datasets", "--modality", "ct", "--task", "segmentation", "--group", "abdomen"]);
    let found = found["datasets"].as_array().unwrap();
    assert!(found.len() > 10 && found.len() < 40, "{}", found.len());
    for one in found {
        assert!(one["modality"].as_str().unwrap().contains("CT"), "{one}");
        assert!(one["groups"].as_array().unwrap().contains(&"abdomen".into()), "{one}");
    }
    let one = json(&house, &["datasets", "brats2023 met"]);
    assert_eq!((&one["name"], &one["layout"]), (&"BraTS2023-MET".into(), &"subject-folders".into()));
    assert_eq!(one["labels"]["enhancing tumour"], 3);
    assert_eq!((&one["home"]["sure"], &one["imported"]), (&true.into(), &true.into()));
}

#[test]
fn a_dataset_of_the_catalogue_is_imported_by_its_name() {
    let house = House::empty();
    for case in ["case_00000", "case_00001"] {
        house.scan(&format!("kits/{case}/imaging.nii.gz"));
        house.labels(&format!("kits/{case}/segmentation.nii.gz"), [10, 12, 14]);
    }
    let told = json(&house, &["import", "--as", "KiTS19", "kits", "--out", "data/Dataset001_Kidney"]);
    assert_eq!((&told["training"], &told["left_out"]), (&2.into(), &serde_json::json!([])));
    let text = std::fs::read(house.path().join("data/Dataset001_Kidney/dataset.json")).unwrap();
    let description: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(description["channel_names"]["0"], "CT");
    assert_eq!(description["labels"], serde_json::json!({ "background": 0, "kidney": 1, "tumour": 2 }));
    let checked = house.galen(&["check", "data/Dataset001_Kidney"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn what_cannot_be_imported_says_why() {
    let house = House::empty();
    house.scan("in/a.nii.gz");
    for (arguments, words) in [
        (&["import", "--as", "LUNA16", "in", "--out", "out"][..], "does not import yet"),
        (&["import", "--as", "BTVC", "in", "--out", "out"], "no dataset of the catalogue"),
        (&["import", "--as", "subject-folders", "in", "--out", "out"], "--files"),
        (&["import", "--as", "pairs", "in", "--out", "out"], "no image with a mask"),
        (&["import", "--as", "pairs", "nowhere", "--out", "out"], "nowhere"),
        (
            &["import", "--as", "pairs", "in", "--out", "out", "--labels", "liver"],
            "is no label such as 1=liver",
        ),
    ] {
        let output = house.galen(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {stderr}");
        assert!(stderr.contains(words), "{arguments:?} {stderr}");
        assert!(!house.path().join("out").exists());
    }
}
