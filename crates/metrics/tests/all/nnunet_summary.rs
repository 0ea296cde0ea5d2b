//! `summary.json` is nnU-Net's, to the byte, on label maps that nnU-Net evaluated.

use galen_core::{LabelValue, Labels};
use galen_metrics::{Case, Evaluation, Score, Summary, score_case};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Folder of the goldens, when this checkout has them beside it.
fn goldens() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or(beside, PathBuf::from);
    let folder = root.join("nnunet/evaluation");
    if !folder.is_dir() {
        println!("no goldens at {}: nothing compared", folder.display());
        return None;
    }
    Some(folder)
}

fn summaries(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    let files = cases
        .iter()
        .flat_map(|case| ["pred", "pred/postprocessed"].map(|p| case.join(p).join("summary.json")));
    files.filter(|file| file.is_file()).collect()
}

#[test]
fn golden_summaries_are_read_and_written_without_a_change() {
    for file in goldens().iter().flat_map(|folder| summaries(folder)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let summary = Summary::parse(&text).unwrap();
        assert_eq!(summary.to_json(), text.trim_end(), "{}", file.display());
    }
}

/// Labels of a `dataset.json`.
fn labels(file: &Path) -> Labels {
    let dataset: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let names = dataset["labels"].as_object().unwrap().iter();
    let value = |v: &Value| serde_json::from_value::<LabelValue>(v.clone()).unwrap();
    let entries = names.map(|(name, v)| (name.clone(), value(v))).collect();
    let order = serde_json::from_value(dataset["regions_class_order"].clone()).unwrap_or(None);
    Labels::new(entries, order).unwrap()
}

#[test]
fn golden_label_maps_are_evaluated_to_the_same_bytes() {
    for file in goldens().iter().flat_map(|folder| summaries(folder)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = Summary::parse(&text).unwrap();
        let root = file.ancestors().find(|folder| folder.join("dataset.json").is_file()).unwrap();
        let labels = labels(&root.join("dataset.json"));
        let score = |case: &galen_metrics::summary::PerCase| {
            let name = Path::new(&case.prediction_file).file_name().unwrap();
            let reference = galen_io::read_label_map(&root.join("ref").join(name)).unwrap();
            let prediction = galen_io::read_label_map(&file.parent().unwrap().join(name)).unwrap();
            Case {
                id: name.to_string_lossy().into_owned(),
                reference_file: case.reference_file.clone(),
                prediction_file: case.prediction_file.clone(),
                scores: score_case(&reference, &prediction, &labels, 1.0).unwrap(),
            }
        };
        let cases = expected.metric_per_case.iter().map(score).collect();
        let summary = Summary::plain(&Evaluation::new(cases, 1.0, 0));
        assert_eq!(summary.to_json(), text.trim_end(), "{}", file.display());
    }
}

#[test]
fn undefined_is_a_bare_nan() {
    let text = r#"{"foreground_mean": {"Dice": NaN, "FN": 0.0, "FP": 0.0, "IoU": NaN, "TN": 1.0, "TP": 0.0,
        "n_pred": 0.0, "n_ref": 0.0}, "mean": {}, "metric_per_case": []}"#;
    let summary = Summary::parse(text).unwrap();
    assert_eq!(summary.foreground_mean.Dice, None);
    assert!(summary.to_json().contains("\"Dice\": NaN"));
    assert!(Summary::parse("{}").is_err());
    assert_eq!(Score::Undefined.value(), None);
}

/// Label maps of a golden, by file name.
struct Files {
    root: PathBuf,
    names: Vec<String>,
}

impl galen_metrics::postprocessing::Pairs for Files {
    fn count(&self) -> usize {
        self.names.len()
    }

    fn names(&self, case: usize) -> [String; 3] {
        std::array::from_fn(|_| self.names[case].clone())
    }

    fn read(&self, case: usize) -> galen_core::Result<(galen_core::LabelMap, galen_core::LabelMap)> {
        let read = |folder: &str| galen_io::read_label_map(&self.root.join(folder).join(&self.names[case]));
        Ok((read("ref")?, read("pred")?))
    }
}

#[test]
fn golden_postprocessing_is_decided_and_applied_as_nnunet_does() {
    let Some(goldens) = goldens() else { return };
    for root in std::fs::read_dir(goldens).unwrap().map(|entry| entry.unwrap().path()) {
        let file = root.join("pred/postprocessing.json");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let expected: Value = serde_json::from_str(&text).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(root.join("ref"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let files = Files { root: root.clone(), names };
        let labels = labels(&root.join("dataset.json"));
        let found = galen_metrics::postprocessing::determine(&files, &labels).unwrap();
        let steps: Vec<Value> = found.steps.iter().map(|step| step.to_json()).collect();
        assert_eq!(Value::from(steps), expected["postprocessing_kwargs"], "{}", file.display());
        for (means, part) in [(&found.before, "input_folder"), (&found.after, "postprocessed")] {
            assert_eq!(
                serde_json::to_value(&means.mean).unwrap(),
                expected[part]["mean"],
                "{}",
                file.display()
            );
        }
        assert_eq!(found.to_json(), text, "{}", file.display());
        let read = galen_metrics::postprocessing::Step::all_from_json(&expected).unwrap();
        assert_eq!(read.len(), found.steps.len());
        for (case, name) in files.names.iter().enumerate() {
            let mut map = galen_metrics::postprocessing::Pairs::read(&files, case).unwrap().1;
            read.iter().for_each(|step| step.apply(&mut map));
            let wanted = galen_io::read_label_map(&root.join("pred/postprocessed").join(name)).unwrap();
            assert_eq!(map.values(), wanted.values(), "{name}");
        }
        println!("{}: {:?}", root.display(), found.explanation);
    }
}
