//! Several findings at once: one label and one score per finding and case.

use super::binary::{check_labels, check_lengths, check_probabilities};
use super::confusion::Confusion;
use super::roc;
use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::mean;
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind multilabel`; decisions at a score of 0.5.
pub static DEFINITIONS: &[Definition] = &[
    define("n", "cases", "0..inf", "0", "cases are not patients", "count"),
    define(
        "findings-of-one-class",
        "findings that all cases have, or none",
        "0..inf",
        "0",
        "left out of auroc/macro",
        "count",
    ),
    define(
        "auroc/macro",
        "mean AUROC of the findings that have both classes",
        "0..1",
        "no such finding: undefined",
        "rare findings are noisy",
        "sklearn roc_auc_score(average='macro')",
    ),
    define(
        "map/macro",
        "mean average precision of the findings with positives",
        "0..1",
        "findings without positives are left out (sklearn: 0)",
        "compare with the mean prevalence",
        "sklearn average_precision_score",
    ),
    define(
        "f1/macro",
        "mean F1 of the findings",
        "0..1",
        "a finding nobody has or gets: 0",
        "rare findings rule it",
        "sklearn f1_score(average='macro')",
    ),
    define(
        "f1/micro",
        "F1 of the pooled decisions",
        "0..1",
        "no positive anywhere: 0",
        "common findings rule it",
        "sklearn f1_score(average='micro')",
    ),
    define(
        "hamming",
        "wrong decisions / all decisions",
        "0..1",
        "no case: undefined",
        "small by itself when findings are rare",
        "sklearn hamming_loss",
    ),
    define(
        "subset-accuracy",
        "share of cases with every decision right",
        "0..1",
        "no case: undefined",
        "strict with many findings",
        "sklearn accuracy_score",
    ),
    define(
        "jaccard/samples",
        "mean over cases of shared / either findings; nothing and nothing: 1",
        "0..1",
        "both empty: 1 (sklearn: 0)",
        "normal cases count as full marks",
        "sklearn jaccard_score(average='samples', zero_division=1)",
    ),
    define(
        "lrap",
        "mean over cases of the share of true findings among those ranked at least as high",
        "0..1",
        "no or only true findings: 1",
        "ranks within a case only",
        "sklearn label_ranking_average_precision_score",
    ),
    define(
        "coverage-error",
        "mean depth of the ranking that holds all true findings",
        "0..findings",
        "no true finding: 0",
        "equal scores count as deep as the last",
        "sklearn coverage_error",
    ),
];

/// A checked table of findings, `[case][finding]`.
#[derive(Debug, Clone)]
pub struct Multilabel {
    labels: Vec<Vec<bool>>,
    scores: Vec<Vec<f64>>,
}

impl Multilabel {
    /// Takes labels 0 or 1 and scores in 0..1.
    pub fn new(labels: &[Vec<f64>], scores: Vec<Vec<f64>>) -> Result<Self> {
        check_lengths("s0, s1, ..", labels.len(), scores.len())?;
        let mut checked = Vec::new();
        for (row, (l, s)) in labels.iter().zip(&scores).enumerate() {
            let here = |error: Error| error.within(format!("case {}", row + 1));
            if l.len() != s.len() || l.is_empty() {
                let what = format!("{} labels and {} scores", l.len(), s.len());
                return Err(here(Error::input("columns", what, "give y0, y1, .. and as many s0, s1, ..")));
            }
            let column = |error: Error| here(Error::input("a finding", error, ""));
            checked.push(check_labels(l).map_err(column)?);
            check_probabilities("score", s).map_err(column)?;
        }
        Ok(Self { labels: checked, scores })
    }

    /// Every number of the family.
    pub fn measure(&self) -> Measures {
        let findings = self.labels[0].len();
        let n = self.labels.len() as f64;
        let mut m = Measures::default();
        let (mut areas, mut precisions, mut f1, mut pooled) = (vec![], vec![], vec![], Confusion::default());
        for finding in 0..findings {
            let labels: Vec<bool> = self.labels.iter().map(|row| row[finding]).collect();
            let scores: Vec<f64> = self.scores.iter().map(|row| row[finding]).collect();
            areas.push(roc::auroc(&labels, &scores));
            precisions.push(roc::average_precision(&labels, &scores));
            let counts = Confusion::at(&labels, &scores, 0.5);
            f1.push(counts.f_beta(1.0));
            pooled.tp += counts.tp;
            pooled.fp += counts.fp;
            pooled.fn_ += counts.fn_;
        }
        let defined = |values: &[f64]| values.iter().copied().filter(|v| v.is_finite()).collect::<Vec<_>>();
        m.put("n", n);
        m.put("findings-of-one-class", (findings - defined(&areas).len()) as f64);
        m.put("auroc/macro", mean(&defined(&areas)));
        m.put("map/macro", mean(&defined(&precisions)));
        m.put("f1/macro", mean(&f1));
        m.put("f1/micro", pooled.f_beta(1.0));
        m.put("hamming", (pooled.fp + pooled.fn_) / (n * findings as f64));
        self.per_case(&mut m);
        m
    }

    fn per_case(&self, m: &mut Measures) {
        let n = self.labels.len() as f64;
        let (mut exact, mut jaccard, mut lrap, mut depth) = (0.0, 0.0, 0.0, 0.0);
        for (labels, scores) in self.labels.iter().zip(&self.scores) {
            let both = labels.iter().zip(scores).filter(|(l, s)| **l && **s >= 0.5).count() as f64;
            let either = labels.iter().zip(scores).filter(|(l, s)| **l || **s >= 0.5).count() as f64;
            let wrong = labels.iter().zip(scores).filter(|(l, s)| **l != (**s >= 0.5)).count();
            exact += f64::from(u8::from(wrong == 0));
            jaccard += if either == 0.0 { 1.0 } else { both / either };
            let above = |score: f64, only_true: bool| {
                let kept = labels.iter().zip(scores).filter(|(l, s)| **s >= score && (**l || !only_true));
                kept.count() as f64
            };
            let truths: Vec<f64> = labels.iter().zip(scores).filter(|(l, _)| **l).map(|(_, s)| *s).collect();
            let all_or_none = truths.is_empty() || truths.len() == labels.len();
            let shares: f64 = truths.iter().map(|&s| above(s, true) / above(s, false)).sum();
            lrap += if all_or_none { 1.0 } else { ratio(shares, truths.len() as f64) };
            depth += if truths.is_empty() {
                0.0
            } else {
                above(truths.iter().copied().fold(1.0, f64::min), false)
            };
        }
        m.put("subset-accuracy", exact / n);
        m.put("jaccard/samples", jaccard / n);
        m.put("lrap", lrap / n);
        m.put("coverage-error", depth / n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_case_by_hand() {
        let m = Multilabel::new(&[vec![1.0, 0.0, 1.0]], vec![vec![0.9, 0.6, 0.4]]).unwrap().measure();
        assert!((m.number("lrap") - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-15);
        assert_eq!((m.number("coverage-error"), m.number("jaccard/samples")), (3.0, 1.0 / 3.0));
        assert_eq!((m.number("f1/micro"), m.number("findings-of-one-class")), (0.5, 3.0));
    }

    #[test]
    fn bad_cells_are_named_by_case() {
        let error =
            Multilabel::new(&[vec![1.0], vec![0.0]], vec![vec![0.5], vec![2.0]]).unwrap_err().to_string();
        assert!(error.contains("case 2") && error.contains("outside [0, 1]"), "{error}");
    }
}
