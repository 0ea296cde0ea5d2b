//! Labels and channels of a model as nnU-Net's `dataset.json` writes them.

use galen_core::{Error, LabelValue, Labels, Result};
use serde_json::{Map, Value, json};

/// Reads `labels` and `regions_class_order`.
pub fn labels_from_json(dataset: &Value) -> Result<Labels> {
    let bad = |what: String| Error::input("dataset.json, labels", what, "see nnU-Net's dataset format");
    let labels = dataset.get("labels").and_then(Value::as_object);
    let labels = labels.ok_or_else(|| bad("there is no object `labels`".into()))?;
    let number = |name: &str, value: &Value| {
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| bad(format!("`{name}` has {value}, expected a number from 0 to 65535")))
    };
    let mut entries = Vec::new();
    for (name, value) in labels {
        let value = match value {
            Value::Array(values) => {
                LabelValue::Region(values.iter().map(|value| number(name, value)).collect::<Result<_>>()?)
            }
            value => LabelValue::One(number(name, value)?),
        };
        entries.push((name.clone(), value));
    }
    let order = match dataset.get("regions_class_order") {
        None | Some(Value::Null) => None,
        Some(Value::Array(order)) => {
            let numbers = order.iter().map(|value| number("regions_class_order", value));
            Some(numbers.collect::<Result<_>>()?)
        }
        Some(other) => return Err(bad(format!("regions_class_order is {other}, expected a list"))),
    };
    Labels::new(entries, order)
}

/// Writes `labels` as an object; the counterpart of [`labels_from_json`].
pub fn labels_to_json(labels: &Labels) -> Value {
    let value = |value: &LabelValue| match value {
        LabelValue::One(one) => json!(one),
        LabelValue::Region(values) => json!(values),
    };
    Value::Object(labels.entries.iter().map(|(name, v)| (name.clone(), value(v))).collect::<Map<_, _>>())
}

/// Channel names in the order of their numbers, from `channel_names` or the older `modality`.
pub fn channel_names_from_json(dataset: &Value) -> Result<Vec<String>> {
    let bad =
        |what: &str| Error::input("dataset.json, channel_names", what, "number the channels from \"0\"");
    let names = dataset.get("channel_names").or_else(|| dataset.get("modality")).and_then(Value::as_object);
    let names = names.ok_or_else(|| bad("there is no object `channel_names`"))?;
    let channel = |number: usize| names.get(&number.to_string()).and_then(Value::as_str).map(str::to_owned);
    let channels: Option<Vec<String>> = (0..names.len()).map(channel).collect();
    channels
        .filter(|channels| !channels.is_empty())
        .ok_or_else(|| bad("the channels are not numbered 0, 1, ..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_there_and_back() {
        let text = r#"{"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
            "regions_class_order": [1, 2], "channel_names": {"1": "T2", "0": "T1"}}"#;
        let dataset: Value = serde_json::from_str(text).unwrap();
        let labels = labels_from_json(&dataset).unwrap();
        assert_eq!(labels_to_json(&labels), dataset["labels"]);
        assert_eq!(labels.regions_class_order, Some(vec![1, 2]));
        assert_eq!(channel_names_from_json(&dataset).unwrap(), ["T1", "T2"]);
    }

    #[test]
    fn impossible_labels_are_refused() {
        for labels in
            [json!({}), json!({"labels": {"background": -1}}), json!({"labels": {"background": "x"}})]
        {
            assert!(labels_from_json(&labels).is_err(), "{labels}");
        }
        assert!(channel_names_from_json(&json!({"channel_names": {"1": "CT"}})).is_err());
    }
}
