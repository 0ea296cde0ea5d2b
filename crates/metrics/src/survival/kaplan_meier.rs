//! Kaplan-Meier curves of events and of censoring.

use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "km/time",
        "distinct times of the table, ascending",
        "0..inf",
        "no case: no value",
        "lifelines puts 0 before them",
        "sksurv kaplan_meier_estimator",
    ),
    define(
        "km/surv",
        "product of (1 - events / at risk) up to and with each time",
        "0..1",
        "no event: 1 everywhere",
        "its tail rests on few cases: read n at risk",
        "Kaplan and Meier 1958; sksurv kaplan_meier_estimator",
    ),
    define(
        "median-survival",
        "smallest time with survival of at most 0.5",
        "0..inf",
        "not reached: infinite",
        "steps of the curve: give its interval",
        "lifelines median_survival_time_",
    ),
    define(
        "rmst",
        "area under the curve up to the last time",
        "0..last time",
        "no case: undefined",
        "depends on the last time: compare at equal horizons",
        "Royston and Parmar 2013; lifelines restricted_mean_survival_time",
    ),
];

/// A right-continuous step function that starts at 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Distinct times, ascending.
    pub times: Vec<f64>,
    /// Value from each time on.
    pub values: Vec<f64>,
}

/// Survival of the event.
pub fn survival(times: &[f64], events: &[bool]) -> Curve {
    curve(times, events, false)
}

/// Survival of censoring: at equal times events happen first, so they are no longer at risk of it.
pub fn censoring(times: &[f64], events: &[bool]) -> Curve {
    curve(times, events, true)
}

fn curve(times: &[f64], events: &[bool], of_censoring: bool) -> Curve {
    let order = crate::statistics::ranks::order(times);
    let mut curve = Curve { times: Vec::new(), values: Vec::new() };
    let mut value = 1.0;
    for run in crate::statistics::ranks::ties(times, &order) {
        let at_risk = (times.len() - run.start) as f64;
        let events = order[run.clone()].iter().filter(|&&i| events[i]).count() as f64;
        let (lost, at_risk) =
            if of_censoring { (run.len() as f64 - events, at_risk - events) } else { (events, at_risk) };
        if lost > 0.0 {
            value *= 1.0 - lost / at_risk;
        }
        curve.times.push(times[order[run.start]]);
        curve.values.push(value);
    }
    curve
}

/// 95 % interval of the survival at the times of [`survival`]: log-log transformed Greenwood variance, as lifelines
/// has it. At values of 0 and 1 the transform has no value: 0 and 1 stand for themselves.
pub fn log_log_band(times: &[f64], events: &[bool]) -> Vec<[f64; 2]> {
    let order = crate::statistics::ranks::order(times);
    let z = crate::statistics::normal_quantile(0.975);
    let (mut value, mut sum, mut band) = (1.0f64, 0.0, Vec::new());
    for run in crate::statistics::ranks::ties(times, &order) {
        let at_risk = (times.len() - run.start) as f64;
        let lost = order[run].iter().filter(|&&i| events[i]).count() as f64;
        value *= 1.0 - lost / at_risk;
        sum += lost / (at_risk * (at_risk - lost));
        let width = z * sum.sqrt() / value.ln();
        band.push(if value > 0.0 && value < 1.0 {
            [value.powf((-width).exp()), value.powf(width.exp())]
        } else {
            [value, value]
        });
    }
    band
}

impl Curve {
    /// Value at a time.
    pub fn at(&self, time: f64) -> f64 {
        match self.times.partition_point(|t| *t <= time) {
            0 => 1.0,
            after => self.values[after - 1],
        }
    }

    /// Smallest time with a value of at most `level`; infinite when it is never reached.
    pub fn reaches(&self, level: f64) -> f64 {
        self.values.iter().position(|v| *v <= level).map_or(f64::INFINITY, |i| self.times[i])
    }

    /// Area from 0 to the last time.
    pub fn area(&self) -> f64 {
        let (mut area, mut before, mut value) = (0.0, 0.0, 1.0);
        for (time, next) in self.times.iter().zip(&self.values) {
            area += (time - before) * value;
            (before, value) = (*time, *next);
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from lifelines 0.30.3 (KaplanMeierFitter.confidence_interval_).
    #[test]
    fn the_band_is_that_of_lifelines() {
        let times = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0];
        let events = [1, 1, 0, 1, 0, 1, 1, 0].map(|e| e == 1);
        let expected = [
            [0.387_000_014_032, 0.981_392_965_879],
            [0.314_807_113_705, 0.930_898_317_091],
            [0.195_495_866_1, 0.852_254_345_8],
            [0.195_495_866_1, 0.852_254_345_8],
            [0.009_583_793_849, 0.572_736_485_551],
            [0.009_583_793_849, 0.572_736_485_551],
        ];
        let found = log_log_band(&times, &events);
        for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((a - b).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(log_log_band(&[1.0, 2.0], &[false, true]), [[1.0, 1.0], [0.0, 0.0]]);
    }
}
