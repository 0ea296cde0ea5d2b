//! chrF2: F-score of character runs, white space left out.

use super::{grams, shared};
use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[define(
    "chrf2/sacrebleu",
    "100 x F2 of the mean precision and mean recall of runs of 1..6 characters over the corpus",
    "0..100",
    "no character on a side: 0",
    "corpus value; case kept; rewards shared word stems",
    "Popovic 2015; sacrebleu corpus_chrf",
)];

/// Corpus value of pairs `(reference, hypothesis)`.
pub fn corpus(pairs: &[(String, String)]) -> f64 {
    let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
    let mut counts = [[0u64; 3]; 6];
    for (reference, hypothesis) in pairs {
        let (r, h) = (characters(reference), characters(hypothesis));
        for n in 1..=6 {
            let length = |c: &[char]| (c.len() + 1).saturating_sub(n) as u64;
            let [matches, own, wanted] = &mut counts[n - 1];
            *matches += shared(&grams(&h, n), &grams(&r, n));
            // Runs count only where the reference is long enough to have one.
            *own += if length(&r) > 0 { length(&h) } else { 0 };
            *wanted += length(&r);
        }
    }
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for [matches, own, wanted] in counts {
        if own > 0 && wanted > 0 {
            precision += matches as f64 / own as f64;
            recall += matches as f64 / wanted as f64;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (p, r) = (precision / orders, recall / orders);
    100.0 * 5.0 * p * r / (4.0 * p + r)
}
