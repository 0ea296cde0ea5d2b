//! Post-processing by largest components, kept only where it helps.
//!
//! Source: nnU-Net v2.8.1, `determine_postprocessing` and `remove_all_but_largest_component_from_segmentation`:
//! first the union of all foreground labels, kept when the mean Dice rises and no label loses; then, with more
//! than one label or region, each of them in order, kept when its own Dice rises.

use crate::case::count_case;
use crate::summary::key;
use crate::{Case, Summary};
use galen_core::{Error, LabelMap, LabelValue, LabelVoxels, Labels, Result};
use galen_kernels::components::Components;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// nnU-Net's name of the only function that it uses.
const FUNCTION: &str = "remove_all_but_largest_component_from_segmentation";
const MODULE: &str = "nnunetv2.postprocessing.remove_connected_components";

/// Keeps the largest component of a set of labels; what it removes becomes background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Of these labels together.
    Together(Vec<u16>),
    /// Of one label or region.
    One(LabelValue),
}

impl Step {
    fn values(&self) -> &[u16] {
        match self {
            Self::Together(values) => values,
            Self::One(value) => value.values(),
        }
    }

    /// Applies the step.
    pub fn apply(&self, map: &mut LabelMap) {
        let mut inside = vec![false; 1 << 16];
        self.values().iter().for_each(|&value| inside[usize::from(value)] = true);
        let size = map.geometry.size;
        match &mut map.voxels {
            LabelVoxels::U8(voxels) => {
                keep_largest(Arc::make_mut(voxels).as_mut_slice(), size, |&v| inside[usize::from(v)])
            }
            LabelVoxels::U16(voxels) => {
                keep_largest(Arc::make_mut(voxels).as_mut_slice(), size, |&v| inside[usize::from(v)])
            }
        }
    }

    /// Arguments of nnU-Net's function.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Together(values) => json!({ "labels_or_regions": values }),
            Self::One(value) => json!({ "labels_or_regions": value }),
        }
    }

    /// Steps of a `postprocessing.json`.
    pub fn all_from_json(file: &Value) -> Result<Vec<Self>> {
        let bad = |what: String| {
            Error::input("postprocessing.json", what, "use the file that find-best or nnU-Net wrote")
        };
        let list = |key: &str| file[key].as_array().ok_or_else(|| bad(format!("there is no list `{key}`")));
        let (functions, arguments) = (list("postprocessing_fns")?, list("postprocessing_kwargs")?);
        if let Some(other) = functions.iter().find(|name| name.as_str() != Some(FUNCTION)) {
            return Err(bad(format!("it asks for {other}, Galen has {FUNCTION}")));
        }
        if functions.len() != arguments.len() {
            return Err(bad("functions and arguments differ in number".into()));
        }
        let step = |arguments: &Value| {
            let value = &arguments["labels_or_regions"];
            let mut values = Vec::new();
            match flat(value, &mut values) {
                true if !value.is_array() && values.len() == 1 => Ok(Self::One(LabelValue::One(values[0]))),
                true if !values.is_empty() => Ok(Self::Together(values)),
                _ => Err(bad(format!("labels_or_regions is {value}"))),
            }
        };
        arguments.iter().map(step).collect()
    }
}

/// Label numbers in a number, a list or a list of lists; false when there is anything else.
fn flat(value: &Value, values: &mut Vec<u16>) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| flat(item, values)),
        other => match other.as_u64().and_then(|number| u16::try_from(number).ok()) {
            Some(number) => {
                values.push(number);
                true
            }
            None => false,
        },
    }
}

fn keep_largest<T: Copy + Default + Sync>(
    voxels: &mut [T],
    size: [usize; 3],
    inside: impl Fn(&T) -> bool + Sync,
) {
    let components = Components::of(voxels, size, inside);
    for run in components.beside_the_largest() {
        voxels[run.start..run.start + run.length].fill(T::default());
    }
}

/// Steps that help, with the scores before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Determined {
    /// Steps in the order in which they must be applied.
    pub steps: Vec<Step>,
    /// Scores of the predictions as they are.
    pub before: Summary,
    /// Scores after all steps.
    pub after: Summary,
    /// One sentence per step that was tried.
    pub explanation: Vec<String>,
}

impl Determined {
    /// Contents of nnU-Net's `postprocessing.json`; an undefined mean is NaN there.
    pub fn to_json(&self) -> String {
        let means = |summary: &Summary| crate::summary::Part {
            foreground_mean: summary.foreground_mean.clone(),
            mean: summary.mean.clone(),
        };
        crate::summary::python_json(&File {
            input_folder: means(&self.before),
            postprocessed: means(&self.after),
            postprocessing_fns: vec![FUNCTION; self.steps.len()],
            postprocessing_kwargs: self.steps.iter().map(Step::to_json).collect(),
        })
    }

    /// Contents of nnU-Net's `postprocessing.pkl`, for `nnUNetv2_apply_postprocessing`: the functions and their
    /// arguments, pickled (protocol 2).
    pub fn to_pickle(&self) -> Vec<u8> {
        let mut bytes = b"\x80\x02](".to_vec();
        for _ in &self.steps {
            bytes.extend(format!("c{MODULE}\n{FUNCTION}\n").bytes());
        }
        bytes.extend(b"e](");
        for step in &self.steps {
            bytes.extend(b"}X\x11\0\0\0labels_or_regions");
            let (values, is_list) = (step.values(), matches!(step, Step::Together(_)));
            match step {
                Step::One(LabelValue::One(value)) => pickled_number(*value, &mut bytes),
                _ => {
                    bytes.extend(if is_list { &b"]("[..] } else { b"(" });
                    values.iter().for_each(|&value| pickled_number(value, &mut bytes));
                    bytes.push(if is_list { b'e' } else { b't' });
                }
            }
            bytes.push(b's');
        }
        bytes.extend(b"e\x86.");
        bytes
    }
}

/// A number of two bytes.
fn pickled_number(value: u16, bytes: &mut Vec<u8>) {
    bytes.push(b'M');
    bytes.extend(value.to_le_bytes());
}

#[derive(Serialize)]
struct File {
    input_folder: crate::summary::Part,
    postprocessed: crate::summary::Part,
    postprocessing_fns: Vec<&'static str>,
    postprocessing_kwargs: Vec<Value>,
}

/// A case to score: names for the summary, and how to get reference and prediction.
pub trait Pairs: Sync {
    /// Number of cases.
    fn count(&self) -> usize;
    /// Name, and paths of reference and prediction, as the summary shows them.
    fn names(&self, case: usize) -> [String; 3];
    /// Reference and prediction.
    fn read(&self, case: usize) -> Result<(LabelMap, LabelMap)>;
}

/// Scores predictions after some steps, by voxel counts alone.
pub fn score(pairs: &dyn Pairs, labels: &Labels, steps: &[Step]) -> Result<Summary> {
    let one = |case: usize| {
        let (reference, mut prediction) = pairs.read(case)?;
        steps.iter().for_each(|step| step.apply(&mut prediction));
        let [id, reference_file, prediction_file] = pairs.names(case);
        let scores = count_case(&reference, &prediction, labels).map_err(|error| error.within(&id))?;
        Ok(Case { id, reference_file, prediction_file, scores })
    };
    let cases = (0..pairs.count()).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(Summary::of_cases(&cases))
}

/// Finds the steps that help on these cases.
pub fn determine(pairs: &dyn Pairs, labels: &Labels) -> Result<Determined> {
    let before = score(pairs, labels, &[])?;
    let (mut steps, mut best, mut explanation) = (Vec::new(), before.clone(), Vec::new());
    let foreground = Step::Together(labels.foreground());
    let all = score(pairs, labels, std::slice::from_ref(&foreground))?;
    let worse = |(key, means): (&String, &crate::summary::Means)| {
        // A label without a mean neither rises nor falls.
        means.Dice.zip(best.mean.get(key).and_then(|m| m.Dice)).is_some_and(|(after, before)| after < before)
    };
    let helps = rises(best.foreground_mean.Dice, all.foreground_mean.Dice) && !all.mean.iter().any(worse);
    explanation.push(sentence(
        "all foreground together",
        best.foreground_mean.Dice,
        all.foreground_mean.Dice,
        helps,
    ));
    if helps {
        steps.push(foreground);
        best = all;
    }
    let scored = labels.scored();
    for value in scored.iter().filter(|_| scored.len() > 1) {
        let tried = Step::One(value.clone());
        let with: Vec<Step> = steps.iter().cloned().chain([tried.clone()]).collect();
        let result = score(pairs, labels, &with)?;
        let dice = |summary: &Summary| summary.mean.get(&key(value)).and_then(|means| means.Dice);
        let helps = rises(dice(&best), dice(&result));
        explanation.push(sentence(&labels.name_of(value), dice(&best), dice(&result), helps));
        if helps {
            steps.push(tried);
            best = result;
        }
    }
    Ok(Determined { steps, before, after: best, explanation })
}

fn rises(before: Option<f64>, after: Option<f64>) -> bool {
    before.zip(after).is_some_and(|(before, after)| after > before)
}

fn sentence(what: &str, before: Option<f64>, after: Option<f64>, kept: bool) -> String {
    let show = |dice: Option<f64>| dice.map_or("undefined".to_owned(), |dice| format!("{dice:.5}"));
    let end = if kept { "kept" } else { "not kept" };
    format!("largest component of {what}: Dice {} -> {}, {end}", show(before), show(after))
}
