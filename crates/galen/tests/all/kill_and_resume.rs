//! The promise: a killed run goes on where it was, to the same bytes, and nothing is ever half-written.

use crate::house::{House, files};
use std::fs;

const TRAIN: [&str; 10] = [
    "train",
    "Dataset001_Blocks",
    "--fold",
    "0",
    "--budget",
    "6it",
    "--seed",
    "3",
    "--no-validation",
    "--out",
];

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = TRAIN.to_vec();
    all.push(out);
    all.extend(more);
    all
}

fn done(house: &House, arguments: &[&str]) {
    let output = house.galen(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn weights(house: &House, model: &str) -> Vec<u8> {
    fs::read(house.path().join(model).join("fold_0/weights.safetensors")).unwrap()
}

#[test]
fn training_is_the_same_with_one_and_two_threads_and_after_kills() {
    let house = House::empty();
    house.dataset("Dataset001_Blocks");
    done(&house, &train("one", &["--threads", "1"]));
    done(&house, &train("two", &["--threads", "2"]));
    assert!(weights(&house, "one") == weights(&house, "two"), "threads change the result");

    // Killed early (in preprocessing, on a fresh copy of the dataset) and later and later (in training).
    fs::remove_dir_all(house.path().join("Dataset001_Blocks/preprocessed")).unwrap();
    let mut killed = 0;
    for milliseconds in [40, 120, 250, 500, 900] {
        killed += usize::from(house.kill(&train("cut", &["--resume", "--threads", "2"]), milliseconds));
    }
    assert!(killed > 0, "no run was slow enough to be killed");
    done(&house, &train("cut", &["--resume"]));
    assert!(weights(&house, "one") == weights(&house, "cut"), "a resumed run ends elsewhere");
    let leftovers: Vec<String> = files(house.path())
        .into_iter()
        .filter(|f| f.contains("cut/") && (f.contains(".part") || f.ends_with(".tmp")))
        .collect();
    assert!(leftovers.is_empty(), "left by the killed runs after a whole one: {leftovers:?}");
}

#[test]
fn predictions_that_are_there_are_whole_after_a_kill() {
    let house = House::with_model();
    for case in 0..4 {
        house.scan(&format!("scans/case_{case}_0000.nii.gz"));
    }
    done(&house, &["predict", "scans", "--model", "model", "--out", "whole"]);
    for milliseconds in [20, 60, 100] {
        house.kill(&["predict", "scans", "--model", "model", "--out", "cut", "--continue"], milliseconds);
        for file in files(&house.path().join("cut")).iter().filter(|file| !file.contains(".part")) {
            let ours = fs::read(house.path().join("cut").join(file)).unwrap();
            assert!(ours == fs::read(house.path().join("whole").join(file)).unwrap(), "{file} is not whole");
        }
    }
    done(&house, &["predict", "scans", "--model", "model", "--out", "cut", "--continue"]);
    let names = |folder: &str| {
        let mut names = files(&house.path().join(folder));
        names.retain(|name| !name.contains(".part"));
        names
    };
    assert_eq!(names("cut"), names("whole"));
}
