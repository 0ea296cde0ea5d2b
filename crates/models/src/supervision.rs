//! What training compares the outputs with: targets per resolution, and the loss over them.
//!
//! Source: nnU-Net v2 (deep supervision weights, region training, ignore label).

use galen_core::{Error, Labels, Result};
use galen_kernels::loss::{Comparison, Hard, IGNORED, Truth};

/// The loss of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSpec {
    /// Dice over the batch as one image, instead of per sample.
    pub batch_dice: bool,
    /// Region training: the label values of each output. `None`: outputs are classes that exclude each other.
    pub regions: Option<Vec<Vec<i16>>>,
    /// Label of voxels without annotation.
    pub ignore: Option<i16>,
    /// Weight of each output, full resolution first. An output of weight 0 is not computed.
    pub scale_weights: Vec<f64>,
}

impl LossSpec {
    /// nnU-Net's loss for a dataset and a network with this many outputs.
    pub fn for_labels(labels: &Labels, batch_dice: bool, scales: usize) -> Self {
        let values = |values: &[u16]| values.iter().map(|&value| value as i16).collect();
        let regions = labels.regions().iter().map(|region| values(region.values())).collect();
        Self {
            batch_dice,
            regions: labels.has_regions().then_some(regions),
            ignore: labels.ignore().map(|value| value as i16),
            scale_weights: deep_supervision_weights(scales),
        }
    }

    pub(crate) fn check(&self, scales: usize, outputs: usize) -> Result<()> {
        let bad = |what: String| Err(Error::input("loss", what, "use the labels that the plan was made for"));
        if self.scale_weights.len() != scales {
            return bad(format!("{} scale weights for {scales} network outputs", self.scale_weights.len()));
        }
        if self.scale_weights[0] == 0.0 || self.scale_weights.iter().any(|w| w.is_nan() || *w < 0.0) {
            return bad("scale weights must not be negative, and the first not zero".into());
        }
        match &self.regions {
            Some(regions) if regions.len() != outputs || outputs > 31 => {
                bad(format!("{} regions for {outputs} network outputs (31 at most)", regions.len()))
            }
            _ => Ok(()),
        }
    }

    /// Indices of the outputs that count.
    pub(crate) fn scales(&self) -> Vec<usize> {
        (0..self.scale_weights.len()).filter(|&scale| self.scale_weights[scale] != 0.0).collect()
    }

    /// Targets in the form of the loss kernel.
    pub(crate) fn truth(&self, labels: &[i16], outputs: usize) -> Result<OwnTruth> {
        let Some(regions) = &self.regions else {
            let unknown = |&&label: &&i16| label >= outputs as i16 && Some(label) != self.ignore;
            if let Some(label) = labels.iter().find(unknown) {
                let what = format!("label {label}, but the network has the classes 0 to {}", outputs - 1);
                return Err(Error::input("training labels", what, "correct the label map or dataset.json"));
            }
            return Ok(OwnTruth::Classes { ignore: self.ignore });
        };
        let bits = |label: i16| {
            let of = |r: usize| u32::from(regions[r].contains(&label)) << r;
            if Some(label) == self.ignore { IGNORED } else { (0..regions.len()).map(of).sum() }
        };
        let highest = regions.iter().flatten().chain(&self.ignore).copied().max().unwrap_or(0);
        let table: Vec<u32> = (0..=highest).map(bits).collect();
        let member =
            |&label: &i16| usize::try_from(label).ok().and_then(|i| table.get(i)).copied().unwrap_or(0);
        Ok(OwnTruth::Regions { members: labels.iter().map(member).collect(), ignore: self.ignore.is_some() })
    }
}

/// Truth in the form of the kernel; labels stay with the caller.
pub(crate) enum OwnTruth {
    Classes { ignore: Option<i16> },
    Regions { members: Vec<u32>, ignore: bool },
}

impl OwnTruth {
    pub(crate) fn compare<'a>(
        &'a self,
        labels: &'a [i16],
        logits: &'a [f32],
        [n, channels]: [usize; 2],
        batch_dice: bool,
    ) -> Comparison<'a> {
        let truth = match self {
            Self::Classes { ignore } => Truth::Classes { labels, ignore: *ignore },
            Self::Regions { members, ignore } => Truth::Regions { members, ignore: *ignore },
        };
        Comparison { n, voxels: labels.len() / n, channels, logits, truth, batch_dice }
    }
}

/// Labels of a batch at one resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Grid, `(z, y, x)`.
    pub size: [usize; 3],
    /// Label values, `[n, z, y, x]`; -1 counts as background.
    pub labels: Vec<i16>,
}

impl Targets {
    /// The labels of a batch at all resolutions: nearest neighbour, as nnU-Net samples them.
    pub fn pyramid(labels: Vec<i16>, size: [usize; 3], sizes: &[[usize; 3]]) -> Vec<Self> {
        let full = Self { size, labels };
        let mut all: Vec<Self> = sizes.iter().skip(1).map(|&size| full.sampled(size)).collect();
        all.insert(0, full);
        all
    }

    /// Voxel `i` of an axis comes from the voxel under its centre, `floor((i + 1/2) * in / out)`.
    fn sampled(&self, size: [usize; 3]) -> Self {
        let from = |axis: usize| -> Vec<usize> {
            (0..size[axis]).map(|i| (2 * i + 1) * self.size[axis] / (2 * size[axis])).collect()
        };
        let (z, y, x) = (from(0), from(1), from(2));
        let voxels: usize = self.size.iter().product();
        let mut labels = Vec::with_capacity(self.labels.len() / voxels * size.iter().product::<usize>());
        for sample in self.labels.chunks_exact(voxels) {
            for (&z, &y) in z.iter().flat_map(|z| y.iter().map(move |y| (z, y))) {
                let row = (z * self.size[1] + y) * self.size[2];
                labels.extend(x.iter().map(|x| sample[row + x]));
            }
        }
        Self { size, labels }
    }
}

/// Weights of the outputs, full resolution first: halved from one to the next, the last one 0 (unless it is
/// the only one), sum 1.
pub fn deep_supervision_weights(scales: usize) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..scales).map(|scale| 0.5f64.powi(scale as i32)).collect();
    if let [_, .., last] = weights.as_mut_slice() {
        *last = 0.0;
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// What a training step found.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Loss over all resolutions.
    pub loss: f64,
}

/// What an evaluation without learning found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Loss over all resolutions.
    pub loss: f64,
    /// Hits and misses at full resolution, per foreground class or region.
    pub counts: Vec<Hard>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::LabelValue;

    #[test]
    fn weights_are_those_of_nnunet() {
        assert_eq!(deep_supervision_weights(1), [1.0]);
        assert_eq!(deep_supervision_weights(2), [1.0, 0.0]);
        let weights = deep_supervision_weights(4);
        assert_eq!(weights, [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
    }

    #[test]
    fn targets_are_sampled_under_the_centre() {
        let targets = Targets::pyramid((0..6).collect(), [1, 1, 6], &[[1, 1, 6], [1, 1, 3], [1, 1, 2]]);
        assert_eq!(targets[1].labels, [1, 3, 5]);
        assert_eq!(targets[2].labels, [1, 4]);
    }

    #[test]
    fn regions_and_ignore_become_bits() {
        let entries = vec![
            ("background".to_owned(), LabelValue::One(0)),
            ("whole".to_owned(), LabelValue::Region(vec![1, 2])),
            ("core".to_owned(), LabelValue::One(2)),
            ("ignore".to_owned(), LabelValue::One(3)),
        ];
        let labels = Labels::new(entries, Some(vec![1, 2])).unwrap();
        let spec = LossSpec::for_labels(&labels, false, 1);
        let OwnTruth::Regions { members, ignore } = spec.truth(&[0, 1, 2, 3, -1, 9], 2).unwrap() else {
            panic!()
        };
        assert_eq!((members, ignore), (vec![0, 1, 3, IGNORED, 0, 0], true));
    }

    #[test]
    fn unknown_labels_are_named() {
        let spec = LossSpec { batch_dice: false, regions: None, ignore: Some(5), scale_weights: vec![1.0] };
        assert!(spec.truth(&[0, 2, 5, -1], 3).is_ok());
        let error = spec.truth(&[0, 3], 3).err().unwrap().to_string();
        assert!(error.contains("label 3"), "{error}");
    }
}
