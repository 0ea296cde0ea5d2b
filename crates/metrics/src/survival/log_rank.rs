//! Log-rank test of two or more groups.

use crate::measures::{Definition, define};
use crate::statistics::chi_squared_tail;
use crate::statistics::ranks::{order, ties};
use faer::prelude::Solve;
use faer::{Mat, linalg::solvers::FullPivLu};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "logrank/chi2",
        "(O - E)' V^-1 (O - E) over all groups but one, hypergeometric variance",
        "0..inf",
        "no event, or one group: undefined",
        "cut-points searched on the same data make it look strong",
        "Mantel 1966; lifelines logrank_test, sksurv compare_survival",
    ),
    define(
        "logrank/p",
        "upper tail of chi-squared with groups - 1 degrees of freedom",
        "0..1",
        "as chi2",
        "blind to crossing curves",
        "Mantel 1966",
    ),
];

/// Statistic and p of groups numbered from 0.
pub fn log_rank(times: &[f64], events: &[bool], groups: &[usize]) -> (f64, f64) {
    let count = groups.iter().max().map_or(0, |most| most + 1);
    if count < 2 {
        return (f64::NAN, f64::NAN);
    }
    let mut at_risk = vec![0.0; count];
    groups.iter().for_each(|&g| at_risk[g] += 1.0);
    let mut excess = vec![0.0; count];
    let mut variance = vec![vec![0.0; count]; count];
    let order = order(times);
    for run in ties(times, &order) {
        let mut dead = vec![0.0; count];
        order[run.clone()].iter().filter(|&&i| events[i]).for_each(|&i| dead[groups[i]] += 1.0);
        let (n, d): (f64, f64) = (at_risk.iter().sum(), dead.iter().sum());
        if d > 0.0 {
            let spread = if n > 1.0 { d * (n - d) / (n - 1.0) } else { 0.0 };
            for g in 0..count {
                excess[g] += dead[g] - d * at_risk[g] / n;
                for h in 0..count {
                    let own = if g == h { at_risk[g] / n } else { 0.0 };
                    variance[g][h] += spread * (own - at_risk[g] * at_risk[h] / (n * n));
                }
            }
        }
        order[run].iter().for_each(|&i| at_risk[groups[i]] -= 1.0);
    }
    let freedom = count - 1;
    let v = Mat::from_fn(freedom, freedom, |i, j| variance[i][j]);
    let e = Mat::from_fn(freedom, 1, |i, _| excess[i]);
    if (0..freedom).any(|i| variance[i][i] <= 0.0) {
        return (f64::NAN, f64::NAN);
    }
    let solved = FullPivLu::new(v.as_ref()).solve(&e);
    let statistic: f64 = (0..freedom).map(|i| solved[(i, 0)] * excess[i]).sum();
    (statistic, chi_squared_tail(statistic, freedom as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_is_no_test() {
        assert!(log_rank(&[1.0, 2.0], &[false, false], &[0, 1]).0.is_nan());
        assert!(log_rank(&[1.0, 2.0], &[true, true], &[0, 0]).0.is_nan());
    }
}
