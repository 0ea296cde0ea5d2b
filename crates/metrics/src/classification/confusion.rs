//! Numbers from counts of right and wrong decisions.

use crate::measures::{Definition, define, ratio};

/// What the ids of two-class counts mean; `@.5` is the threshold (score >= threshold is positive).
pub static DEFINITIONS: &[Definition] = &[
    define(
        "accuracy@.5",
        "(TP + TN) / N",
        "0..1",
        "no case: undefined",
        "ruled by prevalence",
        "sklearn accuracy_score",
    ),
    define(
        "balanced-accuracy@.5",
        "mean of sensitivity and specificity",
        "0..1",
        "one class only: undefined",
        "a constant answer gets 0.5",
        "sklearn balanced_accuracy_score",
    ),
    define(
        "precision@.5",
        "TP / (TP + FP)",
        "0..1",
        "nothing called positive: undefined (sklearn: 0)",
        "moves with prevalence: not for another site",
        "sklearn precision_score",
    ),
    define(
        "recall@.5",
        "TP / (TP + FN), sensitivity",
        "0..1",
        "no positive: undefined (sklearn: 0)",
        "fix the threshold on other data",
        "sklearn recall_score",
    ),
    define(
        "specificity@.5",
        "TN / (TN + FP)",
        "0..1",
        "no negative: undefined",
        "high by itself when positives are rare",
        "torchmetrics specificity",
    ),
    define(
        "npv@.5",
        "TN / (TN + FN)",
        "0..1",
        "nothing called negative: undefined",
        "moves with prevalence",
        "torchmetrics negative_predictive_value",
    ),
    define(
        "fpr@.5",
        "FP / (FP + TN)",
        "0..1",
        "no negative: undefined",
        "no use in detection, where negatives cannot be counted",
        "sklearn confusion_matrix",
    ),
    define(
        "f1@.5",
        "2 TP / (2 TP + FP + FN)",
        "0..1",
        "no positive anywhere: 0, as sklearn",
        "ignores true negatives; moves with prevalence",
        "sklearn f1_score",
    ),
    define(
        "f2@.5",
        "5 TP / (5 TP + 4 FN + FP)",
        "0..1",
        "no positive anywhere: 0, as sklearn",
        "recall counts four times",
        "sklearn fbeta_score(beta=2)",
    ),
    define(
        "youden@.5",
        "sensitivity + specificity - 1",
        "-1..1",
        "one class only: undefined",
        "its best threshold on the test set is too good",
        "Youden 1950",
    ),
    define(
        "mcc@.5",
        "(TP TN - FP FN) / sqrt of the product of the four margins",
        "-1..1",
        "an empty margin: 0, as sklearn",
        "moves with prevalence",
        "Matthews 1975; sklearn matthews_corrcoef",
    ),
    define(
        "kappa@.5",
        "(observed - chance agreement) / (1 - chance agreement)",
        "-1..1",
        "both constant and equal: undefined",
        "not comparable between prevalences",
        "Cohen 1960; sklearn cohen_kappa_score",
    ),
    define(
        "plr@.5",
        "sensitivity / (1 - specificity): what a positive result is worth",
        "0..inf",
        "no false positive: infinite",
        "unbounded: give it on a log scale",
        "sklearn class_likelihood_ratios",
    ),
    define(
        "nlr@.5",
        "(1 - sensitivity) / specificity",
        "0..inf",
        "specificity 0: infinite",
        "needs both classes",
        "sklearn class_likelihood_ratios",
    ),
    define(
        "dor@.5",
        "TP TN / (FP FN); 0.5 is added to every cell when one is 0",
        "0..inf",
        "never undefined after the correction",
        "one number hides which error is made",
        "Glas et al. 2003; correction of Haldane and Anscombe",
    ),
    define(
        "expected-cost@.5",
        "prior-weighted error rates with a cost of 1 each: P(1) FNR + P(0) FPR",
        "0..1",
        "one class only: undefined",
        "give real costs and the priors of the site of use",
        "Ferrer 2023; Metrics Reloaded expected_cost",
    ),
    define(
        "normalised-expected-cost@.5",
        "expected cost over that of the best constant decision",
        "0..inf",
        "one class only: undefined",
        "above 1 is worse than not looking",
        "Ferrer 2023",
    ),
];

/// Decisions against truth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Confusion {
    /// Positive and called so.
    pub tp: f64,
    /// Negative, called positive.
    pub fp: f64,
    /// Positive, called negative.
    pub fn_: f64,
    /// Negative and called so.
    pub tn: f64,
}

impl Confusion {
    /// Counts with scores of at least `threshold` called positive.
    pub fn at(labels: &[bool], scores: &[f64], threshold: f64) -> Self {
        let mut counts = Self::default();
        for (&label, &score) in labels.iter().zip(scores) {
            *(match (label, score >= threshold) {
                (true, true) => &mut counts.tp,
                (false, true) => &mut counts.fp,
                (true, false) => &mut counts.fn_,
                (false, false) => &mut counts.tn,
            }) += 1.0;
        }
        counts
    }

    /// All cases.
    pub fn all(&self) -> f64 {
        self.tp + self.fp + self.fn_ + self.tn
    }

    /// Share of right decisions.
    pub fn accuracy(&self) -> f64 {
        ratio(self.tp + self.tn, self.all())
    }

    /// Sensitivity.
    pub fn recall(&self) -> f64 {
        ratio(self.tp, self.tp + self.fn_)
    }

    /// True negative rate.
    pub fn specificity(&self) -> f64 {
        ratio(self.tn, self.tn + self.fp)
    }

    /// False positive rate.
    pub fn false_positive_rate(&self) -> f64 {
        ratio(self.fp, self.tn + self.fp)
    }

    /// Positive predictive value.
    pub fn precision(&self) -> f64 {
        ratio(self.tp, self.tp + self.fp)
    }

    /// F-beta; 0 when there is no positive in truth or answer.
    pub fn f_beta(&self, beta: f64) -> f64 {
        let b = beta * beta;
        let whole = (1.0 + b) * self.tp + b * self.fn_ + self.fp;
        if whole == 0.0 { 0.0 } else { (1.0 + b) * self.tp / whole }
    }

    /// Matthews correlation; 0 when a margin is empty.
    pub fn mcc(&self) -> f64 {
        let margins = (self.tp + self.fp) * (self.tp + self.fn_) * (self.tn + self.fp) * (self.tn + self.fn_);
        if margins == 0.0 { 0.0 } else { (self.tp * self.tn - self.fp * self.fn_) / margins.sqrt() }
    }

    /// Odds ratio, with 0.5 in every cell when one is empty.
    pub fn odds_ratio(&self) -> f64 {
        let cells = [self.tp, self.tn, self.fp, self.fn_];
        let add = if cells.contains(&0.0) { 0.5 } else { 0.0 };
        (self.tp + add) * (self.tn + add) / ((self.fp + add) * (self.fn_ + add))
    }

    /// Cohen's kappa.
    pub fn kappa(&self) -> f64 {
        weighted_kappa(&[vec![self.tn, self.fp], vec![self.fn_, self.tp]], |i, j| f64::from(u8::from(i != j)))
    }
}

/// `1 - sum(w O) / sum(w E)` of a square matrix of counts, rows truth; `weight` is 0 on the diagonal.
pub fn weighted_kappa(matrix: &[Vec<f64>], weight: impl Fn(usize, usize) -> f64) -> f64 {
    let n = matrix.len();
    let rows: Vec<f64> = matrix.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..n).map(|j| matrix.iter().map(|row| row[j]).sum()).collect();
    let all: f64 = rows.iter().sum();
    let (mut seen, mut chance) = (0.0, 0.0);
    for i in 0..n {
        for j in 0..n {
            seen += weight(i, j) * matrix[i][j];
            chance += weight(i, j) * rows[i] * columns[j] / all;
        }
    }
    1.0 - ratio(seen, chance)
}

/// Correlation of a confusion matrix with any number of classes (Gorodkin's R_K); 0 when a side is constant.
pub fn multiclass_mcc(matrix: &[Vec<f64>]) -> f64 {
    let n = matrix.len();
    let rows: Vec<f64> = matrix.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..n).map(|j| matrix.iter().map(|row| row[j]).sum()).collect();
    let all: f64 = rows.iter().sum();
    let right: f64 = (0..n).map(|i| matrix[i][i]).sum();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (rr, cc) = (all * all - dot(&rows, &rows), all * all - dot(&columns, &columns));
    if rr == 0.0 || cc == 0.0 { 0.0 } else { (right * all - dot(&rows, &columns)) / (rr * cc).sqrt() }
}
