//! Several models in one description, and the steps around them.

use crate::house::House;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn predict(house: &House, model: &str, more: &[&str]) -> std::process::Output {
    let usual = ["--json", "predict", "scan.nii.gz", "--model", model, "--out", "labels.nii.gz"];
    house.galen(&[&usual[..], more].concat())
}

#[test]
fn labels_have_the_numbers_of_the_table_on_the_grid_of_the_scan() {
    let house = House::with_model();
    let scan = house.scan("scan.nii.gz");
    let text = "spacing = 1.3\n[[parts]]\nmodel = 'model'\n[crop]\nmodel = 'model'\nspacing = 2.5\nmargin = 1.0\nlabels = ['a']\n[numbers]\na = 5\nb = 300\n";
    fs::write(house.path().join("two.toml"), text).unwrap();
    let output = predict(&house, "two.toml", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["labels"], serde_json::json!({ "a": 5, "b": 300 }));
    let labels = galen_io::read_label_map(&house.path().join("labels.nii.gz")).unwrap();
    assert_eq!(labels.geometry.differs(&galen_io::read(&scan).unwrap().geometry), None);
    let values: Vec<u16> = labels.histogram().into_iter().map(|(value, _)| value).collect();
    assert!(values.iter().all(|value| [0, 5, 300].contains(value)), "{values:?}");
    assert!(values.iter().any(|&value| value > 0), "an untrained network names some label");
}

#[test]
fn descriptions_that_say_too_much_or_too_little_are_refused() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    let part = "[[parts]]\nmodel = 'model'\n";
    for (text, more, word) in [
        ("parts = []", &[][..], "[[parts]]"),
        (part, &["--folds", "0"], "--folds"),
        (part, &["--memory", "1G"], "--memory"),
        (part, &["--config", "2d"], "--config"),
        ("speed = 9\n[[parts]]\nmodel = 'model'\n", &[], "speed"),
        ("spacing = 0.0\n[[parts]]\nmodel = 'model'\n", &[], "spacing"),
        ("[[parts]]\nmodel = 'nowhere/model'\n", &[], "nowhere/model"),
        ("[[parts]]\nmodel = 'model'\n[numbers]\ntoe = 1\n", &[], "`toe`"),
        (
            "[[parts]]\nmodel = 'model'\n[crop]\nmodel = 'model'\nmargin = 1.0\nlabels = ['toe']\n",
            &[],
            "`toe`",
        ),
    ] {
        fs::write(house.path().join("some.toml"), text).unwrap();
        let output = predict(&house, "some.toml", more);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr}");
        assert!(stderr.contains(word) && stderr.trim_end().lines().count() == 1, "{text}: {stderr}");
        assert!(!house.path().join("labels.nii.gz").exists());
    }
    let output = predict(&house, "totalsegmentator", &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nnUNet_results is not set"), "{output:?}");
}

#[test]
fn golden_assemblies_segment_as_the_same_steps_in_python() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root =
        std::env::var_os("GALEN_GOLDENS").map_or(default, PathBuf::from).join("totalsegmentator/cases");
    let Ok(entries) = fs::read_dir(&root) else {
        println!("no goldens at {}: skipped", root.display());
        return;
    };
    let mut compared = 0;
    for case in entries.map(|entry| entry.unwrap().path()) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("labels.nii.gz");
        let mut command = Command::new(env!("CARGO_BIN_EXE_galen"));
        command.arg("predict").arg(case.join("scan.nii.gz")).arg("--out").arg(&out);
        let output = command.arg("--model").arg(case.join("description.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ours = galen_io::read_label_map(&out).unwrap();
        let theirs = galen_io::read_label_map(&case.join("expected.nii.gz")).unwrap();
        assert_eq!(ours.geometry.differs(&theirs.geometry), None, "{}", case.display());
        let (ours, theirs) = (ours.values(), theirs.values());
        let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        let part = same as f64 / ours.len() as f64;
        println!("{}: {part:.6} of {} voxels equal", case.display(), ours.len());
        assert!(part >= 0.9999, "{}: {part}", case.display());
        compared += 1;
    }
    assert!(compared > 0);
}
