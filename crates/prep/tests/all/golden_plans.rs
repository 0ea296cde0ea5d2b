//! Plans as nnunetv2 2.8.1 wrote them: synthetic fingerprints and phantom datasets, four planners each.
//! Every case found under `GALEN_GOLDENS` is run; without the folder the tests say so and pass.

use crate::goldens::{folders, goldens, json};
use galen_prep::{DatasetFacts, Fingerprint, Planner, plan};
use serde_json::Value;
use std::path::Path;

const PLANNERS: [Planner; 4] = [Planner::Default, Planner::ResEncM, Planner::ResEncL, Planner::ResEncXL];

/// Equal, numbers within 1e-9 relative and of the same kind (integer or float); key order counts.
fn same(ours: &Value, theirs: &Value, at: &str) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |m: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = m.keys().cloned().collect();
                // Intensities are copied in the order of the fingerprint file; synthetic ones have their own.
                if m.contains_key("percentile_99_5") {
                    keys.sort();
                }
                keys
            };
            assert_eq!(keys(a), keys(b), "{at}: keys");
            a.iter().for_each(|(key, value)| same(value, &b[key], &format!("{at}.{key}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}: length of {ours} and {theirs}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| same(a, b, &format!("{at}[{i}]")));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert_eq!(a.is_f64(), b.is_f64(), "{at}: {a} and {b}");
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-9 * b.abs(), "{at}: {a}, the reference has {b}");
        }
        _ => assert_eq!(ours, theirs, "{at}"),
    }
}

fn facts(dataset: &Value, name: &str, reader: &str) -> DatasetFacts {
    let channels = dataset.get("channel_names").unwrap_or(&dataset["modality"]).as_object().unwrap();
    DatasetFacts {
        name: name.to_owned(),
        channel_names: (0..channels.len())
            .map(|c| channels[&c.to_string()].as_str().unwrap().to_owned())
            .collect(),
        planner_classes: dataset["labels"].as_object().unwrap().len(),
        num_training: dataset["numTraining"].as_u64().unwrap() as usize,
        reader: reader.to_owned(),
    }
}

fn plans_agree(folder: &Path, dataset: &Value) -> usize {
    let fingerprint: Fingerprint =
        serde_json::from_value(json(&folder.join("dataset_fingerprint.json"))).unwrap();
    let arguments = folder.join("planner_arguments.json");
    let memory = arguments.exists().then(|| json(&arguments)["gpu_memory_target_in_gb"].as_f64().unwrap());
    let mut compared = 0;
    for planner in PLANNERS {
        let file = folder.join(format!("{}.json", planner.plans_name()));
        if !file.exists() {
            continue;
        }
        let theirs = json(&file);
        let name = theirs["dataset_name"].as_str().unwrap();
        let reader = theirs["image_reader_writer"].as_str().unwrap();
        let ours = plan(&fingerprint, &facts(dataset, name, reader), planner, memory).unwrap();
        same(&ours.to_json(), &theirs, &file.display().to_string());
        for name in ours.configuration_names() {
            ours.configuration(&name).unwrap();
        }
        compared += 1;
    }
    compared
}

#[test]
fn golden_plans_agree_in_every_number() {
    let Some(root) = goldens("nnunet/planner") else { return };
    let compared: usize = folders(&root).iter().map(|f| plans_agree(f, &json(&f.join("dataset.json")))).sum();
    println!("{compared} plans of synthetic fingerprints agree");
    assert!(compared > 0);
}

#[test]
fn golden_dataset_plans_agree_in_every_number() {
    let Some(root) = goldens("nnunet/datasets") else { return };
    let compared: usize =
        folders(&root).iter().map(|f| plans_agree(f, &json(&f.join("raw/dataset.json")))).sum();
    println!("{compared} plans of datasets agree");
    assert!(compared > 0);
}

/// A plans file serialises to what was read, and every plans file of a model can be read, old-style ones too.
#[test]
fn golden_plans_of_models_are_read() {
    let Some(root) = goldens("nnunet/models") else { return };
    for folder in folders(&root) {
        let json = json(&folder.join("plans.json"));
        let plans: galen_prep::Plans = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_string(&plans).unwrap(), json.to_string());
        for name in plans.configuration_names() {
            let configuration = plans.configuration(&name).unwrap();
            assert!(configuration.architecture.stages() > 1, "{}: {name}", folder.display());
        }
    }
}
