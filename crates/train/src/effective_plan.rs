//! The plan that a run really uses: nnU-Net's, with the batch and width that the budget chose. It is what the
//! model folder stores, so that prediction builds the same network.

use galen_core::{Error, Result};
use serde_json::{Map, Value};

/// Plans with batch and features of one configuration replaced.
pub fn effective_plan(
    plans: &Value,
    configuration: &str,
    batch_size: usize,
    features: &[usize],
) -> Result<Value> {
    let mut plans = plans.clone();
    let chain = ancestry(&plans, configuration)?;
    let find = |key: &str| chain.iter().find_map(|name| plans["configurations"][name].get(key)).cloned();
    let (architecture, old_base) = (find("architecture"), find("UNet_base_num_features"));
    let old_cap = find("unet_max_num_features");
    let own = plans["configurations"][configuration].as_object_mut().ok_or_else(|| missing(configuration))?;
    own.insert("batch_size".into(), batch_size.into());
    if let Some(mut architecture) = architecture {
        architecture["arch_kwargs"]["features_per_stage"] = features.into();
        own.insert("architecture".into(), architecture);
    } else if old_base.is_some() {
        set_old_style(own, old_cap, features);
    }
    Ok(plans)
}

/// Plans before version 2.4 name the first and the largest number of features.
fn set_old_style(own: &mut Map<String, Value>, old_cap: Option<Value>, features: &[usize]) {
    let (first, last) = (features.first().copied().unwrap_or(1), features.last().copied().unwrap_or(1));
    own.insert("UNet_base_num_features".into(), first.into());
    if old_cap.and_then(|cap| cap.as_u64()).is_none_or(|cap| cap as usize > last) {
        own.insert("unet_max_num_features".into(), last.into());
    }
}

/// The configuration and those it inherits from, nearest first.
fn ancestry(plans: &Value, configuration: &str) -> Result<Vec<String>> {
    let mut chain = vec![configuration.to_owned()];
    loop {
        let name = &chain[chain.len() - 1];
        let Some(own) = plans["configurations"].get(name) else { return Err(missing(name)) };
        match own["inherits_from"].as_str() {
            Some(parent) if !chain.iter().any(|seen| seen == parent) => chain.push(parent.to_owned()),
            _ => return Ok(chain),
        }
    }
}

fn missing(configuration: &str) -> Error {
    Error::input(
        "plans",
        format!("there is no configuration {configuration}"),
        "choose one that the plan has",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_network_is_replaced_through_inheritance_and_nothing_else() {
        let plans = json!({"plans_name": "p", "configurations": {
            "a": {"batch_size": 9, "architecture": {"arch_kwargs": {"features_per_stage": [32, 64], "n": 2}}},
            "b": {"inherits_from": "a", "spacing": [1.0]},
        }});
        let changed = effective_plan(&plans, "b", 2, &[16, 32]).unwrap();
        assert_eq!(changed["configurations"]["a"], plans["configurations"]["a"]);
        let b = &changed["configurations"]["b"];
        assert_eq!(b["batch_size"], 2);
        assert_eq!(b["architecture"]["arch_kwargs"], json!({"features_per_stage": [16, 32], "n": 2}));
        assert!(effective_plan(&plans, "c", 2, &[16]).is_err());
    }
}
