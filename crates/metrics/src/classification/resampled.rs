//! AUROC of many draws of cases: sorted once, then each draw is a count per place in the order.
//!
//! Source: Efron 1979 for the bootstrap; the area from counts is Mann and Whitney's statistic. The numbers of draw k
//! come from stream k of the generator, so they are the same for any number of threads.

use crate::bootstrap::percentile;
use crate::statistics::ranks::{order, ties};
use galen_kernels::resampling::{count_draws, ordered_pairs, place_of};
use rayon::prelude::*;

/// AUROC of each of `draws` draws with replacement of all cases; NaN where a draw holds one class only.
pub fn auroc_of_draws(labels: &[bool], scores: &[f64], draws: usize, seed: u64) -> Vec<f64> {
    let ranks = Ranks::new(labels, scores);
    let one = |counts: &mut Vec<u16>, draw: usize| {
        count_draws(counts, seed, draw as u64);
        ranks.area(counts)
    };
    (0..draws).into_par_iter().map_init(|| vec![0; labels.len()], one).collect()
}

/// 2.5th and 97.5th percentile of the AUROC over draws of cases; draws of one class are left out.
pub fn auroc_interval(
    labels: &[bool],
    scores: &[f64],
    draws: usize,
    seed: u64,
) -> (Option<f64>, Option<f64>) {
    let mut found = auroc_of_draws(labels, scores, draws, seed);
    found.retain(|area| !area.is_nan());
    found.sort_by(f64::total_cmp);
    (percentile(&found, 0.025), percentile(&found, 0.975))
}

/// Cases in ascending order of score; among equal scores negatives come first.
struct Ranks {
    /// `u16::MAX` for positives, by place.
    positive: Vec<u16>,
    /// Places of negatives and of positives for every score that both have.
    mixed: Vec<[Vec<usize>; 2]>,
}

impl Ranks {
    fn new(labels: &[bool], scores: &[f64]) -> Self {
        let (n, mut order) = (labels.len(), order(scores));
        let (mut positive, mut mixed) = (vec![0; n], Vec::new());
        for run in ties(scores, &order) {
            order[run.clone()].sort_by_key(|&i| labels[i]);
            let negatives = run.clone().filter(|&rank| !labels[order[rank]]).count();
            let (low, high) = (run.start..run.start + negatives, run.start + negatives..run.end);
            if !low.is_empty() && !high.is_empty() {
                mixed.push([low, high.clone()].map(|ranks| ranks.map(|rank| place_of(rank, n)).collect()));
            }
            high.for_each(|rank| positive[place_of(rank, n)] = u16::MAX);
        }
        Self { positive, mixed }
    }

    /// Area from the counts per place.
    fn area(&self, counts: &[u16]) -> f64 {
        let [pairs, positives, negatives] = ordered_pairs(&self.positive, counts);
        let of = |places: &[usize]| places.iter().map(|&place| u64::from(counts[place])).sum::<u64>();
        // Pairs of equal scores were counted whole, as negatives come first; twice the number keeps halves whole.
        let tied: u64 = self.mixed.iter().map(|[low, high]| of(low) * of(high)).sum();
        (2 * pairs - tied) as f64 / (2 * positives * negatives) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::roc::auroc;
    use super::*;

    #[test]
    fn counts_give_the_area_of_the_repeated_cases() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.2, 0.9];
        let labels = [0, 0, 1, 1, 0, 1, 0, 1].map(|l| l == 1);
        let ranks = Ranks::new(&labels, &scores);
        for draw in 0..50 {
            let mut counts = vec![0; 8];
            count_draws(&mut counts, 3, draw);
            // Cases 1, 4 and 5 have one score; the positive one of them, 5, comes last.
            let order = [0, 6, 2, 1, 4, 5, 3, 7];
            let drawn = order.iter().enumerate();
            let drawn: Vec<usize> = drawn
                .flat_map(|(rank, &i)| std::iter::repeat_n(i, counts[place_of(rank, 8)].into()))
                .collect();
            let (l, s): (Vec<bool>, Vec<f64>) = drawn.iter().map(|&i| (labels[i], scores[i])).unzip();
            let (plain, fast) = (auroc(&l, &s), ranks.area(&counts));
            assert!(plain == fast || plain.is_nan() && fast.is_nan(), "{plain} {fast}");
        }
    }

    #[test]
    fn the_width_is_that_of_theory_and_more_draws_begin_with_the_same() {
        let scores: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 200)).collect();
        let labels: Vec<bool> = (0..200).map(|i| i * 37 % 200 + i % 90 > 130).collect();
        let (low, high) = auroc_interval(&labels, &scores, 500, 9);
        let whole = auroc(&labels, &scores);
        assert!(low.unwrap() < whole && whole < high.unwrap());
        let width = high.unwrap() - low.unwrap();
        let delong = 2.0 * 1.96 * crate::statistics::delong::components(&labels, &scores).standard_error();
        assert!((width / delong - 1.0).abs() < 0.15, "{width} {delong}");
        assert_eq!(auroc_of_draws(&labels, &scores, 5, 9), auroc_of_draws(&labels, &scores, 9, 9)[..5]);
    }
}
