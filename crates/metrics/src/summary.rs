//! nnU-Net's `summary.json`, key by key.
//!
//! Source: nnU-Net v2.8.1, `evaluate_predictions`. Keys are sorted, NaN is written bare, regions are keyed
//! by the text of a Python tuple. Differs: the whole evaluation may follow under the key `galen`.

use crate::{Counts, DICE, Evaluation, IOU, Score};
use galen_core::{Error, LabelValue, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Contents of a `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean over labels.
    pub foreground_mean: Means,
    /// What Galen knows beyond nnU-Net.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub galen: Option<Evaluation>,
    /// Mean over cases per label key.
    pub mean: BTreeMap<String, Means>,
    /// One entry per case.
    pub metric_per_case: Vec<PerCase>,
}

/// Means of nnU-Net's metrics; absent values are NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(non_snake_case, missing_docs, reason = "the keys of nnU-Net's file")]
pub struct Means {
    pub Dice: Option<f64>,
    pub FN: Option<f64>,
    pub FP: Option<f64>,
    pub IoU: Option<f64>,
    pub TN: Option<f64>,
    pub TP: Option<f64>,
    pub n_pred: Option<f64>,
    pub n_ref: Option<f64>,
}

/// nnU-Net's metrics of one label in one case; an undefined ratio is NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(non_snake_case, missing_docs, reason = "the keys of nnU-Net's file")]
pub struct Metrics {
    pub Dice: Option<f64>,
    pub FN: u64,
    pub FP: u64,
    pub IoU: Option<f64>,
    pub TN: u64,
    pub TP: u64,
    pub n_pred: u64,
    pub n_ref: u64,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerCase {
    /// Metrics per label key.
    pub metrics: BTreeMap<String, Metrics>,
    /// Path of the prediction.
    pub prediction_file: String,
    /// Path of the reference.
    pub reference_file: String,
}

/// Key of a label: the number, or for a region the text of a Python tuple, `(1, 2)` or `(3,)`.
pub fn key(value: &LabelValue) -> String {
    match value {
        LabelValue::One(value) => value.to_string(),
        LabelValue::Region(values) if values.len() == 1 => format!("({},)", values[0]),
        LabelValue::Region(values) => {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("({})", texts.join(", "))
        }
    }
}

impl Metrics {
    fn new(counts: &Counts, dice: Score, iou: Score) -> Self {
        Self {
            Dice: dice.value(),
            FN: counts.fn_,
            FP: counts.fp,
            IoU: iou.value(),
            TN: counts.tn,
            TP: counts.tp,
            n_pred: counts.prediction(),
            n_ref: counts.reference(),
        }
    }
}

impl Means {
    fn of(column: impl Fn(fn(&Metrics) -> Option<f64>) -> Option<f64>) -> Self {
        Self {
            Dice: column(|m| m.Dice),
            FN: column(|m| Some(m.FN as f64)),
            FP: column(|m| Some(m.FP as f64)),
            IoU: column(|m| m.IoU),
            TN: column(|m| Some(m.TN as f64)),
            TP: column(|m| Some(m.TP as f64)),
            n_pred: column(|m| Some(m.n_pred as f64)),
            n_ref: column(|m| Some(m.n_ref as f64)),
        }
    }

    fn over(labels: &[&Self]) -> Self {
        // As nnU-Net: a label without a mean makes the foreground mean NaN.
        let mean = |of: fn(&Self) -> Option<f64>| {
            let values: Option<Vec<f64>> = labels.iter().map(|m| of(m)).collect();
            values.and_then(|values| mean(&values))
        };
        Self {
            Dice: mean(|m| m.Dice),
            FN: mean(|m| m.FN),
            FP: mean(|m| m.FP),
            IoU: mean(|m| m.IoU),
            TN: mean(|m| m.TN),
            TP: mean(|m| m.TP),
            n_pred: mean(|m| m.n_pred),
            n_ref: mean(|m| m.n_ref),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| pairwise_sum(values) / values.len() as f64)
}

/// Sum in numpy's order, so that means agree to the last digit.
fn pairwise_sum(values: &[f64]) -> f64 {
    match values.len() {
        0..8 => values.iter().sum(),
        8..=128 => {
            let (body, rest) = values.split_at(values.len() / 8 * 8);
            let mut lanes = [0.0; 8];
            for eight in body.chunks(8) {
                lanes.iter_mut().zip(eight).for_each(|(lane, v)| *lane += v);
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, v| sum + v)
        }
        n => {
            let (left, right) = values.split_at(n / 2 / 8 * 8);
            pairwise_sum(left) + pairwise_sum(right)
        }
    }
}

impl Summary {
    /// nnU-Net's part of an evaluation, with all of it under `galen`.
    pub fn new(evaluation: &Evaluation) -> Self {
        Self { galen: Some(evaluation.clone()), ..Self::plain(evaluation) }
    }

    /// nnU-Net's part alone.
    pub fn plain(evaluation: &Evaluation) -> Self {
        Self::of_cases(&evaluation.cases)
    }

    /// nnU-Net's summary of scored cases, all of one dataset.
    pub fn of_cases(cases: &[crate::Case]) -> Self {
        let metric_per_case: Vec<PerCase> = cases.iter().map(PerCase::new).collect();
        let first = cases.first().map_or(&[][..], |case| &case.scores.labels);
        let label = |value: &LabelValue| {
            let key = key(value);
            let means = Means::of(|of| {
                let defined: Vec<f64> =
                    metric_per_case.iter().filter_map(|c| of(c.metrics.get(&key)?)).collect();
                mean(&defined)
            });
            (key, means)
        };
        let labels: Vec<(String, Means)> = first.iter().map(|l| label(&l.value)).collect();
        let foreground_mean = Means::over(&labels.iter().map(|(_, means)| means).collect::<Vec<_>>());
        Self { foreground_mean, galen: None, mean: labels.into_iter().collect(), metric_per_case }
    }

    /// Reads a `summary.json` as nnU-Net or Galen wrote it.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |e| Error::input("summary.json", e, "give the summary.json of an evaluation");
        serde_json::from_str(&text.replace(": NaN", ": null")).map_err(bad)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        python_json(self)
    }
}

/// The means alone, as other files of nnU-Net repeat them.
#[derive(Serialize)]
pub(crate) struct Part {
    pub(crate) foreground_mean: Means,
    pub(crate) mean: BTreeMap<String, Means>,
}

/// Text of a value as Python writes it.
pub(crate) fn python_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python::default());
    value.serialize(&mut serializer).expect("maps with text keys always serialise");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

impl PerCase {
    fn new(case: &crate::Case) -> Self {
        let metrics = case.scores.labels.iter().map(|label| {
            let score = |id| label.scores.get(id).copied().unwrap_or(Score::Undefined);
            (key(&label.value), Metrics::new(&label.counts, score(DICE.id), score(IOU.id)))
        });
        Self {
            metrics: metrics.collect(),
            prediction_file: case.prediction_file.clone(),
            reference_file: case.reference_file.clone(),
        }
    }
}

/// JSON as Python's `json.dump(..., indent=4)` prints it: bare NaN, floats like `repr`.
#[derive(Default)]
struct Python {
    depth: usize,
    filled: bool,
}

impl Python {
    fn line(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        write!(writer, "\n{:width$}", "", width = 4 * self.depth)
    }

    fn open(&mut self, writer: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        (self.depth, self.filled) = (self.depth + 1, false);
        writer.write_all(bracket.as_bytes())
    }

    fn close(&mut self, writer: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket.as_bytes())
    }

    fn item(&self, writer: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }
}

impl serde_json::ser::Formatter for Python {
    fn write_null<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"NaN")
    }

    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Both languages switch to an exponent at 1e-4 and 1e16; Python writes its sign and two digits.
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => writer.write_all(text.as_bytes()),
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                write!(writer, "{digits}e{sign}{exponent:0>2}")
            }
        }
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, "[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, "]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, "{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, "}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_python_text() {
        assert_eq!(key(&LabelValue::One(3)), "3");
        assert_eq!(key(&LabelValue::Region(vec![1, 2, 3])), "(1, 2, 3)");
        assert_eq!(key(&LabelValue::Region(vec![3])), "(3,)");
    }

    #[test]
    fn numbers_are_written_as_python_does() {
        let mut bytes = Vec::new();
        let values = [268.0, 0.756, 1e-5, 1.5e-7, 1e16, 0.0001];
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python::default());
        (values, Option::<f64>::None, Vec::<u8>::new()).serialize(&mut serializer).unwrap();
        let text: String = String::from_utf8(bytes).unwrap().split_whitespace().collect();
        assert_eq!(text, "[[268.0,0.756,1e-05,1.5e-07,1e+16,0.0001],NaN,[]]");
    }

    #[test]
    fn sums_follow_numpy() {
        let values: Vec<f64> = (0..1000).map(|i| 1.0 / f64::from(i + 1)).collect();
        // numpy 2: np.sum(1 / np.arange(1, 1001)).
        assert_eq!(pairwise_sum(&values), 7.485_470_860_550_345);
    }
}
