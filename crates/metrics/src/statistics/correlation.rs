//! Correlation of paired values: Pearson, Spearman, Kendall's tau-b.

use super::mean;
use super::ranks::{midranks, order, ties};
use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "pearson",
        "covariance over the product of standard deviations",
        "-1..1",
        "no variance: undefined",
        "one outlier can make it; sees straight lines only",
        "Pearson 1895; scipy.stats.pearsonr",
    ),
    define(
        "spearman",
        "Pearson correlation of the mid-ranks",
        "-1..1",
        "no variance: undefined",
        "says nothing about agreement in size",
        "Spearman 1904; scipy.stats.spearmanr",
    ),
    define(
        "kendall-tau-b",
        "(concordant - discordant) / sqrt((pairs - ties in a)(pairs - ties in b))",
        "-1..1",
        "one side constant: undefined",
        "tau-a and tau-c give other values when there are ties",
        "Kendall 1945; scipy.stats.kendalltau",
    ),
];

/// Pearson correlation; NaN when one side is constant.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let (ma, mb) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
        ab += (x - ma) * (y - mb);
    }
    if aa == 0.0 || bb == 0.0 { f64::NAN } else { (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0) }
}

/// Spearman's rank correlation.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    pearson(&midranks(a), &midranks(b))
}

/// Kendall's tau-b in O(n log n): discordant pairs are inversions of b in the order of a (Knight 1966).
pub fn kendall_tau_b(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len();
    let mut by_a: Vec<usize> = (0..n).collect();
    by_a.sort_by(|&i, &j| a[i].total_cmp(&a[j]).then(b[i].total_cmp(&b[j])));
    let pairs = |count: usize| (count * count.saturating_sub(1) / 2) as f64;
    let tied = |values: &[f64]| -> f64 {
        let order = order(values);
        ties(values, &order).into_iter().map(|run| pairs(run.len())).sum()
    };
    let both: f64 = by_a.chunk_by(|&i, &j| a[i] == a[j] && b[i] == b[j]).map(|run| pairs(run.len())).sum();
    let mut sorted: Vec<f64> = by_a.iter().map(|&i| b[i]).collect();
    let discordant = inversions(&mut sorted) as f64;
    let (all, ta, tb) = (pairs(n), tied(a), tied(b));
    let concordant = all - ta - tb + both - discordant;
    let scale = (all - ta).sqrt() * (all - tb).sqrt();
    if scale == 0.0 { f64::NAN } else { (concordant - discordant) / scale }
}

/// Pairs out of order; sorts the values.
fn inversions(values: &mut [f64]) -> u64 {
    let n = values.len();
    if n < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(n / 2);
    let mut count = inversions(left) + inversions(right);
    let (left, right) = (left.to_vec(), right.to_vec());
    let (mut i, mut j) = (0, 0);
    for slot in values.iter_mut() {
        if j == right.len() || (i < left.len() && left[i] <= right[j]) {
            *slot = left[i];
            i += 1;
        } else {
            *slot = right[j];
            j += 1;
            count += (left.len() - i) as u64;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_counts_pairs() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 1.0, 3.0, 3.0, 0.0]);
        let (mut score, mut free_a, mut free_b) = (0.0, 0.0f64, 0.0f64);
        for i in 0..5 {
            for j in 0..i {
                let (x, y): (f64, f64) = (a[i] - a[j], b[i] - b[j]);
                let sign = |v: f64| if v == 0.0 { 0.0 } else { v.signum() };
                score += sign(x) * sign(y);
                free_a += sign(x).abs();
                free_b += sign(y).abs();
            }
        }
        assert!((kendall_tau_b(&a, &b) - score / (free_a * free_b).sqrt()).abs() < 1e-15);
        assert!(kendall_tau_b(&a, &[1.0; 5]).is_nan());
    }
}
