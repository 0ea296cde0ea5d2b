//! `dataset.json`: what a dataset says about itself.
//! Source: nnU-Net v2.8.1 and Medical Segmentation Decathlon. Differs: MSD's labels (`"1": "liver"`) and
//! nnU-Net's (`"liver": 1`) are told apart entry by entry, so files half converted by hand are read too.

use galen_core::{Error, LabelValue, Labels, Result};
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
    labels(&json).map_err(|error| error.within(file.display()))
}

impl Description {
    /// Reads and checks the file.
    pub fn read(file: &Path) -> Result<Self> {
        let json = read_object(file)?;
        let described = || -> Result<Self> {
            let channel_names = channel_names(&json)?;
            let labels = labels(&json)?;
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
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Error::bug(file.display(), error))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::system(folder.display(), &error))?;
    }
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

/// An integer, also when some tool wrote it as 1.0 or "1".
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn channel_names(json: &Map<String, Value>) -> Result<Vec<String>> {
    let name = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let names = match json.get("channel_names").or_else(|| json.get("modality")) {
        Some(Value::Object(map)) => numbered_names(map, name)?,
        Some(Value::Array(list)) => list.iter().map(name).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    if names.is_empty() {
        let remedy = "add \"channel_names\": {\"0\": \"CT\"} with one entry per channel";
        return Err(Error::input("channel_names", "there is none (nor `modality`)", remedy));
    }
    Ok(names)
}

fn numbered_names(map: &Map<String, Value>, name: impl Fn(&Value) -> String) -> Result<Vec<String>> {
    (0..map.len())
        .map(|index| {
            map.get(&index.to_string()).map(&name).ok_or_else(|| {
                let keys: Vec<&str> = map.keys().map(String::as_str).collect();
                let what = format!("keys are {}, without \"{index}\"", keys.join(", "));
                Error::input("channel_names", what, "number the channels from \"0\" without gaps")
            })
        })
        .collect()
}

fn labels(json: &Map<String, Value>) -> Result<Labels> {
    let Some(Value::Object(map)) = json.get("labels") else {
        let remedy = "add \"labels\": {\"background\": 0, \"liver\": 1}";
        return Err(Error::input("labels", "there is no object of that name", remedy));
    };
    let mut entries = map.iter().map(|(key, value)| label(key, value)).collect::<Result<Vec<_>>>()?;
    if !entries.iter().any(|(name, _)| name == "background") {
        // MSD files name value 0 as they like.
        if let Some(zero) = entries.iter_mut().find(|(_, value)| *value == LabelValue::One(0)) {
            zero.0 = "background".into();
        }
    }
    let order = match json.get("regions_class_order") {
        Some(Value::Array(list)) => {
            Some(list.iter().map(|v| label_value("regions_class_order", v)).collect::<Result<_>>()?)
        }
        _ => None,
    };
    Labels::new(entries, order)
}

fn label(key: &str, value: &Value) -> Result<(String, LabelValue)> {
    if let (Ok(number), Value::String(name)) = (key.trim().parse::<u16>(), value) {
        return Ok((name.clone(), LabelValue::One(number)));
    }
    if let Value::Array(list) = value {
        let values = list.iter().map(|v| label_value(key, v)).collect::<Result<_>>()?;
        return Ok((key.to_owned(), LabelValue::Region(values)));
    }
    Ok((key.to_owned(), LabelValue::One(label_value(key, value)?)))
}

fn label_value(name: &str, value: &Value) -> Result<u16> {
    integer(value).and_then(|v| u16::try_from(v).ok()).ok_or_else(|| {
        let what = format!("`{name}` has the value {value}");
        Error::input("labels", what, "give an integer from 0 to 65535, or a list of them for a region")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Labels> {
        let Value::Object(json) = value else { unreachable!() };
        labels(&json)
    }

    #[test]
    fn both_ways_to_write_labels_mean_the_same() {
        let msd = parse(json!({"labels": {"0": "nothing", "1": "Anterior"}})).unwrap();
        let nnunet = parse(json!({"labels": {"background": 0, "Anterior": 1.0}})).unwrap();
        assert_eq!(msd, nnunet);
    }

    #[test]
    fn regions_and_their_order_are_read() {
        let labels = parse(json!({
            "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]
        }));
        assert_eq!(labels.unwrap().output_channels(), 2);
    }

    #[test]
    fn a_bad_value_is_named() {
        let error = parse(json!({"labels": {"background": 0, "liver": "x"}})).unwrap_err().to_string();
        assert!(error.contains("liver"), "{error}");
    }
}
