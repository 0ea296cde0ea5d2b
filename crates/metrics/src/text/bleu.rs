//! BLEU of a corpus, as two tools count it.

use super::{grams, shared};
use crate::measures::{Definition, Measures, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "bleu/sacrebleu 13a exp",
        "100 x brevity penalty x geometric mean of the clipped precisions of 1..4 words over the corpus; case kept, tokens of mteval 13a; the k-th order without a match counts 1/2^k matches",
        "0..100",
        "no match of any order, or no words: 0",
        "corpus value: not the mean of pairs",
        "Papineni et al. 2002; sacrebleu corpus_bleu",
    ),
    define(
        "bleu4/nltk, lower alnum tokens, no smoothing",
        "the same in 0..1 on lower-case words; an order without a match counts as the smallest double",
        "0..1",
        "no common word: 0",
        "practically 0 when one order has no match",
        "nltk corpus_bleu",
    ),
];

/// Matches and totals per order, and lengths, summed over the corpus.
#[derive(Default)]
struct Corpus {
    matches: [u64; 4],
    totals: [u64; 4],
    reference: f64,
    hypothesis: f64,
}

impl Corpus {
    fn of(pairs: impl Iterator<Item = (Vec<String>, Vec<String>)>) -> Self {
        let mut corpus = Self::default();
        for (r, h) in pairs {
            for n in 1..=4 {
                corpus.matches[n - 1] += shared(&grams(&h, n), &grams(&r, n));
                corpus.totals[n - 1] += (h.len() + 1).saturating_sub(n) as u64;
            }
            corpus.reference += r.len() as f64;
            corpus.hypothesis += h.len() as f64;
        }
        corpus
    }

    fn brevity(&self) -> f64 {
        match (self.hypothesis, self.reference) {
            (0.0, _) => 0.0,
            (h, r) if h < r => (1.0 - r / h).exp(),
            _ => 1.0,
        }
    }

    fn sacre(&self) -> f64 {
        if self.matches == [0; 4] || self.totals.contains(&0) {
            return 0.0;
        }
        let (mut smooth, mut sum) = (1.0, 0.0);
        for n in 0..4 {
            let total = self.totals[n] as f64;
            sum += match self.matches[n] {
                0 => {
                    smooth *= 2.0;
                    (100.0 / (smooth * total)).ln()
                }
                matches => (100.0 * matches as f64 / total).ln(),
            };
        }
        self.brevity() * (sum / 4.0).exp()
    }

    fn plain(&self) -> f64 {
        if self.matches[0] == 0 {
            return 0.0;
        }
        let precision = |n: usize| match self.matches[n] {
            0 => f64::MIN_POSITIVE,
            matches => matches as f64 / self.totals[n].max(1) as f64,
        };
        self.brevity() * ((0..4).map(|n| 0.25 * precision(n).ln()).sum::<f64>()).exp()
    }
}

/// Tokens of NIST's mteval 13a: ASCII punctuation apart, except stops and commas inside numbers; a dash
/// after a digit apart.
pub fn tokens_13a(text: &str) -> Vec<String> {
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let text = format!(" {text} ");
    let apart = |c: char| matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
    let mut spaced = String::new();
    for c in text.chars() {
        if apart(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let stop = |c: char| c == '.' || c == ',';
    let digit = |c: char| c.is_ascii_digit();
    let after = pairs_spaced(&spaced, |a, b| !digit(a) && stop(b), false, true);
    let before = pairs_spaced(&after, |a, b| stop(a) && !digit(b), true, false);
    let dash = pairs_spaced(&before, |a, b| digit(a) && b == '-', false, true);
    dash.split_whitespace().map(str::to_owned).collect()
}

/// Puts spaces around the stop of each pair that `found` approves, left to right without overlap as a
/// regular expression would: `a b ` with `last`, ` a b` with `first`.
fn pairs_spaced(text: &str, found: impl Fn(char, char) -> bool, first: bool, last: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 8);
    let mut i = 0;
    while i < chars.len() {
        if i + 1 < chars.len() && found(chars[i], chars[i + 1]) {
            if first {
                out.push(' ');
            }
            out.extend([chars[i], ' ', chars[i + 1]]);
            if last {
                out.push(' ');
            }
            i += 2;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

pub(super) fn measure(pairs: &[(String, String)], tokens: &[(Vec<String>, Vec<String>)], m: &mut Measures) {
    let cased = Corpus::of(pairs.iter().map(|(r, h)| (tokens_13a(r), tokens_13a(h))));
    m.put("bleu/sacrebleu 13a exp", cased.sacre());
    m.put("bleu4/nltk, lower alnum tokens, no smoothing", Corpus::of(tokens.iter().cloned()).plain());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_stay_in_numbers() {
        let tokens = tokens_13a("A 2.5-cm nodule, stable. (see \"CT\")");
        assert_eq!(
            tokens,
            ["A", "2.5", "-", "cm", "nodule", ",", "stable", ".", "(", "see", "\"", "CT", "\"", ")"]
        );
    }
}
