//! AUROC of many draws of cases: sorted once, then each draw is a count per place in the order.
//!
//! Source: Efron 1979 for the bootstrap; the area from counts is Mann and Whitney's statistic. The numbers of draw k
//! come from stream k of the generator, so they are the same for any number of threads.

use crate::bootstrap::percentile;
use crate::statistics::ranks::{order, ties};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// AUROC of each of `draws` draws with replacement of all cases; NaN where a draw holds one class only.
pub fn auroc_of_draws(labels: &[bool], scores: &[f64], draws: usize, seed: u64) -> Vec<f64> {
    let order = order(scores);
    let sorted: Vec<u16> = order.iter().map(|&i| if labels[i] { u16::MAX } else { 0 }).collect();
    let ends: Vec<usize> = ties(scores, &order).into_iter().map(|run| run.end).collect();
    let one = |counts: &mut Vec<u16>, draw: usize| {
        counts.clear();
        counts.resize(sorted.len(), 0);
        count(counts, seed, draw as u64);
        area(&sorted, &ends, counts)
    };
    (0..draws).into_par_iter().map_init(Vec::new, one).collect()
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

/// Draws as many places as there are and counts each.
fn count(counts: &mut [u16], seed: u64, draw: u64) {
    const WORDS: usize = 1024;
    let n = counts.len() as u64;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(draw);
    // Multiplying a word by n spreads it over 0..n; the few words that would favour some places are drawn again
    // (Lemire 2019).
    let unfair = (1u64 << 32) % n;
    let (mut bytes, mut left) = ([0u8; 4 * WORDS], counts.len());
    while left > 0 {
        let wanted = left.min(WORDS);
        random.fill_bytes(&mut bytes[..4 * wanted]);
        for word in bytes[..4 * wanted].chunks_exact(4) {
            let spread = u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])) * n;
            if (spread & 0xffff_ffff) < unfair {
                continue;
            }
            let place = &mut counts[(spread >> 32) as usize];
            *place = place.saturating_add(1);
            left -= 1;
        }
    }
}

/// Area from the counts, places in ascending order of score; `ends` are the ends of runs of equal scores.
fn area(positive: &[u16], ends: &[usize], counts: &[u16]) -> f64 {
    // Twice the number of pairs in order, so that halves stay whole.
    let (mut pairs, mut below, mut positives) = (0u64, 0u64, 0u64);
    if ends.len() == counts.len() {
        for (&count, &mask) in counts.iter().zip(positive) {
            let hit = u64::from(count & mask);
            pairs += 2 * hit * below;
            positives += hit;
            below += u64::from(count & !mask);
        }
    } else {
        let mut start = 0;
        for &end in ends {
            let (mut hits, mut misses) = (0u64, 0u64);
            for (&count, &mask) in counts[start..end].iter().zip(&positive[start..end]) {
                hits += u64::from(count & mask);
                misses += u64::from(count & !mask);
            }
            pairs += hits * (2 * below + misses);
            positives += hits;
            below += misses;
            start = end;
        }
    }
    pairs as f64 / (2 * positives * below) as f64
}

#[cfg(test)]
mod tests {
    use super::super::roc::auroc;
    use super::*;

    #[test]
    fn counts_give_the_area_of_the_repeated_cases() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.2, 0.9];
        let labels = [0, 0, 1, 1, 0, 1, 0, 1].map(|l| l == 1);
        let order = order(&scores);
        let sorted: Vec<u16> = order.iter().map(|&i| if labels[i] { u16::MAX } else { 0 }).collect();
        let ends: Vec<usize> = ties(&scores, &order).into_iter().map(|run| run.end).collect();
        for draw in 0..50 {
            let mut counts = vec![0; 8];
            count(&mut counts, 3, draw);
            assert_eq!(counts.iter().sum::<u16>(), 8);
            let drawn: Vec<usize> =
                order.iter().zip(&counts).flat_map(|(&i, &n)| std::iter::repeat_n(i, n.into())).collect();
            let (l, s): (Vec<bool>, Vec<f64>) = drawn.iter().map(|&i| (labels[i], scores[i])).unzip();
            let (plain, fast) = (auroc(&l, &s), area(&sorted, &ends, &counts));
            assert!(plain == fast || plain.is_nan() && fast.is_nan(), "{plain} {fast}");
        }
    }

    #[test]
    fn places_are_drawn_evenly_and_distinct_scores_take_the_short_way() {
        let mut counts = vec![0u16; 7];
        for draw in 0..4000 {
            count(&mut counts, 1, draw);
        }
        // 4000 of each on average, standard deviation 59.
        assert!(counts.iter().all(|&n| (3700..4300).contains(&n)), "{counts:?}");
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
