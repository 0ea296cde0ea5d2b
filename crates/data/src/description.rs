//! `dataset.json`: what a dataset says about itself.
//! Source: nnU-Net v2.8.1 and Medical Segmentation Decathlon. Differs: MSD's labels (`"1": "liver"`) and
//! nnU-Net's (`"liver": 1`) are told apart entry by entry, so files half converted by hand are read too.

use galen_core::{Error, Labels, Result, channel_names, integer};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The parsed file, with everything else it held kept in `json`.
#[derive(Debug, Clone)]
pub struct Description {
    /// The whole file.
    pub json: Map<String, Value>,
    /// Names of the image channels, in order.
    pub channel_names: Vec<String>,
    /// Names and values of the labels.
    pub labels: Labels,
    /// `numTraining`, when it is there.
    pub num_training: Option<usize>,
    /// `file_ending`, when it is there; starts with a dot.
    pub file_ending: Option<String>,
}

/// Labels of a `dataset.json`, nnU-Net's or MSD's.
pub fn read_labels_of(file: &Path) -> Result<Labels> {
    let json = read_object(file)?;
    Labels::from_json(&json).map_err(|error| error.within(file.display()))
}

impl Description {
    /// Reads and checks the file.
    pub fn read(file: &Path) -> Result<Self> {
        let json = read_object(file)?;
        let described = || -> Result<Self> {
            let channel_names = channel_names(&json)?;
            let labels = Labels::from_json(&json)?;
            let num_training = json.get("numTraining").and_then(integer).and_then(|n| n.try_into().ok());
            let file_ending = match json.get("file_ending") {
                None => None,
                Some(Value::String(ending)) if ending.starts_with('.') && ending.len() > 1 => {
                    Some(ending.clone())
                }
                Some(other) => {
                    let what = format!("{other} is no file ending");
                    return Err(Error::input("file_ending", what, "write it with its dot, e.g. \".nii.gz\""));
                }
            };
            Ok(Self { json: json.clone(), channel_names, labels, num_training, file_ending })
        };
        described().map_err(|error| error.within(file.display()))
    }

    /// `overwrite_image_reader_writer`, unless it is absent or "None".
    pub fn chosen_reader(&self) -> Option<&str> {
        self.json.get("overwrite_image_reader_writer").and_then(Value::as_str).filter(|name| *name != "None")
    }
}

/// Writes JSON as nnU-Net does (four spaces), beside the target and renamed.
pub fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Error::bug(file.display(), error))?;
    galen_io::replace_file(file, &bytes)
}

fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match serde_json::from_str(text) {
        Ok(Value::Object(json)) => Ok(json),
        Ok(_) => Err(Error::input(
            file.display(),
            "holds no JSON object",
            "write { \"labels\": ... } as nnU-Net does",
        )),
        Err(error) => {
            Err(Error::input(file.display(), format!("is not valid JSON: {error}"), "correct that line"))
        }
    }
}
