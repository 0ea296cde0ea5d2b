//! Two classes: a label and the probability of the positive one per case.

use super::resampled::auroc_interval;
use super::{calibration, confusion, coverage, decision, recalibration, roc};
use crate::bootstrap::{ClusteredInterval, RESAMPLES, clustered_interval, clusters};
use crate::measures::{Definition, Measures, define, ratio, threshold_name};
use crate::statistics::delong;
use confusion::Confusion;
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind binary`.
pub static DEFINITIONS: &[&[Definition]] = &[
    COUNTS,
    roc::DEFINITIONS,
    delong::DEFINITIONS,
    calibration::DEFINITIONS,
    confusion::DEFINITIONS,
    decision::DEFINITIONS,
    coverage::DEFINITIONS,
    INTERVALS,
    recalibration::BINARY,
];

static COUNTS: &[Definition] = &[
    define("n", "cases", "0..inf", "0", "cases are not patients", "count"),
    define(
        "prevalence",
        "share of positives",
        "0..1",
        "no case: undefined",
        "that of this table, not of the clinic",
        "count",
    ),
];

/// Most cases whose interval is corrected.
const CORRECTED: usize = 1000;

static INTERVALS: &[Definition] = &[
    define(
        "auroc-ci95/percentile/low",
        "2.5th percentile of the AUROC over 2000 draws of cases, or of patients where a column names them",
        "0..1",
        "one class only: undefined",
        "cases of one patient are no independent evidence: name the patients",
        "Efron 1979",
    ),
    define("auroc-ci95/percentile/high", "97.5th percentile", "0..1", "as above", "as above", "Efron 1979"),
    define(
        "auroc-ci95/bca/low",
        "the same, bias-corrected and accelerated; up to 1000 cases",
        "0..1",
        "as above; more cases: not measured",
        "for fewer than about 200 cases better than percentiles; not with a handful",
        "Efron 1987",
    ),
    define("auroc-ci95/bca/high", "upper end of it", "0..1", "as above", "as above", "Efron 1987"),
];

/// A checked table of labels and scores.
#[derive(Debug, Clone)]
pub struct Binary {
    labels: Vec<bool>,
    scores: Vec<f64>,
}

impl Binary {
    /// Takes labels 0 or 1 and scores in 0..1, both classes present.
    pub fn new(labels: &[f64], scores: &[f64]) -> Result<Self> {
        check_lengths("score", labels.len(), scores.len())?;
        let labels = check_labels(labels)?;
        check_probabilities("score", scores)?;
        check_both_classes(&labels)?;
        Ok(Self { labels, scores: scores.to_vec() })
    }

    /// Labels, true for positive.
    pub fn labels(&self) -> &[bool] {
        &self.labels
    }

    /// Probabilities of the positive class.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Whether the decision at 0.5 is right, and the distance of the score from there.
    pub fn sureness(&self) -> (Vec<bool>, Vec<f64>) {
        let one = |(label, score): (&bool, &f64)| (*label == (*score >= 0.5), (score - 0.5).abs());
        self.labels.iter().zip(&self.scores).map(one).unzip()
    }

    /// Intervals of the AUROC by drawing cases, or patients when their names are given.
    pub fn intervals(&self, patients: Option<&[String]>, seed: u64) -> Measures {
        let groups: Vec<Vec<usize>> = match patients {
            Some(names) => clusters(names),
            None => (0..self.labels.len()).map(|case| vec![case]).collect(),
        };
        let mut m = Measures::default();
        // Leaving out one at a time takes the square of their number, and percentiles do for many.
        if patients.is_none() && groups.len() > CORRECTED {
            let (low, high) = auroc_interval(&self.labels, &self.scores, RESAMPLES, seed);
            m.put("auroc-ci95/percentile/low", low.unwrap_or(f64::NAN));
            m.put("auroc-ci95/percentile/high", high.unwrap_or(f64::NAN));
            return m;
        }
        let area = |cases: &[usize]| {
            let (labels, scores): (Vec<bool>, Vec<f64>) =
                cases.iter().map(|&case| (self.labels[case], self.scores[case])).unzip();
            roc::auroc(&labels, &scores)
        };
        let found = clustered_interval(&groups, RESAMPLES, seed, area);
        let of = |pick: fn(&ClusteredInterval) -> f64| found.as_ref().map_or(f64::NAN, pick);
        m.put("auroc-ci95/percentile/low", of(|i| i.percentile[0]));
        m.put("auroc-ci95/percentile/high", of(|i| i.percentile[1]));
        m.put("auroc-ci95/bca/low", of(|i| i.bca[0]));
        m.put("auroc-ci95/bca/high", of(|i| i.bca[1]));
        m
    }

    /// Every number of the family; decisions at `threshold`, decision curve at `pt`.
    pub fn measure(&self, threshold: f64, pt: f64) -> Measures {
        let (labels, scores) = (&self.labels[..], &self.scores[..]);
        let mut m = Measures::default();
        let prevalence = labels.iter().filter(|l| **l).count() as f64 / labels.len() as f64;
        m.put("n", labels.len() as f64);
        m.put("prevalence", prevalence);
        m.put("auroc", roc::auroc(labels, scores));
        let components = delong::components(labels, scores);
        let (low, high) = components.interval();
        m.put("delong-se", components.standard_error());
        m.put("delong-ci95/low", low);
        m.put("delong-ci95/high", high);
        m.put("pauroc/fpr<=.2/mcclish", roc::partial_auroc(labels, scores, 0.2));
        m.put("average-precision/step", roc::average_precision(labels, scores));
        m.put("pr-auc/trapezoid", roc::pr_trapezoid(labels, scores));
        self.calibration(prevalence, &mut m);
        self.decisions(threshold, &mut m);
        let benefit = decision::net_benefit(labels, scores, pt);
        let of_all = decision::net_benefit_of_all(labels, pt);
        let at = threshold_name(pt);
        m.put(format!("net-benefit@pt{at}"), benefit);
        m.put(format!("net-benefit-all@pt{at}"), of_all);
        m.put(format!("standardised-net-benefit@pt{at}"), ratio(benefit, prevalence));
        m.put(format!("interventions-avoided@pt{at}"), ratio(benefit - of_all, pt / (1.0 - pt)));
        m.put(
            format!("net-benefit-untreated@pt{at}"),
            decision::net_benefit_of_untreated(labels, scores, pt),
        );
        let (right, confidence) = self.sureness();
        coverage::measure(&right, &confidence, &mut m);
        m
    }

    fn calibration(&self, prevalence: f64, m: &mut Measures) {
        let (labels, scores) = (&self.labels[..], &self.scores[..]);
        let brier = calibration::brier(labels, scores);
        m.put("brier", brier);
        m.put("brier-skill", 1.0 - ratio(brier, prevalence * (1.0 - prevalence)));
        let truth = labels.iter().zip(scores).map(|(&l, &s)| if l { s } else { 1.0 - s });
        m.put("log-loss", calibration::log_loss(truth));
        m.put("ece/positive/10 equal-width right-closed", calibration::ece(labels, scores, 10));
        m.put("ece/positive/15 equal-width right-closed", calibration::ece(labels, scores, 15));
        m.put("ece/positive/15 equal-mass", calibration::ece_equal_mass(labels, scores, 15));
        m.put("mce/positive/15 equal-width", calibration::mce(labels, scores, 15));
        m.put("rmsce/positive/15 equal-width", calibration::rmsce(labels, scores, 15));
        m.put("calibration-slope", calibration::calibration_slope(labels, scores));
        m.put("calibration-intercept", calibration::calibration_intercept(labels, scores));
        m.put("observed/expected", calibration::observed_over_expected(labels, scores));
        let (z, p) = calibration::spiegelhalter(labels, scores);
        m.put("spiegelhalter/z", z);
        m.put("spiegelhalter/p", p);
        let (chi2, p) = calibration::hosmer_lemeshow(labels, scores);
        m.put("hosmer-lemeshow/chi2", chi2);
        m.put("hosmer-lemeshow/p", p);
    }

    fn decisions(&self, threshold: f64, m: &mut Measures) {
        let counts = Confusion::at(&self.labels, &self.scores, threshold);
        let (sensitivity, specificity) = (counts.recall(), counts.specificity());
        let prior = (counts.tp + counts.fn_) / counts.all();
        let cost = prior * (1.0 - sensitivity) + (1.0 - prior) * (1.0 - specificity);
        let over = |part: f64, whole: f64| if whole == 0.0 { f64::INFINITY } else { part / whole };
        for (name, value) in [
            ("accuracy", counts.accuracy()),
            ("balanced-accuracy", (sensitivity + specificity) / 2.0),
            ("precision", counts.precision()),
            ("recall", sensitivity),
            ("specificity", specificity),
            ("npv", ratio(counts.tn, counts.tn + counts.fn_)),
            ("fpr", counts.false_positive_rate()),
            ("f1", counts.f_beta(1.0)),
            ("f2", counts.f_beta(2.0)),
            ("youden", sensitivity + specificity - 1.0),
            ("mcc", counts.mcc()),
            ("kappa", counts.kappa()),
            ("plr", over(sensitivity, counts.false_positive_rate())),
            ("nlr", over(1.0 - sensitivity, specificity)),
            ("dor", counts.odds_ratio()),
            ("expected-cost", cost),
            ("normalised-expected-cost", ratio(cost, prior.min(1.0 - prior))),
        ] {
            m.put(format!("{name}@{}", threshold_name(threshold)), value);
        }
    }
}

pub(crate) fn check_lengths(name: &str, labels: usize, values: usize) -> Result<()> {
    if labels == 0 {
        return Err(Error::input("the table", "has no rows", "give at least one case"));
    }
    if labels != values {
        let what = format!("{labels} labels, {values} values of {name}");
        return Err(Error::input("the table", what, "give one of each per case"));
    }
    Ok(())
}

/// Labels as booleans; anything but 0 and 1 is refused with its row.
pub(crate) fn check_labels(labels: &[f64]) -> Result<Vec<bool>> {
    let one = |(row, &label): (usize, &f64)| match label {
        0.0 => Ok(false),
        1.0 => Ok(true),
        other => Err(Error::input(
            format!("row {}", row + 1),
            format!("the label {other} is neither 0 nor 1"),
            "code the classes as 0 and 1 (for more classes use --kind multiclass)",
        )),
    };
    labels.iter().enumerate().map(one).collect()
}

/// Refuses a value that is no probability, with its row.
pub(crate) fn check_probabilities(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| !(0.0..=1.0).contains(v)) {
        Some(row) => Err(Error::input(
            format!("row {}", row + 1),
            format!("the {name} {} is outside [0, 1]", values[row]),
            "give probabilities; put logits through a sigmoid or softmax first",
        )),
        None => Ok(()),
    }
}

/// Refuses a table with one class only.
pub(crate) fn check_both_classes(labels: &[bool]) -> Result<()> {
    if labels.iter().all(|l| *l == labels[0]) {
        let what = format!("all {} labels are {}: one class only", labels.len(), u8::from(labels[0]));
        return Err(Error::input(
            "column label",
            what,
            "ranking needs positives and negatives; add cases of the other class",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_tables_are_refused_with_their_row() {
        let says = |labels: &[f64], scores: &[f64]| Binary::new(labels, scores).unwrap_err().to_string();
        assert!(says(&[0.0, 1.0], &[0.5, 1.5]).contains("row 2: the score 1.5 is outside [0, 1]"));
        assert!(says(&[0.0, 2.0], &[0.5, 0.5]).contains("row 2: the label 2 is neither"));
        assert!(says(&[1.0, 1.0], &[0.5, 0.5]).contains("one class only"));
        assert!(says(&[0.0, 1.0], &[0.5, f64::NAN]).contains("NaN is outside"));
        assert!(says(&[], &[]).contains("no rows"));
    }
}
