//! Precision of a network's activations: what the user asks for, and what a check case allows.

use galen_core::LabelMap;
use galen_models::Storage;
use serde_json::{Value, json};

/// How activations are stored when predicting. All arithmetic is in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Four bytes per value
    F32,
    /// Two bytes per value: less memory, faster where memory is what limits
    Bf16,
    /// bf16 where this processor gains from it and the label map of the first scan stays the same, else f32
    Auto,
}

/// How activations are stored when training; the arithmetic, the weights and the gradients are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TrainingPrecision {
    /// Four bytes per value
    F32,
    /// Two bytes per value
    Bf16,
}

impl From<TrainingPrecision> for galen_train::Precision {
    fn from(precision: TrainingPrecision) -> Self {
        match precision {
            TrainingPrecision::F32 => Self::F32,
            TrainingPrecision::Bf16 => Self::Bf16,
        }
    }
}

/// Name of a storage, as the user gives it.
pub fn name(storage: Storage) -> &'static str {
    match storage {
        Storage::F32 => "f32",
        Storage::Bf16 => "bf16",
    }
}

/// Least part of all voxels that must have the same label.
const SAME: f64 = 0.999;
/// Least part of the voxels with a foreground label in either map: background alone must not decide.
const SAME_FOREGROUND: f64 = 0.99;

/// How far two label maps of one scan agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Part of all voxels with the same label.
    voxels: f64,
    /// The same among voxels that are foreground in either; 1 where there are none.
    foreground: f64,
}

impl Agreement {
    /// Of two maps on the same grid.
    pub fn of(a: &LabelMap, b: &LabelMap) -> Self {
        let (mut same, mut foreground, mut same_foreground) = (0u64, 0u64, 0u64);
        let count = a.geometry.voxels();
        for (a, b) in (0..count).map(|i| (a.get(i), b.get(i))) {
            same += u64::from(a == b);
            foreground += u64::from(a > 0 || b > 0);
            same_foreground += u64::from(a == b && a > 0);
        }
        let part = |part: u64, of: u64| if of == 0 { 1.0 } else { part as f64 / of as f64 };
        Self { voxels: part(same, count as u64), foreground: part(same_foreground, foreground) }
    }

    /// Whether the second map may stand for the first.
    pub fn is_enough(&self) -> bool {
        self.voxels >= SAME && self.foreground >= SAME_FOREGROUND
    }

    /// For people.
    pub fn sentence(&self, case: &str) -> String {
        format!(
            "{case}: bf16 and f32 agree in {:.3} % of voxels and {:.2} % of the foreground ({} and {} % wanted)",
            100.0 * self.voxels,
            100.0 * self.foreground,
            100.0 * SAME,
            100.0 * SAME_FOREGROUND
        )
    }

    /// For programs.
    pub fn json(&self, case: &str) -> Value {
        json!({ "case": case, "same_voxels": self.voxels, "same_foreground": self.foreground })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Geometry;

    fn map(voxels: Vec<u8>) -> LabelMap {
        LabelMap::new(Geometry::axis_aligned([1, 1, voxels.len()], [1.0; 3]), voxels)
    }

    #[test]
    fn background_alone_does_not_decide() {
        let mut labels = vec![0; 10_000];
        let none = Agreement::of(&map(labels.clone()), &map(labels.clone()));
        assert_eq!(none, Agreement { voxels: 1.0, foreground: 1.0 });
        labels[..10].fill(1);
        let whole = map(labels.clone());
        labels[..5].fill(0);
        let half = Agreement::of(&whole, &map(labels.clone()));
        assert_eq!(half, Agreement { voxels: 0.9995, foreground: 0.5 });
        assert!(none.is_enough() && !half.is_enough());
        labels[..5].fill(2);
        assert_eq!(Agreement::of(&whole, &map(labels)).foreground, 0.5);
    }
}
