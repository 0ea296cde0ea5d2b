//! `galen evaluate --kind`: every kind from its files to numbers under ids, and a sentence for every bad table.

use crate::house::House;
use galen_core::{Geometry, LabelMap};
use serde_json::Value as Json;
use std::fs;

fn write(house: &House, name: &str, text: &str) {
    fs::write(house.path().join(name), text).unwrap();
}

#[track_caller]
fn measured(house: &House, arguments: &[&str]) -> Json {
    let mut all = vec!["evaluate", "--json", "--conventions", "all"];
    all.extend(arguments);
    let output = house.galen(&all);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(house: &House, arguments: &[&str], words: &str) {
    let output = house.galen(&[&["evaluate"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(stderr.contains(words), "{arguments:?}: `{words}` is not in {stderr}");
}

fn map(house: &House, name: &str, spacing: f64, values: &[u8]) {
    let labels = LabelMap::new(Geometry::axis_aligned([3, 3, 3], [spacing, 1.0, 1.0]), values.to_vec());
    galen_io::write_label_map(&house.path().join(name), &labels).unwrap();
}

fn npy(house: &House, name: &str, shape: [u64; 2], values: &[f64]) {
    house.array(name, &shape, &|i| values[i]);
}

#[test]
fn tables_become_numbers() {
    let house = House::empty();
    write(&house, "b.csv", "label,score,group\n0,0.1,a\n0,0.4,b\n1,0.35,a\n1,0.8,b\n");
    let binary = measured(&house, &["--kind", "binary", "--input", "b.csv", "--threshold", "0.3"]);
    assert_eq!((&binary["values"]["auroc"], &binary["values"]["recall@.3"]), (&0.75.into(), &1.0.into()));
    let fair = measured(&house, &["--kind", "fairness", "--pred", "b.csv"]);
    assert_eq!((&fair["values"]["auroc-gap"], fair["groups"].as_array().unwrap().len()), (&0.0.into(), 2));
    write(&house, "m.csv", "label,p0,p1,p2\n0,0.7,0.2,0.1\n1,0.2,0.7,0.1\n2,0.1,0.2,0.7\n");
    assert_eq!(
        measured(&house, &["--kind", "multiclass", "--input", "m.csv"])["values"]["kappa/quadratic"],
        1.0
    );
    let sets = measured(
        &house,
        &["--kind", "conformal", "--calibration", "m.csv", "--test", "m.csv", "--alpha", "0.5"],
    );
    assert_eq!(sets["values"]["mean-set-size"], 1.0);
    write(&house, "l.csv", "y0,y1,s0,s1\n1,0,0.9,0.1\n0,1,0.2,0.8\n");
    assert_eq!(measured(&house, &["--kind", "multilabel", "--input", "l.csv"])["values"]["lrap"], 1.0);
    write(&house, "s.csv", "time,event,risk,group\n1,1,0.9,a\n2,1,0.5,b\n3,1,0.6,a\n4,0,0.1,b\n");
    write(&house, "curves.csv", "1.5,2.5\n0.2,0.1\n0.7,0.4\n0.6,0.5\n0.9,0.8\n");
    let s = measured(&house, &["--kind", "survival", "--input", "s.csv", "--survival", "curves.csv"]);
    assert_eq!(s["values"]["km/surv"], serde_json::json!([0.75, 0.5, 0.25, 0.25]));
    assert!(s["values"]["ibs"].is_f64() && s["values"]["logrank/p"].is_f64());
    assert_eq!(s["values"]["brier/times"], serde_json::json!([1.5, 2.5]));
    write(&house, "r.csv", "1.0,1.5\n2.0,2.5\n3.0,3.5\n");
    assert_eq!(measured(&house, &["--kind", "agreement", "--input", "r.csv"])["values"]["icc/ICC(C,1)"], 1.0);
    write(&house, "ab.csv", "a,b\n1,2\n2,4\n3,6\n");
    write(&house, "p.csv", "p\n0.01\n0.04\n");
    write(&house, "t.csv", "50,3\n9,20\n");
    let t =
        measured(&house, &["--kind", "tests", "--input", "ab.csv", "--input", "p.csv", "--input", "t.csv"]);
    assert!((t["values"]["spearman"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(t["values"]["wilcoxon/p/auto"], 0.25);
    assert_eq!(t["values"]["holm/adjusted"], serde_json::json!([0.02, 0.04]));
    assert!((t["values"]["mcnemar/exact/p"].as_f64().unwrap() - 0.145_996_093_75).abs() < 1e-12);
}

#[test]
fn files_become_numbers() {
    let house = House::empty();
    let mut values = [0u8; 27];
    values[13] = 1;
    map(&house, "r.nii", 2.0, &values);
    values[14] = 1;
    map(&house, "p.nii", 2.0, &values);
    map(&house, "nothing.nii", 2.0, &[0; 27]);
    let seg = measured(&house, &["--kind", "seg", "--pred", "p.nii", "--ref", "r.nii"]);
    assert_eq!(
        (&seg["values"]["hd/voxel/monai"], &seg["settings"]["tolerance-mm"]),
        (&1.0.into(), &1.0.into())
    );
    let only = house.galen(&[
        "evaluate",
        "--json",
        "--kind",
        "seg",
        "--pred",
        "p.nii",
        "--ref",
        "r.nii",
        "--conventions",
        "medpy",
    ]);
    let only: Json = serde_json::from_slice(&only.stdout).unwrap();
    assert!(only["values"]["dice/medpy"].is_f64() && only["values"]["dice/monai"].is_null());
    let missed = measured(&house, &["--kind", "seg", "--pred", "nothing.nii", "--ref", "r.nii"]);
    assert_eq!(missed["values"]["hd/surfel/deepmind"], "infinite");
    let lesions =
        measured(&house, &["--kind", "lesion", "--pred", "p.nii", "--ref", "r.nii", "--connectivity", "6"]);
    assert_eq!(lesions["values"]["sensitivity"], 1.0);
    write(
        &house,
        "gt.json",
        r#"{"images":[{"id":1}],"categories":[{"id":1}],"annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[0,0,9,9],"area":81,"iscrowd":0}]}"#,
    );
    write(&house, "dt.json", r#"[{"image_id":1,"category_id":1,"bbox":[0,0,9,9],"score":0.5}]"#);
    let boxes = measured(&house, &["--kind", "detection2d", "--pred", "dt.json", "--ref", "gt.json"]);
    assert!((boxes["values"]["ap@.5/coco101"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    write(&house, "c.csv", "image,score,hit,target\n1,0.9,1,x\n1,0.8,0,\n2,0.7,1,x\n");
    let froc = measured(&house, &["--kind", "froc", "--input", "c.csv", "--targets", "2", "--images", "2"]);
    assert_eq!(froc["values"]["sensitivity/all candidates"], 1.0);
    let ramp: Vec<f64> = (0..144).map(f64::from).collect();
    npy(&house, "a.npy", [12, 12], &ramp);
    let image =
        measured(&house, &["--kind", "image", "--pred", "a.npy", "--ref", "a.npy", "--data-range", "143"]);
    assert_eq!((&image["values"]["psnr"], &image["values"]["mae"]), (&"infinite".into(), &0.0.into()));
    let cloud = measured(&house, &["--kind", "features", "--pred", "a.npy", "--ref", "a.npy"]);
    assert!(cloud["values"]["fid/cov ddof1"].as_f64().unwrap().abs() < 1e-6);
    write(&house, "t.jsonl", "{\"ref\": \"no acute disease seen\", \"hyp\": \"no acute disease seen\"}\n");
    let text = measured(&house, &["--kind", "text", "--input", "t.jsonl", "--definitions"]);
    assert_eq!(
        (&text["values"]["rougeL-f/stem0"], text["definitions"].as_array().unwrap().len()),
        (&1.0.into(), text["values"].as_object().unwrap().len())
    );
}

#[test]
fn a_task_gets_its_metrics_and_patients_their_intervals() {
    let house = House::empty();
    write(&house, "task.toml", "level = 'semantic'\ntubular = true\nempty-references = true\n");
    let output = house.galen(&["evaluate", "--recommend", "task.toml", "--json"]);
    let advice: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(advice["report"][0]["id"], "cldice/lee-skimage");
    assert!(advice["avoid"].as_array().unwrap().iter().any(|a| a["id"] == "dice/monai"));
    write(&house, "wrong.toml", "level = 'image'\ntubular = true\n");
    refused(&house, &["--recommend", "wrong.toml"], "tubes, borders, outliers and volumes belong to masks");
    write(&house, "wrong.toml", "level = 'image'\ntubula = true\n");
    refused(&house, &["--recommend", "wrong.toml"], "unknown field `tubula`");
    let rows = |patients: usize| -> String {
        let row =
            |i: usize| format!("{},0.{},p{}\n", i % 2, (i * 7 + i % 2 * 20) % 83 + 10, i / 2 % patients);
        "label,score,patient\n".to_owned() + &(0..40).map(row).collect::<String>()
    };
    write(&house, "few.csv", &rows(4));
    write(&house, "many.csv", &rows(20));
    let width = |file: &str| {
        let m = measured(&house, &["--kind", "binary", "--input", file]);
        let at = |id: &str| m["values"][id].as_f64().unwrap();
        at("auroc-ci95/percentile/high") - at("auroc-ci95/percentile/low")
    };
    assert!(width("few.csv") > 0.0 && width("many.csv") > 0.0 && width("few.csv") != width("many.csv"));
}

#[test]
fn landmarks_and_fields_are_measured() {
    let house = House::empty();
    write(&house, "fixed.csv", "x,y,z\n0,0,0\n1,2,3\n");
    write(&house, "moved.csv", "x,y,z\n3,0,4\n1,2,3\n");
    let m = measured(&house, &["--kind", "registration", "--pred", "moved.csv", "--ref", "fixed.csv"]);
    assert_eq!((&m["values"]["tre/mean"], &m["values"]["tre30"]), (&2.5.into(), &5.0.into()));
    refused(&house, &["--kind", "registration", "--pred", "moved.csv"], "give --pred and --ref, or neither");
    refused(&house, &["--kind", "registration"], "nothing to measure");
    write(&house, "short.csv", "x,y,z\n0,0,0\n");
    refused(
        &house,
        &["--kind", "registration", "--pred", "short.csv", "--ref", "fixed.csv"],
        "2 and 1 landmarks",
    );
}

#[test]
fn bad_input_gets_a_sentence() {
    let house = House::empty();
    let table = |name: &str, text: &str| write(&house, name, text);
    table("out.csv", "label,score\n0,0.1\n1,1.5\n");
    refused(&house, &["--kind", "binary", "--input", "out.csv"], "row 2: the score 1.5 is outside [0, 1]");
    table("one.csv", "label,score\n1,0.1\n1,0.5\n");
    refused(&house, &["--kind", "binary", "--input", "one.csv"], "one class only");
    table("gap.csv", "label,score\n1,0.1\n0,\n");
    refused(
        &house,
        &["--kind", "binary", "--input", "gap.csv"],
        "row 2: column `score` is empty: a prediction or label is missing",
    );
    table("unknown.csv", "label,p0,p1\n2,0.5,0.5\n");
    refused(&house, &["--kind", "multiclass", "--input", "unknown.csv"], "names none of the 2 classes");
    refused(
        &house,
        &["--kind", "binary", "--input", "out.csv", "--tau", "3"],
        "--kind binary does not use it",
    );
    refused(&house, &["--kind", "binary", "--input", "out.csv", "--conventions", "excel"], "no convention");
    refused(&house, &["--kind", "binary"], "nothing to measure");
    refused(&house, &["--threshold", "0.3"], "belongs to a kind");
    let mut values = [0u8; 27];
    values[13] = 1;
    map(&house, "r.nii", 2.0, &values);
    map(&house, "other.nii", 3.0, &values);
    refused(
        &house,
        &["--kind", "seg", "--pred", "other.nii", "--ref", "r.nii"],
        "grid differs from the reference's in spacing",
    );
    values[14] = 7;
    map(&house, "seven.nii", 2.0, &values);
    refused(
        &house,
        &["--kind", "seg", "--pred", "seven.nii", "--ref", "r.nii"],
        "holds the labels 7, which the reference does not know",
    );
    write(&house, "gt.json", r#"{"images":[{"id":1}],"categories":[{"id":1}],"annotations":[]}"#);
    write(&house, "dt.json", r#"[{"image_id":2,"category_id":1,"bbox":[0,0,9,9],"score":0.5}]"#);
    refused(
        &house,
        &["--kind", "detection2d", "--pred", "dt.json", "--ref", "gt.json"],
        "the image 2 is not in the ground truth",
    );
    npy(&house, "a.npy", [12, 12], &[0.5; 144]);
    npy(&house, "b.npy", [12, 11], &[0.5; 132]);
    refused(&house, &["--kind", "image", "--pred", "a.npy", "--ref", "a.npy"], "--data-range");
    refused(
        &house,
        &["--kind", "image", "--pred", "b.npy", "--ref", "a.npy", "--data-range", "1"],
        "same size",
    );
    refused(&house, &["--kind", "features", "--pred", "b.npy", "--ref", "a.npy"], "same encoder");
    write(&house, "t.jsonl", "{\"ref\": \"a\"}\n");
    refused(&house, &["--kind", "text", "--input", "t.jsonl"], "line 1");
    refused(&house, &["--kind", "froc", "--input", "out.csv"], "numbers of targets and images");
}
