//! All metrics of one case: every label or region of the dataset, prediction against reference.

use crate::counts::Joint;
use crate::surface::{Masks, SurfaceScores, compare};
use crate::surfels::areas;
use crate::{ALL, Bounds, Counts, DICE, Evidence, IOU, Score};
use galen_core::{Error, Geometry, LabelMap, LabelValue, LabelVoxels, Labels, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whether a structure is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In both masks.
    Ok,
    /// In neither.
    BothEmpty,
    /// Only in the prediction.
    ReferenceEmpty,
    /// Only in the reference: missed.
    PredictionEmpty,
}

/// Scores of one label or region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelScores {
    /// Name in the dataset.
    pub name: String,
    /// Value or values.
    pub value: LabelValue,
    /// Presence in both masks.
    pub status: Status,
    /// Voxel counts.
    pub counts: Counts,
    /// Score per metric id.
    pub scores: BTreeMap<String, Score>,
}

/// Scores of one case, labels in the order of the dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// One entry per scored label or region.
    pub labels: Vec<LabelScores>,
    /// Voxels of reference and prediction whose label the dataset does not name; they count as background.
    #[serde(default)]
    pub unnamed: [u64; 2],
}

/// Scores every label (or region) of the dataset. Voxels that the reference marks as `ignore` belong
/// to no mask. Distances up to `tolerance_mm` count as agreement in NSD.
pub fn score_case(
    reference: &LabelMap,
    prediction: &LabelMap,
    labels: &Labels,
    tolerance_mm: f64,
) -> Result<CaseScores> {
    same_grid(reference, prediction)?;
    if !(tolerance_mm.is_finite() && tolerance_mm >= 0.0) {
        let what = format!("{tolerance_mm} is no tolerance");
        return Err(Error::input("tolerance", what, "give millimetres, e.g. 1"));
    }
    let joint = Joint::of(reference, prediction, labels);
    let areas = Arc::new(areas(reference.geometry.spacing, reference.geometry.flat));
    let score = |value: LabelValue| {
        let counts = joint.counts(value.values());
        let bounds = joint.bounds(value.values());
        let surface = if bounds.is_empty() {
            SurfaceScores::default()
        } else {
            let region = Region::new(&reference.geometry, bounds, value.values());
            compare(&region.masks(reference, prediction, labels.ignore(), areas.clone()), tolerance_mm)
        };
        let evidence = Evidence { counts, voxel_volume: reference.geometry.voxel_volume(), surface };
        let scores = ALL.into_iter().map(|entry| (entry.id.to_string(), (entry.score)(&evidence))).collect();
        LabelScores { name: labels.name_of(&value), status: status(&counts), value, counts, scores }
    };
    Ok(CaseScores { labels: labels.scored().into_par_iter().map(score).collect(), unnamed: joint.unnamed() })
}

/// Voxel counts, Dice and IoU alone: what can be had without distances, many times faster than [`score_case`].
pub fn count_case(reference: &LabelMap, prediction: &LabelMap, labels: &Labels) -> Result<CaseScores> {
    same_grid(reference, prediction)?;
    let joint = Joint::of(reference, prediction, labels);
    let score = |value: LabelValue| {
        let counts = joint.counts(value.values());
        let evidence = Evidence { counts, ..Evidence::default() };
        let scores = [&DICE, &IOU].map(|entry| (entry.id.to_string(), (entry.score)(&evidence)));
        LabelScores {
            name: labels.name_of(&value),
            status: status(&counts),
            value,
            counts,
            scores: scores.into_iter().collect(),
        }
    };
    Ok(CaseScores { labels: labels.scored().into_iter().map(score).collect(), unnamed: joint.unnamed() })
}

fn same_grid(reference: &LabelMap, prediction: &LabelMap) -> Result<()> {
    if let Some(mismatch) = reference.geometry.conflicts(&prediction.geometry) {
        let sizes = format!("{:?} and {:?} voxels", reference.geometry.size, prediction.geometry.size);
        return Err(Error::input(
            "reference and prediction",
            format!("the grids differ in {mismatch} ({sizes}, z y x)"),
            "score maps of the same scan; bring one onto the grid of the other first",
        ));
    }
    Ok(())
}

fn status(counts: &Counts) -> Status {
    match (counts.reference(), counts.prediction()) {
        (0, 0) => Status::BothEmpty,
        (0, _) => Status::ReferenceEmpty,
        (_, 0) => Status::PredictionEmpty,
        _ => Status::Ok,
    }
}

/// The voxels of some label values, in the box that holds them.
struct Region<'a> {
    size: [usize; 3],
    bounds: Bounds,
    /// Voxels of background around.
    pad: [usize; 3],
    padded: [usize; 3],
    values: &'a [u16],
}

impl<'a> Region<'a> {
    fn new(geometry: &Geometry, bounds: Bounds, values: &'a [u16]) -> Self {
        let pad = [usize::from(!geometry.flat), 1, 1];
        let padded = [0, 1, 2].map(|axis| bounds.high[axis] - bounds.low[axis] + 2 * pad[axis]);
        Self { size: geometry.size, bounds, pad, padded, values }
    }

    fn masks(
        &self,
        reference: &LabelMap,
        prediction: &LabelMap,
        ignore: Option<u16>,
        areas: Arc<Vec<f64>>,
    ) -> Masks {
        let mut masks = Masks {
            size: self.padded,
            spacing: reference.geometry.spacing,
            flat: reference.geometry.flat,
            areas,
            reference: self.cut(reference, self.values),
            prediction: self.cut(prediction, self.values),
        };
        if let Some(ignore) = ignore {
            let ignored = self.cut(reference, &[ignore]);
            masks.prediction.iter_mut().zip(&ignored).for_each(|(p, i)| *p &= 1 - i);
        }
        masks
    }

    /// Mask of the voxels that have one of `values`.
    fn cut(&self, map: &LabelMap, values: &[u16]) -> Vec<u8> {
        match (&map.voxels, values) {
            // Comparing with one value needs no table and runs in vectors.
            (LabelVoxels::U8(v), &[value]) => match u8::try_from(value) {
                Ok(value) => self.rows(v, |&x| u8::from(x == value)),
                Err(_) => vec![0; self.padded.iter().product()],
            },
            (LabelVoxels::U16(v), &[value]) => self.rows(v, |&x| u8::from(x == value)),
            (LabelVoxels::U8(v), _) => {
                let table: Vec<u8> = (0..256).map(|x| u8::from(values.contains(&x))).collect();
                self.rows(v, |&x| table[usize::from(x)])
            }
            (LabelVoxels::U16(v), _) => self.rows(v, |x| u8::from(values.contains(x))),
        }
    }

    fn rows<T>(&self, voxels: &[T], inside: impl Fn(&T) -> u8) -> Vec<u8> {
        let [_, ny, nx] = self.padded;
        let mut mask = vec![0u8; self.padded.iter().product()];
        let (low, high) = (self.bounds.low, self.bounds.high);
        for z in low[0]..high[0] {
            for y in low[1]..high[1] {
                let from = (z * self.size[1] + y) * self.size[2];
                let to = ((z - low[0] + self.pad[0]) * ny + y - low[1] + self.pad[1]) * nx + self.pad[2];
                let row = &voxels[from + low[2]..from + high[2]];
                mask[to..to + row.len()].iter_mut().zip(row).for_each(|(m, v)| *m = inside(v));
            }
        }
        mask
    }
}
