//! What a check reports: one problem of one case.

use serde::{Serialize, Serializer};
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training would fail or learn something wrong.
    Error,
    /// Worth a look.
    Warning,
}

/// Sorts of problems, in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A file cannot be read.
    Unreadable,
    /// An image file of a case is missing.
    MissingChannel,
    /// An image has no label file.
    MissingLabel,
    /// A label file has no image.
    LabelWithoutImage,
    /// Files of a case hold another number of channels than `dataset.json` names.
    ChannelCount,
    /// Grids of a case differ in the number of voxels.
    SizeMismatch,
    /// Grids of a case differ in spacing.
    SpacingMismatch,
    /// Grids of a case differ in the direction of their axes.
    DirectionMismatch,
    /// Grids of a case differ in origin.
    OriginMismatch,
    /// A mask holds values that no label stands for.
    UnexpectedLabels,
    /// A mask looks like a picture, not like labels.
    GreyMask,
    /// A mask holds fractions, negative numbers or NaN.
    FractionalLabels,
    /// An image holds NaN or infinity.
    NotFinite,
    /// `labels` of `dataset.json` has gaps.
    LabelsNotConsecutive,
    /// `numTraining` is not the number of cases.
    WrongCount,
    /// 2D and 3D images in one dataset.
    MixedDimensions,
    /// Two cases hold the same image.
    Duplicate,
    /// A channel has one value everywhere.
    ConstantImage,
    /// A mask holds background only.
    EmptyMask,
    /// A label of `dataset.json` is in no mask.
    UnusedLabel,
    /// A file that belongs to no case.
    UnlistedFile,
    /// Two cases hold nearly the same image.
    NearDuplicate,
    /// One patient is on both sides of a split.
    PatientLeak,
    /// Spacing unlike that of the other cases.
    SpacingOutlier,
    /// Axes that run another way than those of the other cases.
    OrientationOutlier,
    /// Grey values unlike those of the other cases.
    IntensityOutlier,
    /// A structure much larger or smaller than in the other cases.
    VolumeOutlier,
    /// A label over tissue of another brightness than in the other cases.
    LabelNoise,
    /// A label that few cases show.
    RareLabel,
}

impl FindingKind {
    /// Short name for people.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    fn facts(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Error, Warning};
        match self {
            Self::Unreadable => {
                ("unreadable file", Error, "copy the file again from its source, or remove the case")
            }
            Self::MissingChannel => ("missing channel", Error, "add the image file, or remove the case"),
            Self::MissingLabel => {
                ("missing label", Error, "add the label file, or move the image to imagesTs")
            }
            Self::LabelWithoutImage => {
                ("label without image", Error, "add the image, or remove the label file")
            }
            Self::ChannelCount => {
                ("wrong number of channels", Error, "add the missing channel files, or correct channel_names")
            }
            Self::SizeMismatch => ("size mismatch", Error, "resample the files of the case onto one grid"),
            Self::SpacingMismatch => {
                ("spacing mismatch", Error, "correct the header that is wrong, or resample")
            }
            Self::DirectionMismatch => (
                "direction mismatch",
                Error,
                "see whether mask and image overlap; correct the header that is wrong",
            ),
            Self::OriginMismatch => (
                "origin mismatch",
                Error,
                "see whether mask and image overlap; correct the header that is wrong",
            ),
            Self::UnexpectedLabels => (
                "unexpected label values",
                Error,
                "correct the mask, or add the values to labels in dataset.json",
            ),
            Self::GreyMask => (
                "mask looks like a picture",
                Error,
                "give the mask as labels; never store masks as JPEG or resized grey",
            ),
            Self::FractionalLabels => (
                "values that are no labels",
                Error,
                "round the mask, resample masks with nearest neighbour only",
            ),
            Self::NotFinite => {
                ("NaN or infinite values", Error, "replace them, e.g. by 0, or export the image again")
            }
            Self::LabelsNotConsecutive => {
                ("labels not consecutive", Error, "renumber labels in dataset.json and masks without gaps")
            }
            Self::WrongCount => ("wrong numTraining", Error, "correct numTraining in dataset.json"),
            Self::MixedDimensions => ("2D and 3D mixed", Error, "make two datasets of it"),
            Self::Duplicate => {
                ("duplicate image", Warning, "keep one of them, or keep them in one fold with --patients")
            }
            Self::ConstantImage => {
                ("constant image", Warning, "see whether the export went wrong; remove the case if so")
            }
            Self::EmptyMask => ("empty mask", Warning, "see whether the structure is really absent"),
            Self::UnusedLabel => {
                ("label without voxels", Warning, "remove it from labels, or add cases that show it")
            }
            Self::UnlistedFile => {
                ("stray file", Warning, "list the file in dataset.json, rename it, or move it away")
            }
            Self::NearDuplicate => (
                "nearly the same image",
                Warning,
                "look at both; keep one, or keep them in one fold with --patients",
            ),
            Self::PatientLeak => (
                "patient on both sides",
                Warning,
                "split by patient: `galen train --patients` keeps a patient's cases on one side",
            ),
            Self::SpacingOutlier => (
                "spacing unlike the others",
                Warning,
                "see whether the header is right; resampling will change it most",
            ),
            Self::OrientationOutlier => (
                "orientation unlike the others",
                Warning,
                "see whether the header is right: networks do not look at the orientation",
            ),
            Self::IntensityOutlier => (
                "grey values unlike the others",
                Warning,
                "see whether units or rescaling differ; CT must be in HU",
            ),
            Self::VolumeOutlier => (
                "volume unlike the others",
                Warning,
                "look at the mask: cut off, another structure, or really so?",
            ),
            Self::LabelNoise => {
                ("label on other tissue", Warning, "look at the mask: shifted, swapped, or another contrast?")
            }
            Self::RareLabel => ("rare label", Warning, "add cases that show it, or expect little of it"),
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One problem of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Case, or `dataset.json`.
    pub case: String,
    /// How bad it is.
    pub severity: Severity,
    /// Sort of problem.
    pub kind: FindingKind,
    /// What was found and expected.
    pub message: String,
    /// What to try.
    pub remedy: String,
    /// The other case of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

impl Finding {
    pub(crate) fn new(case: &str, kind: FindingKind, message: String) -> Self {
        let (_, severity, remedy) = kind.facts();
        Self { case: case.to_owned(), severity, kind, message, remedy: remedy.to_owned(), other: None }
    }

    pub(crate) fn beside(mut self, other: &str) -> Self {
        self.other = Some(other.to_owned());
        self
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(crate) fn sort_key(&self) -> (Severity, FindingKind, &str, &str) {
        (self.severity, self.kind, &self.case, &self.message)
    }
}
