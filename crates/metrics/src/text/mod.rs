//! Generated text against a reference text: exact answers, overlap of words and characters.

pub mod bleu;
pub mod chrf;
pub mod embedded;
pub mod labels;
pub mod meteor;
pub mod rouge;
pub mod stemmer;

use crate::measures::{Definition, Measures, define};
use crate::statistics::mean;
use galen_core::{Error, Result};
use std::collections::BTreeMap;

/// Definitions of the ids of `--kind text`.
pub static DEFINITIONS: &[&[Definition]] = &[
    ANSWERS,
    rouge::DEFINITIONS,
    bleu::DEFINITIONS,
    chrf::DEFINITIONS,
    meteor::DEFINITIONS,
    labels::DEFINITIONS,
    embedded::DEFINITIONS,
];

static ANSWERS: &[Definition] = &[
    define("n", "pairs", "0..inf", "0", "-", "count"),
    define(
        "empty-hypotheses",
        "pairs without a word in the hypothesis",
        "0..n",
        "0",
        "failures: they count as 0 elsewhere",
        "count",
    ),
    define(
        "exact-match/lower alnum",
        "share of pairs with the same words (lower case, runs of a-z and 0-9)",
        "0..1",
        "both empty: a match",
        "a different order or plural is a miss",
        "SQuAD, without dropping articles",
    ),
    define(
        "token-f1/lower alnum",
        "mean F1 of the bags of words",
        "0..1",
        "both empty: 1; one: 0",
        "blind to order and negation",
        "SQuAD, without dropping articles",
    ),
];

/// Words: runs of a-z and 0-9 of the lower-case text.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let kept = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    kept.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// How often each run of `n` items occurs.
pub(crate) fn grams<T: Ord + Clone>(items: &[T], n: usize) -> BTreeMap<&[T], u64> {
    let mut counts = BTreeMap::new();
    items.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

/// Items shared by two bags.
pub(crate) fn shared<K: Ord>(a: &BTreeMap<K, u64>, b: &BTreeMap<K, u64>) -> u64 {
    a.iter().map(|(key, n)| b.get(key).map_or(0, |m| *n.min(m))).sum()
}

/// Harmonic mean of matches over the lengths of two bags.
pub(crate) fn f1(matches: u64, reference: usize, hypothesis: usize) -> f64 {
    if matches == 0 { 0.0 } else { 2.0 * matches as f64 / (reference + hypothesis) as f64 }
}

/// Every number of pairs `(reference, hypothesis)`.
pub fn measure(pairs: &[(String, String)]) -> Result<Measures> {
    if pairs.is_empty() {
        return Err(Error::input(
            "the texts",
            "there are none",
            "give one JSON object with ref and hyp per line",
        ));
    }
    let tokens: Vec<(Vec<String>, Vec<String>)> = pairs.iter().map(|(r, h)| (words(r), words(h))).collect();
    let over =
        |of: &dyn Fn(&(Vec<String>, Vec<String>)) -> f64| mean(&tokens.iter().map(of).collect::<Vec<_>>());
    let mut m = Measures::default();
    m.put("n", pairs.len() as f64);
    m.put("empty-hypotheses", tokens.iter().filter(|(_, h)| h.is_empty()).count() as f64);
    m.put("exact-match/lower alnum", over(&|(r, h)| f64::from(u8::from(r == h))));
    m.put(
        "token-f1/lower alnum",
        over(&|(r, h)| {
            if r.is_empty() && h.is_empty() {
                1.0
            } else {
                f1(shared(&grams(r, 1), &grams(h, 1)), r.len(), h.len())
            }
        }),
    );
    rouge::measure(&tokens, &mut m);
    bleu::measure(pairs, &tokens, &mut m);
    m.put("chrf2/sacrebleu", chrf::corpus(pairs));
    m.put("meteor-es/alpha.9 beta3 gamma.5", over(&|(r, h)| meteor::score(r, h)));
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_get_full_marks_and_nothing_gets_none() {
        let text = "No acute cardiopulmonary process is seen today.".to_owned();
        let m = measure(&[(text.clone(), text.clone())]).unwrap();
        for id in ["exact-match/lower alnum", "token-f1/lower alnum", "rouge2-f/stem1", "rougeL-f/stem0"] {
            assert_eq!(m.number(id), 1.0, "{id}");
        }
        assert!((m.number("bleu/sacrebleu 13a exp") - 100.0).abs() < 1e-9);
        assert!((m.number("chrf2/sacrebleu") - 100.0).abs() < 1e-9);
        let nothing = measure(&[(text, String::new())]).unwrap();
        assert_eq!(nothing.number("bleu/sacrebleu 13a exp"), 0.0);
        assert_eq!((nothing.number("rouge1-f/stem0"), nothing.number("empty-hypotheses")), (0.0, 1.0));
        assert!(measure(&[]).is_err());
    }
}
