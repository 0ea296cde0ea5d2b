//! AUC at a time: those with the event by then against those still free of it.

use super::kaplan_meier::Curve;
use crate::measures::{Definition, define, ratio};
use crate::statistics::ranks::{order, ties};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "auc/cumulative-dynamic",
        "per time: P(risk of a case > risk of a control), cases (event by then) weighted with 1/G(time), ties one half",
        "0..1",
        "no case or no control at a time: undefined",
        "times must lie inside the follow-up",
        "Uno et al. 2007; sksurv cumulative_dynamic_auc",
    ),
    define(
        "auc/cumulative-dynamic/mean",
        "mean over the times, weighted with the drop of the Kaplan-Meier curve",
        "0..1",
        "an undefined time, or no drop: undefined",
        "depends on the times",
        "Lambert and Chevret 2016; sksurv cumulative_dynamic_auc",
    ),
    define(
        "auc/cumulative-dynamic/times",
        "the times of the rows above",
        "0..inf",
        "-",
        "quote them",
        "input",
    ),
];

/// AUC at `time`.
pub fn at(times: &[f64], events: &[bool], risks: &[f64], time: f64, censoring: &Curve) -> f64 {
    let order = order(risks);
    let (mut cases, mut controls, mut area) = (0.0, 0.0, 0.0);
    // From the lowest risk up: each case stands above the controls seen so far.
    let mut at = 0;
    for run in tied_runs(risks, &order) {
        let (mut case, mut control) = (0.0, 0.0);
        for &i in &order[run.clone()] {
            if times[i] > time {
                control += 1.0;
            } else if events[i] {
                case += 1.0 / censoring.at(times[i]);
            }
        }
        area += case * (controls + control / 2.0);
        cases += case;
        controls += control;
        at = run.end;
    }
    debug_assert_eq!(at, risks.len());
    ratio(area, cases * controls)
}

/// Runs of risks that step by at most 1e-8, as the reference joins them.
fn tied_runs(risks: &[f64], order: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for run in ties(risks, order) {
        match runs.last_mut() {
            Some(last) if risks[order[run.start]] - risks[order[last.end - 1]] <= 1e-8 => last.end = run.end,
            _ => runs.push(run),
        }
    }
    runs
}

/// Mean of the values at `times`, weighted with the drop of `survival` before each.
pub fn mean(values: &[f64], times: &[f64], survival: &Curve) -> f64 {
    if let &[only] = values {
        return only;
    }
    let (mut sum, mut before) = (0.0, 1.0);
    for (value, time) in values.iter().zip(times) {
        let now = survival.at(*time);
        sum += value * (before - now);
        before = now;
    }
    ratio(sum, 1.0 - before)
}
