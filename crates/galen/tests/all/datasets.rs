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

#[test]
fn a_check_writes_a_page_and_counts_who_is_in_it() {
    let house = House::empty();
    for (number, case) in ["p1_a", "p1_b", "p2_a", "p3_a", "p4_a", "p5_a"].into_iter().enumerate() {
        house.scan(&format!("d/imagesTr/{case}_0000.nii.gz"));
        house.label_values(
            &format!("d/labelsTr/{case}.nii.gz"),
            [10, 12, 14],
            &[0, 1, 0, u8::from(number > 0)],
        );
    }
    let text = r#"{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "numTraining": 6, "file_ending": ".nii.gz"}"#;
    std::fs::write(house.path().join("d/dataset.json"), text).unwrap();
    std::fs::write(house.path().join("who.csv"), "case,sex,age\np1_a,f,61\np1_b,f,61\np2_a,m,44\np3_a,,50\n")
        .unwrap();
    let told = json(
        &house,
        &[
            "check",
            "d",
            "--report",
            "page.html",
            "--patients",
            "^(p[0-9]+)_",
            "--table",
            "who.csv",
            "--by",
            "sex",
        ],
    );
    assert_eq!(told["coverage"][0]["counts"][0], serde_json::json!({ "value": "f", "cases": 2 }));
    assert_eq!(told["coverage"][0]["missing"], 3);
    assert_eq!(told["criteria"].as_array().unwrap().len(), 3);
    let kinds: Vec<&str> =
        told["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"patient on both sides") && kinds.contains(&"duplicate image"), "{kinds:?}");
    let page = std::fs::read_to_string(house.path().join("page.html")).unwrap();
    for part in ["Three criteria", "patient on both sides", "Who is in it", "<svg", "f (2), m (1)"] {
        assert!(page.contains(part), "{part}");
    }
    let output = house.galen(&["check", "d", "--table", "who.csv", "--by", "site"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && stderr.contains("its columns are case, sex, age"), "{stderr}");
}
