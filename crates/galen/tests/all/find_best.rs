//! The best of several models by cross-validation, its post-processing, and ensembles of predictions.

use crate::house::{House, files};
use galen_core::{Geometry, LabelMap};
use std::fs;
use std::path::Path;

/// Grid of all cases.
const SIZE: [usize; 3] = [8, 9, 10];

fn write(file: &Path, labels: Vec<u8>) {
    let map = LabelMap::new(Geometry::axis_aligned(SIZE, [2.0, 1.0, 1.0]), labels);
    galen_io::write_label_map(file, &map).unwrap();
}

/// A block of label 1 with label 2 in it; with an island of label 1 far away where asked for.
fn labels(case: usize, island: bool) -> Vec<u8> {
    let inside = |at: [usize; 3], low: usize, high: usize| at.iter().all(|v| (low..high).contains(v));
    let mut values = Vec::new();
    for z in 0..SIZE[0] {
        for y in 0..SIZE[1] {
            for x in 0..SIZE[2] {
                let at = [z, y, x];
                let value = u8::from(inside(at, 1, 5)) + u8::from(inside(at, 2, 4));
                values.push(if island && at == [7, 8, 5 + case] { 1 } else { value });
            }
        }
    }
    values
}

/// Two models in nnU-Net's naming, whose three folds predicted four cases: `2d` with islands, `3d_fullres` without
/// label 2.
fn results(house: &House) {
    for case in 0..4 {
        write(&house.path().join(format!("ref/case_{case}.nii.gz")), labels(case, false));
    }
    for configuration in ["2d", "3d_fullres"] {
        let model = format!("results/nnUNetTrainer__nnUNetPlans__{configuration}");
        let output = house.galen(&["export", "nnunet", "model", "--out", &model]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for case in 0..4 {
            let folder = house.path().join(&model).join(format!("fold_{}/validation", case % 3));
            fs::create_dir_all(&folder).unwrap();
            let mut map = labels(case, configuration == "2d");
            if configuration == "3d_fullres" {
                map.iter_mut().for_each(|v| *v = (*v).min(1));
            }
            // Unsure of what it says, but for label 2, which the first model is sure of.
            let soft = |class: u8| {
                map.iter().map(move |&v| match (v == class, v) {
                    (true, 2) => 0.98f32,
                    (true, _) => 0.5,
                    (false, 2) => 0.01,
                    (false, _) => 0.25,
                })
            };
            let values: Vec<f32> = (0..3).flat_map(|class| soft(class).collect::<Vec<_>>()).collect();
            npz(&folder.join(format!("case_{case}.npz")), &values);
            write(&folder.join(format!("case_{case}.nii.gz")), map);
        }
    }
}

fn npz(file: &Path, values: &[f32]) {
    use npyz::WriterBuilder;
    let mut zip = zip::ZipWriter::new(fs::File::create(file).unwrap());
    zip.start_file("probabilities.npy", zip::write::SimpleFileOptions::default()).unwrap();
    let shape = [3, SIZE[0] as u64, SIZE[1] as u64, SIZE[2] as u64];
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut array = options.writer(&mut zip).begin_nd().unwrap();
    array.extend(values.iter().copied()).unwrap();
    array.finish().unwrap();
    zip.finish().unwrap();
}

fn search(house: &House, rest: &[&str]) -> std::process::Output {
    house.galen(&[&["find-best", "results", "--ref", "ref", "--folds", "0,1,2", "--json"], rest].concat())
}

#[test]
fn the_best_model_its_postprocessing_and_the_commands_are_found() {
    let house = House::with_model();
    results(&house);
    let output = search(&house, &["--no-ensembles"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["all_results"].as_object().unwrap().len(), 2);
    let best = &found["best_model_or_ensemble"];
    // The islands cost the first model less than a missing label costs the other, and go away.
    let file = best["postprocessing_file"].as_str().unwrap();
    assert!(file.contains("nnUNetPlans__2d"), "{file}");
    assert_eq!(best["result_on_crossval_post_pp"], 1.0);
    let merged = "results/nnUNetTrainer__nnUNetPlans__2d/crossval_results_folds_0_1_2";
    for file in ["summary.json", "postprocessing.json", "postprocessing.pkl", "plans.json", "dataset.json"] {
        assert!(house.path().join(merged).join(file).is_file(), "{file}");
    }
    let processed = house.path().join(merged).join("postprocessed/case_2.nii.gz");
    assert_eq!(
        galen_io::read_label_map(&processed).unwrap().values(),
        labels(2, false).iter().map(|&v| u16::from(v)).collect::<Vec<_>>()
    );
    let command = found["commands"][0].as_str().unwrap();
    assert!(command.contains("--folds 0,1,2") && command.contains("postprocessing.json"), "{command}");
    // A second search takes the place of the first.
    let before = files(house.path());
    assert!(search(&house, &["--no-ensembles"]).status.success());
    assert_eq!(files(house.path()), before);
    // Where one model has an island or no core, the other outvotes it.
    let output = search(&house, &[]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["best_model_or_ensemble"]["selected_model_or_models"].as_array().unwrap().len(), 2);
    assert_eq!(found["best_model_or_ensemble"]["result_on_crossval_pre_pp"], 1.0);
    assert!(found["commands"][2].as_str().unwrap().starts_with("galen ensemble "), "{found}");
}

#[test]
fn an_ensemble_of_folders_is_what_the_search_made() {
    let house = House::with_model();
    results(&house);
    assert!(search(&house, &[]).status.success());
    let model = |configuration: &str| {
        format!("results/nnUNetTrainer__nnUNetPlans__{configuration}/fold_1/validation")
    };
    let labels = "results/nnUNetTrainer__nnUNetPlans__2d/dataset.json";
    let output =
        house.galen(&["ensemble", &model("2d"), &model("3d_fullres"), "--labels", labels, "--out", "mean"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = "ensemble___nnUNetTrainer__nnUNetPlans__2d___nnUNetTrainer__nnUNetPlans__3d_fullres___0_1_2";
    let read = |file: &str| galen_io::read_label_map(&house.path().join(file)).unwrap().values();
    assert_eq!(read("mean/case_1.nii.gz"), read(&format!("results/ensembles/{name}/case_1.nii.gz")));
    // Sure of label 2 beats unsure of label 1.
    assert!(read("mean/case_1.nii.gz").contains(&2));
}

#[test]
fn what_is_missing_is_said_before_anything_is_written() {
    let house = House::with_model();
    results(&house);
    let refused = |arguments: &[&str], words: &[&str]| {
        let before = files(house.path());
        let output = house.galen(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        words.iter().for_each(|word| assert!(stderr.contains(word), "`{word}` is not in {stderr}"));
        assert_eq!(files(house.path()), before);
    };
    let find = ["find-best", "results", "--ref", "ref"];
    refused(&find, &["fold 3 has no validation folder", "--folds"]);
    let with = |rest: &[&'static str]| [&find[..], rest].concat();
    refused(&with(&["--folds", "0,1,2", "--plans", "Other"]), &["none of its models", "nnUNetPlans__2d"]);
    refused(&["find-best", "results", "--folds", "0,1,2"], &["--ref"]);
    fs::remove_file(house.path().join("ref/case_3.nii.gz")).unwrap();
    refused(&with(&["--folds", "0,1,2"]), &["case_3 has no reference"]);
    write(&house.path().join("ref/case_3.nii.gz"), labels(3, false));
    let probabilities = "results/nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/validation/case_3.npz";
    fs::remove_file(house.path().join(probabilities)).unwrap();
    refused(&with(&["--folds", "0,1,2"]), &["case_3.npz", "--no-ensembles"]);
    assert!(search(&house, &["--no-ensembles"]).status.success());
}
