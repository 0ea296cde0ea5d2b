//! Which tensors are taken over from pretrained weights: the same as nnU-Net takes over.

use crate::golden::{architecture, cases, folder, json};
use galen_models::{Network, Pretrained, TorchCheckpoint};
use std::collections::BTreeSet;

#[test]
fn golden_pretrained_weights_are_taken_over_as_nnunet_does() {
    let Some(root) = folder("nnunet/pretrained") else { return };
    let mut names = Vec::new();
    for case in cases(&root) {
        let target = json(&case.join("target.json"));
        let class = target["architecture"]["network_class_name"].as_str().unwrap();
        let size = |key: &str| target[key].as_u64().unwrap() as usize;
        let architecture = architecture(class, &target["architecture"]["arch_kwargs"]);
        let network = Network::new(&architecture, size("inputs"), size("outputs")).unwrap();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let pretrained = match Pretrained::open(&case.join("pretrained.pth")) {
            Ok(pretrained) => pretrained,
            Err(error) => {
                assert!(name == "nnssl_primus" && error.to_string().contains("PrimusM"), "{name}: {error}");
                continue;
            }
        };
        let fresh = network.initial_weights(3);
        let transfer = pretrained.transfer(&network, fresh.clone());
        if let Some(reason) = target["refused"].as_str() {
            match transfer {
                // nnU-Net refuses other image channels; here only the input layer starts afresh.
                Ok((_, transfer)) => {
                    assert!(name.ends_with("other_channels"), "{name}: nnU-Net says {reason}");
                    let afresh =
                        transfer.reinitialised.iter().filter(|note| !note.name.contains(".seg_layers."));
                    assert_eq!(afresh.count(), 1, "{name}");
                }
                Err(error) => assert!(error.to_string().contains("--plans-of"), "{name}: {error}"),
            }
        } else {
            let (weights, transfer) = transfer.unwrap();
            let loaded: BTreeSet<&str> = transfer.loaded.iter().map(|note| note.name.as_str()).collect();
            // nnU-Net lists every tensor under each of its names; those that Galen keeps are the first of them.
            let all = target["loaded"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
            let theirs: BTreeSet<&str> = all
                .filter(|key| !key.starts_with("decoder.encoder.") && !key.contains(".all_modules."))
                .collect();
            assert_eq!(loaded, theirs, "{name}");
            let after = TorchCheckpoint::open(&case.join("after.pth")).unwrap().weights().unwrap();
            for (key, tensor) in weights.iter() {
                let expected = if loaded.contains(key) { after.get(key) } else { fresh.get(key) };
                assert_eq!(Some(tensor), expected, "{name}: {key}");
            }
            let other = weights.iter().filter(|(key, _)| !loaded.contains(key));
            let heads = |key: &str| {
                key.contains(".seg_layers.") || (name.starts_with("nnssl_") && key.starts_with("decoder."))
            };
            assert!(other.map(|(key, _)| key).all(heads), "{name}");
        }
        names.push(name);
    }
    println!("{} pairs as nnU-Net: {}", names.len(), names.join(", "));
    assert!(!names.is_empty());
}
