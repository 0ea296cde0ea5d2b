//! `galen info`: what is this file, dataset or model? Or this processor?

use super::predict::WhichModel;
use crate::dicom;
use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_data::Dataset;
use galen_kernels::{Cpu, paths};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What is this file, dataset, model or DICOM study?
///
/// Of a DICOM folder, zip or DICOMDIR, every series is listed: what it is, its grid, and why it is or is not a volume.
/// Names and numbers of patients are never shown.
///
/// Examples: galen info scan.nii.gz; galen info data/Dataset004_Hippocampus; galen info runs/hippo; galen info exported.zip;
/// galen info study/ --json; galen info --cpu
#[derive(clap::Args)]
pub struct Arguments {
    /// Image file, dataset folder, model folder or zip, DICOM folder, zip or DICOMDIR
    #[arg(required_unless_present = "cpu")]
    path: Option<PathBuf>,
    /// Which code runs for each operation on this processor, and why (GALEN_CPU forces a path)
    #[arg(long, conflicts_with = "path")]
    cpu: bool,
    #[command(flatten)]
    which: WhichModel,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let Some(path) = &arguments.path else { return processor(session) };
    let zip = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    let facts = if path.is_file() && !zip && galen_io::dicom::is_dicom(path) {
        return dicom::info(&dicom::open(path, session)?, session);
    } else if path.is_file() && !zip {
        image(path)?
    } else if zip {
        match model(path, &arguments.which) {
            Ok(facts) => facts,
            Err(no_model) => match galen_io::dicom::is_collection(path).then(|| dicom::open(path, session)) {
                Some(Ok(study)) if !study.series.is_empty() => return dicom::info(&study, session),
                _ => return Err(no_model),
            },
        }
    } else if path.join("model.json").exists() || path.join("plans.json").exists() {
        model(path, &arguments.which)?
    } else if path.join("dataset.json").exists() {
        dataset(path)?
    } else if path.is_dir() {
        let study = dicom::open(path, session)?;
        if study.series.is_empty() && study.unreadable.is_empty() {
            return Err(Error::input(
                path.display(),
                "holds neither dataset.json nor model.json nor plans.json, and no DICOM file",
                "give an image file, a dataset folder, a model folder or a DICOM study",
            ));
        }
        return dicom::info(&study, session);
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

/// The instruction set in use and what runs for each operation.
fn processor(session: &Session) -> Result<Exit> {
    let (cpu, all) = (Cpu::detected(), paths::paths());
    let available: Vec<_> = Cpu::available().iter().map(|cpu| cpu.name()).collect();
    let features: Vec<Value> = paths::features()
        .into_iter()
        .map(|(name, found, used)| json!({ "name": name, "found": found, "used for": used }))
        .collect();
    let operations: Vec<Value> = all
        .iter()
        .map(|path| json!({ "operation": path.operation, "runs": path.runs, "because": path.because }))
        .collect();
    session.document(&json!({
        "what": "processor", "path": cpu.name(), "because": paths::reason(cpu), "available": available,
        "features": features, "operations": operations, "threads": rayon::current_num_threads(),
    }))?;
    session.say(format!("path {}: {}", cpu.name(), paths::reason(cpu)));
    for (name, found, used) in paths::features() {
        session.say(format!("{name:<12} {}", if found { format!("for {used}") } else { "not found".into() }));
    }
    let width = all.iter().map(|path| path.operation.len()).max().unwrap_or(0);
    for path in &all {
        session.say(format!("{:<width$}  {} ({})", path.operation, path.runs, path.because));
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
    let recorded = bundle.provenance.label_resampling.as_str();
    let labels: serde_json::Map<String, Value> =
        bundle.labels.entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    Ok(json!({
        "what": "model", "dataset": bundle.plans_json["dataset_name"], "configuration": bundle.configuration,
        "channels": bundle.channel_names, "labels": labels, "folds": bundle.folds()?,
        "mirror axes": bundle.mirror_axes, "plans": bundle.plans_json["plans_name"],
        "label resampling": if recorded.is_empty() { "not recorded" } else { recorded },
    }))
}
