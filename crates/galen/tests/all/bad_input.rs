//! The promise: bad input gets one clear line, exit code 2, and nothing is written.

use crate::house::{House, files};
use std::fs;
use std::path::Path;

/// Asserts one line on stderr with all `words`, exit 2, and nothing new under `folder`.
fn refused(house: &House, arguments: &[&str], words: &[&str]) {
    let before = files(house.path());
    let output = house.galen(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("galen: ")).collect();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(lines.len(), 1, "{arguments:?}: one line expected: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(lines[0].contains(word), "{arguments:?}: `{word}` is not in: {}", lines[0]);
    }
    assert_eq!(before, files(house.path()), "{arguments:?}: something was written");
}

#[test]
fn a_truncated_scan() {
    let house = House::with_model();
    let whole = fs::read(house.scan("scan.nii.gz")).unwrap();
    fs::write(house.path().join("cut.nii.gz"), &whole[..whole.len() / 2]).unwrap();
    refused(
        &house,
        &["predict", "cut.nii.gz", "--model", "model", "--out", "labels.nii.gz"],
        &["cut.nii.gz", "copy it again"],
    );
}

#[test]
fn a_header_that_claims_a_million_voxels_a_side() {
    let house = House::with_model();
    house.scan("scan.nii");
    let mut bytes = fs::read(house.path().join("scan.nii")).unwrap();
    // NIfTI-2 stores 64-bit sizes; NIfTI-1 cannot even say a million, so the largest it can is used.
    for axis in 1..=3 {
        bytes[40 + 2 * axis..42 + 2 * axis].copy_from_slice(&i16::MAX.to_le_bytes());
    }
    fs::write(house.path().join("huge.nii"), &bytes).unwrap();
    refused(&house, &["predict", "huge.nii", "--model", "model", "--out", "labels.nii.gz"], &["huge.nii"]);
    let mut header = vec![0u8; 544];
    header[..4].copy_from_slice(&540i32.to_le_bytes());
    header[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
    header[12..14].copy_from_slice(&4i16.to_le_bytes());
    header[14..16].copy_from_slice(&16i16.to_le_bytes());
    for (axis, size) in [3i64, 1_000_000, 1_000_000, 1_000_000, 1, 1, 1, 1].into_iter().enumerate() {
        header[16 + 8 * axis..24 + 8 * axis].copy_from_slice(&size.to_le_bytes());
    }
    for axis in 0..4 {
        header[104 + 8 * axis..112 + 8 * axis].copy_from_slice(&1f64.to_le_bytes());
    }
    header[168..176].copy_from_slice(&544i64.to_le_bytes());
    fs::write(house.path().join("million.nii"), &header).unwrap();
    refused(
        &house,
        &["predict", "million.nii", "--model", "model", "--out", "labels.nii.gz"],
        &["million.nii"],
    );
}

#[test]
fn a_flat_image_for_a_volume_model() {
    let house = House::with_model();
    house.flat("flat.png");
    refused(&house, &["predict", "flat.png", "--model", "model", "--out", "labels.nii.gz"], &["2D", "3D"]);
}

#[test]
fn too_many_channels() {
    let house = House::with_model();
    house.scan("a_0000.nii.gz");
    house.scan("a_0001.nii.gz");
    let arguments =
        ["predict", "a_0000.nii.gz", "a_0001.nii.gz", "--model", "model", "--out", "labels.nii.gz"];
    refused(&house, &arguments, &["channel"]);
}

#[test]
fn a_scan_with_nan() {
    let house = House::with_model();
    house.nan("nan.nii.gz");
    refused(
        &house,
        &["predict", "nan.nii.gz", "--model", "model", "--out", "labels.nii.gz"],
        &["nan", "NaN"],
    );
}

#[test]
fn an_empty_folder() {
    let house = House::with_model();
    fs::create_dir(house.path().join("empty")).unwrap();
    refused(&house, &["predict", "empty", "--model", "model", "--out", "preds"], &["empty"]);
    refused(&house, &["check", "empty"], &["empty"]);
    refused(&house, &["train", "empty", "--out", "run"], &["empty"]);
    refused(&house, &["predict", "scan.nii.gz", "--model", "empty", "--out", "labels.nii.gz"], &["empty"]);
    refused(&house, &["import", "msd", "empty", "--out", "Dataset001_X"], &["empty"]);
}

#[test]
fn a_pickle_with_an_unknown_global() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    house.hostile_checkpoint("hostile");
    refused(
        &house,
        &["predict", "scan.nii.gz", "--model", "hostile", "--out", "labels.nii.gz"],
        &["checkpoint_final.pth", "posix.system"],
    );
}

#[test]
fn labels_of_another_grid() {
    let house = House::with_model();
    house.labels("ref/a.nii.gz", [6, 7, 8]);
    house.labels("pred/a.nii.gz", [6, 7, 9]);
    refused(&house, &["evaluate", "--pred", "pred", "--ref", "ref", "--out", "summary.json"], &["a", "grid"]);
}

#[test]
fn a_missing_prediction() {
    let house = House::with_model();
    house.labels("ref/a.nii.gz", [6, 7, 8]);
    house.labels("ref/b.nii.gz", [6, 7, 8]);
    house.labels("pred/a.nii.gz", [6, 7, 8]);
    refused(
        &house,
        &["evaluate", "--pred", "pred", "--ref", "ref", "--out", "summary.json"],
        &["b", "--partial"],
    );
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    if !Path::new("/proc").is_dir() {
        return;
    }
    let house = House::with_model();
    house.scan("scan.nii.gz");
    // Even root cannot make files in /proc.
    refused(
        &house,
        &["predict", "scan.nii.gz", "--model", "model", "--out", "/proc/labels.nii.gz"],
        &["/proc"],
    );
}

#[test]
fn a_full_disk() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    let small = house.path().join("small");
    fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str]| {
        std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let folder = small.to_str().unwrap();
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder]) {
        println!("skipped: only root may mount a small disk");
        return;
    }
    fs::write(small.join("filler"), vec![1u8; 4096]).ok();
    let output = house.galen(&["predict", "scan.nii.gz", "--model", "model", "--out", "small/labels.nii.gz"]);
    let left = files(&small);
    mount(&["umount", folder]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("labels.nii.gz") && stderr.contains("space"), "{stderr}");
    assert_eq!(left, ["filler"], "nothing half-written");
}

#[test]
fn wrong_usage() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    refused(
        &house,
        &["predict", "scan.nii.gz", "--model", "model", "--out", "labels"],
        &["labels", ".nii.gz"],
    );
    refused(
        &house,
        &["predict", "scan.nii.gz", "--model", "model", "--out", "l.nii.gz", "--folds", "7"],
        &["fold 7", "0"],
    );
    refused(&house, &["info", "nowhere.nii.gz"], &["nowhere.nii.gz"]);
}

/// A zip with the given entries.
fn zip(house: &House, name: &str, entries: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(house.path().join(name)).unwrap());
    for (entry, bytes) in entries {
        zip.start_file(*entry, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_zip_that_writes_elsewhere() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    zip(&house, "evil.zip", &[("D/plans.json", b"{}"), ("../../escaped/plans.json", b"{}")]);
    let arguments = ["predict", "scan.nii.gz", "--model", "evil.zip", "--out", "labels.nii.gz"];
    refused(&house, &arguments, &["evil.zip", "../../escaped/plans.json", "leads out"]);
}

#[test]
fn folds_and_models_that_are_missing() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    let with = |model: &'static str, rest: &[&'static str]| {
        [&["predict", "scan.nii.gz", "--out", "labels.nii.gz", "--model", model], rest].concat()
    };
    refused(&house, &with("model", &["--folds", "3"]), &["no fold 3", "only 0"]);
    refused(&house, &with("Dataset004_Hippocampus", &[]), &["nnUNet_results is not set"]);
    refused(&house, &with("model", &["--config", "2d"]), &["3d_fullres", "2d"]);
    fs::create_dir_all(house.path().join("untrained/fold_0")).unwrap();
    for file in ["plans.json", "dataset.json"] {
        fs::write(
            house.path().join("untrained").join(file),
            br#"{"labels": {"background": 0, "a": 1}, "channel_names": {"0": "CT"}}"#,
        )
        .unwrap();
    }
    refused(&house, &with("untrained", &[]), &["no fold_N/checkpoint_final.pth"]);
    fs::write(house.path().join("untrained/fold_0/checkpoint_best.pth"), b"").unwrap();
    refused(&house, &with("untrained", &[]), &["--checkpoint checkpoint_best.pth"]);
}

#[test]
fn a_model_in_a_zip_predicts_as_its_folder() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    let read = |name: &str| fs::read(house.path().join(name)).unwrap();
    let (model, weights) = (read("model/model.json"), read("model/fold_0/weights.safetensors"));
    zip(&house, "model.zip", &[("m/model.json", &model), ("m/fold_0/weights.safetensors", &weights)]);
    for model in ["model", "model.zip"] {
        let out = format!("{model}.nii.gz");
        let output = house.galen(&["predict", "scan.nii.gz", "--model", model, "--out", &out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(read("model.nii.gz"), read("model.zip.nii.gz"));
}

#[test]
fn a_checkpoint_that_was_cut_and_plans_of_another_time() {
    let house = House::with_model();
    house.scan("scan.nii.gz");
    assert!(house.galen(&["export", "nnunet", "model", "--out", "theirs"]).status.success());
    let arguments = ["predict", "scan.nii.gz", "--model", "theirs", "--out", "labels.nii.gz"];
    let (checkpoint, plans) = ("theirs/fold_0/checkpoint_final.pth", "theirs/plans.json");
    let whole = fs::read(house.path().join(checkpoint)).unwrap();
    for part in [whole.len() / 2, whole.len() - 7, 100] {
        fs::write(house.path().join(checkpoint), &whole[..part]).unwrap();
        refused(&house, &arguments, &["checkpoint_final.pth", "copy the file again"]);
    }
    fs::write(house.path().join(checkpoint), &whole).unwrap();
    let text = fs::read_to_string(house.path().join(plans)).unwrap();
    for (old, new, word) in [
        ("unet.PlainConvUNet", "unet.FutureUNet", "FutureUNet"),
        ("resample_data_or_seg_to_shape", "resample_of_tomorrow", "resample_of_tomorrow"),
        ("CTNormalization", "QuantumNormalization", "QuantumNormalization"),
        ("\"transpose_forward\"", "\"forward_transpose\"", "transpose_forward"),
        ("{", "", "plans.json"),
    ] {
        assert!(text.contains(old), "{old}");
        fs::write(house.path().join(plans), text.replacen(old, new, if old == "{" { 1 } else { 99 }))
            .unwrap();
        refused(&house, &arguments, &[word]);
    }
}
