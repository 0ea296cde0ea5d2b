//! Which metrics fit a task: rules after Metrics Reloaded (Maier-Hein et al., Nature Methods 2024), in our own words.
//!
//! A task is described by yes and no; every recommendation and every warning says which answer it follows from.

use galen_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A class per image.
    Image,
    /// A class per voxel.
    Semantic,
    /// Places of objects.
    Detection,
    /// A mask per object.
    Instance,
}

/// Properties of a task; what is left out is no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Task {
    /// What is predicted.
    pub level: Level,
    /// Positive cases or objects are rare.
    #[serde(default)]
    pub rare_positives: bool,
    /// The share of positives will be another one in use.
    #[serde(default)]
    pub prevalence_differs: bool,
    /// A miss and a false alarm cost differently.
    #[serde(default)]
    pub unequal_costs: bool,
    /// Classes have an order (grades).
    #[serde(default)]
    pub ordered_classes: bool,
    /// Probabilities are shown or used, not only decisions.
    #[serde(default)]
    pub probabilities_used: bool,
    /// Structures of few voxels.
    #[serde(default)]
    pub small_structures: bool,
    /// Vessels, airways, nerves.
    #[serde(default)]
    pub tubular: bool,
    /// Where the border runs matters.
    #[serde(default)]
    pub boundary_matters: bool,
    /// One stray region is a serious error.
    #[serde(default)]
    pub outliers_matter: bool,
    /// Raters disagree about the border.
    #[serde(default)]
    pub noisy_reference: bool,
    /// Too much and too little differ in weight.
    #[serde(default)]
    pub over_under_differ: bool,
    /// Some references are empty.
    #[serde(default)]
    pub empty_references: bool,
    /// The volume is what is reported.
    #[serde(default)]
    pub volume_matters: bool,
    /// The reference marks points or boxes, no outlines.
    #[serde(default)]
    pub points_only: bool,
    /// False alarms are counted per image in the clinic.
    #[serde(default)]
    pub alarms_per_image: bool,
    /// Objects touch or overlap.
    #[serde(default)]
    pub touching_objects: bool,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Kind of `galen evaluate` that measures it.
    pub kind: &'static str,
    /// Id, or ids separated by commas.
    pub id: &'static str,
    /// Why.
    pub why: &'static str,
}

/// Advice for a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recommendation {
    /// To report.
    pub report: Vec<Advice>,
    /// Not to use here, and why.
    pub avoid: Vec<Advice>,
    /// How to put cases together.
    pub aggregate: Vec<&'static str>,
}

impl Task {
    /// The metrics that fit.
    pub fn recommend(&self) -> Result<Recommendation> {
        self.check()?;
        let mut r = Recommendation::default();
        match self.level {
            Level::Image => self.image(&mut r),
            Level::Semantic => self.semantic(&mut r),
            Level::Detection => self.detection(&mut r),
            Level::Instance => {
                r.say("lesion", "panoptic/pq", "counts objects and how well each is outlined, in one number");
                r.say("lesion", "panoptic/sq,panoptic/rq", "its two parts: outline and count");
                if self.touching_objects {
                    r.no("seg", "dice/nnunet", "touching objects merge into one mask without a loss of Dice");
                }
                self.boundary(&mut r);
            }
        }
        r.aggregate
            .push("per class, then per patient, then over patients; never pool voxels of all patients");
        r.aggregate.push("a missing prediction counts as the worst value, and its case is named");
        r.aggregate.push("intervals by drawing patients; differences of methods by paired tests with Holm");
        Ok(r)
    }

    fn check(&self) -> Result<()> {
        let of_image = self.ordered_classes || self.probabilities_used;
        let of_masks = self.tubular || self.boundary_matters || self.outliers_matter || self.volume_matters;
        let wrong = match self.level {
            Level::Image if of_masks => Some("tubes, borders, outliers and volumes belong to masks"),
            Level::Semantic | Level::Instance if self.points_only => {
                Some("points without outlines cannot judge masks")
            }
            Level::Semantic | Level::Instance | Level::Detection if of_image => {
                Some("ordered classes and probabilities belong to the level image")
            }
            _ => None,
        };
        match wrong {
            Some(what) => Err(Error::input("task", what, "correct the level, or leave the property out")),
            None => Ok(()),
        }
    }

    fn image(&self, r: &mut Recommendation) {
        if self.prevalence_differs {
            r.say(
                "binary",
                "balanced-accuracy@.5",
                "does not depend on the share of positives, which will differ",
            );
            r.no(
                "binary",
                "accuracy@.5,f1@.5,precision@.5,mcc@.5",
                "they change with the share of positives",
            );
        } else {
            r.say("binary", "mcc@.5", "uses all four counts; the share of positives stays the same");
        }
        if self.unequal_costs {
            r.say("binary", "net-benefit@pt.2", "weighs misses and false alarms by a stated threshold");
            r.say("binary", "expected-cost@.5", "the cost itself, when costs are known");
        }
        r.say("binary", "auroc", "ranking, whatever the threshold");
        if self.rare_positives {
            r.say("binary", "average-precision/step", "positives are rare: AUROC alone looks too good");
            r.no("binary", "accuracy@.5", "always saying no is right most of the time");
        }
        if self.ordered_classes {
            r.say("multiclass", "kappa/quadratic", "far grades weigh more than neighbouring ones");
        }
        if self.probabilities_used {
            r.say("binary", "brier,log-loss", "judge probabilities, not only decisions");
            r.say("binary", "calibration-slope,ece/positive/15 equal-mass", "is 0.8 right in 8 of 10?");
        }
    }

    fn semantic(&self, r: &mut Recommendation) {
        if self.tubular {
            r.say("seg", "cldice/lee-skimage", "branches that are missed or cut count, however thin");
        } else if self.over_under_differ {
            r.say("seg", "sensitivity-voxel,ppv-voxel", "too little and too much are told apart");
        } else {
            r.say("seg", "dice/nnunet", "overlap");
        }
        self.boundary(r);
        if self.empty_references {
            r.say(
                "binary",
                "recall@.5,specificity@.5",
                "is anything there? Judged per image, before its outline",
            );
            r.no("seg", "dice/monai", "hides false alarms on empty references");
            r.no("seg", "dice/metricsreloaded", "rewards silence on empty references with 1");
        }
        if self.volume_matters {
            r.say("seg", "volume-similarity/itk", "signed error of the volume");
            r.say("agreement", "bland-altman/bias(r0-r1)", "bias and limits of the volumes over patients");
        }
        r.no("seg", "pixel-accuracy", "background makes it look perfect");
    }

    fn boundary(&self, r: &mut Recommendation) {
        if self.small_structures {
            r.say(
                "lesion",
                "f1/any-overlap (TP=detected ref)",
                "few voxels: found or not is what can be judged",
            );
            r.no("seg", "hd95/surfel/deepmind", "one voxel is a large part of the structure");
            return;
        }
        if self.noisy_reference {
            r.say(
                "seg",
                "nsd/surfel/deepmind",
                "border within what raters differ by: set the tolerance to that",
            );
            r.no("seg", "hd/surfel/deepmind", "the largest distance is that of the reference's noise");
        } else if self.outliers_matter {
            r.say("seg", "hd95/surfel/deepmind", "stray regions show");
        } else if self.boundary_matters {
            r.say(
                "seg",
                "masd/voxel/metricsreloaded",
                "mean distance of the borders, without the weight of outliers",
            );
        } else {
            r.say("seg", "nsd/surfel/deepmind", "a border metric beside the overlap, at a stated tolerance");
        }
    }

    fn detection(&self, r: &mut Recommendation) {
        if self.alarms_per_image {
            r.say("froc", "froc/luna16 points/last step", "sensitivity at so many false alarms an image");
        } else {
            r.say(
                "detection2d",
                "ap@[.5:.95]/coco101",
                "ranked detections, over several strictnesses of place",
            );
        }
        if self.small_structures || self.points_only {
            r.say(
                "froc",
                "sensitivity/all candidates",
                "hit by centre: boxes of few voxels or points have no overlap",
            );
            r.no("detection2d", "ap@.75/coco101", "overlap of small boxes jumps with one voxel");
        }
        r.say("lesion", "f1/any-overlap (TP=detected ref)", "at the threshold that will be used");
        if self.rare_positives {
            r.no("binary", "specificity@.5", "true negatives of a detector cannot be counted");
        }
    }
}

impl Recommendation {
    fn say(&mut self, kind: &'static str, id: &'static str, why: &'static str) {
        self.report.push(Advice { kind, id, why });
    }

    fn no(&mut self, kind: &'static str, id: &'static str, why: &'static str) {
        self.avoid.push(Advice { kind, id, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::definition;

    fn task(level: &str, yes: &[&str]) -> Task {
        let mut json = serde_json::json!({ "level": level });
        yes.iter().for_each(|name| json[*name] = true.into());
        serde_json::from_value(json).unwrap()
    }

    fn ids(advice: &[Advice]) -> Vec<&str> {
        advice.iter().flat_map(|a| a.id.split(',')).collect()
    }

    #[test]
    fn answers_change_the_advice() {
        let plain = task("semantic", &[]).recommend().unwrap();
        assert_eq!(ids(&plain.report), ["dice/nnunet", "nsd/surfel/deepmind"]);
        let vessels = task("semantic", &["tubular", "outliers-matter"]).recommend().unwrap();
        assert_eq!(ids(&vessels.report), ["cldice/lee-skimage", "hd95/surfel/deepmind"]);
        let noisy = task("semantic", &["noisy-reference", "outliers-matter"]).recommend().unwrap();
        assert!(ids(&noisy.avoid).contains(&"hd/surfel/deepmind"));
        let screening = task("image", &["prevalence-differs", "rare-positives"]).recommend().unwrap();
        assert!(
            ids(&screening.avoid).contains(&"mcc@.5")
                && ids(&screening.report).contains(&"balanced-accuracy@.5")
        );
        assert!(
            ids(&task("detection", &["alarms-per-image"]).recommend().unwrap().report)[0]
                .starts_with("froc/")
        );
        assert!(task("image", &["tubular"]).recommend().is_err());
        assert!(task("semantic", &["points-only"]).recommend().is_err());
    }

    /// Whatever is advised can be measured.
    #[test]
    fn every_advised_id_exists() {
        let yes = [
            "rare-positives",
            "prevalence-differs",
            "unequal-costs",
            "ordered-classes",
            "probabilities-used",
            "small-structures",
            "tubular",
            "boundary-matters",
            "outliers-matter",
            "noisy-reference",
            "over-under-differ",
            "empty-references",
            "volume-matters",
            "points-only",
            "alarms-per-image",
            "touching-objects",
        ];
        for level in ["image", "semantic", "detection", "instance"] {
            for first in yes {
                for second in yes {
                    let Ok(found) = task(level, &[first, second]).recommend() else { continue };
                    for advice in found.report.iter().chain(&found.avoid) {
                        for id in advice.id.split(',') {
                            assert!(definition(advice.kind, id).is_some(), "{} {id}", advice.kind);
                        }
                    }
                }
            }
        }
    }
}
