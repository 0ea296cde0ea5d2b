//! The plan of a model: that of the setup, with another network on the same patches and the same preprocessing.

use super::protocol::{Depth, Model, Setup};
use galen_core::{Error, Result};
use galen_prep::Plans;
use serde_json::{Map, Value, json};

/// Residual blocks per stage that nnU-Net's planners give residual encoders.
const RESIDUAL_DEPTH: [usize; 7] = [1, 3, 4, 6, 6, 6, 6];

/// The setup's plan with patch and batch of the setup, or of the model where it has its own, and the model's network.
pub fn plans(base: &Plans, setup: &Setup, model: &Model) -> Result<Plans> {
    let mut json = base.to_json();
    let name = model.configuration(setup);
    let resolved = base.configuration(name)?;
    let mut network = inherited(&json, name, "architecture").ok_or_else(|| {
        Error::input(name, "the plan describes its network in the old way", "plan again with `galen plan`")
    })?;
    change(&mut network, &resolved.architecture.features, model)
        .map_err(|error| error.within(format!("model {}", model.name)))?;
    let own = json["configurations"][name]
        .as_object_mut()
        .ok_or_else(|| Error::bug("plans", "a configuration that was read is no object"))?;
    own.insert("architecture".into(), network);
    if let Some(patch) = model.patch(setup) {
        if patch.len() != resolved.patch_size.len() || patch.contains(&0) {
            let what = format!("{patch:?} is no patch for a plan with {} axes", resolved.patch_size.len());
            return Err(Error::input("patch", what, "give one number of voxels per axis"));
        }
        own.insert("patch_size".into(), json!(patch));
    }
    if let Some(batch) = model.batch(setup) {
        if batch == 0 {
            return Err(Error::input("batch", "0 samples are no batch", "give 2 or more"));
        }
        own.insert("batch_size".into(), json!(batch));
    }
    Plans::from_json(&json)
}

/// A key of a configuration, or of the nearest one that it inherits from.
fn inherited(plans: &Value, name: &str, key: &str) -> Option<Value> {
    let mut name = name.to_owned();
    // Longer chains are circles, which reading the plan has refused.
    for _ in 0..32 {
        let own = plans["configurations"].get(&name)?;
        if let Some(value) = own.get(key) {
            return Some(value.clone());
        }
        name = own["inherits_from"].as_str()?.to_owned();
    }
    None
}

fn change(network: &mut Value, base_features: &[usize], model: &Model) -> Result<()> {
    let old_class = network["network_class_name"].as_str().unwrap_or_default().to_owned();
    let (package, old) = old_class.rsplit_once('.').unwrap_or(("", &old_class));
    let class = model.network.as_deref().unwrap_or(old);
    let stages = model.features.as_ref().map_or(base_features.len(), Vec::len);
    if !(2..=base_features.len()).contains(&stages) {
        let what = format!("{stages} stages, the plan has {}", base_features.len());
        return Err(Error::input("features", what, "give 2 stages at least and no more than the plan has"));
    }
    let residual = class.contains("Residual");
    let (key, other) = if residual {
        ("n_blocks_per_stage", "n_conv_per_stage")
    } else {
        ("n_conv_per_stage", "n_blocks_per_stage")
    };
    let full = if package.is_empty() { class.to_owned() } else { format!("{package}.{class}") };
    let settings = network["arch_kwargs"]
        .as_object_mut()
        .ok_or_else(|| Error::bug("plans", "a network that was read has no settings"))?;
    settings.remove(other);
    if class != old {
        let depth = if residual { RESIDUAL_DEPTH.to_vec() } else { vec![2; 7] };
        settings.insert(key.into(), json!(depth[..stages.min(7)]));
        settings.insert("n_conv_per_stage_decoder".into(), json!(if residual { 1 } else { 2 }));
    }
    match &model.depth {
        None => {}
        Some(Depth::Same(depth)) => {
            settings.insert(key.into(), json!(vec![*depth; stages]));
        }
        Some(Depth::Each(depths)) if depths.len() == stages => {
            settings.insert(key.into(), json!(depths));
        }
        Some(Depth::Each(depths)) => {
            let what = format!("{} numbers for {stages} stages", depths.len());
            return Err(Error::input("depth", what, "give one number for all, or one per stage"));
        }
    }
    if let Some(features) = &model.features {
        settings.insert("features_per_stage".into(), json!(features));
    }
    cut(settings, stages);
    settings.insert("n_stages".into(), json!(stages));
    network["network_class_name"] = json!(full);
    Ok(())
}

/// Leaves the settings of the deepest stages out.
fn cut(settings: &mut Map<String, Value>, stages: usize) {
    let keys = ["kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage", "features_per_stage"];
    for key in keys {
        if let Some(list) = settings.get_mut(key).and_then(Value::as_array_mut) {
            list.truncate(stages);
        }
    }
    if let Some(list) = settings.get_mut("n_conv_per_stage_decoder").and_then(Value::as_array_mut) {
        // Deepest first: what is left out is at the front.
        list.drain(..list.len().saturating_sub(stages - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::NetworkClass;

    fn base() -> Plans {
        let text = include_str!("../../tests/all/house/tiny_plans.json");
        Plans::from_json(&serde_json::from_str(text).unwrap()).unwrap()
    }

    fn setup() -> Setup {
        toml::from_str("iterations = 1\nfolds = [0]\npatch = [4, 8, 8]\nbatch = 3").unwrap()
    }

    fn model(text: &str) -> Model {
        toml::from_str(&format!("name = 'm'\n{text}")).unwrap()
    }

    #[test]
    fn a_model_changes_the_network_and_nothing_of_the_preprocessing() {
        let (base, setup) = (base(), setup());
        let before = base.configuration("3d_fullres").unwrap();
        let text = "network = 'ResidualEncoderUNet'\nfeatures = [6, 10]\ndepth = [1, 2]";
        let after = plans(&base, &setup, &model(text)).unwrap().configuration("3d_fullres").unwrap();
        let a = &after.architecture;
        assert_eq!(a.class, NetworkClass::ResidualEncoderUNet);
        assert_eq!(
            (&a.features[..], &a.encoder_depth[..], &a.decoder_depth[..]),
            (&[6, 10][..], &[1, 2][..], &[1][..])
        );
        assert_eq!((&after.patch_size[..], after.batch_size), (&[4, 8, 8][..], 3));
        assert_eq!(
            (after.spacing, after.normalization_schemes),
            (before.spacing, before.normalization_schemes)
        );
    }

    #[test]
    fn impossible_models_are_refused() {
        let (base, setup) = (base(), setup());
        for (text, expected) in [
            ("features = [6, 10, 12, 14, 16, 18, 20, 22]", "stages"),
            ("depth = [1, 2, 3, 4, 5, 6, 7, 8, 9]", "9 numbers"),
            ("network = 'Transformer'", "unknown"),
        ] {
            let error =
                plans(&base, &setup, &model(text)).and_then(|p| p.configuration("3d_fullres").map(|_| ()));
            assert!(error.unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
