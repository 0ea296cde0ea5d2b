//! A checked table of times, events and risks, and everything measured from it.

use super::{brier, concordance, dynamic_auc, kaplan_meier, log_rank};
use crate::measures::{Definition, Measures, define};
use galen_core::{Error, Result};

/// What the ids of this file mean.
pub(super) static DEFINITIONS: &[Definition] = &[
    define("n", "cases", "0..inf", "0", "information lies in events, not cases", "count"),
    define("events", "cases with the event", "0..inf", "0", "fewer than 100: wide intervals", "count"),
];

/// Times, events and risks of the cases.
#[derive(Debug, Clone)]
pub struct Survival {
    times: Vec<f64>,
    events: Vec<bool>,
    risks: Vec<f64>,
    groups: Option<Vec<usize>>,
}

/// Survival probabilities, one row per case and one column per time.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// Times of the columns, ascending.
    pub times: Vec<f64>,
    /// `[case][time]`.
    pub survival: Vec<Vec<f64>>,
}

impl Survival {
    /// Takes times above 0, events 0 or 1, finite risks and, if there are any, group numbers from 0.
    pub fn new(times: Vec<f64>, events: &[f64], risks: Vec<f64>, groups: Option<Vec<usize>>) -> Result<Self> {
        crate::classification::binary::check_lengths("risk", times.len(), risks.len())?;
        for row in 0..times.len() {
            let place = format!("row {}", row + 1);
            if !(times[row].is_finite() && times[row] >= 0.0) {
                let what = format!("{} is no time of follow-up", times[row]);
                return Err(Error::input(place, what, "give a number of days, months or years, 0 or more"));
            }
            if events[row] != 0.0 && events[row] != 1.0 {
                let what = format!("the event {} is neither 0 nor 1", events[row]);
                return Err(Error::input(place, what, "1 is the event, 0 is censoring"));
            }
            if !risks[row].is_finite() {
                let what = format!("the risk {} is no number", risks[row]);
                return Err(Error::input(place, what, "leave the case out in the open, or predict it"));
            }
        }
        if events.iter().all(|e| *e == 0.0) {
            let what = format!("none of the {} cases has the event", events.len());
            return Err(Error::input(
                "column event",
                what,
                "1 is the event; without events nothing can be ranked",
            ));
        }
        Ok(Self { times, events: events.iter().map(|e| *e == 1.0).collect(), risks, groups })
    }

    /// Times and events of a group, or of all without groups: `(group, times, events)`.
    pub fn by_group(&self) -> Vec<(Option<usize>, Vec<f64>, Vec<bool>)> {
        let Some(groups) = &self.groups else {
            return vec![(None, self.times.clone(), self.events.clone())];
        };
        let last = groups.iter().copied().max().unwrap_or(0);
        let of = |group: usize| {
            let own = || (0..groups.len()).filter(|&i| groups[i] == group);
            (Some(group), own().map(|i| self.times[i]).collect(), own().map(|i| self.events[i]).collect())
        };
        (0..=last).map(of).collect()
    }

    /// Every number of the family. Uno's C uses events before `tau` (infinite: all). AUC is measured at
    /// `at`, or at the times of `predicted`. The censoring curve comes from `training` or this table.
    pub fn measure(
        &self,
        tau: f64,
        at: Option<&[f64]>,
        predicted: Option<&Predicted>,
        training: Option<&Survival>,
    ) -> Result<Measures> {
        let (times, events, risks) = (&self.times[..], &self.events[..], &self.risks[..]);
        let mut m = Measures::default();
        let source = training.unwrap_or(self);
        let censoring = kaplan_meier::censoring(&source.times, &source.events);
        let curve = kaplan_meier::survival(times, events);
        m.put("n", times.len() as f64);
        m.put("events", events.iter().filter(|e| **e).count() as f64);
        m.put("c/harrell/exact ties (lifelines)", concordance::harrell(times, events, risks, 0.0).index());
        m.put(
            "c/harrell/tied_tol1e-8 (scikit-survival)",
            concordance::harrell(times, events, risks, 1e-8).index(),
        );
        m.put("c/uno tau", concordance::uno(times, events, risks, tau, &censoring));
        m.put("c/uno tau/value", tau);
        let moments = match (at, predicted) {
            (Some(at), _) => at.to_vec(),
            (None, Some(predicted)) => predicted.times.clone(),
            (None, None) => self.quartiles(),
        };
        self.check_moments(&moments)?;
        let areas: Vec<f64> =
            moments.iter().map(|&t| dynamic_auc::at(times, events, risks, t, &censoring)).collect();
        m.put("auc/cumulative-dynamic/mean", dynamic_auc::mean(&areas, &moments, &curve));
        m.put_many("auc/cumulative-dynamic", areas);
        m.put_many("auc/cumulative-dynamic/times", moments);
        if let Some(predicted) = predicted {
            self.brier(predicted, &censoring, &curve, &mut m)?;
        }
        m.put("median-survival", curve.reaches(0.5));
        m.put("rmst", curve.area());
        m.put_many("km/time", curve.times);
        m.put_many("km/surv", curve.values);
        if let Some(groups) = &self.groups {
            let (statistic, p) = log_rank::log_rank(times, events, groups);
            m.put("logrank/chi2", statistic);
            m.put("logrank/p", p);
        }
        Ok(m)
    }

    /// Quartiles of the event times, for want of a wish.
    fn quartiles(&self) -> Vec<f64> {
        let mut times: Vec<f64> =
            self.times.iter().zip(&self.events).filter(|(_, e)| **e).map(|(t, _)| *t).collect();
        times.sort_by(f64::total_cmp);
        let last = self.times.iter().copied().fold(0.0, f64::max);
        let mut moments: Vec<f64> = [1, 2, 3].map(|q| times[(times.len() - 1) * q / 4]).to_vec();
        moments.dedup();
        moments.retain(|t| *t < last);
        moments
    }

    fn check_moments(&self, moments: &[f64]) -> Result<()> {
        let (first, last) =
            self.times.iter().fold((f64::INFINITY, 0.0f64), |(low, high), t| (low.min(*t), high.max(*t)));
        if let Some(outside) = moments.iter().find(|t| !(**t >= first && **t < last)) {
            let what = format!("{outside} lies outside the follow-up [{first}, {last})");
            return Err(Error::input(
                "times",
                what,
                "ask for times at which some cases are still under observation",
            ));
        }
        if moments.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::input("times", "are not ascending", "sort them and give each once"));
        }
        Ok(())
    }

    fn brier(
        &self,
        predicted: &Predicted,
        censoring: &kaplan_meier::Curve,
        curve: &kaplan_meier::Curve,
        m: &mut Measures,
    ) -> Result<()> {
        let place = "survival probabilities";
        if predicted.survival.len() != self.times.len() {
            let what = format!("{} rows for {} cases", predicted.survival.len(), self.times.len());
            return Err(Error::input(place, what, "give one row per case, in the order of the table"));
        }
        self.check_moments(&predicted.times)?;
        for (row, s) in predicted.survival.iter().enumerate() {
            if s.len() != predicted.times.len() || s.iter().any(|v| !(0.0..=1.0).contains(v)) {
                let what = "needs one probability in [0, 1] per time";
                return Err(Error::input(format!("{place}, row {}", row + 1), what, "check the columns"));
            }
        }
        let score = |column: usize, of: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..self.times.len()).map(of).collect();
            brier::at(&self.times, &self.events, &values, predicted.times[column], censoring)
        };
        let columns = 0..predicted.times.len();
        let values: Vec<f64> =
            columns.clone().map(|c| score(c, &|case| predicted.survival[case][c])).collect();
        let plain: Vec<f64> = columns.map(|c| score(c, &|_| curve.at(predicted.times[c]))).collect();
        m.put("ibs", brier::integrated(&values, &predicted.times));
        m.put("ibs/kaplan-meier", brier::integrated(&plain, &predicted.times));
        m.put_many("brier/ipcw", values);
        m.put_many("brier/times", predicted.times.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rows_and_times_are_named() {
        let says = |times: [f64; 2], events: [f64; 2], risk: f64| {
            Survival::new(times.into(), &events, vec![0.1, risk], None).unwrap_err().to_string()
        };
        assert!(says([1.0, -2.0], [1.0, 0.0], 0.5).contains("row 2: -2 is no time"));
        assert!(says([1.0, 2.0], [1.0, 3.0], 0.5).contains("the event 3 is neither"));
        assert!(says([1.0, 2.0], [1.0, 0.0], f64::NAN).contains("the risk NaN"));
        assert!(says([1.0, 2.0], [0.0, 0.0], 0.5).contains("none of the 2 cases"));
        let table = Survival::new(vec![1.0, 2.0, 3.0], &[1.0, 1.0, 0.0], vec![0.3, 0.2, 0.1], None).unwrap();
        let error = table.measure(f64::INFINITY, Some(&[3.0]), None, None).unwrap_err().to_string();
        assert!(error.contains("outside the follow-up"), "{error}");
        let m = table.measure(f64::INFINITY, None, None, None).unwrap();
        assert_eq!((m.number("c/harrell/exact ties (lifelines)"), m.number("median-survival")), (1.0, 2.0));
    }
}
