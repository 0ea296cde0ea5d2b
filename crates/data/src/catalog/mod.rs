//! The survey's catalogue: what each dataset holds, where it lives, and how its folder is laid out.
//!
//! Source of group, dimension, modality, task, targets, cases and format: the survey's table of 2D and 3D datasets. Home
//! page, licence, citation, layout and labels were added by hand; what is not certain is marked so, and the home page decides.

use galen_core::{Error, Result};
use std::sync::LazyLock;

/// The table: one line per dataset, tab-separated, with a header. A leading `?` marks what is not certain.
const TABLE: &str = include_str!("datasets.tsv");

/// Something said about a dataset that may need checking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What is said.
    pub text: String,
    /// Whether it is certain.
    pub sure: bool,
}

/// How the folder of a dataset is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `dataset.json`, `imagesTr`, `labelsTr`, as the Medical Segmentation Decathlon.
    Msd,
    /// nnU-Net's raw layout: needs no import.
    NnUnet,
    /// Brain Imaging Data Structure: `sub-*/...` with masks among the derivatives.
    Bids,
    /// Images and masks that pair by folder or by file name.
    Pairs,
    /// A folder per subject whose files are named alike in all.
    SubjectFolders,
    /// A folder per class.
    ClassFolders,
    /// Images and a table of labels.
    CsvLabels,
    /// DICOM series with masks as DICOM objects or pictures.
    Dicom,
    /// COCO boxes and polygons.
    Coco,
    /// YOLO boxes.
    Yolo,
    /// LUNA16: `.mhd` volumes and tables of candidates.
    Luna16,
    /// MedMNIST's `.npz`.
    MedMnist,
    /// ToothFairy's `.npy` volumes.
    ToothFairy,
    /// Teeth3DS surfaces with labels per vertex.
    Teeth3ds,
    /// VESSEL12: archives of volumes with tables of annotated points.
    Vessel12,
    /// Video.
    Video,
}

const FAMILIES: [(&str, Family); 16] = [
    ("msd", Family::Msd),
    ("nnunet", Family::NnUnet),
    ("bids", Family::Bids),
    ("pairs", Family::Pairs),
    ("subject-folders", Family::SubjectFolders),
    ("class-folders", Family::ClassFolders),
    ("csv-labels", Family::CsvLabels),
    ("dicom", Family::Dicom),
    ("coco", Family::Coco),
    ("yolo", Family::Yolo),
    ("luna16", Family::Luna16),
    ("medmnist", Family::MedMnist),
    ("toothfairy", Family::ToothFairy),
    ("teeth3ds", Family::Teeth3ds),
    ("vessel12", Family::Vessel12),
    ("video", Family::Video),
];

impl Family {
    /// Its name in the table and on the command line.
    pub fn name(self) -> &'static str {
        FAMILIES.iter().find(|(_, family)| *family == self).map_or("", |(name, _)| name)
    }

    /// By name.
    pub fn named(name: &str) -> Option<Self> {
        FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
    }
}

/// A dataset of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Name.
    pub name: String,
    /// Regions of the body, or `lesion`.
    pub groups: Vec<String>,
    /// `2D` or `3D`.
    pub dimension: String,
    /// Modality.
    pub modality: String,
    /// Task.
    pub task: String,
    /// Targets, as the survey counts them.
    pub targets: String,
    /// Cases, as the survey counts them.
    pub cases: String,
    /// File formats.
    pub format: String,
    /// Layout.
    pub family: Family,
    /// Names of the channel files of a case.
    pub channels: Vec<String>,
    /// Name of the mask of a case; ends with `/` where it is a folder with one mask per label.
    pub mask: Option<String>,
    /// Values and names of the labels in the masks; none where the masks or `dataset.json` say it.
    pub labels: Vec<(u16, String)>,
    /// Masks are grey pictures whose values from this on are the label: they were compressed with loss.
    pub threshold: Option<f64>,
    /// Home page.
    pub home: Statement,
    /// Licence, where anything is known.
    pub licence: Option<Statement>,
    /// First author, year and venue, where there is a paper.
    pub citation: Option<String>,
}

impl Known {
    /// Whether an importer brings it over by its name alone.
    pub fn is_imported(&self) -> bool {
        match self.family {
            Family::Msd | Family::NnUnet | Family::Pairs => self.task.to_lowercase().contains("segmentation"),
            Family::Bids | Family::SubjectFolders => self.mask.is_some(),
            _ => false,
        }
    }
}

/// All datasets, in the order of the survey.
pub fn catalog() -> &'static [Known] {
    static CATALOG: LazyLock<Vec<Known>> = LazyLock::new(|| TABLE.lines().skip(1).map(line).collect());
    &CATALOG
}

fn line(line: &str) -> Known {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_default().to_owned();
    let [name, groups, dimension, modality, task, targets, cases, format] = [(); 8].map(|()| next());
    let [family, files, labels, home, licence, citation] = [(); 6].map(|()| next());
    let list = |text: &str| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let (channels, mask) = files.split_once(';').unwrap_or((&files, ""));
    // `128+=polyp`: values from 128 on.
    let threshold = labels.split_once("+=").and_then(|(value, _)| value.parse().ok());
    let label = |pair: &str| {
        let (value, name) = pair.split_once('=')?;
        let value = if value.ends_with('+') { 1 } else { value.parse().ok()? };
        Some((value, name.to_owned()))
    };
    Known {
        groups: list(&groups),
        family: Family::named(&family).unwrap_or_else(|| panic!("family of {name}: {family}")),
        channels: list(channels),
        mask: (!mask.is_empty()).then(|| mask.to_owned()),
        threshold,
        labels: labels.split(',').filter_map(label).collect(),
        home: statement(&home),
        licence: (!licence.is_empty()).then(|| statement(&licence)),
        citation: (!citation.is_empty()).then_some(citation),
        name,
        dimension,
        modality,
        task,
        targets,
        cases,
        format,
    }
}

fn statement(text: &str) -> Statement {
    match text.strip_prefix('?') {
        Some(text) => Statement { text: text.to_owned(), sure: false },
        None => Statement { text: text.to_owned(), sure: true },
    }
}

/// The dataset of this name; case and punctuation do not count.
pub fn known(name: &str) -> Result<&'static Known> {
    let plain = |name: &str| -> String {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(name);
    if let Some(found) = catalog().iter().find(|known| plain(&known.name) == wanted) {
        return Ok(found);
    }
    let near: Vec<&str> = catalog()
        .iter()
        .filter(|known| !wanted.is_empty() && plain(&known.name).contains(&wanted[..wanted.len().min(4)]))
        .map(|known| known.name.as_str())
        .take(8)
        .collect();
    let remedy = if near.is_empty() {
        "`galen datasets` lists all".to_owned()
    } else {
        format!("near it: {}; `galen datasets` lists all", near.join(", "))
    };
    Err(Error::input(name, "is no dataset of the catalogue", remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(catalog().len(), 136);
        for known in catalog() {
            let fields = [&known.dimension, &known.modality, &known.task, &known.cases, &known.format];
            assert!(fields.iter().all(|field| !field.is_empty()) && !known.groups.is_empty(), "{known:?}");
            assert!(known.home.text.starts_with("http"), "{known:?}");
            if known.family == Family::SubjectFolders && !known.channels.is_empty() {
                assert!(known.mask.is_some(), "{known:?}");
            }
            assert!(known.labels.iter().all(|(value, name)| *value > 0 && !name.is_empty()), "{known:?}");
            assert_eq!(self::known(&known.name).unwrap().name, known.name, "names are told apart");
        }
    }

    #[test]
    fn names_are_found_whatever_their_punctuation() {
        assert_eq!(known("brats2023 met").unwrap().name, "BraTS2023-MET");
        assert_eq!(known("BraTS21").unwrap().labels[2], (4, "enhancing tumour".to_owned()));
        let error = known("BraTS2099").unwrap_err().to_string();
        assert!(error.contains("BraTS21"), "{error}");
    }
}
