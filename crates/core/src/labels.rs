//! What label values mean: names, regions, the ignore label. Rules as in nnU-Net v2 `dataset.json`.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What one name of `labels` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelValue {
    /// A single label value.
    One(u16),
    /// A region: the union of these label values.
    Region(Vec<u16>),
}

impl LabelValue {
    /// The values it covers.
    pub fn values(&self) -> &[u16] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Region(values) => values,
        }
    }
}

/// Names and values of a dataset, in the order of its `dataset.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Labels {
    /// Name and value, in file order; contains `background`, may contain `ignore`.
    pub entries: Vec<(String, LabelValue)>,
    /// For region datasets: the label written for each foreground region, later ones on top.
    pub regions_class_order: Option<Vec<u16>>,
}

impl Labels {
    /// Checks nnU-Net's rules: `background` is 0, `ignore` is one value and the largest,
    /// regions come with a class order of the same length.
    pub fn new(entries: Vec<(String, LabelValue)>, regions_class_order: Option<Vec<u16>>) -> Result<Self> {
        let labels = Self { entries, regions_class_order };
        let bad = |what: String, remedy: &str| Err(Error::input("dataset.json, labels", what, remedy));
        match labels.value("background") {
            Some(LabelValue::One(0)) => {}
            Some(_) => return bad("`background` is not 0".into(), "give background the value 0"),
            None => return bad("there is no `background`".into(), "add \"background\": 0"),
        }
        for (i, (name, value)) in labels.entries.iter().enumerate() {
            if labels.entries[..i].iter().any(|(other, _)| other == name) {
                return bad(format!("`{name}` is there twice"), "give every label a name of its own");
            }
            match value {
                LabelValue::Region(values) if values.is_empty() || values.contains(&0) => {
                    return bad(
                        format!("the region `{name}` is {values:?}"),
                        "list the label values of the region, without the background's 0",
                    );
                }
                _ => {}
            }
        }
        if let Some(ignore) = labels.value("ignore") {
            let LabelValue::One(value) = ignore else {
                return bad("`ignore` is a list".into(), "give it one value, the highest");
            };
            if labels.all().iter().any(|v| v >= value) {
                return bad(
                    format!("`ignore` is {value}, not the largest label"),
                    "renumber: ignore comes last",
                );
            }
        }
        if labels.has_regions() {
            let (want, have) = (labels.regions().len(), labels.regions_class_order.as_ref().map(Vec::len));
            if have != Some(want) {
                return bad(
                    format!("{want} regions, but regions_class_order has {}", have.unwrap_or(0)),
                    "list one label value per foreground region in regions_class_order",
                );
            }
        }
        Ok(labels)
    }

    fn value(&self, name: &str) -> Option<&LabelValue> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// True when any entry is a list of more than one value.
    pub fn has_regions(&self) -> bool {
        self.entries.iter().any(|(_, v)| v.values().len() > 1)
    }

    /// The value that marks voxels without annotation.
    pub fn ignore(&self) -> Option<u16> {
        self.value("ignore").map(|v| v.values()[0])
    }

    /// All label values without `ignore`, ascending; background included.
    pub fn all(&self) -> Vec<u16> {
        let mut all: Vec<u16> = self
            .entries
            .iter()
            .filter(|(n, _)| n != "ignore")
            .flat_map(|(_, v)| v.values().to_vec())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All label values but background and `ignore`, ascending.
    pub fn foreground(&self) -> Vec<u16> {
        self.all().into_iter().filter(|&v| v != 0).collect()
    }

    /// Foreground regions in file order (each single label is a region of one). Entries that are
    /// only background, and `ignore`, are left out.
    pub fn regions(&self) -> Vec<LabelValue> {
        let foreground =
            |(name, v): &&(String, LabelValue)| name != "ignore" && v.values().iter().any(|&x| x != 0);
        self.entries.iter().filter(foreground).map(|(_, v)| v.clone()).collect()
    }

    /// Channels that a network must output: regions without background, or all labels with it.
    pub fn output_channels(&self) -> usize {
        if self.has_regions() { self.regions().len() } else { self.all().len() }
    }

    /// What is scored: regions, or each foreground label.
    pub fn scored(&self) -> Vec<LabelValue> {
        if self.has_regions() {
            self.regions()
        } else {
            self.foreground().into_iter().map(LabelValue::One).collect()
        }
    }

    /// Name of a scored entry, or its value when it has none.
    pub fn name_of(&self, value: &LabelValue) -> String {
        let same = |(_, v): &&(String, LabelValue)| v.values() == value.values();
        self.entries
            .iter()
            .find(same)
            .map_or_else(|| format!("{:?}", value.values()), |(name, _)| name.clone())
    }

    /// Entries of `dataset.json` as nnU-Net's planner counts classes: all names, ignore and regions included.
    pub fn planner_classes(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: u16) -> (String, LabelValue) {
        (name.into(), LabelValue::One(value))
    }

    #[test]
    fn plain_labels_count_background_as_a_channel() {
        let labels =
            Labels::new(vec![one("background", 0), one("a", 1), one("b", 2), one("ignore", 3)], None)
                .unwrap();
        assert_eq!((labels.all(), labels.output_channels(), labels.ignore()), (vec![0, 1, 2], 3, Some(3)));
        assert_eq!(labels.planner_classes(), 4);
        assert_eq!(labels.name_of(&LabelValue::One(2)), "b");
    }

    #[test]
    fn regions_need_an_order_and_have_no_background_channel() {
        let entries =
            vec![one("background", 0), ("whole".into(), LabelValue::Region(vec![1, 2])), one("core", 2)];
        assert!(Labels::new(entries.clone(), None).is_err());
        let labels = Labels::new(entries, Some(vec![1, 2])).unwrap();
        assert_eq!((labels.output_channels(), labels.scored().len()), (2, 2));
    }

    #[test]
    fn ignore_must_be_the_largest() {
        assert!(Labels::new(vec![one("background", 0), one("ignore", 1), one("a", 2)], None).is_err());
        assert!(Labels::new(vec![one("a", 1)], None).is_err());
    }
}
