//! METEOR without synonyms: exact words, then stems (`es`), with a price for scattered matches.

use super::stemmer::stem;
use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[define(
    "meteor-es/alpha.9 beta3 gamma.5",
    "mean over pairs of F x (1 - 0.5 (chunks / matches)^3), F = P R / (0.9 P + 0.1 R), matches by word, then by stem",
    "0..1",
    "no match: 0",
    "without the synonyms of WordNet: not comparable with published METEOR",
    "Banerjee and Lavie 2005; nltk meteor_score without WordNet",
)];

/// Score of a pair of word lists.
pub fn score(reference: &[String], hypothesis: &[String]) -> f64 {
    let (mut r, mut h): (Vec<usize>, Vec<usize>) =
        ((0..reference.len()).collect(), (0..hypothesis.len()).collect());
    let mut matches = Vec::new();
    take(&mut h, &mut r, &mut matches, |i, j| hypothesis[i] == reference[j]);
    let stems = |words: &[String]| words.iter().map(|w| stem(w)).collect::<Vec<_>>();
    let (stems_h, stems_r) = (stems(hypothesis), stems(reference));
    take(&mut h, &mut r, &mut matches, |i, j| stems_h[i] == stems_r[j]);
    if matches.is_empty() {
        return 0.0;
    }
    matches.sort_unstable();
    let chunks = 1 + matches.windows(2).filter(|w| w[1].0 != w[0].0 + 1 || w[1].1 != w[0].1 + 1).count();
    let count = matches.len() as f64;
    let (p, r) = (count / hypothesis.len() as f64, count / reference.len() as f64);
    let f = p * r / (0.9 * p + 0.1 * r);
    f * (1.0 - 0.5 * (chunks as f64 / count).powi(3))
}

/// Pairs words from the end of both lists, each with the last free partner.
fn take(
    h: &mut Vec<usize>,
    r: &mut Vec<usize>,
    matches: &mut Vec<(usize, usize)>,
    same: impl Fn(usize, usize) -> bool,
) {
    for at in (0..h.len()).rev() {
        if let Some(partner) = (0..r.len()).rev().find(|&j| same(h[at], r[j])) {
            matches.push((h.remove(at), r.remove(partner)));
        }
    }
}
