//! A dataset: named channels, named labels, and cases with their files.

use crate::description::Description;
use crate::layouts;
use galen_core::{Error, LabelMap, Labels, Result, Volume};
use std::fmt;
use std::path::{Path, PathBuf};

/// One case: its image files in channel order, and its label file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Identifier: the file name without channel number and ending.
    pub id: String,
    /// Image files in channel order; one file may hold several channels.
    pub images: Vec<PathBuf>,
    /// Label file; `None` for test cases.
    pub label: Option<PathBuf>,
}

/// A case or file that cannot be used as it lies there; found when the folder was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Case concerned.
    pub case: String,
    /// Sort of problem.
    pub kind: ProblemKind,
    /// What was found and expected.
    pub message: String,
}

/// Sorts of problems that a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// An image file of the case is missing.
    MissingChannel,
    /// There is no label file.
    MissingLabel,
    /// There is a label file, but no image.
    LabelWithoutImage,
    /// A file lies there that the dataset does not name.
    UnlistedFile,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

/// How the folder was laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// nnU-Net v2 raw.
    NnUnet,
    /// Medical Segmentation Decathlon, or nnU-Net v1.
    Msd,
}

/// A dataset on disk. `training` holds complete cases only; what is incomplete is in `problems`.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Name of the folder, e.g. `Dataset004_Hippocampus`.
    pub name: String,
    /// Folder with `dataset.json`.
    pub root: PathBuf,
    /// Names and values of the labels.
    pub labels: Labels,
    /// Names of the image channels, in order.
    pub channel_names: Vec<String>,
    /// Ending of image and label files, with its dot.
    pub file_ending: String,
    /// `numTraining` of `dataset.json`; the number of training cases when it is not there.
    pub num_training: usize,
    /// Complete training cases, sorted by id.
    pub training: Vec<Case>,
    /// Test cases, sorted by id; without labels.
    pub test: Vec<Case>,
    /// Incomplete cases and stray files, sorted by case.
    pub problems: Vec<Problem>,
    pub(crate) description: Description,
    pub(crate) layout: Layout,
}

impl Dataset {
    /// Opens a folder in nnU-Net's raw layout or in that of the Medical Segmentation Decathlon.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("dataset.json");
        if !file.is_file() {
            return Err(no_dataset(path));
        }
        let description = Description::read(&file)?;
        let root = path.to_path_buf();
        let layout = if layouts::msd::fits(&description) { Layout::Msd } else { Layout::NnUnet };
        let listing = match layout {
            Layout::Msd => layouts::msd::list(&root, &description)?,
            Layout::NnUnet => layouts::nnunet::list(&root, &description)?,
        };
        if listing.training.is_empty() && listing.test.is_empty() && listing.problems.is_empty() {
            let what = format!("dataset.json is there, but no case ending in {}", listing.file_ending);
            return Err(Error::input(
                path.display(),
                what,
                "put images into imagesTr and labels into labelsTr",
            ));
        }
        for cases in [&listing.training, &listing.test] {
            let twice = cases.windows(2).find(|pair| pair[0].id == pair[1].id);
            if let Some([first, second]) = twice {
                let files: Vec<String> =
                    first.images.iter().chain(&second.images).map(|f| f.display().to_string()).collect();
                let what = format!("two cases have this name: {}", files.join(", "));
                return Err(
                    Error::input(&first.id, what, "rename one, or list it once").within(path.display())
                );
            }
        }
        Ok(Self {
            name: folder_name(path),
            root,
            labels: description.labels.clone(),
            channel_names: description.channel_names.clone(),
            file_ending: listing.file_ending,
            num_training: description.num_training.unwrap_or(listing.training.len()),
            training: listing.training,
            test: listing.test,
            problems: listing.problems,
            description,
            layout,
        })
    }

    /// Identifiers of the training cases, sorted bytewise.
    pub fn training_ids(&self) -> Vec<String> {
        self.training.iter().map(|case| case.id.clone()).collect()
    }

    /// Name of the reader class that nnU-Net would choose, as it stands in plans.
    pub fn reader_name(&self) -> Result<String> {
        crate::reader_name::reader_name(self)
    }

    /// All channels of a case as one volume on one grid.
    pub fn read_image(&self, case: &Case) -> Result<Volume> {
        let image = galen_io::read_channels(&case.images).map_err(|error| error.within(&case.id))?;
        let found = image.channels;
        if found != self.channel_names.len() {
            let what = format!("{found} channels, but dataset.json names {}", self.channel_names.len());
            return Err(Error::input(
                &case.id,
                what,
                "add the missing channel files or correct channel_names",
            ));
        }
        Ok(image)
    }

    /// The label map of a case.
    pub fn read_labels(&self, case: &Case) -> Result<LabelMap> {
        match &case.label {
            Some(file) => galen_io::read_label_map(file),
            None => Err(Error::input(&case.id, "has no label file", "use a training case")),
        }
    }
}

/// Name of the folder, also when the path is `.` or ends in `..`.
fn folder_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}

fn no_dataset(path: &Path) -> Error {
    let remedy = "give the folder that holds dataset.json with imagesTr and labelsTr (nnU-Net raw or MSD)";
    match std::fs::read_dir(path).map(Iterator::count) {
        Err(error) => Error::system(path.display(), &error),
        Ok(0) => Error::input(path.display(), "the folder is empty", remedy),
        Ok(_) => Error::input(path.display(), "no known dataset layout: there is no dataset.json", remedy),
    }
}
