//! Probabilities made honest: a temperature, or a rising step curve, fitted on cases of their own and applied to
//! others. Fitting and measuring on the same cases would promise too much, so there is no such way here.

use super::binary::Binary;
use super::calibration::{brier, ece, log_loss};
use super::multiclass::Multiclass;
use crate::measures::{Definition, Measures, define};
use crate::statistics::ranks::{order, ties};
use galen_core::{Error, Result};

const FITTED: &str = "fitted on the calibration table, measured on the other one";

/// Definitions of the ids that a calibration table adds to `--kind binary`.
pub static BINARY: &[Definition] = &[
    TEMPERATURE,
    define(
        "temperature-scaled/brier",
        "Brier score after temperature scaling",
        "0..1",
        "as brier",
        FITTED,
        "Guo et al. 2017; sklearn CalibratedClassifierCV(method='temperature')",
    ),
    define(
        "temperature-scaled/log-loss",
        "the same for log loss",
        "0..inf",
        "as log-loss",
        FITTED,
        "Guo et al. 2017",
    ),
    define(
        "temperature-scaled/ece/positive/15 equal-width right-closed",
        "the same for the expected calibration error",
        "0..1",
        "as ece",
        FITTED,
        "Guo et al. 2017",
    ),
    define(
        "isotonic/brier",
        "Brier score after isotonic regression, linear between its corners",
        "0..1",
        "as brier",
        "needs some hundred calibration cases; its steps make ties",
        "Zadrozny and Elkan 2002; sklearn IsotonicRegression",
    ),
    define(
        "isotonic/log-loss",
        "the same for log loss",
        "0..inf",
        "as log-loss",
        "steps at 0 and 1 are priced at the machine epsilon",
        "sklearn IsotonicRegression",
    ),
    define(
        "isotonic/ece/positive/15 equal-width right-closed",
        "the same for the expected calibration error",
        "0..1",
        "as ece",
        FITTED,
        "sklearn IsotonicRegression; netcal ECE",
    ),
];

/// Definitions of the ids that a calibration table adds to `--kind multiclass`.
pub static MULTICLASS: &[Definition] = &[
    TEMPERATURE,
    define(
        "temperature-scaled/brier/sum-over-classes",
        "Brier score after temperature scaling",
        "0..2",
        "as brier/sum-over-classes",
        FITTED,
        "Guo et al. 2017; sklearn CalibratedClassifierCV(method='temperature')",
    ),
    define(
        "temperature-scaled/log-loss",
        "the same for log loss",
        "0..inf",
        "as log-loss",
        FITTED,
        "Guo et al. 2017",
    ),
    define(
        "temperature-scaled/ece/top-label/15 equal-width",
        "the same for the expected calibration error of the most probable class",
        "0..1",
        "as ece/top-label",
        FITTED,
        "Guo et al. 2017",
    ),
];

const TEMPERATURE: Definition = define(
    "temperature",
    "T that minimises the log loss of softmax(ln p / T) on the calibration table, p clipped at 1e-12",
    "4.5e-5..22026",
    "calibration table separable or anti-separable: an end of the range",
    "above 1: the model was too sure",
    "Guo et al. 2017; sklearn CalibratedClassifierCV(method='temperature')",
);

/// Largest |ln T| that is tried.
const REACH: f64 = 10.0;

fn logits(p: &[f64]) -> Vec<f64> {
    p.iter().map(|v| v.max(1e-12).ln()).collect()
}

/// softmax(z / T).
fn softened(z: &[f64], temperature: f64) -> Vec<f64> {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = z.iter().map(|v| ((v - top) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|v| v / sum).collect()
}

/// The temperature of least log loss. The loss is convex in 1/T, so its slope has one zero, which halving finds.
pub fn temperature(labels: &[usize], probabilities: &[Vec<f64>]) -> f64 {
    let rows: Vec<Vec<f64>> = probabilities.iter().map(|p| logits(p)).collect();
    let slope = |temperature: f64| {
        let one = |(z, label): (&Vec<f64>, &usize)| {
            let p = softened(z, temperature);
            p.iter().zip(z).map(|(p, z)| p * z).sum::<f64>() - z[*label]
        };
        rows.iter().zip(labels).map(one).sum::<f64>()
    };
    // The slope with respect to 1/T falls with T.
    let (mut low, mut high) = (-REACH, REACH);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if slope(middle.exp()) > 0.0 { low = middle } else { high = middle }
    }
    ((low + high) / 2.0).exp()
}

/// A rising curve through `(score, share of positives)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    /// Corners, scores ascending, shares not falling.
    corners: Vec<[f64; 2]>,
}

impl Isotonic {
    /// Least squares under the condition that it never falls: neighbours that would are pooled. Equal scores are one
    /// corner.
    pub fn fit(labels: &[bool], scores: &[f64]) -> Self {
        let order = order(scores);
        // (sum, weight, corners): weights are cases.
        let mut pools: Vec<(f64, f64, Vec<f64>)> = Vec::new();
        for run in ties(scores, &order) {
            let score = scores[order[run.start]];
            let sum = order[run.clone()].iter().filter(|&&i| labels[i]).count() as f64;
            pools.push((sum, run.len() as f64, vec![score]));
            while let [.., before, last] = &mut pools[..] {
                if before.0 / before.1 < last.0 / last.1 {
                    break;
                }
                before.0 += last.0;
                before.1 += last.1;
                before.2.append(&mut last.2);
                pools.pop();
            }
        }
        let corners = pools.iter().flat_map(|(sum, weight, at)| at.iter().map(move |x| [*x, sum / weight]));
        Self { corners: corners.collect() }
    }

    /// Value at a score: linear between corners, the ends beyond them.
    pub fn at(&self, score: f64) -> f64 {
        let next = self.corners.partition_point(|corner| corner[0] < score);
        match (next.checked_sub(1).map(|i| self.corners[i]), self.corners.get(next)) {
            (Some([x0, y0]), Some([x1, y1])) => y0 + (y1 - y0) * (score - x0) / (x1 - x0),
            (None, Some([_, y])) => *y,
            (Some([_, y]), None) => y,
            (None, None) => f64::NAN,
        }
    }
}

impl Binary {
    /// Scores after the temperature that fits `calibration`, and that temperature.
    pub fn tempered(&self, calibration: &Self) -> (f64, Vec<f64>) {
        let two = |scores: &[f64]| -> Vec<Vec<f64>> { scores.iter().map(|s| vec![1.0 - s, *s]).collect() };
        let labels: Vec<usize> = calibration.labels().iter().map(|l| usize::from(*l)).collect();
        let t = temperature(&labels, &two(calibration.scores()));
        (t, two(self.scores()).iter().map(|p| softened(&logits(p), t)[1]).collect())
    }

    /// Scores after the isotonic regression of `calibration`.
    pub fn isotonic(&self, calibration: &Self) -> Vec<f64> {
        let curve = Isotonic::fit(calibration.labels(), calibration.scores());
        self.scores().iter().map(|s| curve.at(*s)).collect()
    }

    /// Calibration numbers after both fits.
    pub fn recalibrated(&self, calibration: &Self) -> Measures {
        let labels = self.labels();
        let mut m = Measures::default();
        let mut put = |name: &str, scores: &[f64]| {
            let truth = labels.iter().zip(scores).map(|(&l, &s)| if l { s } else { 1.0 - s });
            m.put(format!("{name}/brier"), brier(labels, scores));
            m.put(format!("{name}/log-loss"), log_loss(truth));
            m.put(format!("{name}/ece/positive/15 equal-width right-closed"), ece(labels, scores, 15));
        };
        let (temperature, tempered) = self.tempered(calibration);
        put("temperature-scaled", &tempered);
        put("isotonic", &self.isotonic(calibration));
        m.put("temperature", temperature);
        m
    }
}

impl Multiclass {
    /// Calibration numbers after temperature scaling; both tables must have the same classes.
    pub fn recalibrated(&self, calibration: &Self) -> Result<Measures> {
        let classes = [self, calibration].map(|table| table.probabilities()[0].len());
        if classes[0] != classes[1] {
            let what = format!("{} classes, the calibration table has {}", classes[0], classes[1]);
            return Err(Error::input("the table", what, "give two tables of the same model"));
        }
        let t = temperature(calibration.labels(), calibration.probabilities());
        let after: Vec<Vec<f64>> = self.probabilities().iter().map(|p| softened(&logits(p), t)).collect();
        let labels: Vec<f64> = self.labels().iter().map(|l| *l as f64).collect();
        let measured = Self::new(&labels, after)?.measure();
        let mut m = Measures::default();
        m.put("temperature", t);
        for id in ["brier/sum-over-classes", "log-loss", "ece/top-label/15 equal-width"] {
            m.put(format!("temperature-scaled/{id}"), measured.number(id));
        }
        Ok(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_doubled_its_logits_gets_them_halved() {
        // Truth follows p = 0.2, 0.5, 0.8 exactly; the model says p^2 / (p^2 + (1-p)^2).
        let (mut labels, mut scores) = (Vec::new(), Vec::new());
        for p in [0.2f64, 0.5, 0.8] {
            for i in 0..10 {
                labels.push(f64::from(u8::from(f64::from(i) < 10.0 * p - 0.5)));
                scores.push(p * p / (p * p + (1.0 - p) * (1.0 - p)));
            }
        }
        let table = Binary::new(&labels, &scores).unwrap();
        let m = table.recalibrated(&table);
        assert!((m.number("temperature") - 2.0).abs() < 1e-9, "{}", m.number("temperature"));
        assert!(m.number("temperature-scaled/ece/positive/15 equal-width right-closed") < 1e-9);
        assert!(m.number("isotonic/brier") <= m.number("temperature-scaled/brier") + 1e-12);
    }

    #[test]
    fn falling_neighbours_are_pooled() {
        let curve = Isotonic::fit(&[false, true, false, true, true], &[0.1, 0.2, 0.3, 0.4, 0.4]);
        assert_eq!(curve.corners, [[0.1, 0.0], [0.2, 0.5], [0.3, 0.5], [0.4, 1.0]]);
        assert_eq!([0.0, 0.25, 0.9].map(|s| curve.at(s)), [0.0, 0.5, 1.0]);
        assert!((curve.at(0.15) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn separable_tables_end_at_the_ends() {
        let p = |s: f64| vec![1.0 - s, s];
        assert!(temperature(&[0, 1], &[p(0.1), p(0.9)]) < 1e-4);
        assert!(temperature(&[1, 0], &[p(0.1), p(0.9)]) > 1e4);
    }
}
