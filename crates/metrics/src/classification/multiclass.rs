//! Several classes, one of them true: a label and one probability per class and case.

use super::binary::check_lengths;
use super::confusion::{Confusion, multiclass_mcc, weighted_kappa};
use super::{calibration, coverage, roc};
use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::mean;
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind multiclass`.
pub static DEFINITIONS: &[Definition] = &[
    define("n", "cases", "0..inf", "0", "cases are not patients", "count"),
    define(
        "classes-without-cases",
        "columns whose class never is the truth",
        "0..inf",
        "0",
        "their one-against-rest numbers are left out of means",
        "count",
    ),
    define(
        "accuracy",
        "share of cases whose most probable class is the truth (first of equals)",
        "0..1",
        "no case: undefined",
        "ruled by the largest class",
        "sklearn accuracy_score",
    ),
    define(
        "balanced-accuracy",
        "mean recall of the classes with cases",
        "0..1",
        "no case: undefined",
        "a rare class moves it far",
        "sklearn balanced_accuracy_score",
    ),
    define(
        "auroc/ovr/macro",
        "mean of one-against-rest AUROC",
        "0..1",
        "a class without cases is left out",
        "depends on prevalence through the rest",
        "sklearn roc_auc_score(multi_class='ovr')",
    ),
    define(
        "auroc/ovr/weighted",
        "the same, weighted with class counts",
        "0..1",
        "a class without cases is left out",
        "the largest class rules",
        "sklearn roc_auc_score(average='weighted')",
    ),
    define(
        "auroc/ovo/macro",
        "mean over pairs of classes of the two one-against-other AUROCs",
        "0..1",
        "pairs with an absent class are left out",
        "each pair counts alike",
        "Hand and Till 2001; sklearn roc_auc_score(multi_class='ovo')",
    ),
    define(
        "brier/sum-over-classes",
        "mean over cases of the sum of squared errors",
        "0..2",
        "no case: undefined",
        "twice the two-class form",
        "Brier 1950; sklearn brier_score_loss",
    ),
    define(
        "log-loss",
        "mean of -ln(probability of the truth), clipped at the machine epsilon",
        "0..inf",
        "no case: undefined",
        "one certain mistake rules it",
        "sklearn log_loss",
    ),
    define(
        "ece/top-label/15 equal-width",
        "15 bins (a, b] of the largest probability against being right",
        "0..1",
        "empty bins are skipped",
        "may look good while classes are badly calibrated",
        "Guo et al. 2017; torchmetrics multiclass calibration error",
    ),
    define(
        "ece/class-wise/15 equal-width",
        "mean over classes of the calibration error of one class against the rest, 15 bins (a, b]",
        "0..1",
        "empty bins are skipped",
        "rare classes look well calibrated: nearly all of their bins say no",
        "Kull et al. 2019",
    ),
    define(
        "f1/macro",
        "mean F1 of the classes that occur in truth or answers",
        "0..1",
        "a class never right: 0",
        "rare classes count as much as common ones",
        "sklearn f1_score(average='macro')",
    ),
    define(
        "f1/weighted",
        "F1 weighted with class counts",
        "0..1",
        "a class never right: 0",
        "hides rare classes",
        "sklearn f1_score(average='weighted')",
    ),
    define(
        "kappa/none",
        "Cohen's kappa, every disagreement alike",
        "-1..1",
        "both constant and equal: undefined",
        "state the weights",
        "Cohen 1960; sklearn cohen_kappa_score",
    ),
    define(
        "kappa/linear",
        "kappa with weights |i - j|",
        "-1..1",
        "as above",
        "for ordered classes only",
        "sklearn cohen_kappa_score(weights='linear')",
    ),
    define(
        "kappa/quadratic",
        "kappa with weights (i - j)^2",
        "-1..1",
        "as above",
        "for ordered classes only",
        "sklearn cohen_kappa_score(weights='quadratic')",
    ),
    define(
        "mcc",
        "correlation of the confusion matrix (R_K)",
        "-1..1",
        "truth or answers constant: 0",
        "moves with prevalence",
        "Gorodkin 2004; sklearn matthews_corrcoef",
    ),
    define(
        "top2",
        "share of cases with the truth among the two most probable classes",
        "0..1",
        "fewer than 3 classes: 1",
        "equal scores: the later class first, as sklearn",
        "sklearn top_k_accuracy_score(k=2)",
    ),
];

/// A checked table of labels and class probabilities.
#[derive(Debug, Clone)]
pub struct Multiclass {
    labels: Vec<usize>,
    /// `[case][class]`.
    probabilities: Vec<Vec<f64>>,
}

impl Multiclass {
    /// Takes class numbers from 0 and, per case, probabilities that add up to 1 (within 0.001).
    pub fn new(labels: &[f64], probabilities: Vec<Vec<f64>>) -> Result<Self> {
        check_lengths("p0, p1, ..", labels.len(), probabilities.len())?;
        let classes = probabilities[0].len();
        if classes < 2 {
            return Err(Error::input("the table", "has fewer than two classes", "give columns p0, p1, .."));
        }
        for (row, (label, p)) in labels.iter().zip(&probabilities).enumerate() {
            let place = format!("row {}", row + 1);
            if !(*label >= 0.0 && label.fract() == 0.0 && *label < classes as f64) {
                let what =
                    format!("the label {label} names none of the {classes} classes p0..p{}", classes - 1);
                return Err(Error::input(place, what, "count classes from 0, in the order of the columns"));
            }
            if let Some(class) = p.iter().position(|v| !(0.0..=1.0).contains(v)) {
                let what = format!("p{class} = {} is outside [0, 1]", p[class]);
                return Err(Error::input(
                    place,
                    what,
                    "give probabilities; put logits through a softmax first",
                ));
            }
            let sum: f64 = p.iter().sum();
            if (sum - 1.0).abs() > 1e-3 {
                let what = format!("the probabilities add up to {sum:.4}, not 1");
                return Err(Error::input(place, what, "put scores through a softmax first"));
            }
        }
        Ok(Self { labels: labels.iter().map(|l| *l as usize).collect(), probabilities })
    }

    /// Class numbers.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Probabilities `[case][class]`.
    pub fn probabilities(&self) -> &[Vec<f64>] {
        &self.probabilities
    }

    fn classes(&self) -> usize {
        self.probabilities[0].len()
    }

    fn count(&self, class: usize) -> f64 {
        self.labels.iter().filter(|l| **l == class).count() as f64
    }

    /// Most probable class per case, the first of equals.
    pub fn decisions(&self) -> Vec<usize> {
        let best =
            |p: &Vec<f64>| (0..p.len()).fold(0, |best, class| if p[class] > p[best] { class } else { best });
        self.probabilities.iter().map(best).collect()
    }

    /// Every number of the family.
    pub fn measure(&self) -> Measures {
        let mut m = Measures::default();
        let decisions = self.decisions();
        let mut matrix = vec![vec![0.0; self.classes()]; self.classes()];
        self.labels.iter().zip(&decisions).for_each(|(&l, &d)| matrix[l][d] += 1.0);
        let n = self.labels.len() as f64;
        let counts: Vec<f64> = (0..self.classes()).map(|class| self.count(class)).collect();
        m.put("n", n);
        m.put("classes-without-cases", counts.iter().filter(|c| **c == 0.0).count() as f64);
        let right: Vec<bool> = self.labels.iter().zip(&decisions).map(|(l, d)| l == d).collect();
        m.put("accuracy", right.iter().filter(|r| **r).count() as f64 / n);
        let recalls: Vec<f64> =
            (0..self.classes()).filter(|&c| counts[c] > 0.0).map(|c| matrix[c][c] / counts[c]).collect();
        m.put("balanced-accuracy", mean(&recalls));
        self.ranking(&counts, &mut m);
        let squares = |(l, p): (&usize, &Vec<f64>)| {
            p.iter().enumerate().map(|(c, v)| (v - f64::from(u8::from(c == *l))).powi(2)).sum::<f64>()
        };
        m.put(
            "brier/sum-over-classes",
            self.labels.iter().zip(&self.probabilities).map(squares).sum::<f64>() / n,
        );
        m.put(
            "log-loss",
            calibration::log_loss(self.labels.iter().zip(&self.probabilities).map(|(l, p)| p[*l])),
        );
        let surest: Vec<f64> = decisions.iter().zip(&self.probabilities).map(|(d, p)| p[*d]).collect();
        m.put("ece/top-label/15 equal-width", calibration::ece(&right, &surest, 15));
        let one = |class: usize| {
            let is: Vec<bool> = self.labels.iter().map(|l| *l == class).collect();
            let p: Vec<f64> = self.probabilities.iter().map(|p| p[class]).collect();
            calibration::ece(&is, &p, 15)
        };
        m.put("ece/class-wise/15 equal-width", mean(&(0..self.classes()).map(one).collect::<Vec<_>>()));
        coverage::measure(&right, &surest, &mut m);
        let (f1, occurs) = self.f1_per_class(&matrix, &counts);
        let kept: Vec<f64> = f1.iter().zip(&occurs).filter(|(_, o)| **o).map(|(f, _)| *f).collect();
        m.put("f1/macro", mean(&kept));
        m.put("f1/weighted", f1.iter().zip(&counts).map(|(f, c)| f * c).sum::<f64>() / n);
        m.put("kappa/none", weighted_kappa(&matrix, |i, j| f64::from(u8::from(i != j))));
        m.put("kappa/linear", weighted_kappa(&matrix, |i, j| i.abs_diff(j) as f64));
        m.put("kappa/quadratic", weighted_kappa(&matrix, |i, j| (i.abs_diff(j) as f64).powi(2)));
        m.put("mcc", multiclass_mcc(&matrix));
        m.put(
            "top2",
            self.labels.iter().zip(&self.probabilities).filter(|(l, p)| among_best(p, **l, 2)).count() as f64
                / n,
        );
        m
    }

    fn f1_per_class(&self, matrix: &[Vec<f64>], counts: &[f64]) -> (Vec<f64>, Vec<bool>) {
        let one = |class: usize| {
            let called: f64 = matrix.iter().map(|row| row[class]).sum();
            let tp = matrix[class][class];
            let confusion = Confusion { tp, fp: called - tp, fn_: counts[class] - tp, tn: 0.0 };
            (confusion.f_beta(1.0), called + counts[class] > 0.0)
        };
        (0..self.classes()).map(one).unzip()
    }

    fn ranking(&self, counts: &[f64], m: &mut Measures) {
        let column = |class: usize| -> Vec<f64> { self.probabilities.iter().map(|p| p[class]).collect() };
        let n = self.labels.len() as f64;
        let mixed: Vec<usize> = (0..self.classes()).filter(|&c| counts[c] > 0.0 && counts[c] < n).collect();
        let rest: Vec<f64> = mixed
            .iter()
            .map(|&c| roc::auroc(&self.labels.iter().map(|l| *l == c).collect::<Vec<_>>(), &column(c)))
            .collect();
        m.put("auroc/ovr/macro", mean(&rest));
        let weight: f64 = mixed.iter().map(|&c| counts[c]).sum();
        m.put(
            "auroc/ovr/weighted",
            ratio(mixed.iter().zip(&rest).map(|(&c, a)| counts[c] * a).sum(), weight),
        );
        let mut pairs = Vec::new();
        for (at, &a) in mixed.iter().enumerate() {
            for &b in &mixed[at + 1..] {
                let cases: Vec<usize> =
                    (0..self.labels.len()).filter(|&i| [a, b].contains(&self.labels[i])).collect();
                let against = |class: usize| {
                    let labels: Vec<bool> = cases.iter().map(|&i| self.labels[i] == class).collect();
                    let scores: Vec<f64> = cases.iter().map(|&i| self.probabilities[i][class]).collect();
                    roc::auroc(&labels, &scores)
                };
                pairs.push((against(a) + against(b)) / 2.0);
            }
        }
        m.put("auroc/ovo/macro", mean(&pairs));
    }
}

/// Is `class` among the `k` most probable, later classes first among equals?
fn among_best(p: &[f64], class: usize, k: usize) -> bool {
    (0..p.len()).filter(|&c| p[c] > p[class] || (p[c] == p[class] && c > class)).count() < k
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rows_are_named() {
        let says = |label: f64, p: [f64; 2]| {
            Multiclass::new(&[0.0, label], vec![vec![0.5, 0.5], p.to_vec()]).unwrap_err().to_string()
        };
        assert!(says(2.0, [0.5, 0.5]).contains("row 2: the label 2 names none of the 2 classes"));
        assert!(says(0.5, [0.5, 0.5]).contains("names none"));
        assert!(says(1.0, [1.2, -0.2]).contains("p0 = 1.2 is outside"));
        assert!(says(1.0, [0.5, 0.2]).contains("add up to 0.7"));
    }

    #[test]
    fn a_class_without_cases_is_left_out_and_counted() {
        let p = vec![vec![0.7, 0.2, 0.1], vec![0.2, 0.7, 0.1], vec![0.6, 0.3, 0.1]];
        let m = Multiclass::new(&[0.0, 1.0, 0.0], p).unwrap().measure();
        assert_eq!((m.number("classes-without-cases"), m.number("auroc/ovo/macro")), (1.0, 1.0));
        assert_eq!((m.number("f1/macro"), m.number("top2")), (1.0, 1.0));
    }
}
