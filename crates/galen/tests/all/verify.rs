//! Comparisons: killed and resumed, in parts and merged, always the same bytes; and bad predictions named and counted.

use crate::house::{House, files};
use std::fs;

const PROTOCOL: &str = r#"
title = "Blocks"
kind = "train"
seed = 5
draws = 100

[setup]
iterations = 3
folds = [0, 1]
patch = [16, 16, 16]
batch = 2
mirror = false

[[dataset]]
name = "Blocks"
path = "Dataset001_Blocks"

[[model]]
name = "plain 4"
features = [4, 8]

[[model]]
name = "plain 8"
features = [8, 12]
depth = 1

[[model]]
name = "residual"
network = "ResidualEncoderUNet"
features = [4, 8]
depth = [1, 1]
"#;

fn house(protocol: &str) -> House {
    let house = House::empty();
    fs::write(house.path().join("p.toml"), protocol).unwrap();
    house
}

fn run(house: &House, more: &[&str]) -> (i32, String) {
    let mut arguments = vec!["verify", "p.toml"];
    arguments.extend(more);
    let output = house.galen(&arguments);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

/// Everything that must not depend on how a comparison was run.
fn outcome(house: &House, out: &str) -> Vec<(String, Vec<u8>)> {
    let folder = house.path().join(out);
    let stable = |name: &String| {
        !name.starts_with("models/") && !name.starts_with("costs") && !name.ends_with(".part")
    };
    files(&folder)
        .into_iter()
        .filter(stable)
        .map(|name| (name.clone(), fs::read(folder.join(name)).unwrap()))
        .collect()
}

fn assert_same(one: &[(String, Vec<u8>)], other: &[(String, Vec<u8>)]) {
    let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(one), names(other));
    for ((name, a), (_, b)) in one.iter().zip(other) {
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn a_comparison_is_the_same_whole_killed_and_in_parts() {
    let house = house(PROTOCOL);
    house.dataset("Dataset001_Blocks");
    let (code, text) = run(&house, &["--out", "whole"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("Blocks (3 cases)") && text.contains("residual") && text.contains("parameters"),
        "{text}"
    );
    let whole = outcome(&house, "whole");
    for name in ["leaderboard.csv", "leaderboard.tex", "leaderboard.html", "cases.csv", "models.csv"] {
        assert!(whole.iter().any(|(file, _)| file == name), "{name} is missing");
    }
    assert_eq!(whole.iter().filter(|(name, _)| name.starts_with("pictures/")).count(), 9);
    let costs = fs::read_to_string(house.path().join("whole/costs.csv")).unwrap();
    assert_eq!(costs.lines().count(), 7);
    assert!(costs.lines().skip(1).all(|line| line.split(',').nth(3).unwrap().parse::<f64>().unwrap() > 0.0));

    let mut killed = 0;
    for milliseconds in [60, 150, 300, 600, 900] {
        killed += usize::from(house.kill(&["verify", "p.toml", "--out", "cut"], milliseconds));
    }
    assert!(killed > 0, "no run was slow enough to be killed");
    let (code, text) = run(&house, &["--out", "cut"]);
    assert_eq!(code, 0, "{text}");
    assert_same(&whole, &outcome(&house, "cut"));

    for part in ["1/2", "2/2"] {
        let (code, text) = run(&house, &["--out", &format!("part{}", &part[..1]), "--shard", part]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("3 of 6 cells") && !house.path().join("part1/leaderboard.csv").exists(),
            "{text}"
        );
    }
    let (code, text) = run(&house, &["--out", "merged", "--merge", "part1"]);
    assert!(code == 2 && text.contains("3 of 6 cells have no result: Blocks, plain 4, fold 1"), "{text}");
    let (code, text) = run(&house, &["--out", "merged", "--merge", "part1,part2"]);
    assert_eq!(code, 0, "{text}");
    assert_same(&whole, &outcome(&house, "merged"));

    // Another setup must not be mixed with the results that are there.
    fs::write(house.path().join("p.toml"), PROTOCOL.replace("iterations = 3", "iterations = 2")).unwrap();
    let (code, text) = run(&house, &["--out", "whole"]);
    assert!(code == 2 && text.contains("made under another protocol"), "{text}");
}

#[test]
fn draws_with_replacement_validate_on_the_cases_left_out() {
    let house = house(
        &PROTOCOL.replace("folds = [0, 1]", "bootstrap = 2").replace("iterations = 3", "iterations = 1"),
    );
    house.dataset("Dataset001_Blocks");
    let (code, text) = run(&house, &["--out", "out"]);
    assert_eq!(code, 0, "{text}");
    let record = fs::read_to_string(house.path().join("out/results/Blocks/plain-4/fold_b1.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let cases = record["cases"].as_array().unwrap().len();
    assert!((1..6).contains(&cases), "{cases}");
}

#[test]
fn a_model_may_have_a_configuration_of_its_own_and_laws_follow_from_the_cells() {
    let models =
        "[[model]]\nname = 'slices'\nconfiguration = '2d'\nfeatures = [4, 8]\npatch = [16, 16]\nbatch = 2\n";
    let start = PROTOCOL.replace("iterations = 3", "iterations = 1").replace("folds = [0, 1]", "folds = [0]");
    let house = house(&format!("{}{models}", start.split("[[model]]\nname = \"plain 8\"").next().unwrap()));
    house.dataset("Dataset001_Blocks");
    let (code, text) = run(&house, &["--out", "out"]);
    assert_eq!(code, 0, "{text}");
    let table = fs::read_to_string(house.path().join("out/models.csv")).unwrap();
    assert!(
        table.contains("Blocks,plain 4,0,3d_fullres,") && table.contains("Blocks,slices,0,2d,"),
        "{table}"
    );
    let page = fs::read_to_string(house.path().join("out/leaderboard.html")).unwrap();
    assert!(page.contains("2d, patch [16, 16], batch 2") && page.contains("3d_fullres, patch [16, 16, 16]"));
    // Two sizes are no law.
    let output = house.galen(&["verify", "scaling", "out", "--out", "law"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("a law needs three sizes or more"), "{text}");

    // A model of slices on a patch of volumes is refused before anything is trained.
    let wrong = models.replace("[16, 16]", "[16, 16, 16]");
    fs::write(house.path().join("p.toml"), format!("{start}{wrong}")).unwrap();
    let (code, text) = run(&house, &["--out", "other"]);
    assert!(code == 2 && text.contains("is no patch for a plan with 2 axes"), "{text}");
}

#[test]
fn laws_are_fitted_and_drawn() {
    let house = House::empty();
    let loss = |n: f64| 0.1 + 2.0 * n.powf(-0.3);
    let valley = |n: f64| 0.5 + 0.1 * (n / 1e4).ln().powi(2);
    let mut runs = "parameters,compute,loss\n".to_owned();
    for i in 0..8 {
        let n = 1000.0 * 3f64.powi(i);
        runs += &format!("{n},{},{}\n", n * 1e6, loss(n));
    }
    fs::write(house.path().join("runs.csv"), &runs).unwrap();
    let output = house.galen(&["verify", "scaling", "runs.csv", "--out", "law", "--draws", "50", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let exponent = found["laws"][0]["exponent"].as_f64().unwrap();
    assert!((exponent - 0.3).abs() < 1e-3 && found["laws"][1]["size"] == "compute", "{found}");
    for file in ["law/scaling.html", "law/figures/scaling-parameters.svg", "law/figures/scaling-compute.svg"]
    {
        assert!(!fs::read_to_string(house.path().join(file)).unwrap().contains("NaN"), "{file}");
    }
    let mut runs = "parameters,compute,loss\n".to_owned();
    for n in [1e3, 5e3, 2e4, 1e5] {
        runs += &format!("{n},1e12,{}\n", valley(n));
    }
    fs::write(house.path().join("runs.csv"), &runs).unwrap();
    let output = house.galen(&["verify", "scaling", "runs.csv", "--out", "law", "--draws", "5"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("at compute 1.000e12 the best size is 1.000e4 parameters (loss 0.5000)"), "{text}");
    assert!(text.contains("not fitted: compute"), "{text}");
    fs::write(house.path().join("runs.csv"), "parameters,loss\n1,0.5\n2,-1\n").unwrap();
    let output = house.galen(&["verify", "scaling", "runs.csv", "--out", "law"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("run 2: size 2 and loss -1"), "{text}");
}

const MASKS: &str = r#"
title = "Two tools"
kind = "masks"
draws = 50
[[dataset]]
name = "D"
reference = "ref"
[[method]]
name = "good"
predictions = { D = "good" }
[[method]]
name = "bad"
predictions = { D = "bad" }
"#;

#[test]
fn missing_and_unusable_masks_are_named_and_count_as_failures() {
    let house = house(MASKS);
    for case in ["a", "b", "c"] {
        house.labels(&format!("ref/{case}.nii.gz"), [6, 8, 9]);
        house.labels(&format!("good/{case}.nii.gz"), [6, 8, 9]);
    }
    house.labels("bad/a.nii.gz", [6, 8, 9]);
    house.labels("bad/b.nii.gz", [6, 8, 10]);
    house.labels("bad/other.nii.gz", [6, 8, 9]);
    house.label_values("good/c.nii.gz", [6, 8, 9], &[0, 1, 7]);
    let (code, text) = run(&house, &["--out", "out"]);
    assert_eq!(code, 3, "{text}");
    for sentence in [
        "bad failed on 2 of 3 cases of D and gets the worst value there: first b (",
        "the grids differ in",
        "bad: 1 predictions for D have no reference",
        "good: predictions of 1 cases of D hold labels that the reference does not know, first c",
    ] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
    let cases = fs::read_to_string(house.path().join("out/cases.csv")).unwrap();
    assert!(cases.contains("D,bad,a,1,1,0,\n"), "{cases}");
    assert!(
        cases.lines().any(|l| l.starts_with("D,bad,c,0,0,") && l.ends_with("there is no prediction")),
        "{cases}"
    );
    assert!(house.path().join("out/pictures/D/bad/fold_none/c.svg").is_file());
}

const SCORES: &str = r#"
title = "Two classifiers"
kind = "scores"
draws = 50
[[dataset]]
name = "D"
reference = "ref.csv"
[[method]]
name = "good"
predictions = { D = "good.csv" }
[[method]]
name = "bad"
predictions = { D = "bad.csv" }
"#;

#[test]
fn scores_are_checked_and_missing_ones_are_the_worst() {
    let house = house(SCORES);
    let write = |name: &str, text: &str| fs::write(house.path().join(name), text).unwrap();
    write("ref.csv", "case,label\na,1\nb,0\nc,1\nd,0\ne,1\nf,0\n");
    write("good.csv", "case,score\na,0.9\nb,0.1\nc,0.8\nd,0.2\ne,0.7\nf,0.3\n");
    write("bad.csv", "case,score\na,0.6\nb,0.4\nc,1.2\nd,0.2\ne,0.7\n");
    let (code, text) = run(&house, &["--out", "out"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("bad failed on 2 of 6 cases of D")
            && text.contains("c (the score 1.2 is outside [0, 1])"),
        "{text}"
    );
    let table = fs::read_to_string(house.path().join("out/leaderboard.csv")).unwrap();
    assert!(table.contains("D,good,auroc,1,1,1,6,0,1") && table.contains("D,bad,auroc,0.4444"), "{table}");
    let cases = fs::read_to_string(house.path().join("out/cases.csv")).unwrap();
    assert!(cases.contains("D,bad,f,,,1,there is no score\n"), "{cases}");

    write("bad.csv", "case,score\nz,0.6\n");
    let (code, text) = run(&house, &["--out", "out"]);
    assert!(code == 2 && text.contains("the case z is not in the reference"), "{text}");
    write("ref.csv", "case,label\na,1\nb,1\n");
    let (code, text) = run(&house, &["--out", "out"]);
    assert!(code == 2 && text.contains("all cases are of one class"), "{text}");
    write("ref.csv", "case,label\na,1\nb,2\n");
    let (code, text) = run(&house, &["--out", "out"]);
    assert!(code == 2 && text.contains("the label of b is 2"), "{text}");
}

const COCO: &str = r#"
title = "Two detectors"
kind = "coco"
draws = 20
[[dataset]]
name = "D"
reference = "truth.json"
[[method]]
name = "good"
predictions = { D = "good.json" }
[[method]]
name = "silent"
predictions = { D = "silent.json" }
"#;

#[test]
fn detectors_are_compared_and_silence_counts() {
    let house = house(COCO);
    let write = |name: &str, text: &str| fs::write(house.path().join(name), text).unwrap();
    let boxed = |image: usize| {
        format!(
            r#"{{"image_id": {image}, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0, "score": 0.9}}"#
        )
    };
    let all: Vec<String> = (1..4).map(boxed).collect();
    write(
        "truth.json",
        &format!(
            r#"{{"images": [{{"id": 1}}, {{"id": 2}}, {{"id": 3}}], "categories": [{{"id": 1}}], "annotations": [{}]}}"#,
            all.join(",")
        ),
    );
    write("good.json", &format!("[{}]", all.join(",")));
    write("silent.json", &format!("[{}]", all[0]));
    let (code, text) = run(&house, &["--out", "out"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("silent failed on 2 of 3 cases of D")
            && text.contains("first 2 (there is no detection)"),
        "{text}"
    );
    let table = fs::read_to_string(house.path().join("out/leaderboard.csv")).unwrap();
    assert!(table.contains("D,good,ap@[.5:.95]/coco101,1,1,1,3,0,1"), "{table}");
    write("silent.json", r#"[{"image_id": 9, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.9}]"#);
    let (code, text) = run(&house, &["--out", "out"]);
    assert!(code == 2 && text.contains("the image 9 is not in the ground truth"), "{text}");
}
