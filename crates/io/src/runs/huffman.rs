//! Huffman codes as deflate stores them (RFC 1951, 3.2.2 and 3.2.7).

use super::Bits;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Order in which the lengths of the code for code lengths are stored.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Canonical code: bits (first bit lowest) and length per symbol; length 0 for symbols that do not occur.
pub struct Code {
    words: Vec<(u32, u32)>,
}

impl Code {
    /// Code for symbols with these frequencies, of at most `limit` bits.
    pub fn new(frequencies: &[u32], limit: u32) -> Self {
        let mut weights = frequencies.to_vec();
        let mut lengths = lengths(&weights);
        while lengths.iter().any(|&length| length > limit) {
            // Flatter frequencies give a shallower tree; symbols that occur stay above zero.
            weights.iter_mut().for_each(|weight| *weight = weight.div_ceil(2));
            lengths = self::lengths(&weights);
        }
        let mut words = vec![(0, 0); lengths.len()];
        let mut next = 0u32;
        for length in 1..=limit {
            next <<= 1;
            for symbol in (0..lengths.len()).filter(|&symbol| lengths[symbol] == length) {
                words[symbol] = (next.reverse_bits() >> (32 - length), length);
                next += 1;
            }
        }
        Self { words }
    }

    /// Appends a symbol.
    pub fn put(&self, bits: &mut Bits, symbol: usize) {
        let (word, length) = self.words[symbol];
        bits.put(word, length);
    }

    /// Lengths up to the last symbol that occurs, `least` at least.
    fn lengths(&self, least: usize) -> Vec<u32> {
        let last = self.words.iter().rposition(|&(_, length)| length > 0).map_or(0, |last| last + 1);
        self.words[..last.max(least)].iter().map(|&(_, length)| length).collect()
    }
}

/// Depths of the Huffman tree.
fn lengths(weights: &[u32]) -> Vec<u32> {
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let leaves = weights.iter().enumerate().filter(|&(_, &weight)| weight > 0);
    heap.extend(leaves.map(|(symbol, &weight)| Reverse((weight.into(), symbol))));
    let mut parents = vec![0; weights.len()];
    let mut lengths = vec![0; weights.len()];
    if heap.len() == 1 {
        heap.drain().for_each(|Reverse((_, symbol))| lengths[symbol] = 1);
        return lengths;
    }
    while let (Some(Reverse((a, left))), Some(Reverse((b, right)))) = (heap.pop(), heap.pop()) {
        let parent = parents.len();
        parents.push(parent);
        (parents[left], parents[right]) = (parent, parent);
        if heap.is_empty() {
            break;
        }
        heap.push(Reverse((a + b, parent)));
    }
    let root = parents.len() - 1;
    // Parents come after their children, so depths are known from the back.
    let mut depths = vec![0; parents.len()];
    for node in (0..root).rev() {
        if node >= weights.len() || weights[node] > 0 {
            depths[node] = depths[parents[node]] + 1;
        }
    }
    depths.truncate(weights.len());
    depths
}

/// The description of both codes that begins a block.
pub fn put_header(bits: &mut Bits, letters: &Code, distances: &Code) {
    let (letters, distances) = (letters.lengths(257), distances.lengths(1));
    let all = [letters.as_slice(), &distances].concat();
    let symbols = squeeze(&all);
    let mut frequencies = [0; 19];
    symbols.iter().for_each(|&(symbol, ..)| frequencies[symbol] += 1);
    let code = Code::new(&frequencies, 7);
    let stored =
        ORDER.iter().rposition(|&symbol| code.words[symbol].1 > 0).map_or(4, |last| (last + 1).max(4));
    bits.put((letters.len() - 257) as u32, 5);
    bits.put((distances.len() - 1) as u32, 5);
    bits.put((stored - 4) as u32, 4);
    ORDER[..stored].iter().for_each(|&symbol| bits.put(code.words[symbol].1, 3));
    for (symbol, extra, width) in symbols {
        code.put(bits, symbol);
        bits.put(extra, width);
    }
}

/// Lengths with runs of zeros folded (symbols 17 and 18): symbol, extra bits, number of these.
fn squeeze(lengths: &[u32]) -> Vec<(usize, u32, u32)> {
    let mut symbols = Vec::new();
    let mut at = 0;
    while at < lengths.len() {
        let zeros = lengths[at..].iter().take(138).take_while(|&&length| length == 0).count();
        let (symbol, n) = match zeros {
            0..=2 => ((lengths[at] as usize, 0, 0), 1),
            3..=10 => ((17, zeros as u32 - 3, 3), zeros),
            _ => ((18, zeros as u32 - 11, 7), zeros),
        };
        symbols.push(symbol);
        at += n;
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_complete_and_limited() {
        let fibonacci: Vec<u32> = (0..40)
            .scan((1, 1), |s, _| {
                *s = (s.1, s.0 + s.1);
                Some(s.0)
            })
            .collect();
        for (weights, limit) in [(fibonacci, 15), (vec![1; 286], 15), (vec![0, 5, 0, 1, 1_000_000], 7)] {
            let code = Code::new(&weights, limit);
            let occurring = code.words.iter().filter(|&&(_, length)| length > 0);
            assert_eq!(occurring.clone().count(), weights.iter().filter(|&&w| w > 0).count());
            assert!(occurring.clone().all(|&(_, length)| length <= limit));
            // Kraft: a complete code fills its space exactly.
            assert_eq!(occurring.map(|&(_, length)| 1u64 << (limit - length)).sum::<u64>(), 1 << limit);
        }
    }
}
