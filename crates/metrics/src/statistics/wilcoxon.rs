//! Wilcoxon's signed-rank test of paired differences; zero differences are left out.

use super::normal_two_sided;
use super::ranks::{midranks, tie_term};
use crate::measures::{Definition, define, ratio};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "wilcoxon/stat",
        "smaller of the rank sums of positive and negative differences, zeros left out, ties by mid-ranks",
        "0..inf",
        "no pair: undefined",
        "other tools keep zeros (Pratt)",
        "Wilcoxon 1945; scipy.stats.wilcoxon(zero_method='wilcox')",
    ),
    define(
        "wilcoxon/p/auto",
        "two-sided: exact up to 50 pairs without ties and zeros; all sign patterns up to 13 pairs with them; else normal with tie correction, no continuity correction",
        "0..1",
        "more than 13 pairs and all differences zero: undefined",
        "the switch between exact and normal differs between versions of scipy",
        "scipy.stats.wilcoxon(method='auto') 1.17",
    ),
    define(
        "wilcoxon/rank-biserial",
        "(positive rank sum - negative rank sum) / rank sum",
        "-1..1",
        "no difference: undefined",
        "an effect size of ranks, not of millimetres: give the median difference too",
        "Kerby 2014",
    ),
];

/// Statistic, two-sided p and rank-biserial correlation of paired differences.
pub fn signed_rank(differences: &[f64]) -> (f64, f64, f64) {
    let all = differences.len();
    if all == 0 {
        return (f64::NAN, f64::NAN, f64::NAN);
    }
    let kept: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let sizes: Vec<f64> = kept.iter().map(|d| d.abs()).collect();
    let ranks = midranks(&sizes);
    let plus: f64 = kept.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    let n = kept.len() as f64;
    let total = n * (n + 1.0) / 2.0;
    let minus = total - plus;
    let tied = tie_term(&sizes);
    let p = if all <= 50 && tied == 0.0 && kept.len() == all || all <= 13 {
        exact(&ranks, plus)
    } else {
        let deviation = ((n * (n + 1.0) * (2.0 * n + 1.0) - tied / 2.0) / 24.0).sqrt();
        normal_two_sided((plus - total / 2.0) / deviation)
    };
    (plus.min(minus), p, ratio(plus - minus, total))
}

/// Two-sided p of a positive rank sum when every sign pattern is equally likely. Mid-ranks are multiples
/// of one half, so sums of doubled ranks are counted by dynamic programming.
fn exact(ranks: &[f64], plus: f64) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|r| (2.0 * r).round() as usize).collect();
    let most: usize = doubled.iter().sum();
    let mut ways = vec![0.0f64; most + 1];
    ways[0] = 1.0;
    for rank in doubled {
        for sum in (rank..=most).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let at = (2.0 * plus).round() as usize;
    let all: f64 = ways.iter().sum();
    let (below, above): (f64, f64) = (ways[..=at].iter().sum(), ways[at..].iter().sum());
    (2.0 * below.min(above) / all).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_pairs_have_eight_patterns() {
        let (statistic, p, effect) = signed_rank(&[1.0, 2.0, 3.0]);
        assert_eq!((statistic, p, effect), (0.0, 0.25, 1.0));
        let (statistic, p, effect) = signed_rank(&[0.0, 0.0]);
        assert!(statistic == 0.0 && p == 1.0 && effect.is_nan());
    }
}
