//! Trainings that begin with the weights of others, and with cases that nnU-Net preprocessed.

use crate::house::{House, files};
use std::fs;

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = [
        "--json",
        "train",
        "Dataset001_Blocks",
        "--fold",
        "0",
        "--budget",
        "2it",
        "--no-validation",
        "--out",
    ];
    [&usual[..], &[out], more].concat()
}

fn done(house: &House, arguments: &[&str]) -> serde_json::Value {
    let output = house.galen(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn refused(house: &House, arguments: &[&str], words: &[&str]) {
    let before = files(house.path());
    let output = house.galen(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("galen: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` is not in {}", lines[0]);
    }
    assert_eq!(before, files(house.path()), "{arguments:?}: something was written");
}

#[test]
fn weights_of_every_form_are_taken_over_alike_and_others_are_refused() {
    let house = House::empty();
    house.dataset("Dataset001_Blocks");
    done(&house, &train("first", &["--seed", "5"]));
    done(&house, &["export", "nnunet", "first", "--out", "theirs"]);
    let read = |model: &str| fs::read(house.path().join(model).join("fold_0/weights.safetensors")).unwrap();
    let mut tuned = Vec::new();
    let forms = [
        "first",
        "first/fold_0/weights.safetensors",
        "theirs",
        "theirs/fold_0",
        "theirs/fold_0/checkpoint_final.pth",
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let out = format!("tuned_{number}");
        let told = done(&house, &train(&out, &["--pretrained", form]));
        let pretrained = &told["outcome"]["pretrained"];
        let names = |key: &str| -> Vec<String> {
            let notes = pretrained[key].as_array().unwrap();
            notes.iter().map(|note| note["name"].as_str().unwrap().to_owned()).collect()
        };
        assert!(names("loaded").iter().any(|name| name.starts_with("encoder.")));
        assert!(names("reinitialised").iter().all(|name| name.contains(".seg_layers.")), "{pretrained}");
        assert!(!names("reinitialised").is_empty());
        let kept = fs::read(house.path().join(&out).join("fold_0/pretrained.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept["loaded"], pretrained["loaded"]);
        tuned.push(read(&out));
    }
    assert!(tuned.iter().all(|weights| *weights == tuned[0]), "the form of the weights changed the training");
    done(&house, &train("fresh", &[]));
    assert!(read("fresh") != tuned[0], "the weights were not taken over");

    house.hostile_checkpoint("evil");
    let hostile = "evil/fold_0/checkpoint_final.pth";
    refused(&house, &train("out", &["--pretrained", hostile]), &["posix.system", "nothing was run"]);
    let whole = fs::read(house.path().join(forms[4])).unwrap();
    fs::write(house.path().join("cut.pth"), &whole[..whole.len() / 2]).unwrap();
    refused(&house, &train("out", &["--pretrained", "cut.pth"]), &["cut.pth", "copy the file again"]);
    refused(&house, &train("out", &["--pretrained", "nowhere.pth"]), &["nowhere.pth"]);
    done(&house, &["plan", "Dataset001_Blocks", "--planner", "resenc-m"]);
    let other = train("out", &["--planner", "resenc-m", "--pretrained", "first"]);
    refused(&house, &other, &["it is a PlainConvUNet, the plan has a ResidualEncoderUNet", "--plans-of"]);
}

#[test]
fn the_plan_of_another_model_makes_its_weights_fit() {
    let house = House::with_model();
    house.dataset("Dataset001_Blocks");
    // The tiny model of the house has a network that no planner makes.
    refused_after_planning(&house, &train("out", &["--pretrained", "model"]), "--plans-of");
    let told = done(&house, &train("out", &["--pretrained", "model", "--plans-of", "model"]));
    let loaded = told["outcome"]["pretrained"]["loaded"].as_array().unwrap().len();
    assert!(loaded > 4, "{told}");
    let about = done(&house, &["--json", "info", "out"]);
    assert_eq!(about["dataset"], "Dataset001_Blocks");
}

/// Refused with a word; a plan is all that may have been written.
fn refused_after_planning(house: &House, arguments: &[&str], word: &str) {
    let output = house.galen(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && stderr.contains(word), "{stderr}");
    let written = files(&house.path().join("Dataset001_Blocks"));
    assert!(!written.iter().any(|file| file.ends_with(".galen")), "{written:?}");
    assert!(!house.path().join("out").exists());
}

#[test]
fn a_model_says_by_which_rule_its_labels_were_resampled() {
    let house = House::empty();
    house.dataset("Dataset001_Blocks");
    for (rule, words) in [("largest", "largest score"), ("half", "half or more")] {
        let told = done(&house, &train(rule, &["--label-rule", rule]));
        let explanation = told["outcome"]["explanation"].to_string();
        assert!(explanation.contains(words), "{explanation}");
        let about = done(&house, &["--json", "info", rule]);
        assert!(about["label resampling"].as_str().unwrap().contains(words), "{about}");
    }
    done(&house, &["export", "nnunet", "half", "--out", "theirs"]);
    assert_eq!(done(&house, &["--json", "info", "theirs"])["label resampling"], "not recorded");
}

/// A dataset as nnU-Net leaves it after preprocessing, from the reference files; `None` without them.
fn preprocessed(house: &House, root: &std::path::Path) -> Option<()> {
    let golden = root.join("nnunet/datasets/Dataset501_IsoCT");
    let cases = golden.join("preprocessed_3d_fullres");
    let raw = house.path().join("raw/Dataset501_IsoCT");
    let theirs = house.path().join("pre/Dataset501_IsoCT/nnUNetPlans_3d_fullres");
    if !cases.is_dir() {
        println!("no goldens at {}: skipped", cases.display());
        return None;
    }
    for folder in [&raw.join("imagesTr"), &raw.join("labelsTr"), &theirs] {
        fs::create_dir_all(folder).unwrap();
    }
    let text = fs::read(golden.join("raw/dataset.json")).unwrap();
    let mut description: serde_json::Value = serde_json::from_slice(&text).unwrap();
    description["numTraining"] = 1.into();
    description.as_object_mut().unwrap().remove("dataset");
    fs::write(raw.join("dataset.json"), description.to_string()).unwrap();
    fs::copy(golden.join("nnUNetPlans.json"), theirs.with_file_name("nnUNetPlans.json")).unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path, wanted: &dyn Fn(&str) -> bool| {
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            if wanted(&name) {
                fs::copy(&entry, to.join(name)).unwrap();
            }
        }
    };
    copy(&golden.join("raw/imagesTr"), &raw.join("imagesTr"), &|name| name.starts_with("iso_001"));
    copy(&golden.join("raw/labelsTr"), &raw.join("labelsTr"), &|name| name.starts_with("iso_001"));
    copy(&cases, &theirs, &|name| name.ends_with(".b2nd") || name.ends_with(".pkl"));
    Some(())
}

#[test]
fn golden_cases_of_nnunet_are_trained_on_where_they_lie() {
    let default = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or(default, std::path::PathBuf::from);
    let house = House::empty();
    if preprocessed(&house, &root).is_none() {
        return;
    }
    let folder = house.path().join("pre/Dataset501_IsoCT/nnUNetPlans_3d_fullres");
    let before = files(&folder);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_galen"));
    command.current_dir(house.path()).env("nnUNet_raw", "raw").env("nnUNet_preprocessed", "pre");
    let arguments = ["train", "501", "--fold", "all", "--budget", "1it", "--no-validation", "--out", "model"];
    let cases = folder.to_str().unwrap();
    let output = command.args(arguments).args(["--from-preprocessed", cases]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(house.path().join("model/fold_all/weights.safetensors").is_file());
    // nnU-Net refuses a folder in which it finds files of others.
    assert_eq!(files(&folder), before);
}
