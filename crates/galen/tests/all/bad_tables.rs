//! Whatever is given to `galen evaluate --kind`: a number or one sentence, never a panic, and nothing written.

use crate::house::House;
use std::fs;

/// Files that a hurried user gives: empty, cut, of another kind, without the columns, with what is no number.
const TABLES: &[(&str, &str)] = &[
    ("empty.csv", ""),
    ("blank.csv", "\n\n\n"),
    ("header.csv", "label,score\n"),
    ("wrong.csv", "truth,guess\n0,0.1\n1,0.9\n"),
    ("words.csv", "label,score\n0,low\n1,high\n"),
    ("nan.csv", "label,score\n0,nan\n1,0.9\n"),
    ("infinite.csv", "label,score\n0,inf\n1,0.9\n"),
    ("ragged.csv", "label,score\n0,0.1,7\n1\n"),
    ("one_row.csv", "label,score\n1,0.4\n"),
    ("one_class.csv", "label,score\n1,0.4\n1,0.6\n"),
    ("outside.csv", "label,score\n0,-0.4\n1,1.6\n"),
    ("binary.csv", "\u{0}\u{1}\u{2}\u{ff}"),
    ("twice.csv", "label,label,score\n0,1,0.5\n1,0,0.5\n"),
];

fn house() -> House {
    let house = House::empty();
    for (name, text) in TABLES {
        fs::write(house.path().join(name), text).unwrap();
    }
    fs::write(house.path().join("no_text.csv"), [0xff, 0xfe, 0x00, 0xd8, b'\n']).unwrap();
    fs::create_dir(house.path().join("folder")).unwrap();
    house
}

/// Exit 2, one line, nothing on standard output, no report; or a number.
#[track_caller]
fn bad_or_measured(house: &House, arguments: &[&str], must_fail: bool) -> String {
    let all = [&["evaluate", "--report", "report.html"], arguments].concat();
    let output = house.galen(&all);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(code == Some(2) || code == Some(0) && !must_fail, "{arguments:?}: {code:?} {stderr}");
    if code == Some(2) {
        assert_eq!(stderr.trim_end().lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.len() < 600, "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty() && !house.path().join("report.html").exists(), "{arguments:?}");
    } else {
        fs::remove_file(house.path().join("report.html")).unwrap();
    }
    stderr
}

#[test]
fn no_table_makes_any_kind_stumble() {
    let house = house();
    let kinds =
        ["binary", "multiclass", "multilabel", "survival", "agreement", "fairness", "tests", "text", "froc"];
    let names: Vec<&str> =
        TABLES.iter().map(|(name, _)| *name).chain(["no_text.csv", "folder", "none.csv"]).collect();
    for kind in kinds {
        for name in &names {
            let mut arguments = vec!["--kind", kind, "--input", name];
            if kind == "froc" {
                arguments.extend(["--targets", "1", "--images", "1"]);
            }
            // Two columns of numbers are ratings, or candidates by their hits, whatever they are called.
            let fits = ["agreement", "tests", "froc"].contains(&kind);
            bad_or_measured(&house, &arguments, !fits);
        }
    }
    for kind in ["seg", "lesion", "detection2d", "detection3d", "image", "features", "registration"] {
        for name in &names {
            let mut arguments = vec!["--kind", kind, "--pred", name, "--ref", name];
            if kind == "image" {
                arguments.extend(["--data-range", "1"]);
            }
            bad_or_measured(&house, &arguments, true);
        }
    }
    for name in &names {
        bad_or_measured(&house, &["--kind", "conformal", "--calibration", name, "--test", name], true);
    }
}

#[test]
fn the_sentence_names_what_is_wrong() {
    let house = house();
    let write = |name: &str, text: &str| fs::write(house.path().join(name), text).unwrap();
    let says = |arguments: &[&str], words: &str| {
        let stderr = bad_or_measured(&house, arguments, true);
        assert!(stderr.contains(words), "{arguments:?}: `{words}` is not in {stderr}");
    };
    says(&["--kind", "binary", "--input", "empty.csv"], "holds no rows");
    says(&["--kind", "binary", "--input", "wrong.csv"], "has no column `label` (columns: truth, guess)");
    says(&["--kind", "binary", "--input", "nan.csv"], "row 1: the score NaN is outside [0, 1]");
    says(&["--kind", "binary", "--input", "words.csv"], "holds `low`, which is no number");
    says(&["--kind", "binary", "--input", "twice.csv"], "the column `label` is there twice");
    says(&["--kind", "binary", "--input", "one_row.csv"], "one class only");
    says(&["--kind", "binary", "--input", "none.csv"], "none.csv");
    says(&["--kind", "binary", "--input", "outside.csv", "--calibration", "none.csv"], "outside [0, 1]");
    write("ok.csv", "label,score,sex,age\n0,.1,f,31\n1,.8,m,44\n0,.3,m,70\n1,.6,f,66\n");
    says(&["--kind", "binary", "--input", "ok.csv", "--calibration", "one_class.csv"], "one class only");
    let by = |more: &[&'static str]| [&["--kind", "fairness", "--input", "ok.csv"], more].concat();
    says(&by(&[]), "has no column `group` (columns: label, score, sex, age)");
    says(&by(&["--by", "site"]), "has no column `site`");
    says(&by(&["--by", "sex", "--bands", "age:40"]), "`age` is no column that divides the cases");
    says(&by(&["--by", "age", "--bands", "age:65,40"]), "is no column with limits");
    says(&by(&["--by", "age", "--bands", "age"]), "is no column with limits");
    says(&by(&["--by", "sex,SEX"]), "there twice");
    says(&by(&["--by", "age", "--bands", "age:100"]), "every case is of group below 100");
    write("survival.csv", "time,event,risk\n1,1,.5\n-2,0,.1\n");
    says(&["--kind", "survival", "--input", "survival.csv"], "row 2");
    write("survival.csv", "time,event,risk\n1,2,.5\n2,0,.1\n");
    says(&["--kind", "survival", "--input", "survival.csv"], "row 1");
    write("multi.csv", "label,p0,p1\n0,.5,.6\n1,.4,.6\n");
    says(&["--kind", "multiclass", "--input", "multi.csv"], "row 1: the probabilities add up to 1.1");
    write("labels.csv", "y0,y1,s0\n0,1,.5\n");
    says(&["--kind", "multilabel", "--input", "labels.csv"], "2");
    write(
        "text.jsonl",
        "{\"ref\": \"a\", \"hyp\": \"b\", \"ref_labels\": [], \"hyp_labels\": []}\n{\"ref\": \"a\", \"hyp\": \"b\"}\n",
    );
    says(
        &["--kind", "text", "--input", "text.jsonl"],
        "line 2: ref_labels and hyp_labels are not on every line",
    );
    write("froc.csv", "score,hit\n.5,1\n.4,1\n");
    says(&["--kind", "froc", "--input", "froc.csv", "--targets", "1", "--images", "1"], "hit");
    write(
        "gt.json",
        r#"{"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 9, 9, 9]}]}"#,
    );
    write("dt.json", r#"[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 9, 9, 9], "score": 0.5}]"#);
    says(
        &["--kind", "detection2d", "--pred", "dt.json", "--ref", "gt.json"],
        "annotation 1: a box of 6 numbers",
    );
    says(
        &["--kind", "detection3d", "--pred", "dt.json", "--ref", "gt.json", "--iou", "0"],
        "0 is no overlap",
    );
    write("odd.json", r#"[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, -9, 9, 9], "score": 0.5}]"#);
    says(
        &["--kind", "detection3d", "--pred", "odd.json", "--ref", "gt.json"],
        "result 1: the box has a negative size",
    );
    house.array("p.npy", &[3, 2], &|i| [0.5, 0.5, 0.9, 0.2, 0.1, 0.9][i]);
    says(&["--kind", "features", "--class-probabilities", "p.npy"], "row 2: the probabilities add up to 1.1");
    house.array("a.npy", &[12, 12], &|i| i as f64 / 144.0);
    let image = ["--kind", "image", "--pred", "a.npy", "--ref", "a.npy", "--data-range", "1", "--tissue-map"];
    house.labels("t.nii", [1, 12, 12]);
    says(&[&image[..], &["t.nii", "--tissues", "1,5"]].concat(), "tissue 5 has 0 voxels");
    says(&[&image[..], &["t.nii", "--tissues", "1"]].concat(), "give two values");
    house.labels("small.nii", [1, 3, 3]);
    says(&[&image[..], &["small.nii", "--tissues", "1,2"]].concat(), "9 voxels, the images have 144");
}

#[test]
fn new_inputs_become_numbers() {
    let house = house();
    let write = |name: &str, text: &str| fs::write(house.path().join(name), text).unwrap();
    let measured = |arguments: &[&str]| -> serde_json::Value {
        let output = house.galen(&[&["evaluate", "--json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    write(
        "ok.csv",
        "label,score,sex,age\n0,.1,f,31\n1,.8,m,44\n0,.3,m,70\n1,.6,f,66\n0,.2,f,50\n1,.7,m,20\n",
    );
    let m = measured(&["--kind", "fairness", "--input", "ok.csv", "--by", "sex,age", "--bands", "age:40,65"]);
    assert_eq!((&m["attribute"], &m["values"]["groups"]), (&"sex".into(), &2.0.into()));
    let ages = &m["attributes"][1];
    assert_eq!((&ages["name"], &ages["values"]["groups"]), (&"age".into(), &3.0.into()));
    assert_eq!(ages["groups"][0]["name"], "40 to below 65");
    let text = house
        .galen(&["evaluate", "--kind", "fairness", "--input", "ok.csv", "--by", "sex", "--report", "f.html"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("By sex: equal opportunity differs by 0.000"), "{text}");
    let page = fs::read_to_string(house.path().join("f.html")).unwrap();
    assert!(page.contains("AUROC by sex") && page.contains("called positive") && !page.contains("NaN"));

    let m =
        measured(&["--kind", "binary", "--input", "ok.csv", "--calibration", "ok.csv", "--report", "b.html"]);
    assert!(m["values"]["temperature"].is_f64() && m["values"]["isotonic/brier"].as_f64().unwrap() < 0.1);
    assert!(house.path().join("b-figures/recalibration.svg").is_file());
    house.array("p.npy", &[20, 2], &|i| f64::from(u8::from((i / 2 + i) % 2 == 0)));
    let m = measured(&["--kind", "features", "--class-probabilities", "p.npy"]);
    assert!((m["values"]["is/whole set"].as_f64().unwrap() - 2.0).abs() < 1e-12, "{m}");
    house.array("stack.npy", &[1, 2, 3, 3], &|i| i as f64);
    let m = measured(&["--kind", "features", "--pred", "stack.npy", "--ref", "stack.npy"]);
    assert_eq!(m["values"]["lpips/unit weights"], 0.0);
    house.array("a.npy", &[12, 12], &|i| i as f64 / 144.0);
    house.label_values("t.nii", [1, 12, 12], &[0, 1, 2]);
    let m = measured(&[
        "--kind",
        "image",
        "--pred",
        "a.npy",
        "--ref",
        "a.npy",
        "--data-range",
        "1",
        "--tissue-map",
        "t.nii",
        "--tissues",
        "1,2",
    ]);
    assert_eq!(m["values"]["tct/image"], m["values"]["tct/reference"]);
    let line = r#"{"ref": "a", "hyp": "b", "ref_labels": ["x"], "hyp_labels": ["x"], "ref_vectors": [[1, 0]], "hyp_vectors": [[1, 1]]}"#;
    write("t.jsonl", line);
    let m = measured(&["--kind", "text", "--input", "t.jsonl"]);
    assert_eq!(m["values"]["label-f1/micro"], 1.0);
    assert!((m["values"]["bertscore-matching/f1"].as_f64().unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
    let boxed =
        |score: &str| format!(r#"{{"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 9, 9, 9]{score}}}"#);
    write("gt.json", &format!(r#"{{"images": [{{"id": 1}}, {{"id": 2}}], "annotations": [{}]}}"#, boxed("")));
    write("dt.json", &format!("[{}]", boxed(r#", "score": 0.7"#)));
    let m = measured(&["--kind", "detection3d", "--pred", "dt.json", "--ref", "gt.json"]);
    assert_eq!((&m["values"]["operating/f1"], &m["values"]["operating/fppi"]), (&1.0.into(), &0.0.into()));
}
