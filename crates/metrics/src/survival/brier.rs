//! Brier score of survival probabilities, weighted for censoring.

use super::kaplan_meier::Curve;
use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "brier/ipcw",
        "per time t: mean of S(t)^2 / G(time) for events by t and (1 - S(t))^2 / G(t) for those beyond",
        "0..inf",
        "no case: undefined",
        "G at the time itself; pec uses the value just before",
        "Graf et al. 1999; sksurv brier_score",
    ),
    define("brier/times", "the times of the row above", "0..inf", "-", "quote them", "input"),
    define(
        "ibs",
        "trapezoid integral of brier/ipcw over the times / their range",
        "0..inf",
        "fewer than two times: undefined",
        "depends on the times: read it beside ibs/kaplan-meier",
        "Graf et al. 1999; sksurv integrated_brier_score",
    ),
    define(
        "ibs/kaplan-meier",
        "ibs of the same Kaplan-Meier curve for everyone",
        "0..inf",
        "as ibs",
        "a model that is not below it has learnt nothing",
        "Graf et al. 1999",
    ),
];

/// Score at `time`; `predicted` is the survival probability of each case then.
pub fn at(times: &[f64], events: &[bool], predicted: &[f64], time: f64, censoring: &Curve) -> f64 {
    // A weight of 1/0 is left out, as the reference does.
    let over = |value: f64, g: f64| if g == 0.0 { 0.0 } else { value / g };
    let now = censoring.at(time);
    let mut sum = 0.0;
    for i in 0..times.len() {
        if times[i] > time {
            sum += over((1.0 - predicted[i]).powi(2), now);
        } else if events[i] {
            sum += over(predicted[i].powi(2), censoring.at(times[i]));
        }
    }
    sum / times.len() as f64
}

/// Trapezoid integral over the times, divided by their range.
pub fn integrated(values: &[f64], times: &[f64]) -> f64 {
    if times.len() < 2 {
        return f64::NAN;
    }
    let area: f64 =
        (1..times.len()).map(|i| (values[i] + values[i - 1]) / 2.0 * (times[i] - times[i - 1])).sum();
    area / (times[times.len() - 1] - times[0])
}
