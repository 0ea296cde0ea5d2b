//! Models on disk: nnU-Net's results folders are read in place, Galen's own come back as they were written.

use crate::golden::{architecture, cases, folder};
use galen_models::{Bundle, BundleContent, Network, TorchCheckpoint};
use serde_json::json;
use std::path::Path;

fn network_of(bundle: &Bundle) -> Option<Network> {
    let configuration = &bundle.plans_json["configurations"][&bundle.configuration];
    let description = configuration.get("architecture")?; // plans of the first releases have none
    let class = description["network_class_name"].as_str()?;
    Some(
        Network::new(&architecture(class, &description["arch_kwargs"]), bundle.inputs, bundle.outputs)
            .unwrap(),
    )
}

#[test]
fn golden_models_of_nnunet_open_and_fit_their_plans() {
    let Some(folder) = folder("nnunet/models") else { return };
    for case in cases(&folder) {
        let bundle = Bundle::open(&case).unwrap();
        let folds = bundle.folds().unwrap();
        assert!(!folds.is_empty(), "{}", case.display());
        for fold in &folds {
            let weights = bundle.weights(fold).unwrap();
            assert!(weights.iter().all(|(_, tensor)| tensor.values.iter().all(|v| v.is_finite())));
            if let Some(network) = network_of(&bundle) {
                network.check(&weights).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
            }
        }
        assert!(!bundle.mirror_axes.is_empty(), "{}", case.display());
        assert!(bundle.weights("77").unwrap_err().to_string().contains(&folds[0]));
        comes_back(&bundle, &case);
    }
}

/// Writes an opened model as Galen's bundle and opens that.
fn comes_back(bundle: &Bundle, case: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("model");
    let content = BundleContent {
        plans_json: &bundle.plans_json,
        configuration: &bundle.configuration,
        labels: &bundle.labels,
        channel_names: &bundle.channel_names,
        file_ending: &bundle.file_ending,
        mirror_axes: &bundle.mirror_axes,
        provenance: &bundle.provenance,
    };
    Bundle::write(&root, &content).unwrap();
    let folds = bundle.folds().unwrap();
    for fold in &folds {
        Bundle::write_fold(&root, fold, &bundle.weights(fold).unwrap(), &json!({"iterations": 0})).unwrap();
    }
    let own = Bundle::open(&root).unwrap();
    assert_eq!(own.folds().unwrap(), folds, "{}", case.display());
    assert_eq!(own.weights(&folds[0]).unwrap(), bundle.weights(&folds[0]).unwrap());
    assert_eq!((own.inputs, own.outputs, own.labels), (bundle.inputs, bundle.outputs, bundle.labels.clone()));
    assert_eq!(own.plans_json, bundle.plans_json);
    assert_eq!(own.provenance, bundle.provenance);
}

/// Bytes of every tensor under every name of a checkpoint, by Python's own names: duplicates included.
fn names_and_bytes(bundle: &Bundle, fold: &str) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let weights = bundle.weights(fold).unwrap();
    weights.iter().map(|(name, t)| (name.to_owned(), t.shape.clone(), bits(&t.values))).collect()
}

#[test]
fn golden_models_imported_and_exported_again_are_the_same_in_every_tensor() {
    let Some(folder) = folder("nnunet/models") else { return };
    for case in cases(&folder) {
        let home = tempfile::tempdir().unwrap();
        let (own, back) = (home.path().join("own"), home.path().join("back"));
        let given = Bundle::open(&case).unwrap();
        let folds = given.folds().unwrap();
        given.import(&folds, &own).unwrap();
        Bundle::open(&own).unwrap().export_nnunet(&folds, &back).unwrap();
        let returned = Bundle::open(&back).unwrap();
        assert_eq!(returned.folds().unwrap(), folds);
        for fold in &folds {
            assert_eq!(names_and_bytes(&returned, fold), names_and_bytes(&given, fold), "{}", case.display());
            let names = |root: &Path| {
                let file = root.join(format!("fold_{fold}/checkpoint_final.pth"));
                TorchCheckpoint::open(&file).unwrap().state_dict_names()
            };
            assert_eq!(names(&back), names(&case), "{}: names or their order", case.display());
        }
        let facts =
            |b: &Bundle| (b.configuration.clone(), b.mirror_axes.clone(), b.provenance.trainer.clone());
        assert_eq!(facts(&returned), facts(&given));
        assert_eq!(returned.plans_json, given.plans_json);
        assert_eq!(returned.dataset_json().unwrap(), given.dataset_json().unwrap());
        let again = given.import(&folds, &own).unwrap_err().to_string();
        assert!(again.contains("already there"), "{again}");
    }
}

#[test]
fn folders_that_are_no_model_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let error = Bundle::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model.json"), "{error}");
    for (text, expected) in [("{", "JSON"), ("{}", "format"), (r#"{"format": 99}"#, "format 99")] {
        std::fs::write(folder.path().join("model.json"), text).unwrap();
        let error = Bundle::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
