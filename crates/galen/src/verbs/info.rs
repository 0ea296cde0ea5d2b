//! `galen info`: what is this file, dataset or model?

use super::predict::WhichModel;
use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_data::Dataset;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What is this file, dataset or model?
///
/// Examples: galen info scan.nii.gz; galen info data/Dataset004_Hippocampus; galen info runs/hippo; galen info exported.zip
#[derive(clap::Args)]
pub struct Arguments {
    /// Image file, dataset folder, model folder or zip
    path: PathBuf,
    #[command(flatten)]
    which: WhichModel,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let path = &arguments.path;
    let zip = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    let facts = if path.is_file() && !zip {
        image(path)?
    } else if zip || path.join("model.json").exists() || path.join("plans.json").exists() {
        model(path, &arguments.which)?
    } else if path.join("dataset.json").exists() {
        dataset(path)?
    } else if path.is_dir() {
        return Err(Error::input(
            path.display(),
            "holds neither dataset.json nor model.json nor plans.json",
            "give an image file, a dataset folder or a model folder",
        ));
    } else {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::system(path.display(), &missing));
    };
    session.document(&facts)?;
    if let Value::Object(facts) = &facts {
        for (name, value) in facts {
            session.say(format!("{name:<14} {}", plain(value)));
        }
    }
    Ok(Exit::Done)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(|v| !v.is_object()) => {
            values.iter().map(plain).collect::<Vec<_>>().join(" ")
        }
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn image(path: &Path) -> Result<Value> {
    let header = galen_io::read_header(path)?;
    let g = &header.geometry;
    Ok(json!({
        "what": "image", "format": header.format, "size (z y x)": g.size, "spacing (z y x) mm": g.spacing,
        "origin LPS": g.origin, "direction": g.direction, "channels": header.channels, "type": header.voxel_type,
        "2D": g.flat,
    }))
}

fn dataset(path: &Path) -> Result<Value> {
    let dataset = Dataset::open(path)?;
    let labels: serde_json::Map<String, Value> =
        dataset.labels.entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    Ok(json!({
        "what": "dataset", "name": dataset.name, "channels": dataset.channel_names, "labels": labels,
        "training": dataset.training.len(), "test": dataset.test.len(), "file ending": dataset.file_ending,
    }))
}

fn model(path: &Path, which: &WhichModel) -> Result<Value> {
    let bundle = which.open(path)?;
    let labels: serde_json::Map<String, Value> =
        bundle.labels.entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    Ok(json!({
        "what": "model", "dataset": bundle.plans_json["dataset_name"], "configuration": bundle.configuration,
        "channels": bundle.channel_names, "labels": labels, "folds": bundle.folds()?,
        "mirror axes": bundle.mirror_axes, "plans": bundle.plans_json["plans_name"],
    }))
}
