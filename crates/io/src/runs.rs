//! A deflate encoder (RFC 1951) for label maps: values repeat the value before them or the row above, nothing else
//! is looked for.
//!
//! General encoders keep a table of every position; here two comparisons per break in a row do, which is many times
//! faster and smaller. Parts of fixed size are encoded side by side, so the bytes do not depend on the number of
//! threads. Data of other kinds (noise) are declined.

mod huffman;

use huffman::Code;
use rayon::prelude::*;

/// Bytes per part; each part is one block with its own code.
const PART: usize = 1 << 20;

/// Longest match and farthest distance of deflate.
const LONGEST: usize = 258;
const FARTHEST: usize = 32768;

/// How label values are laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes per value.
    pub value: usize,
    /// Bytes per row.
    pub row: usize,
}

/// A literal below 256, else a match: length, and above [`FAR`] the row above instead of the value before.
type Token = u16;
const MATCH: Token = 1 << 15;
const FAR: Token = 1 << 14;

/// Complete deflate stream of `data`; `None` when a sample of the parts does not shrink well.
pub fn deflate(data: &[u8], layout: Layout) -> Option<Vec<u8>> {
    let layout = Layout { row: if layout.row <= FARTHEST { layout.row } else { layout.value }, ..layout };
    let parts = data.len().div_ceil(PART);
    let span = |part: usize| (part * PART, (part * PART + PART).min(data.len()));
    let encode = |part: usize| block(data, span(part).0, span(part).1, layout);
    // The middle of an image says most about it.
    let sample = [parts / 2, parts / 3];
    let shrinks = |&part: &usize| encode(part).len() <= 64 + (span(part).1 - span(part).0) / 16;
    if parts > 0 && !sample.iter().all(shrinks) {
        return None;
    }
    let blocks: Vec<Vec<u8>> = (0..parts).into_par_iter().map(encode).collect();
    let mut out = blocks.concat();
    // The last block: stored, empty.
    out.extend([1, 0, 0, 0xff, 0xff]);
    Some(out)
}

/// One block for `data[begin..end]` and an empty stored one, which ends on a whole byte.
fn block(data: &[u8], begin: usize, end: usize, layout: Layout) -> Vec<u8> {
    let tokens = tokens(data, begin, end, layout);
    let distances = [layout.value, layout.row].map(distance_symbol);
    let mut letters = [0u32; 286];
    // Two distances at least, so that the code is complete even where all are alike.
    let mut ways = [0u32; 30];
    (ways[0], ways[1]) = (1, 1);
    letters[256] = 1;
    for &token in &tokens {
        if token & MATCH == 0 {
            letters[usize::from(token)] += 1;
        } else {
            letters[length_symbol(length(token)).0] += 1;
            ways[distances[usize::from(token & FAR != 0)].0] += 1;
        }
    }
    let (letters, ways) = (Code::new(&letters, 15), Code::new(&ways, 15));
    let mut bits = Bits::default();
    bits.put(0b100, 3); // not the last block; its own code
    huffman::put_header(&mut bits, &letters, &ways);
    for &token in &tokens {
        if token & MATCH == 0 {
            letters.put(&mut bits, usize::from(token));
            continue;
        }
        for (code, (symbol, extra, width)) in
            [(&letters, length_symbol(length(token))), (&ways, distances[usize::from(token & FAR != 0)])]
        {
            code.put(&mut bits, symbol);
            bits.put(extra, width);
        }
    }
    letters.put(&mut bits, 256);
    bits.put(0, 3);
    let mut out = bits.whole();
    out.extend([0, 0, 0xff, 0xff]);
    out
}

fn length(token: Token) -> usize {
    usize::from(token & (FAR - 1))
}

fn tokens(data: &[u8], begin: usize, end: usize, layout: Layout) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = begin;
    while at < end {
        let above = if at >= layout.row { same(data, at, layout.row, end) } else { 0 };
        // A long repeat of the row above needs no rival.
        let before = if above < 64 && at >= layout.value { same(data, at, layout.value, end) } else { 0 };
        let (mut left, far) = if above > before { (above, FAR) } else { (before, 0) };
        while left >= 3 {
            let n = left.min(LONGEST);
            tokens.push(MATCH | far | n as Token);
            left -= n;
            at += n;
        }
        if left > 0 || above.max(before) == 0 {
            tokens.push(data[at].into());
            at += 1;
        }
    }
    tokens
}

/// Bytes from `at` that equal those `distance` before them.
fn same(data: &[u8], at: usize, distance: usize, end: usize) -> usize {
    let (here, there) = (&data[at..end], &data[at - distance..end - distance]);
    let (wide, _) = here.as_chunks::<32>();
    let (wide_there, _) = there.as_chunks::<32>();
    let whole = 32 * wide.iter().zip(wide_there).take_while(|(a, b)| a == b).count();
    whole + here[whole..].iter().zip(&there[whole..]).take_while(|(a, b)| a == b).count()
}

/// Symbol, extra bits and their number for a match of 3 to 258 bytes.
fn length_symbol(length: usize) -> (usize, u32, u32) {
    let past = length - 3;
    match past {
        255 => (285, 0, 0),
        0..8 => (257 + past, 0, 0),
        _ => {
            let width = past.ilog2() - 2;
            (257 + 4 * width as usize + (past >> width), (past & ((1 << width) - 1)) as u32, width)
        }
    }
}

/// Symbol, extra bits and their number for a distance of 1 to 32768.
fn distance_symbol(distance: usize) -> (usize, u32, u32) {
    let past = distance - 1;
    if past < 4 {
        return (past, 0, 0);
    }
    let width = past.ilog2() - 1;
    (2 * width as usize + (past >> width), (past & ((1 << width) - 1)) as u32, width)
}

/// Bits, lowest first.
#[derive(Default)]
pub struct Bits {
    out: Vec<u8>,
    waiting: u64,
    count: u32,
}

impl Bits {
    /// Appends the low `width` bits (at most 32).
    fn put(&mut self, value: u32, width: u32) {
        self.waiting |= u64::from(value) << self.count;
        self.count += width;
        if self.count >= 32 {
            self.out.extend((self.waiting as u32).to_le_bytes());
            self.waiting >>= 32;
            self.count -= 32;
        }
    }

    /// All bytes, the last one filled with zeros.
    fn whole(mut self) -> Vec<u8> {
        let rest = self.count.div_ceil(8) as usize;
        self.out.extend(&self.waiting.to_le_bytes()[..rest]);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(packed: &[u8], size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        let n = libdeflater::Decompressor::new().deflate_decompress(packed, &mut out).unwrap();
        assert_eq!(n, size);
        out
    }

    #[test]
    fn symbols_are_those_of_the_standard() {
        for (length, symbol) in [(3, 257), (10, 264), (11, 265), (12, 265), (13, 266), (257, 284), (258, 285)]
        {
            assert_eq!(length_symbol(length).0, symbol, "{length}");
        }
        for (distance, symbol) in [(1, 0), (4, 3), (5, 4), (6, 4), (7, 5), (24577, 29), (32768, 29)] {
            assert_eq!(distance_symbol(distance).0, symbol, "{distance}");
        }
    }

    #[test]
    fn discs_are_decoded_by_another_decoder() {
        for (value, width) in [(1, 1), (1, 300), (2, 512), (1, 40_000)] {
            let row = value * width;
            let rows = (2 * PART + PART / 2) / row;
            let inside = |i: usize| (i % width).abs_diff(width / 2) + (i / width % 200).abs_diff(100) < 90;
            let values =
                (0..rows * width).map(|i| if inside(i) { 3 + (i / width / 200) as u16 % 9 } else { 0 });
            let data: Vec<u8> = values.flat_map(|v| v.to_le_bytes()[..value].to_vec()).collect();
            let packed = deflate(&data, Layout { value, row }).unwrap();
            assert_eq!(inflate(&packed, data.len()), data);
            assert!(packed.len() < data.len() / 50, "{} of {}", packed.len(), data.len());
        }
        assert!(inflate(&deflate(&[], Layout { value: 1, row: 1 }).unwrap(), 0).is_empty());
        assert_eq!(inflate(&deflate(&[7], Layout { value: 1, row: 1 }).unwrap(), 1), [7]);
    }

    #[test]
    fn any_bytes_survive_a_block() {
        // All literals, with frequencies so unequal that the code must be limited in length.
        let data: Vec<u8> = (0..300_000u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).trailing_ones() as u8 * 7 + (i % 3) as u8)
            .collect();
        let mut packed = block(&data, 0, data.len(), Layout { value: 2, row: 1000 });
        packed.extend([1, 0, 0, 0xff, 0xff]);
        assert_eq!(inflate(&packed, data.len()), data);
    }

    #[test]
    fn noise_is_declined() {
        let noise: Vec<u8> =
            (0..3 * PART as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
        assert!(deflate(&noise, Layout { value: 1, row: 512 }).is_none());
    }
}
