//! Folds: nnU-Net's own lists, patients kept together, given files checked.

use galen_data::{Patients, Split, Splits};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("c{i:04}")).collect()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn golden_tables_of_folds_are_identical() {
    let Some(goldens) = crate::synthetic::goldens() else { return };
    let tables = goldens.join("nnunet/tables");
    if !tables.is_dir() {
        println!("no tables of folds at {}: skipped", tables.display());
        return;
    }
    for (n, folds) in json(&tables.join("kfold_val_indices.json"))["val_indices"].as_object().unwrap() {
        let ids = ids(n.parse().unwrap());
        let splits = Splits::five_folds(&ids).unwrap();
        for (fold, wanted) in folds.as_array().unwrap().iter().enumerate() {
            let wanted: Vec<&String> = numbers(wanted).into_iter().map(|index| &ids[index]).collect();
            assert_eq!(splits.folds[fold].val.iter().collect::<Vec<_>>(), wanted, "{n} cases, fold {fold}");
        }
    }
    for (key, wanted) in json(&tables.join("random_80_20.json"))["train"].as_object().unwrap() {
        let (n, fold) = key.split_once("_fold").unwrap();
        let ids = ids(n.parse().unwrap());
        let split = Splits::five_folds(&ids).unwrap().fold(fold).unwrap();
        let wanted: Vec<String> = numbers(wanted).into_iter().map(|index| ids[index].clone()).collect();
        assert_eq!(split.train, wanted, "{key}");
        assert_eq!(split.train.len() + split.val.len(), ids.len());
    }
}

#[test]
fn golden_split_files_are_identical() {
    let Some(goldens) = crate::synthetic::goldens() else { return };
    for entry in fs::read_dir(goldens.join("nnunet/datasets")).unwrap() {
        let file = entry.unwrap().path().join("splits_final.json");
        if !file.is_file() {
            continue;
        }
        let wanted: Vec<Split> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let ids: BTreeSet<String> = wanted.iter().flat_map(|fold| fold.train.iter().cloned()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let splits = Splits::five_folds(&ids).unwrap();
        assert_eq!(splits.folds, wanted, "{}", file.display());
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("splits_final.json");
        splits.write(&own).unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), fs::read_to_string(&file).unwrap());
        assert_eq!(Splits::read(&own, &ids).unwrap(), splits);
    }
}

#[test]
fn a_patient_stays_on_one_side() {
    let ids: Vec<String> = (0..30).map(|i| format!("p{:02}_scan{i}", i % 7)).collect();
    let patients = Patients::from_regex("^(p[0-9]+)_", &ids).unwrap();
    let splits = Splits::by_patient(&ids, &patients).unwrap();
    let mut validated = Vec::new();
    for fold in ["0", "1", "2", "3", "4", "9"] {
        let split = splits.fold(fold).unwrap();
        let (train, val) = (patients.among(&split.train), patients.among(&split.val));
        assert!(train.iter().all(|patient| !val.contains(patient)) && !val.is_empty() && !train.is_empty());
        assert_eq!(split.train.len() + split.val.len(), 30);
        if fold != "9" {
            validated.extend(split.val);
        }
    }
    validated.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(validated, all, "each case validates once");
    assert!(splits.clone().with_patients(&patients).is_ok());
    let error = Splits::five_folds(&ids).unwrap().with_patients(&patients).unwrap_err().to_string();
    assert!(error.contains("patients in train and in val: p0"), "{error}");
}

#[test]
fn given_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("splits_final.json");
    let refused = |text: &str, part: &str| {
        fs::write(&file, text).unwrap();
        let error = Splits::read(&file, &ids(3)).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("splits_final.json"), "{error}");
    };
    refused("[{\"train\": [\"c0000\", \"c0001\"], \"val\": [\"c0001\"]}]", "in train and in val: c0001");
    refused("[{\"train\": [\"c0000\"], \"val\": [\"x\"]}]", "not in the dataset: x");
    refused("[{\"train\": [], \"val\": [\"c0000\"]}]", "no training case");
    refused("{}", "");
    fs::write(&file, "[{\"train\": [\"c0000\"], \"val\": [\"c0001\"]}]").unwrap();
    assert!(Splits::read(&file, &ids(3)).is_ok());
    let patients = Patients::from_regex("^(c000)", &ids(3)).unwrap();
    let error = Splits::read_with_patients(&file, &ids(3), Some(&patients)).unwrap_err().to_string();
    assert!(error.contains("c000"), "{error}");
}

#[test]
fn few_cases_have_only_the_fold_all() {
    let error = Splits::five_folds(&ids(4)).unwrap_err().to_string();
    assert!(error.contains("4 cases") && error.contains("all"), "{error}");
    let splits = Splits::none(&ids(4));
    assert!(splits.fold("0").is_err() && splits.fold("x").is_err());
    let all = splits.fold("all").unwrap();
    assert_eq!((all.train.len(), &all.train), (4, &all.val));
}
