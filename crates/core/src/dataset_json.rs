//! Labels and channels as `dataset.json` writes them: that of a dataset, and that of a model.
//! Source: nnU-Net v2.8.1 and Medical Segmentation Decathlon.

use crate::{Error, LabelValue, Labels, Result};
use serde_json::{Map, Value, json};

impl Labels {
    /// Reads `labels` and `regions_class_order` of a `dataset.json`, nnU-Net's (`"liver": 1`) or the Medical
    /// Segmentation Decathlon's (`"1": "liver"`), told apart entry by entry.
    pub fn from_json(json: &Map<String, Value>) -> Result<Self> {
        let Some(Value::Object(map)) = json.get("labels") else {
            let remedy = "add \"labels\": {\"background\": 0, \"liver\": 1}";
            return Err(Error::input("labels", "there is no object of that name", remedy));
        };
        let mut entries = map.iter().map(|(key, value)| entry(key, value)).collect::<Result<Vec<_>>>()?;
        if !entries.iter().any(|(name, _)| name == "background") {
            // MSD files name value 0 as they like.
            if let Some(zero) = entries.iter_mut().find(|(_, value)| *value == LabelValue::One(0)) {
                zero.0 = "background".into();
            }
        }
        let order = match json.get("regions_class_order") {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) => {
                Some(list.iter().map(|v| number("regions_class_order", v)).collect::<Result<_>>()?)
            }
            Some(other) => {
                let what = format!("is {other}");
                return Err(Error::input("regions_class_order", what, "give a list of label values"));
            }
        };
        Self::new(entries, order)
    }

    /// `labels` as nnU-Net writes them.
    pub fn to_json(&self) -> Value {
        self.entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
    }
}

fn entry(key: &str, value: &Value) -> Result<(String, LabelValue)> {
    if let (Ok(number), Value::String(name)) = (key.trim().parse::<u16>(), value) {
        return Ok((name.clone(), LabelValue::One(number)));
    }
    if let Value::Array(list) = value {
        let values = list.iter().map(|v| number(key, v)).collect::<Result<_>>()?;
        return Ok((key.to_owned(), LabelValue::Region(values)));
    }
    Ok((key.to_owned(), LabelValue::One(number(key, value)?)))
}

fn number(name: &str, value: &Value) -> Result<u16> {
    integer(value).and_then(|v| u16::try_from(v).ok()).ok_or_else(|| {
        let what = format!("`{name}` has the value {value}");
        Error::input("labels", what, "give an integer from 0 to 65535, or a list of them for a region")
    })
}

/// An integer, also when some tool wrote it as 1.0 or "1".
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Channel names of a `dataset.json` in the order of their numbers, from `channel_names` or the older `modality`.
pub fn channel_names(json: &Map<String, Value>) -> Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn parse(value: Value) -> Result<Labels> {
        Labels::from_json(&object(value))
    }

    #[test]
    fn both_ways_to_write_labels_mean_the_same() {
        let msd = parse(json!({"labels": {"0": "nothing", "1": "Anterior"}})).unwrap();
        let nnunet = parse(json!({"labels": {"background": 0, "Anterior": 1.0}})).unwrap();
        assert_eq!(msd, nnunet);
    }

    #[test]
    fn labels_go_there_and_back() {
        let dataset = json!({"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
            "regions_class_order": [1, 2], "channel_names": {"1": "T2", "0": "T1"}});
        let labels = parse(dataset.clone()).unwrap();
        assert_eq!(labels.to_json(), dataset["labels"]);
        assert_eq!((labels.output_channels(), &labels.regions_class_order), (2, &Some(vec![1, 2])));
        assert_eq!(channel_names(&object(dataset)).unwrap(), ["T1", "T2"]);
    }

    #[test]
    fn impossible_labels_are_refused_by_name() {
        for (wrong, word) in [
            (json!({}), "labels"),
            (json!({"labels": {"background": -1}}), "background"),
            (json!({"labels": {"background": 0, "liver": "x"}}), "liver"),
            (json!({"labels": {"0": "nothing", "1": "x", "2": "x"}}), "`x` is there twice"),
            (json!({"labels": {"background": 0, "all": [0, 1]}, "regions_class_order": [1]}), "`all`"),
            (json!({"labels": {"background": 0, "none": []}}), "`none`"),
            (json!({"labels": {"background": 0}, "regions_class_order": 1}), "regions_class_order"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(channel_names(&object(json!({"channel_names": {"1": "CT"}}))).is_err());
    }
}
