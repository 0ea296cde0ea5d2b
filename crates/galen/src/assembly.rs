//! Descriptions of several models that are used together (`--model FILE.toml`, or the name of a preset), and what their
//! label values become.

use crate::nnunet_roots;
use galen_core::{Error, LabelValue, Labels, Result};
use galen_infer::{Assembly, Crop, Options, Part, Predictor};
use galen_models::{Bundle, BundleForm, Choice};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Descriptions that come with Galen: name and text.
const PRESETS: [(&str, &str); 2] = [
    ("totalsegmentator", include_str!("presets/totalsegmentator.toml")),
    ("totalsegmentator-fast", include_str!("presets/totalsegmentator-fast.toml")),
];

/// Several models, as a file describes them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Spacing in mm to which a scan is brought first.
    spacing: Option<f64>,
    /// Spline order of that.
    #[serde(default = "linear")]
    order: u8,
    /// Step of the sliding window.
    #[serde(default = "half")]
    step: f64,
    /// Average over mirrored copies.
    #[serde(default)]
    mirroring: bool,
    /// The models, later ones on top.
    parts: Vec<Model>,
    /// Rough model that says where to look.
    crop: Option<Rough>,
    /// Name of a label and its value in the result; without it labels are counted through.
    numbers: Option<BTreeMap<String, u16>>,
}

fn linear() -> u8 {
    1
}

fn half() -> f64 {
    0.5
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    /// Folder or zip, relative to the file; or a dataset in $nnUNet_results.
    model: PathBuf,
    config: Option<String>,
    trainer: Option<String>,
    plans: Option<String>,
    /// Folds to average; all when left out.
    #[serde(default)]
    folds: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rough {
    model: PathBuf,
    config: Option<String>,
    trainer: Option<String>,
    plans: Option<String>,
    #[serde(default)]
    folds: Vec<String>,
    /// Spacing in mm at which it looks.
    spacing: Option<f64>,
    /// Names of the labels that make the mask; all when left out.
    labels: Option<Vec<String>>,
    /// Margin in mm.
    margin: f64,
}

/// Models that are ready, and the labels that they write.
pub struct Loaded {
    /// The models and the steps around them.
    pub assembly: Assembly,
    /// Name and value of each label in the result.
    pub numbers: Vec<(String, u16)>,
}

/// The description that `--model` names, if it names one: a `.toml` file or a preset.
pub fn named(model: &Path) -> bool {
    model.extension().is_some_and(|ending| ending == "toml") || preset(model).is_some()
}

fn preset(model: &Path) -> Option<&'static str> {
    let name = model.to_str()?;
    if model.exists() {
        return None;
    }
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Loads all models of a description. `step` and `mirroring` take the place of its own where they are given.
pub fn load(file: &Path, step: Option<f64>, mirroring: Option<bool>) -> Result<Loaded> {
    let text = match preset(file) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?,
    };
    let bad = |what: String| Error::input(file.display(), what, "see docs/totalsegmentator.md for the form");
    let description: Description = toml::from_str(&text)
        .map_err(|error| bad(error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")))?;
    if description.parts.is_empty() {
        return Err(bad("no [[parts]]".into()));
    }
    if ![0, 1, 3].contains(&description.order) {
        return Err(bad(format!("order = {}, expected 0, 1 or 3", description.order)));
    }
    let rough_spacing = description.crop.as_ref().and_then(|crop| crop.spacing);
    let lengths = [description.spacing, rough_spacing];
    if let Some(mm) = lengths.into_iter().flatten().find(|mm| !(0.05..=100.0).contains(mm)) {
        return Err(bad(format!("a spacing of {mm} mm")));
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    let options = Options {
        step: step.unwrap_or(description.step),
        mirror: mirroring.unwrap_or(description.mirroring),
        compat_f16: false,
        ..Options::default()
    };
    let mut parts = Vec::new();
    for part in &description.parts {
        let (predictor, labels) = part.open(folder, options)?;
        parts.push((predictor, labels, part.model.clone()));
    }
    let numbers =
        numbering(parts.iter().map(|(_, labels, _)| labels), description.numbers.as_ref()).map_err(bad)?;
    let value = |name: &str| numbers.iter().find(|(known, _)| known == name).map_or(0, |&(_, value)| value);
    let parts = parts
        .into_iter()
        .map(|(predictor, labels, _)| Part { predictor, numbers: table(&labels, &value) })
        .collect();
    let crop = description.crop.map(|crop| crop.open(folder, options, &bad)).transpose()?;
    let assembly = Assembly { parts, spacing: description.spacing, order: description.order, crop };
    Ok(Loaded { assembly, numbers })
}

impl Model {
    fn open(&self, folder: &Path, options: Options) -> Result<(Predictor, Labels)> {
        let beside = folder.join(&self.model);
        let path = if beside.exists() { beside } else { nnunet_roots::model(&self.model)? };
        let choice = Choice {
            configuration: self.config.clone(),
            trainer: self.trainer.clone(),
            plans: self.plans.clone(),
            checkpoint: None,
        };
        let bundle = Bundle::open_chosen(&path, &choice)?;
        if bundle.channel_names.len() != 1 {
            let what = format!("it reads {} channels", bundle.channel_names.len());
            return Err(Error::input(path.display(), what, "use models of one channel together"));
        }
        let options = Options { compat_f16: bundle.form == BundleForm::NnUnet, ..options };
        let predictor = Predictor::new(&bundle, &self.folds, options)?;
        if predictor.needs_previous_stage() {
            let what = "it is the second stage of a cascade";
            return Err(Error::input(path.display(), what, "use models that read scans alone"));
        }
        Ok((predictor, bundle.labels))
    }
}

impl Rough {
    fn open(self, folder: &Path, options: Options, bad: &dyn Fn(String) -> Error) -> Result<Crop> {
        if !(0.0..=1000.0).contains(&self.margin) {
            return Err(bad(format!("a margin of {} mm", self.margin)));
        }
        let model = Model {
            model: self.model,
            config: self.config,
            trainer: self.trainer,
            plans: self.plans,
            folds: self.folds,
        };
        let (predictor, labels) = model.open(folder, options)?;
        let names: Vec<String> = foreground(&labels).into_iter().map(|(name, _)| name).collect();
        let wanted = self.labels.unwrap_or_else(|| names.clone());
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(name)) {
            return Err(bad(format!("[crop] has no label `{unknown}`, only {}", shortened(&names))));
        }
        let numbers = table(&labels, &|name| u16::from(wanted.iter().any(|known| known == name)));
        Ok(Crop { rough: Part { predictor, numbers }, spacing: self.spacing, margin: self.margin })
    }
}

/// Names of the labels that a model writes, with the values that it writes, ascending.
fn foreground(labels: &Labels) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    let mut order = labels.regions_class_order.iter().flatten();
    for (name, value) in &labels.entries {
        let background = value.values() == [0];
        if background || name == "ignore" {
            continue;
        }
        match (labels.has_regions(), value) {
            (true, _) => found.extend(order.next().map(|&written| (name.clone(), written))),
            (false, LabelValue::One(written)) => found.push((name.clone(), *written)),
            (false, LabelValue::Region(values)) => found.extend(values.first().map(|&v| (name.clone(), v))),
        }
    }
    found.sort_by_key(|&(_, written)| written);
    found
}

/// What each value of a model becomes.
fn table(labels: &Labels, value: &dyn Fn(&str) -> u16) -> Vec<u16> {
    let names = foreground(labels);
    let mut table = vec![0; names.iter().map(|&(_, written)| usize::from(written) + 1).max().unwrap_or(0)];
    names.iter().for_each(|(name, written)| table[usize::from(*written)] = value(name));
    table
}

/// Values of the result: those given, or counted through over the parts; a name that occurs twice is one label.
fn numbering<'a>(
    parts: impl Iterator<Item = &'a Labels>,
    given: Option<&BTreeMap<String, u16>>,
) -> Result<Vec<(String, u16)>, String> {
    let mut numbers: Vec<(String, u16)> = Vec::new();
    for (name, _) in parts.flat_map(foreground) {
        if numbers.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let value = match given {
            None => u16::try_from(numbers.len() + 1).map_err(|_| "more than 65535 labels".to_owned())?,
            Some(given) => match given.get(&name) {
                Some(0) => return Err(format!("[numbers] gives `{name}` the value of background")),
                Some(&value) => value,
                None => continue, // left out on purpose: it becomes background
            },
        };
        numbers.push((name, value));
    }
    for name in given.into_iter().flat_map(BTreeMap::keys) {
        if !numbers.iter().any(|(known, _)| known == name) {
            return Err(format!("[numbers] names `{name}`, which no part segments"));
        }
    }
    Ok(numbers)
}

fn shortened(names: &[String]) -> String {
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    format!("{}{more}", names[..names.len().min(8)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Labels {
        let entries =
            names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), LabelValue::One(i as u16)));
        Labels::new(entries.collect(), None).unwrap()
    }

    #[test]
    fn labels_are_counted_through_or_numbered_by_the_table() {
        let parts = [labels(&["background", "spleen", "liver"]), labels(&["background", "rib", "spleen"])];
        let counted = numbering(parts.iter(), None).unwrap();
        assert_eq!(counted, [("spleen".into(), 1), ("liver".into(), 2), ("rib".into(), 3)]);
        let value =
            |name: &str| counted.iter().find(|(known, _)| known == name).map_or(0, |&(_, value)| value);
        assert_eq!(table(&parts[1], &value), [0, 3, 1]);
        let given = BTreeMap::from([("liver".to_owned(), 300), ("rib".to_owned(), 7)]);
        assert_eq!(
            numbering(parts.iter(), Some(&given)).unwrap(),
            [("liver".into(), 300), ("rib".into(), 7)]
        );
        let unknown = BTreeMap::from([("toe".to_owned(), 1)]);
        assert!(numbering(parts.iter(), Some(&unknown)).unwrap_err().contains("`toe`"));
    }

    #[test]
    fn presets_are_whole() {
        for (name, text) in PRESETS {
            let description: Description =
                toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!description.parts.is_empty() && named(Path::new(name)));
        }
    }
}
