//! The metrics of the field: one file per family, values in, values out.
//!
//! Families beyond segmentation hand out [`Measures`]: numbers under ids, each id with its
//! [`Definition`]; [`catalogue`] knows which ids belong to which kind of evaluation.
//!
//! Every metric is an [`Entry`] of [`ALL`] with its definition and convention. A score is a number,
//! undefined or infinite ([`Score`]); nothing is dropped silently.

pub mod agreement;
pub mod bootstrap;
mod case;
pub mod catalogue;
pub mod classification;
pub mod conformal;
mod counts;
pub mod detection;
mod evaluation;
pub mod fairness;
pub mod features;
pub mod generation;
pub mod image;
pub mod masks;
pub mod measures;
mod overlap;
pub mod postprocessing;
pub mod recommend;
pub mod registration;
pub mod statistics;
pub mod summary;
pub mod surface;
pub mod surfels;
pub mod survival;
pub mod text;
mod volume;

pub use bootstrap::{Interval, bootstrap_mean};
pub use case::{CaseScores, LabelScores, Status, count_case, score_case};
pub use counts::{Bounds, Counts};
pub use evaluation::{Case, Evaluation, LabelMeans};
pub use measures::{Definition, Measures, Value};
pub use overlap::{DICE, IOU};
pub use summary::Summary;
pub use surface::{ASSD, HD95, NSD, SurfaceScores};
pub use volume::{VOLUME_DIFFERENCE, VOLUME_RELATIVE};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All metrics, in the order of reports.
pub static ALL: [&Entry; 7] = [&DICE, &IOU, &NSD, &HD95, &ASSD, &VOLUME_DIFFERENCE, &VOLUME_RELATIVE];

/// The metric with this id.
pub fn entry(id: &str) -> Option<&'static Entry> {
    ALL.into_iter().find(|entry| entry.id == id)
}

/// What a metric is, for reports and for whoever must decide whether to trust it.
pub struct Entry {
    /// Key in files and on the command line.
    pub id: &'static str,
    /// Convention that decides between tools, printed in every report.
    pub convention: &'static str,
    /// Name in tables.
    pub name: &'static str,
    /// Unit, empty when there is none.
    pub unit: &'static str,
    /// Formula.
    pub definition: &'static str,
    /// Smallest and largest value.
    pub range: [f64; 2],
    /// Value of a perfect prediction.
    pub best: f64,
    /// What happens when a mask is empty.
    pub empty: &'static str,
    /// How it misleads, and what to read beside it.
    pub pitfall: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Computes it.
    pub score: fn(&Evidence) -> Score,
}

/// What is known about one label of one case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Voxels.
    pub counts: Counts,
    /// Volume of one voxel in mm³ (mm² for a flat image).
    pub voxel_volume: f64,
    /// Surfaces.
    pub surface: SurfaceScores,
}

/// Value of a metric in one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// A finite number.
    Value(f64),
    /// Nothing to measure: the structure is in neither mask.
    Undefined,
    /// A distance or ratio to something that is not there.
    Infinite,
}

impl Score {
    /// The number, or `None` when there is no finite one.
    pub fn value(self) -> Option<f64> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }

    /// NaN for undefined, infinity for infinite.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Value(value) => value,
            Self::Undefined => f64::NAN,
            Self::Infinite => f64::INFINITY,
        }
    }
}

/// A number, or the text `undefined` or `infinite`: JSON has no word for either.
impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => serializer.serialize_f64(*value),
            Self::Undefined => serializer.serialize_str("undefined"),
            Self::Infinite => serializer.serialize_str("infinite"),
        }
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(value) => Ok(Self::Value(value)),
            Form::Word(word) if word == "infinite" => Ok(Self::Infinite),
            Form::Word(word) if word == "undefined" => Ok(Self::Undefined),
            Form::Word(word) => Err(serde::de::Error::custom(format!("`{word}` is no score"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(reference: &[u8], prediction: &[u8]) -> Evidence {
        let bools = |mask: &[u8]| mask.iter().map(|&v| v == 1).collect::<Vec<_>>();
        let masks = surface::Masks {
            size: [3, 3, 4],
            spacing: [1.0; 3],
            flat: false,
            areas: surfels::areas([1.0; 3], false).into(),
            reference: reference.to_vec(),
            prediction: prediction.to_vec(),
        };
        Evidence {
            counts: Counts::of(&bools(reference), &bools(prediction)),
            voxel_volume: 1.0,
            surface: surface::compare(&masks, 1.0),
        }
    }

    #[test]
    fn every_metric_keeps_its_contract() {
        let mut something = vec![0u8; 36];
        something[17..19].fill(1);
        let nothing = vec![0u8; 36];
        let perfect = evidence(&something, &something);
        let absent = evidence(&nothing, &nothing);
        let missed = evidence(&something, &nothing);
        for m in ALL {
            let texts = [m.convention, m.name, m.definition, m.empty, m.pitfall, m.source];
            assert!(texts.iter().all(|text| !text.is_empty()), "{}", m.id);
            assert_eq!((m.score)(&perfect), Score::Value(m.best), "{}: a perfect answer is the best", m.id);
            assert_eq!((m.score)(&absent), Score::Undefined, "{}: nothing to find is no success", m.id);
            assert_ne!((m.score)(&missed), Score::Undefined, "{}: a missed structure must count", m.id);
            assert!(m.range[0] <= m.best && m.best <= m.range[1]);
        }
    }

    #[test]
    fn scores_survive_json() {
        for score in [Score::Value(0.25), Score::Undefined, Score::Infinite] {
            let text = serde_json::to_string(&score).unwrap();
            assert_eq!(serde_json::from_str::<Score>(&text).unwrap(), score);
        }
        assert!(serde_json::from_str::<Score>("\"good\"").is_err());
    }
}
