//! Rankings of methods, three ways, and how firmly they stand.
//!
//! Source: the schemes of Wiesenfarth et al. 2021 ("Methods and open-source toolkit for analyzing and visualizing
//! challenge results"): aggregate then rank, rank then aggregate, and counts of significant wins; uncertainty by
//! drawing cases. Differs: ties share the mean rank, and a value that is not defined ranks last.

use super::multiplicity::holm;
use super::ranks::{midranks, ties};
use super::{correlation::kendall_tau_b, wilcoxon};
use crate::bootstrap::Draws;

/// Ranks from 1, the best first; equal values share the mean of their ranks, NaN ranks last.
pub fn ranks(values: &[f64], higher_is_better: bool) -> Vec<f64> {
    let key = |v: &f64| match (v.is_nan(), higher_is_better) {
        (true, _) => f64::INFINITY,
        (false, true) => -v,
        (false, false) => *v,
    };
    midranks(&values.iter().map(key).collect::<Vec<_>>())
}

/// Mean over cases of the ranks within a case; `values` is `[method][case]`. Cases in which no method has a value
/// say nothing and are left out.
pub fn mean_of_case_ranks(values: &[Vec<f64>], higher_is_better: bool) -> Vec<f64> {
    let cases = values.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; values.len()];
    let mut n = 0.0;
    for case in 0..cases {
        let column: Vec<f64> = values.iter().map(|method| method[case]).collect();
        if column.iter().all(|v| v.is_nan()) {
            continue;
        }
        n += 1.0;
        sums.iter_mut().zip(ranks(&column, higher_is_better)).for_each(|(sum, rank)| *sum += rank);
    }
    sums.iter().map(|sum| sum / n).collect()
}

/// One-sided p-values that the method of the row is better than that of the column (Wilcoxon's signed ranks over
/// the cases in which both have a value, half of the two-sided p), adjusted after Holm over all ordered pairs. NaN
/// on the diagonal.
pub fn better_than(values: &[Vec<f64>], higher_is_better: bool) -> Vec<Vec<f64>> {
    let n = values.len();
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let mut raw = Vec::new();
    for a in 0..n {
        for b in (0..n).filter(|&b| b != a) {
            let pairs = values[a].iter().zip(&values[b]).filter(|(x, y)| x.is_finite() && y.is_finite());
            let differences: Vec<f64> = pairs.map(|(x, y)| sign * (x - y)).collect();
            let (_, p, effect) = wilcoxon::signed_rank(&differences);
            // Without any difference nothing is better.
            raw.push(if p.is_nan() || effect.is_nan() {
                1.0
            } else if effect > 0.0 {
                p / 2.0
            } else {
                1.0 - p / 2.0
            });
        }
    }
    let adjusted = holm(&raw);
    let mut rest = adjusted.into_iter();
    let cell = |a: usize, b: usize, rest: &mut dyn Iterator<Item = f64>| {
        if a == b { f64::NAN } else { rest.next().unwrap_or(f64::NAN) }
    };
    (0..n).map(|a| (0..n).map(|b| cell(a, b, &mut rest)).collect()).collect()
}

/// Significant wins per method at level `alpha`, from [`better_than`].
pub fn wins(better: &[Vec<f64>], alpha: f64) -> Vec<f64> {
    better.iter().map(|row| row.iter().filter(|p| **p < alpha).count() as f64).collect()
}

/// Ranks when cases are drawn anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Stability {
    /// Share of draws per method and rank (the first is rank 1); a shared rank counts for the ranks it spans.
    pub share: Vec<Vec<f64>>,
    /// Median rank and its 2.5th and 97.5th percentile per method.
    pub rank: Vec<[f64; 3]>,
    /// Mean of Kendall's tau-b between the ranking of a draw and that of all cases; NaN when all are equal.
    pub tau: f64,
}

/// Ranks `methods` methods in `draws` draws of `n` cases by `statistic(method, cases)`.
pub fn stability(
    n: usize,
    methods: usize,
    draws: usize,
    seed: u64,
    higher_is_better: bool,
    statistic: impl Fn(usize, &[usize]) -> f64,
) -> Stability {
    let ranking = |cases: &[usize]| {
        ranks(&(0..methods).map(|m| statistic(m, cases)).collect::<Vec<_>>(), higher_is_better)
    };
    let all: Vec<usize> = (0..n).collect();
    let whole = ranking(&all);
    let mut share = vec![vec![0.0; methods]; methods];
    let mut found: Vec<Vec<f64>> = vec![Vec::with_capacity(draws); methods];
    let (mut tau, mut taus) = (0.0, 0.0);
    let mut source = Draws::new(n, seed);
    for _ in 0..draws {
        let drawn = ranking(source.next());
        let order = super::ranks::order(&drawn);
        for run in ties(&drawn, &order) {
            let part = 1.0 / run.len() as f64;
            for &method in &order[run.clone()] {
                run.clone().for_each(|rank| share[method][rank] += part / draws as f64);
            }
        }
        let agreement = kendall_tau_b(&whole, &drawn);
        if agreement.is_finite() {
            (tau, taus) = (tau + agreement, taus + 1.0);
        }
        found.iter_mut().zip(&drawn).for_each(|(all, rank)| all.push(*rank));
    }
    let rank = found
        .into_iter()
        .map(|mut ranks| {
            ranks.sort_by(f64::total_cmp);
            [0.5, 0.025, 0.975].map(|p| crate::bootstrap::percentile(&ranks, p).unwrap_or(f64::NAN))
        })
        .collect();
    Stability { share, rank, tau: crate::measures::ratio(tau, taus) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_is_last_and_equals_share() {
        assert_eq!(ranks(&[0.9, f64::NAN, 0.9, 0.5], true), [1.5, 4.0, 1.5, 3.0]);
        assert_eq!(ranks(&[3.0, 1.0], false), [2.0, 1.0]);
    }

    /// A method that fails once and is best otherwise: the schemes disagree, which is why all are shown.
    #[test]
    fn one_failure_decides_the_mean_but_not_the_ranks() {
        let a = vec![0.9, 0.9, 0.9, 0.0];
        let b = vec![0.8, 0.8, 0.8, 0.8];
        let values = [a, b];
        let mean = |m: &Vec<f64>| m.iter().sum::<f64>() / 4.0;
        assert_eq!(ranks(&values.iter().map(mean).collect::<Vec<_>>(), true), [2.0, 1.0]);
        assert_eq!(mean_of_case_ranks(&values, true), [1.25, 1.75]);
    }

    #[test]
    fn wins_need_significance() {
        let worse: Vec<f64> = (0..12).map(|i| f64::from(i) / 20.0).collect();
        let better: Vec<f64> = worse.iter().enumerate().map(|(i, v)| v + 0.1 + i as f64 / 100.0).collect();
        let p = better_than(&[worse.clone(), better, worse], true);
        assert!(p[1][0] < 0.01 && p[0][1] > 0.5 && p[0][2] == 1.0 && p[0][0].is_nan());
        assert_eq!(wins(&p, 0.05), [0.0, 2.0, 0.0]);
    }

    #[test]
    fn a_clear_order_is_stable_and_a_draw_is_not() {
        let values = [vec![0.9; 10], vec![0.5; 10], vec![0.5; 10]];
        let mean = |m: usize, cases: &[usize]| cases.iter().map(|&c| values[m][c]).sum::<f64>();
        let s = stability(10, 3, 50, 1, true, mean);
        assert!((s.share[0][0] - 1.0).abs() < 1e-12 && (s.share[1][1] - 0.5).abs() < 1e-12);
        assert_eq!(s.rank[0], [1.0; 3]);
        assert!((s.tau - 1.0).abs() < 1e-12);
        let noisy = [vec![0.0, 1.0, 0.0, 1.0], vec![1.0, 0.0, 1.0, 0.0]];
        let mean = |m: usize, cases: &[usize]| cases.iter().map(|&c| noisy[m][c]).sum::<f64>();
        let s = stability(4, 2, 400, 1, true, mean);
        assert!((s.share[0][0] - 0.5).abs() < 0.1, "{:?}", s.share);
    }
}
