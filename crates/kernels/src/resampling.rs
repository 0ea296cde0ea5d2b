//! How often each place is drawn in as many draws with replacement as there are places.
//!
//! Random words are those of ChaCha with 8 rounds (Bernstein 2008), sixteen blocks at a time. Places lie in parts that
//! fit the nearest cache: first the number of draws in each part is drawn, exactly, by comparing random bits with those
//! of the share (von Neumann 1951), then places within it.

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Places of a part; a power of two, so that random bits are places.
const PART: usize = 1 << 13;
/// Blocks of the generator that are made together.
const BLOCKS: usize = 16;

/// Counts of `counts.len()` draws: stream `stream` of the generator with this seed.
pub fn count_draws(counts: &mut [u16], seed: u64, stream: u64) {
    counts.fill(0);
    if counts.is_empty() {
        return;
    }
    Cpu::detected().run(&Drawing { counts: RefCell::new(counts), seed, stream });
}

struct Drawing<'a> {
    counts: RefCell<&'a mut [u16]>,
    seed: u64,
    stream: u64,
}

impl Task for Drawing<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Drawing<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let counts = &mut self.counts.borrow_mut()[..];
        let draws = counts.len();
        share(counts, draws, &mut Words::<V>::new(self.seed, self.stream));
    }
}

/// Gives `draws` draws to places, halving what is larger than a part.
#[inline(always)]
fn share<V: Lanes>(counts: &mut [u16], draws: usize, words: &mut Words<V>) {
    // What is left to do, the first part on top.
    let mut open = vec![(counts, draws)];
    while let Some((counts, draws)) = open.pop() {
        if counts.len() <= PART {
            within(counts, draws, words);
            continue;
        }
        let parts = counts.len().div_ceil(PART);
        let lower = PART * (parts.next_power_of_two() / 2);
        let below = successes(draws, [lower, counts.len()], words);
        let (low, high) = counts.split_at_mut(lower);
        open.push((high, draws - below));
        open.push((low, below));
    }
}

/// Draws places of one part.
#[inline(always)]
fn within<V: Lanes>(counts: &mut [u16], draws: usize, words: &mut Words<V>) {
    if let Ok(counts) = <&mut [u16; PART]>::try_from(&mut *counts) {
        let mut left = draws;
        while left > 1 {
            let words = words.some(left / 2);
            for word in words {
                let places = [*word as usize % PART, (*word >> 16) as usize % PART];
                counts[places[0]] = counts[places[0]].wrapping_add(1);
                counts[places[1]] = counts[places[1]].wrapping_add(1);
            }
            left -= 2 * words.len();
        }
        if left == 1 {
            let place = words.some(1)[0] as usize % PART;
            counts[place] = counts[place].wrapping_add(1);
        }
        return;
    }
    // Words beyond the places are drawn again.
    let mask = counts.len().next_power_of_two() - 1;
    let mut left = draws;
    while left > 0 {
        for word in words.some(left) {
            if let Some(count) = counts.get_mut(*word as usize & mask) {
                *count = count.wrapping_add(1);
                left -= 1;
            }
        }
    }
}

/// Successes of `trials` trials, each with probability `share[0] / share[1]`: a trial succeeds when its random binary
/// fraction lies below that of the share, which the first bit that differs decides.
#[inline(always)]
fn successes<V: Lanes>(trials: usize, share: [usize; 2], words: &mut Words<V>) -> usize {
    let ([mut rest, whole], mut undecided, mut found) = (share, trials, 0);
    while undecided > 0 && rest > 0 {
        rest *= 2;
        let ones = words.ones(undecided);
        if rest >= whole {
            rest -= whole;
            found += undecided - ones;
            undecided = ones;
        } else {
            undecided -= ones;
        }
    }
    found
}

/// Random words of one stream.
struct Words<V> {
    key: [u32; 8],
    stream: u64,
    /// Number of the next block.
    block: u64,
    made: [[u32; BLOCKS]; 16],
    used: usize,
    by: PhantomData<V>,
}

impl<V: Lanes> Words<V> {
    fn new(seed: u64, stream: u64) -> Self {
        let mut state = seed;
        // SplitMix64 spreads the seed over the key.
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        let mut key = [0; 8];
        for pair in key.chunks_exact_mut(2) {
            let word = next();
            (pair[0], pair[1]) = (word as u32, (word >> 32) as u32);
        }
        Self { key, stream, block: 0, made: [[0; BLOCKS]; 16], used: 16 * BLOCKS, by: PhantomData }
    }

    /// Up to `most` words, at least one.
    #[inline(always)]
    fn some(&mut self, most: usize) -> &[u32] {
        if self.used == 16 * BLOCKS {
            self.fill();
            self.used = 0;
        }
        let start = self.used;
        self.used = (start + most).min(16 * BLOCKS);
        &self.made.as_flattened()[start..self.used]
    }

    /// Ones among this many random bits.
    #[inline(always)]
    fn ones(&mut self, bits: usize) -> usize {
        let (mut left, mut ones) = (bits, 0);
        while left >= 32 {
            let words = self.some(left / 32);
            ones += words.iter().map(|word| word.count_ones() as usize).sum::<usize>();
            left -= 32 * words.len();
        }
        if left > 0 {
            ones += (self.some(1)[0] >> (32 - left)).count_ones() as usize;
        }
        ones
    }

    /// Sixteen blocks: word `w` of block `b` lies at `[w][b]`.
    #[inline(always)]
    fn fill(&mut self) {
        let mut start = [[0u32; BLOCKS]; 16];
        // "expand 32-byte k", the key, the block's number, the stream.
        for (row, word) in start.iter_mut().zip([0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]) {
            *row = [word; BLOCKS];
        }
        for (row, word) in start[4..].iter_mut().zip(self.key) {
            *row = [word; BLOCKS];
        }
        for i in 0..BLOCKS {
            let block = self.block + i as u64;
            (start[12][i], start[13][i]) = (block as u32, (block >> 32) as u32);
            (start[14][i], start[15][i]) = (self.stream as u32, (self.stream >> 32) as u32);
        }
        self.block += BLOCKS as u64;
        let mut s = start;
        V::chacha(&mut s, 4);
        let sums = s.as_flattened().iter().zip(start.as_flattened());
        self.made.as_flattened_mut().iter_mut().zip(sums).for_each(|(to, (a, b))| *to = a.wrapping_add(*b));
    }
}

/// Lanes that [`ordered_pairs`] works in.
pub const LANES: usize = 16;

/// Where the place of rank `rank` among `n` lies, so that `ordered_pairs` reads sixteen stretches of ranks side by
/// side; the ranks that are left over lie at the end.
pub fn place_of(rank: usize, n: usize) -> usize {
    let stretch = n / LANES;
    if rank < stretch * LANES { rank % stretch * LANES + rank / stretch } else { rank }
}

/// Pairs of a drawn positive with a drawn negative of lower rank, and drawn positives and negatives. `positive` is
/// `u16::MAX` or 0 per place, and `counts` the draws; places as [`place_of`] says.
pub fn ordered_pairs(positive: &[u16], counts: &[u16]) -> [u64; 3] {
    assert_eq!(positive.len(), counts.len(), "one mark per place");
    Cpu::detected().compile(|| {
        let (mut pairs, mut hits, mut below) = ([0u64; LANES], [0u32; LANES], [0u32; LANES]);
        let (marks, counted) = (positive.as_chunks::<LANES>(), counts.as_chunks::<LANES>());
        for (marks, counted) in marks.0.iter().zip(counted.0) {
            for lane in 0..LANES {
                let hit = u32::from(counted[lane] & marks[lane]);
                pairs[lane] += u64::from(hit) * u64::from(below[lane]);
                hits[lane] += hit;
                below[lane] += u32::from(counted[lane] & !marks[lane]);
            }
        }
        let [mut all, mut positives, mut negatives] = [0u64; 3];
        for lane in 0..LANES {
            all += pairs[lane] + u64::from(hits[lane]) * negatives;
            positives += u64::from(hits[lane]);
            negatives += u64::from(below[lane]);
        }
        for (mark, count) in marks.1.iter().zip(counted.1) {
            let hit = u64::from(count & mark);
            all += hit * negatives;
            positives += hit;
            negatives += u64::from(count & !mark);
        }
        [all, positives, negatives]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Portable;

    /// First block of ChaCha8 with a key of zeros, from the test vectors of its reference implementation.
    #[test]
    fn words_are_those_of_the_reference() {
        let mut words = Words::<Portable>::new(0, 0);
        words.key = [0; 8];
        words.fill();
        let first: Vec<u8> = words.made.iter().flat_map(|word| word[0].to_le_bytes()).collect();
        assert_eq!(first[..8], [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        let with = |cpu: Cpu| {
            let mut counts = vec![0; 30_000];
            cpu.run(&Drawing { counts: RefCell::new(&mut counts), seed: 7, stream: 9 });
            counts
        };
        let all: Vec<_> = Cpu::available().into_iter().map(with).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn all_draws_are_counted_and_places_are_even() {
        for n in [1, 2, 5, 7000, 8192, 8193, 30_000, 100_001] {
            let mut counts = vec![0; n];
            count_draws(&mut counts, 3, 5);
            assert_eq!(counts.iter().map(|c| usize::from(*c)).sum::<usize>(), n);
            let mut other = vec![9; n];
            count_draws(&mut other, 3, 5);
            assert_eq!(counts, other);
            count_draws(&mut other, 3, 6);
            assert!(n < 5 || counts != other);
        }
        // Three parts of unequal sizes: the draws of each place are Poisson with mean 1.
        let (n, rounds) = (20_000, 200);
        let (mut counts, mut sums, mut squares) = (vec![0; n], vec![0u64; n], 0u64);
        for stream in 0..rounds {
            count_draws(&mut counts, 8, stream);
            sums.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += u64::from(*count));
            squares += counts.iter().map(|count| u64::from(*count).pow(2)).sum::<u64>();
        }
        // Mean 200 per place, standard deviation 14; of a part of 8192 places 0.16.
        assert!(sums.iter().all(|sum| (110..290).contains(sum)));
        for part in sums.chunks(PART) {
            let mean = part.iter().sum::<u64>() as f64 / part.len() as f64;
            assert!((mean - 200.0).abs() < 1.0, "{mean}");
        }
        let mean_square = squares as f64 / (n as f64 * rounds as f64);
        assert!((mean_square - 2.0).abs() < 0.01, "{mean_square}");
    }

    #[test]
    fn shares_are_binomial() {
        let mut words = Words::<Portable>::new(1, 1);
        let (trials, rounds) = (1000, 4000);
        let found: Vec<f64> = (0..rounds).map(|_| successes(trials, [3, 10], &mut words) as f64).collect();
        let mean = found.iter().sum::<f64>() / f64::from(rounds);
        let variance = found.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / f64::from(rounds);
        assert!((mean - 300.0).abs() < 1.0 && (variance - 210.0).abs() < 20.0, "{mean} {variance}");
        assert_eq!(successes(17, [10, 10], &mut words), 17);
    }

    #[test]
    fn pairs_are_those_of_every_two() {
        for n in [3, 16, 40, 333] {
            let positive: Vec<bool> = (0..n).map(|i| i * 7 % 5 < 2).collect();
            let mut counts = vec![0; n];
            count_draws(&mut counts, 4, n as u64);
            let (mut marks, mut placed) = (vec![0; n], vec![0; n]);
            for rank in 0..n {
                let place = place_of(rank, n);
                (marks[place], placed[place]) = (if positive[rank] { u16::MAX } else { 0 }, counts[rank]);
            }
            let mut expected = [0u64; 3];
            for rank in 0..n {
                let count = u64::from(counts[rank]);
                expected[0] += if positive[rank] { count * expected[2] } else { 0 };
                expected[if positive[rank] { 1 } else { 2 }] += count;
            }
            assert_eq!(ordered_pairs(&marks, &placed), expected);
        }
    }
}
