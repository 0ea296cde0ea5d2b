//! nnU-Net's habits: its environment variables, its results folder, its model form, there and back.

use crate::house::House;
use std::fs;
use std::process::{Command, Output};

fn with_variable(house: &House, variable: &str, value: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galen"));
    command.args(arguments).current_dir(house.path()).env(variable, value).output().unwrap()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_model_is_found_by_number_and_predicts_the_same_in_every_form() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    let folder = "results/Dataset004_Tiny/nnUNetTrainer__nnUNetPlans__3d_fullres";
    succeeds(&house.galen(&["export", "nnunet", "model", "--out", folder]));
    for file in ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"] {
        assert!(house.path().join(folder).join(file).is_file(), "{file}");
    }
    let number = ["import", "nnunet", "4", "--out", "back"];
    succeeds(&with_variable(&house, "nnUNet_results", "results", &number));
    let mut maps = Vec::new();
    for model in ["model", "4", "Dataset004_Tiny", "back"] {
        let out = format!("{model}.nii.gz");
        let arguments = ["predict", "scan.nii.gz", "--model", model, "--out", &out, "--logits", "f32"];
        succeeds(&with_variable(&house, "nnUNet_results", "results", &arguments));
        maps.push(fs::read(house.path().join(&out)).unwrap());
    }
    assert!(maps.iter().all(|map| *map == maps[0]));
}

#[test]
fn an_export_needs_a_place_and_keeps_what_is_there() {
    let house = House::with_model();
    let output = house.galen(&["export", "nnunet", "model"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nnUNet_results"));
    fs::create_dir(house.path().join("full")).unwrap();
    fs::write(house.path().join("full/notes.txt"), "mine").unwrap();
    let output = house.galen(&["export", "nnunet", "model", "--out", "full"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(house.path().join("full")).unwrap().count(), 1);
}
