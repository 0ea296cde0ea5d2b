//! Evaluation of a set of cases: scores per case, means per label with intervals.

use crate::bootstrap::bootstrap;
use crate::{ALL, CaseScores, Interval, bootstrap_mean};
use galen_core::LabelValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A scored case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Name of the case.
    pub id: String,
    /// Path of the reference, as the user gave it.
    pub reference_file: String,
    /// Path of the prediction, as the user gave it.
    pub prediction_file: String,
    /// Scores of its labels.
    pub scores: CaseScores,
}

/// Means of one label over the cases, per metric id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMeans {
    /// Name in the dataset.
    pub name: String,
    /// Value or values.
    pub value: LabelValue,
    /// Mean and interval per metric id.
    pub metrics: BTreeMap<String, Interval>,
}

/// Everything that an evaluation says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of this form.
    pub format: u32,
    /// Tolerance of NSD in mm.
    pub tolerance_mm: f64,
    /// Seed of the intervals.
    pub seed: u64,
    /// Convention of each metric id.
    pub conventions: BTreeMap<String, String>,
    /// Mean over labels of the label means, with the interval over cases.
    pub foreground: BTreeMap<String, Interval>,
    /// Means per label.
    pub labels: Vec<LabelMeans>,
    /// Cases in the order given.
    pub cases: Vec<Case>,
}

impl Evaluation {
    /// Summarises scored cases, all of one dataset.
    pub fn new(cases: Vec<Case>, tolerance_mm: f64, seed: u64) -> Self {
        let first = cases.first().map_or(&[][..], |case| &case.scores.labels);
        let labels: Vec<LabelMeans> = first
            .iter()
            .enumerate()
            .map(|(i, label)| LabelMeans {
                name: label.name.clone(),
                value: label.value.clone(),
                metrics: per_metric(|id| bootstrap_mean(&column(&cases, i, id), seed)),
            })
            .collect();
        let foreground = per_metric(|id| foreground(&cases, labels.len(), id, seed));
        let conventions = ALL.into_iter().map(|e| (e.id.to_string(), e.convention.to_string())).collect();
        Self { format: 1, tolerance_mm, seed, conventions, foreground, labels, cases }
    }

    /// Mean over labels of the label means of a metric, when any is defined.
    pub fn foreground_mean(&self, id: &str) -> Option<f64> {
        self.foreground.get(id)?.mean
    }
}

fn per_metric(of: impl Fn(&str) -> Interval) -> BTreeMap<String, Interval> {
    ALL.into_iter().map(|entry| (entry.id.to_string(), of(entry.id))).collect()
}

/// One metric of one label in all cases; NaN when undefined.
fn column(cases: &[Case], label: usize, id: &str) -> Vec<f64> {
    let score = |case: &Case| Some(case.scores.labels.get(label)?.scores.get(id)?.as_f64());
    cases.iter().map(|case| score(case).unwrap_or(f64::NAN)).collect()
}

/// Mean of label means; labels without any value are left out. Cases are drawn whole.
fn foreground(cases: &[Case], labels: usize, id: &str, seed: u64) -> Interval {
    let columns: Vec<Vec<f64>> = (0..labels).map(|label| column(cases, label, id)).collect();
    let statistic = |drawn: &[usize]| {
        let mean = |column: &Vec<f64>| {
            let finite = drawn.iter().map(|&case| column[case]).filter(|v| v.is_finite());
            let (sum, n) = finite.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
            (n > 0).then(|| sum / n as f64)
        };
        let means: Vec<f64> = columns.iter().filter_map(mean).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    };
    let all: Vec<usize> = (0..cases.len()).collect();
    let (low, high) = bootstrap(cases.len(), seed, statistic);
    let count = |test: fn(f64) -> bool| columns.iter().flatten().filter(|&&v| test(v)).count();
    Interval {
        mean: statistic(&all),
        low,
        high,
        n: count(f64::is_finite),
        n_undefined: count(f64::is_nan),
        n_infinite: count(f64::is_infinite),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Summary, score_case};
    use galen_core::{Geometry, LabelMap, Labels};

    fn labels() -> Labels {
        let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
        Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap()
    }

    fn case(id: &str, reference: [u8; 6], prediction: [u8; 6]) -> Case {
        let map =
            |values: [u8; 6]| LabelMap::new(Geometry::axis_aligned([1, 2, 3], [1.0; 3]), values.to_vec());
        let scores = score_case(&map(reference), &map(prediction), &labels(), 1.0).unwrap();
        Case {
            id: id.into(),
            reference_file: format!("ref/{id}"),
            prediction_file: format!("pred/{id}"),
            scores,
        }
    }

    fn evaluation() -> Evaluation {
        let cases = vec![
            case("x", [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]),
            case("y", [0, 1, 1, 2, 2, 0], [0, 1, 0, 2, 2, 0]),
            case("z", [0, 1, 1, 2, 2, 0], [0, 1, 1, 0, 0, 0]),
        ];
        Evaluation::new(cases, 1.0, 7)
    }

    #[test]
    fn undefined_cases_are_counted_and_missed_ones_weigh() {
        let evaluation = evaluation();
        let [a, b] = &evaluation.labels[..] else { panic!("two labels") };
        assert_eq!(a.metrics["dice"].mean, Some((1.0 + 2.0 / 3.0 + 1.0) / 3.0));
        let dice = b.metrics["dice"];
        assert_eq!((dice.mean, dice.n, dice.n_undefined), (Some(0.5), 2, 1));
        let hd95 = b.metrics["hd95"];
        assert_eq!((hd95.mean, hd95.n, hd95.n_undefined, hd95.n_infinite), (Some(0.0), 1, 1, 1));
        let expected = (a.metrics["dice"].mean.unwrap() + 0.5) / 2.0;
        assert_eq!(evaluation.foreground_mean("dice"), Some(expected));
        let foreground = evaluation.foreground["dice"];
        assert!(foreground.low.unwrap() <= expected && expected <= foreground.high.unwrap());
    }

    #[test]
    fn the_summary_keeps_the_keys_of_nnunet_and_puts_ours_apart() {
        let evaluation = evaluation();
        let text = Summary::new(&evaluation).to_json();
        let value: serde_json::Value = serde_json::from_str(&text.replace("NaN", "null")).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["foreground_mean", "galen", "mean", "metric_per_case"]);
        assert_eq!(value["metric_per_case"][0]["metrics"]["2"]["Dice"], serde_json::Value::Null);
        assert_eq!(value["mean"]["2"]["Dice"], 0.5);
        let read = Summary::parse(&text).unwrap();
        assert_eq!(read.galen.as_ref(), Some(&evaluation));
        let plain = Summary::plain(&evaluation);
        assert_eq!(plain.foreground_mean.Dice, evaluation.foreground_mean("dice"));
    }

    #[test]
    fn json_and_back() {
        let evaluation = evaluation();
        let text = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), evaluation);
        assert_eq!(Evaluation::new(Vec::new(), 1.0, 7).labels.len(), 0);
    }
}
