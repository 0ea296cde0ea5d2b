//! nnU-Net's segmentation losses on channels-last logits: Dice plus cross-entropy, or Dice plus binary
//! cross-entropy for regions, with their gradients.
//!
//! Sources: Milletari 2016 (soft Dice), Isensee 2021 (the sum and its constants). Golden: `nnunet/losses`.

use crate::{Cpu, padded};
use rayon::prelude::*;

/// Voxels per task of a reduction; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 4096;
/// Added to numerator and denominator of the Dice.
const SMOOTH: f64 = 1e-5;
/// Set in the members of a voxel that has no annotation.
pub const IGNORED: u32 = 1 << 31;

/// What each voxel truly is; all slices are `[n, voxels]`.
#[derive(Debug, Clone, Copy)]
pub enum Truth<'a> {
    /// One class per voxel; negative values count as class 0. Others must be below the number of channels.
    Classes {
        /// Class per voxel.
        labels: &'a [i16],
        /// Value of voxels without annotation.
        ignore: Option<i16>,
    },
    /// Regions that overlap.
    Regions {
        /// Bit `r` is set in voxels of region `r`, [`IGNORED`] where there is no annotation.
        members: &'a [u32],
        /// An ignore label exists. It changes the cross-entropy from a mean over voxels and regions to a sum
        /// over regions of a mean over annotated voxels.
        ignore: bool,
    },
}

/// Prediction and truth of one batch at one resolution.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// Samples.
    pub n: usize,
    /// Voxels per sample.
    pub voxels: usize,
    /// Classes (background included) or regions.
    pub channels: usize,
    /// `[n, voxels, padded(channels)]`.
    pub logits: &'a [f32],
    /// Truth.
    pub truth: Truth<'a>,
    /// Dice over the batch as one image, instead of per sample.
    pub batch_dice: bool,
}

/// Voxels of the thresholded or most likely prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hard {
    /// Predicted and true.
    pub true_positive: u64,
    /// Predicted, not true.
    pub false_positive: u64,
    /// True, not predicted.
    pub false_negative: u64,
}

/// What a voxel belongs to.
#[derive(Clone, Copy)]
enum Member {
    Class(usize),
    Regions(u32),
}

impl Member {
    fn of(self, channel: usize) -> bool {
        match self {
            Self::Class(class) => class == channel,
            Self::Regions(bits) => bits >> channel & 1 == 1,
        }
    }
}

/// Per channel: sum of `p * y`, of `p`, of `y`; the cross-entropy sum; the number of annotated voxels.
#[derive(Clone)]
struct Sums {
    channels: Vec<[f64; 3]>,
    entropy: f64,
    annotated: f64,
}

impl Sums {
    fn new(channels: usize) -> Self {
        Self { channels: vec![[0.0; 3]; channels], entropy: 0.0, annotated: 0.0 }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.channels.iter_mut().zip(&other.channels) {
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
        self.entropy += other.entropy;
        self.annotated += other.annotated;
    }
}

impl Comparison<'_> {
    /// The loss: cross-entropy minus mean Dice.
    pub fn value(&self) -> f64 {
        let (entropy, dice) = self.parts(&self.sums());
        entropy - dice
    }

    /// The loss; `grad`, laid out as the logits, becomes its gradient times `weight`.
    pub fn gradient(&self, weight: f64, grad: &mut [f32]) -> f64 {
        let sums = self.sums();
        let (entropy, dice) = self.parts(&sums);
        let of_entropy = (weight / self.entropy_divisor(&sums)) as f32;
        let width = padded(self.channels);
        for (sample, grad) in grad.chunks_exact_mut(self.voxels * width).enumerate() {
            let slopes = self.dice_slopes(&sums, sample, weight);
            grad.par_chunks_mut(CHUNK * width).enumerate().for_each(|(chunk, grad)| {
                let first = sample * self.voxels + chunk * CHUNK;
                Cpu::detected().compile(|| self.chunk_gradient(first, &slopes, of_entropy, grad));
            });
        }
        entropy - dice
    }

    fn softmax(&self) -> bool {
        matches!(self.truth, Truth::Classes { .. })
    }

    /// First channel that the Dice counts.
    fn first_channel(&self) -> usize {
        usize::from(self.softmax())
    }

    /// What the voxel belongs to, or `None` without annotation.
    fn member(&self, voxel: usize) -> Option<Member> {
        match self.truth {
            Truth::Classes { labels, ignore } => {
                let label = labels[voxel];
                (Some(label) != ignore).then(|| Member::Class(label.max(0) as usize))
            }
            Truth::Regions { members, .. } => {
                let bits = members[voxel];
                (bits & IGNORED == 0).then_some(Member::Regions(bits))
            }
        }
    }

    /// One total per sample, or a single one for the batch Dice.
    fn sums(&self) -> Vec<Sums> {
        let per_sample = self.voxels.div_ceil(CHUNK);
        let chunks: Vec<Sums> = (0..self.n * per_sample)
            .into_par_iter()
            .map(|task| {
                let (sample, chunk) = (task / per_sample, task % per_sample);
                let from = chunk * CHUNK;
                let to = (from + CHUNK).min(self.voxels);
                let voxels = sample * self.voxels + from..sample * self.voxels + to;
                Cpu::detected().compile(|| self.chunk_sums(voxels))
            })
            .collect();
        let group = if self.batch_dice { chunks.len() } else { per_sample };
        let total = |chunks: &[Sums]| {
            let mut total = Sums::new(self.channels);
            chunks.iter().for_each(|chunk| total.add(chunk));
            total
        };
        chunks.chunks(group).map(total).collect()
    }

    fn chunk_sums(&self, voxels: std::ops::Range<usize>) -> Sums {
        let width = padded(self.channels);
        let mut sums = Sums::new(self.channels);
        let mut p = vec![0f32; self.channels];
        for voxel in voxels {
            let Some(member) = self.member(voxel) else { continue };
            let z = &self.logits[voxel * width..voxel * width + self.channels];
            sums.entropy += f64::from(self.probabilities(z, member, &mut p));
            sums.annotated += 1.0;
            for (c, sum) in sums.channels.iter_mut().enumerate() {
                let (p, y) = (f64::from(p[c]), f64::from(u8::from(member.of(c))));
                sum[0] += p * y;
                sum[1] += p;
                sum[2] += y;
            }
        }
        sums
    }

    /// Fills in the probabilities of a voxel and returns its cross-entropy.
    fn probabilities(&self, z: &[f32], member: Member, p: &mut [f32]) -> f32 {
        if self.softmax() { softmax(z, member, p) } else { sigmoid(z, member, p) }
    }

    /// What the sum of cross-entropies is divided by.
    fn entropy_divisor(&self, sums: &[Sums]) -> f64 {
        let annotated: f64 = sums.iter().map(|sums| sums.annotated).sum();
        match self.truth {
            Truth::Classes { .. } => annotated.max(1.0),
            Truth::Regions { ignore: true, .. } => annotated.max(1e-8),
            Truth::Regions { ignore: false, .. } => (self.n * self.voxels * self.channels) as f64,
        }
    }

    /// Cross-entropy and mean Dice.
    fn parts(&self, sums: &[Sums]) -> (f64, f64) {
        let entropy = sums.iter().map(|sums| sums.entropy).sum::<f64>() / self.entropy_divisor(sums);
        let dice = |[both, p, y]: [f64; 3]| (2.0 * both + SMOOTH) / (p + y + SMOOTH);
        let counted = sums.iter().flat_map(|sums| &sums.channels[self.first_channel()..]);
        let total: f64 = counted.map(|&sums| dice(sums)).sum();
        (entropy, total / self.terms(sums))
    }

    /// Number of Dice values that are averaged.
    fn terms(&self, sums: &[Sums]) -> f64 {
        (sums.len() * (self.channels - self.first_channel())).max(1) as f64
    }

    /// Derivative of the Dice term by a probability, per channel: outside and inside of the structure.
    fn dice_slopes(&self, sums: &[Sums], sample: usize, weight: f64) -> Vec<[f32; 2]> {
        let own = if self.batch_dice { 0 } else { sample };
        let share = weight / self.terms(sums);
        let slopes = |&[both, p, y]: &[f64; 3]| {
            let below = p + y + SMOOTH;
            let outside = share * (2.0 * both + SMOOTH) / (below * below);
            [outside as f32, (outside - share * 2.0 / below) as f32]
        };
        let mut all: Vec<[f32; 2]> = sums[own].channels.iter().map(slopes).collect();
        all[..self.first_channel()].fill([0.0; 2]);
        all
    }

    fn chunk_gradient(&self, first: usize, slopes: &[[f32; 2]], of_entropy: f32, grad: &mut [f32]) {
        let width = padded(self.channels);
        let mut p = vec![0f32; self.channels];
        for (i, grad) in grad.chunks_exact_mut(width).enumerate() {
            grad.fill(0.0);
            let voxel = first + i;
            let Some(member) = self.member(voxel) else { continue };
            let z = &self.logits[voxel * width..voxel * width + self.channels];
            self.probabilities(z, member, &mut p);
            let slope = |c: usize| slopes[c][usize::from(member.of(c))];
            // The softmax couples the channels: each loses the mean slope under the prediction.
            let mean: f32 =
                if self.softmax() { (0..self.channels).map(|c| p[c] * slope(c)).sum() } else { 0.0 };
            for c in 0..self.channels {
                let inner = if self.softmax() { p[c] } else { p[c] * (1.0 - p[c]) };
                let y = f32::from(u8::from(member.of(c)));
                grad[c] = inner * (slope(c) - mean) + of_entropy * (p[c] - y);
            }
        }
    }

    /// Hits and misses per channel of the prediction without doubt: the most likely class, or regions above
    /// one half. Voxels without annotation are left out.
    pub fn hard_counts(&self) -> Vec<Hard> {
        let chunks: Vec<Vec<Hard>> = (0..(self.n * self.voxels).div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| self.chunk_counts(chunk * CHUNK..((chunk + 1) * CHUNK).min(self.n * self.voxels)))
            .collect();
        let mut total = vec![Hard::default(); self.channels];
        for chunk in chunks {
            for (total, part) in total.iter_mut().zip(chunk) {
                total.true_positive += part.true_positive;
                total.false_positive += part.false_positive;
                total.false_negative += part.false_negative;
            }
        }
        total
    }

    fn chunk_counts(&self, voxels: std::ops::Range<usize>) -> Vec<Hard> {
        let width = padded(self.channels);
        let mut counts = vec![Hard::default(); self.channels];
        for voxel in voxels {
            let Some(member) = self.member(voxel) else { continue };
            let z = &self.logits[voxel * width..voxel * width + self.channels];
            let best = (1..self.channels).fold(0, |best, c| if z[c] > z[best] { c } else { best });
            for (c, count) in counts.iter_mut().enumerate() {
                let predicted = if self.softmax() { c == best } else { z[c] > 0.0 };
                match (predicted, member.of(c)) {
                    (true, true) => count.true_positive += 1,
                    (true, false) => count.false_positive += 1,
                    (false, true) => count.false_negative += 1,
                    (false, false) => {}
                }
            }
        }
        counts
    }
}

fn softmax(z: &[f32], member: Member, p: &mut [f32]) -> f32 {
    let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for (p, &z) in p.iter_mut().zip(z) {
        *p = (z - highest).exp();
        total += *p;
    }
    p.iter_mut().for_each(|p| *p /= total);
    match member {
        Member::Class(class) => total.ln() + highest - z[class],
        Member::Regions(_) => 0.0,
    }
}

fn sigmoid(z: &[f32], member: Member, p: &mut [f32]) -> f32 {
    let mut entropy = 0.0;
    for (c, (p, &z)) in p.iter_mut().zip(z).enumerate() {
        let tail = (-z.abs()).exp();
        *p = if z >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) };
        let truth = if member.of(c) { z } else { 0.0 };
        entropy += z.max(0.0) - truth + tail.ln_1p();
    }
    entropy
}
