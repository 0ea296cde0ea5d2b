//! Rows of a mask as bits, bundled into beams whose runs are joined.

use super::Connectivity;
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use rayon::prelude::*;
use std::cell::RefCell;

/// A mask of one bit per voxel; rows begin with a new word.
pub(super) struct Bits {
    size: [usize; 3],
    /// Words per row.
    width: usize,
    words: Vec<u64>,
}

impl Bits {
    pub(super) fn of<T: Sync>(voxels: &[T], size: [usize; 3], inside: &(impl Fn(&T) -> bool + Sync)) -> Self {
        let [nz, ny, nx] = size;
        let width = nx.div_ceil(64);
        let mut words = vec![0u64; nz * ny * width];
        let cpu = Cpu::detected();
        let planes = words.par_chunks_mut(width * ny).zip(voxels.par_chunks(nx * ny));
        planes.for_each(|(words, voxels)| {
            cpu.run(&Packing { voxels, nx, inside, words: RefCell::new(words) });
        });
        Self { size, width, words }
    }

    /// Words of row `(z, y)`.
    fn row(&self, z: usize, y: usize) -> &[u64] {
        &self.words[(z * self.size[1] + y) * self.width..][..self.width]
    }
}

/// Rows of voxels on their way into bits.
struct Packing<'a, T, F> {
    voxels: &'a [T],
    nx: usize,
    inside: &'a F,
    words: RefCell<&'a mut [u64]>,
}

impl<T, F: Fn(&T) -> bool> Task for Packing<'_, T, F> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl<T, F: Fn(&T) -> bool> Kernel for Packing<'_, T, F> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let words = &mut self.words.borrow_mut()[..];
        for (words, row) in words.chunks_mut(self.nx.div_ceil(64)).zip(self.voxels.chunks(self.nx)) {
            for (word, part) in words.iter_mut().zip(row.chunks(64)) {
                let mut bytes = [0u8; 64];
                for (byte, voxel) in bytes.iter_mut().zip(part) {
                    *byte = u8::from((self.inside)(voxel));
                }
                for (i, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
                    // The product gathers the lowest bits of eight bytes in the highest byte.
                    let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                    *word |= gathered << (8 * i);
                }
            }
        }
    }
}

/// A beam is a row, or two by two rows that are taken as one. Runs of beams are joined to components.
pub(super) struct Beams {
    bits: Bits,
    /// Rows of a beam along z and y.
    thick: [usize; 2],
    /// Beams along z and y.
    count: [usize; 2],
    /// Words of the beams: the rows together.
    union: Vec<u64>,
    /// Runs that begin before each word.
    before: Vec<u32>,
    /// Of each run an earlier run that it hangs together with, or itself; in the end its component's number.
    parents: Vec<u32>,
    components: usize,
}

struct Joining<'a> {
    beams: RefCell<&'a mut Beams>,
    connectivity: Connectivity,
}

impl Task for Joining<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Joining<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let beams = &mut *self.beams.borrow_mut();
        beams.bundle();
        beams.join(self.connectivity);
        beams.number();
    }
}

impl Beams {
    pub(super) fn joined(bits: Bits, connectivity: Connectivity) -> Self {
        let [nz, ny, _] = bits.size;
        let thick = if connectivity == Connectivity::Corners { [2.min(nz), 2.min(ny)] } else { [1, 1] };
        let count = [nz.div_ceil(thick[0]), ny.div_ceil(thick[1])];
        let mut beams = Self {
            bits,
            thick,
            count,
            union: Vec::new(),
            before: Vec::new(),
            parents: Vec::new(),
            components: 0,
        };
        // Counting bits and zeros takes one instruction where the processor has it.
        Cpu::detected().run(&Joining { beams: RefCell::new(&mut beams), connectivity });
        beams
    }

    /// Number of components.
    pub(super) fn count(&self) -> usize {
        self.components
    }

    /// Beams side by side along y.
    pub(super) fn beams_per_slab(&self) -> usize {
        self.count[1]
    }

    /// Rows of all beams side by side along y.
    pub(super) fn rows_per_slab(&self) -> usize {
        self.thick[0] * self.bits.size[1]
    }

    /// Rows of beam `y` of a slab that has `rows` rows, `ny` per plane.
    pub(super) fn rows_of(&self, y: usize, rows: usize, ny: usize) -> impl Iterator<Item = usize> {
        let (first, end) = (y * self.thick[1], ((y + 1) * self.thick[1]).min(ny));
        (0..rows / ny).flat_map(move |z| (first..end).map(move |y| z * ny + y))
    }

    #[inline(always)]
    fn words(&self, beam: usize) -> std::ops::Range<usize> {
        beam * self.bits.width..(beam + 1) * self.bits.width
    }

    /// Puts the rows of beams together and counts runs.
    #[inline(always)]
    fn bundle(&mut self) {
        let ([nz, ny, _], width) = (self.bits.size, self.bits.width);
        self.union.reserve_exact(self.count[0] * self.count[1] * width);
        self.before.reserve_exact(self.union.capacity());
        let mut runs = 0u32;
        for (z, y) in places(self.count) {
            let (zs, ys) = (z * self.thick[0]..nz, y * self.thick[1]..ny);
            let mut carry = 0;
            for word in 0..width {
                let mut union = 0;
                for z in zs.clone().take(self.thick[0]) {
                    for y in ys.clone().take(self.thick[1]) {
                        union |= self.bits.words[(z * ny + y) * width + word];
                    }
                }
                self.union.push(union);
                self.before.push(runs);
                runs += (union & !(union << 1 | carry)).count_ones();
                carry = union >> 63;
            }
        }
        self.parents = (0..runs).collect();
    }

    /// Joins all beams with their earlier neighbours.
    #[inline(always)]
    fn join(&mut self, connectivity: Connectivity) {
        let ([nz, ny, _], [tz, ty]) = (self.bits.size, self.thick);
        // How far along x voxels of two rows may lie apart: rows that share a face, and rows that share an edge.
        let [face, edge] = match connectivity {
            Connectivity::Faces => [false, false],
            Connectivity::Edges => [true, false],
            Connectivity::Corners => [true, true],
        };
        let across = self.count[1];
        for (z, y) in places(self.count) {
            let beam = z * across + y;
            let words = self.words(beam);
            if self.union[words].iter().all(|word| *word == 0) {
                continue;
            }
            // First and last rows of the beam.
            let ([z0, y0], [z1, y1]) =
                ([z * tz, y * ty], [((z + 1) * tz).min(nz) - 1, ((y + 1) * ty).min(ny) - 1]);
            if y > 0 {
                self.join_beams([beam, beam - 1], [[z0, y0], [z1, y0]], [[z0, y0 - 1], [z1, y0 - 1]], face);
            }
            if z > 0 {
                let below = z0 - 1;
                self.join_beams(
                    [beam, beam - across],
                    [[z0, y0], [z0, y1]],
                    [[below, y0], [below, y1]],
                    face,
                );
                if connectivity == Connectivity::Faces {
                    continue;
                }
                if y > 0 {
                    let pair = [beam, beam - across - 1];
                    self.join_beams(pair, [[z0, y0]; 2], [[below, y0 - 1]; 2], edge);
                }
                if y1 + 1 < ny {
                    let pair = [beam, beam - across + 1];
                    self.join_beams(pair, [[z0, y1]; 2], [[below, y1 + 1]; 2], edge);
                }
            }
        }
    }

    /// Joins runs of two beams where `own` and `other`, two rows `(z, y)` of each, overlap, or with `near` come next
    /// to it.
    #[inline(always)]
    fn join_beams(&mut self, beams: [usize; 2], own: [[usize; 2]; 2], other: [[usize; 2]; 2], near: bool) {
        let start = |[z, y]: [usize; 2]| (z * self.bits.size[1] + y) * self.bits.width;
        let (own, other) = (own.map(start), other.map(start));
        let own = |bits: &Bits, word: usize| bits.words[own[0] + word] | bits.words[own[1] + word];
        let other = |bits: &Bits, word: usize| bits.words[other[0] + word] | bits.words[other[1] + word];
        let [first, second] = beams.map(|beam| beam * self.bits.width);
        let (mut touched, width) = (0, self.bits.width);
        for word in 0..width {
            let here = own(&self.bits, word);
            if here == 0 {
                touched = 0;
                continue;
            }
            let there = other(&self.bits, word);
            let (mut left, mut right) = (0, 0);
            if near {
                left = there << 1 | if word > 0 { other(&self.bits, word - 1) >> 63 } else { 0 };
                right = there >> 1 | if word + 1 < width { other(&self.bits, word + 1) << 63 } else { 0 };
            }
            let touch = here & (left | there | right);
            // Where the voxel before touches as well, its runs are the same, unless a run begins to the right.
            let fresh = right & !there & !(left & self.union[second + word]);
            let mut events = touch & (!(touch << 1 | touched) | fresh);
            touched = touch >> 63;
            while events != 0 {
                let bit = events.trailing_zeros();
                events &= events - 1;
                let x = 64 * word + bit as usize;
                let run = self.run_at(first, x);
                if there >> bit & 1 == 1 {
                    self.unite(run, self.run_at(second, x));
                } else {
                    if left >> bit & 1 == 1 {
                        self.unite(run, self.run_at(second, x - 1));
                    }
                    if right >> bit & 1 == 1 {
                        self.unite(run, self.run_at(second, x + 1));
                    }
                }
            }
        }
    }

    /// Run of a beam, whose words begin at `start`, at voxel `x`.
    #[inline(always)]
    fn run_at(&self, start: usize, x: usize) -> u32 {
        let (word, bit) = (x / 64, x % 64);
        let union = self.union[start + word];
        let carry = if word > 0 { self.union[start + word - 1] >> 63 } else { 0 };
        let begins = union & !(union << 1 | carry) & (u64::MAX >> (63 - bit));
        self.before[start + word] + begins.count_ones() - 1
    }

    #[inline(always)]
    fn unite(&mut self, one: u32, two: u32) {
        let (one, two) = (self.root(one), self.root(two));
        self.parents[one.max(two) as usize] = one.min(two);
    }

    /// Root of a run, with the path to it halved.
    #[inline(always)]
    fn root(&mut self, mut run: u32) -> u32 {
        loop {
            let parent = self.parents[run as usize];
            if parent == run {
                return run;
            }
            let above = self.parents[parent as usize];
            self.parents[run as usize] = above;
            run = above;
        }
    }

    /// Replaces parents by numbers of components, counted from 0 in array order of first voxels.
    #[inline(always)]
    fn number(&mut self) {
        for run in 0..self.parents.len() {
            self.parents[run] = self.parents[self.parents[run] as usize];
        }
        let mut numbers = vec![u32::MAX; self.parents.len()];
        let mut fresh: Vec<(usize, u32)> = Vec::new();
        for z in 0..self.count[0] {
            // A component begins in the first slab that has a run of it.
            for beam in z * self.count[1]..(z + 1) * self.count[1] {
                let words = self.words(beam);
                let first = self.before[words.start];
                let end = self.before.get(words.end).map_or(self.parents.len(), |end| *end as usize);
                let roots = &self.parents[first as usize..end];
                if roots.iter().all(|root| numbers[*root as usize] < u32::MAX) {
                    continue;
                }
                self.each_of_beam(beam, |span, run| {
                    let root = self.parents[run as usize];
                    if numbers[root as usize] == u32::MAX {
                        fresh.push((self.first_voxel(beam, span), root));
                    }
                });
            }
            fresh.sort_unstable();
            for (_, root) in fresh.drain(..) {
                if numbers[root as usize] == u32::MAX {
                    numbers[root as usize] = self.components as u32;
                    self.components += 1;
                }
            }
        }
        self.parents.iter_mut().for_each(|run| *run = numbers[*run as usize]);
    }

    /// Flat index of the first voxel of a run of a beam.
    fn first_voxel(&self, beam: usize, span: [usize; 2]) -> usize {
        let [nz, ny, nx] = self.bits.size;
        let (z, y) = (beam / self.count[1] * self.thick[0], beam % self.count[1] * self.thick[1]);
        for z in (z..nz).take(self.thick[0]) {
            for y in (y..ny).take(self.thick[1]) {
                let row = self.bits.row(z, y);
                for word in span[0] / 64..span[1].div_ceil(64) {
                    // Bits of the word from the span's first on; what lies behind its end is no part of the beam's run.
                    let from = u64::MAX << span[0].saturating_sub(64 * word).min(63);
                    let x = 64 * word + (row[word] & from).trailing_zeros() as usize;
                    if row[word] & from != 0 && x < span[1] {
                        return (z * ny + y) * nx + x;
                    }
                }
            }
        }
        unreachable!("a run has a voxel")
    }

    /// Calls `each([first voxel, end], run)` for the runs of a beam.
    #[inline(always)]
    fn each_of_beam(&self, beam: usize, mut each: impl FnMut([usize; 2], u32)) {
        let words = self.words(beam);
        let mut run = self.before[words.start];
        each_span(&self.union[words], |span| {
            each(span, run);
            run += 1;
        });
    }

    /// Calls `each(first voxel, length, component)` for the runs of all rows, in array order.
    pub(super) fn each_run(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [nz, ny, nx] = self.bits.size;
        for (z, y) in places([nz, ny]) {
            let beam = z / self.thick[0] * self.count[1] + y / self.thick[1];
            let start = beam * self.bits.width;
            each_span(self.bits.row(z, y), |[first, end]| {
                let component = self.parents[self.run_at(start, first) as usize];
                each((z * ny + y) * nx + first, end - first, component as usize);
            });
        }
    }

    /// Writes numbers from 1 where beam `y` of slab `z` has voxels; what lies between is left. Whether there are any.
    #[inline(always)]
    pub(super) fn line(&self, z: usize, y: usize, line: &mut [u32]) -> bool {
        let beam = z * self.count[1] + y;
        let mut any = false;
        self.each_of_beam(beam, |[first, end], run| {
            line[first..end].fill(self.parents[run as usize] + 1);
            any = true;
        });
        any
    }
}

/// Calls `each([first, end])` for the runs of ones.
#[inline(always)]
fn each_span(words: &[u64], mut each: impl FnMut([usize; 2])) {
    let mut open: Option<usize> = None;
    for (number, &word) in words.iter().enumerate() {
        let mut at = 0;
        // Zeros or ones at a time, whichever the row is in.
        while at < 64 {
            let rest = if open.is_some() { !word } else { word } >> at;
            if rest == 0 {
                break;
            }
            at += rest.trailing_zeros();
            match open.take() {
                None => open = Some(64 * number + at as usize),
                Some(start) => each([start, 64 * number + at as usize]),
            }
        }
    }
    if let Some(start) = open {
        each([start, 64 * words.len()]);
    }
}

/// All `(z, y)` in array order.
fn places([nz, ny]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..nz).flat_map(move |z| (0..ny).map(move |y| (z, y)))
}
