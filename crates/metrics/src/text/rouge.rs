//! ROUGE: overlap of words, pairs of words and the longest common subsequence.

use super::stemmer::stem;
use super::{f1, grams, shared};
use crate::measures::{Definition, Measures, define};
use crate::statistics::mean;

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "rouge1-f/stem0",
        "mean F1 of single words",
        "0..1",
        "an empty side: 0",
        "blind to order; a negation costs one word",
        "Lin 2004; rouge-score rouge1",
    ),
    define(
        "rouge1-f/stem1",
        "the same with Porter stems of words longer than 3",
        "0..1",
        "an empty side: 0",
        "higher than without: say which",
        "rouge-score rouge1, use_stemmer=True",
    ),
    define(
        "rouge2-f/stem0",
        "mean F1 of pairs of words",
        "0..1",
        "an empty side: 0",
        "sentence borders are crossed",
        "rouge-score rouge2",
    ),
    define(
        "rouge2-f/stem1",
        "the same with stems",
        "0..1",
        "an empty side: 0",
        "as above",
        "rouge-score rouge2, use_stemmer=True",
    ),
    define(
        "rougeL-f/stem0",
        "mean F1 of the longest common subsequence of words",
        "0..1",
        "an empty side: 0",
        "other tools weight recall (beta 1.2)",
        "rouge-score rougeL",
    ),
    define(
        "rougeL-f/stem1",
        "the same with stems",
        "0..1",
        "an empty side: 0",
        "as above",
        "rouge-score rougeL, use_stemmer=True",
    ),
];

/// Length of the longest common subsequence.
pub fn longest_common(a: &[String], b: &[String]) -> u64 {
    let mut before = vec![0u64; b.len() + 1];
    for x in a {
        let mut now = vec![0u64; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            now[j + 1] = if x == y { before[j] + 1 } else { now[j].max(before[j + 1]) };
        }
        before = now;
    }
    before[b.len()]
}

fn ngram_f1(r: &[String], h: &[String], n: usize) -> f64 {
    let length = |words: &[String]| (words.len() + 1).saturating_sub(n);
    f1(shared(&grams(r, n), &grams(h, n)), length(r), length(h))
}

pub(super) fn measure(tokens: &[(Vec<String>, Vec<String>)], m: &mut Measures) {
    let stems = |words: &Vec<String>| -> Vec<String> {
        words.iter().map(|w| if w.len() > 3 { stem(w) } else { w.clone() }).collect()
    };
    let stemmed: Vec<_> = tokens.iter().map(|(r, h)| (stems(r), stems(h))).collect();
    for (name, pairs) in [("stem0", tokens), ("stem1", &stemmed[..])] {
        let over = |of: &dyn Fn(&[String], &[String]) -> f64| {
            mean(&pairs.iter().map(|(r, h)| of(r, h)).collect::<Vec<_>>())
        };
        m.put(format!("rouge1-f/{name}"), over(&|r, h| ngram_f1(r, h, 1)));
        m.put(format!("rouge2-f/{name}"), over(&|r, h| ngram_f1(r, h, 2)));
        m.put(format!("rougeL-f/{name}"), over(&|r, h| f1(longest_common(r, h), r.len(), h.len())));
    }
}
