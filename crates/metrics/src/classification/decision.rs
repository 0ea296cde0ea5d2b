//! What a model's decisions are worth at a threshold probability: decision curves.

use super::confusion::Confusion;
use crate::measures::{Definition, define, ratio};

/// What the ids of this file mean; `@pt.2` is the threshold probability.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "net-benefit@pt.2",
        "TP/N - FP/N x pt / (1 - pt)",
        "-inf..prevalence",
        "no case: undefined",
        "pt is a clinical choice: never the peak of the curve; some tools want the odds instead",
        "Vickers and Elkin 2006; dcurves dca",
    ),
    define(
        "net-benefit-all@pt.2",
        "net benefit of treating everyone",
        "-inf..prevalence",
        "no case: undefined",
        "a model below it does harm",
        "Vickers and Elkin 2006",
    ),
    define(
        "standardised-net-benefit@pt.2",
        "net benefit / prevalence",
        "-inf..1",
        "no positive: undefined",
        "not comparable between pt",
        "Kerr et al. 2016",
    ),
    define(
        "interventions-avoided@pt.2",
        "(net benefit - net benefit of treating all) / (pt / (1 - pt))",
        "-inf..1",
        "pt = 0: undefined",
        "per case, not per hundred",
        "Vickers et al. 2008; dcurves",
    ),
    define(
        "net-benefit-untreated@pt.2",
        "TN/N - FN/N x (1 - pt) / pt",
        "-inf..1 - prevalence",
        "pt = 0: undefined",
        "the same decisions, priced from the side of those left alone",
        "Rousson and Zumbrunn 2011; dcurves",
    ),
];

/// Net benefit of treating scores of at least `pt`.
pub fn net_benefit(labels: &[bool], scores: &[f64], pt: f64) -> f64 {
    let counts = Confusion::at(labels, scores, pt);
    ratio(counts.tp - counts.fp * pt / (1.0 - pt), counts.all())
}

/// Net benefit of treating everyone.
pub fn net_benefit_of_all(labels: &[bool], pt: f64) -> f64 {
    net_benefit(labels, &vec![1.0; labels.len()], pt)
}

/// Net benefit, among those left alone, of treating scores of at least `pt`.
pub fn net_benefit_of_untreated(labels: &[bool], scores: &[f64], pt: f64) -> f64 {
    let counts = Confusion::at(labels, scores, pt);
    ratio(counts.tn - counts.fn_ * ratio(1.0 - pt, pt), counts.all())
}

/// Threshold probabilities, net benefit of the model and of treating all, from 0.01 to 0.99.
pub fn curve(labels: &[bool], scores: &[f64]) -> Vec<(f64, f64, f64)> {
    let point = |i: u32| {
        let pt = f64::from(i) / 100.0;
        (pt, net_benefit(labels, scores, pt), net_benefit_of_all(labels, pt))
    };
    (1..100).map(point).collect()
}
