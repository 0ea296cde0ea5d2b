//! What a protocol says: TOML in, checked values out. A key that is not known is an error, never ignored.

use galen_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A protocol: what is compared, on what, and under which setup.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Heading of tables and page.
    pub title: String,
    /// What is compared.
    pub kind: Kind,
    /// Seed of weights, patches, augmentation and drawn cases.
    #[serde(default)]
    pub seed: u64,
    /// Metric that ranks [default: the first of the kind].
    pub primary: Option<String>,
    /// Draws of cases for intervals and ranks.
    #[serde(default = "draws")]
    pub draws: usize,
    /// Tolerance of the normalised surface Dice, mm.
    #[serde(default = "tolerance")]
    pub tolerance_mm: f64,
    /// Common setup of trained models.
    pub setup: Option<Setup>,
    /// Datasets.
    #[serde(rename = "dataset", default)]
    pub datasets: Vec<DatasetEntry>,
    /// Networks to train.
    #[serde(rename = "model", default)]
    pub models: Vec<Model>,
    /// Methods whose predictions are there.
    #[serde(rename = "method", default)]
    pub methods: Vec<Method>,
    /// Folder of the file; paths in it are relative to this.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What a protocol compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Networks, trained here under one setup.
    Train,
    /// Folders of label maps made elsewhere.
    Masks,
    /// Tables of probabilities made elsewhere.
    Scores,
    /// COCO results made elsewhere.
    Coco,
}

/// What all trained models share.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Planner whose plan gives preprocessing, patch and batch: default, resenc-m, resenc-l, resenc-xl.
    #[serde(default = "planner")]
    pub planner: String,
    /// Configuration of the plan.
    #[serde(default = "configuration")]
    pub configuration: String,
    /// Patch `(z, y, x)` [default: the plan's].
    pub patch: Option<Vec<usize>>,
    /// Samples per batch [default: the plan's].
    pub batch: Option<usize>,
    /// Training iterations.
    pub iterations: usize,
    /// Folds of the dataset's splits (nnU-Net's five, or those of its splits_final.json).
    #[serde(default)]
    pub folds: Vec<u32>,
    /// Instead of folds: so many draws of training cases with replacement; the cases not drawn validate.
    pub bootstrap: Option<u32>,
    /// Average over mirrored copies when predicting.
    #[serde(default = "yes")]
    pub mirror: bool,
}

/// A dataset. Trained protocols need `path`, the others `reference`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// Name in tables.
    pub name: String,
    /// Dataset folder (nnU-Net raw or MSD).
    pub path: Option<PathBuf>,
    /// Where plans and preprocessed cases go [default: PATH/preprocessed].
    pub preprocessed: Option<PathBuf>,
    /// Folder of reference label maps, CSV of labels (case,label), or COCO ground truth.
    pub reference: Option<PathBuf>,
    /// dataset.json with label names [default: the one beside the reference].
    pub labels: Option<PathBuf>,
    /// Folder of scans, for pictures [default: outlines on the reference alone].
    pub images: Option<PathBuf>,
}

/// A network: the plan's, with what is given here replaced.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name in tables.
    pub name: String,
    /// Network class, e.g. PlainConvUNet or ResidualEncoderUNet [default: the plan's].
    pub network: Option<String>,
    /// Feature maps per stage; fewer entries than the plan has stages leave the deepest out.
    pub features: Option<Vec<usize>>,
    /// Convolutions (plain) or residual blocks per encoder stage: one number, or one per stage.
    pub depth: Option<Depth>,
    /// Another configuration of the plan than the setup's, such as 2d; patch and batch are then that plan's.
    pub configuration: Option<String>,
    /// Patch of this model alone.
    pub patch: Option<Vec<usize>>,
    /// Samples per batch of this model alone.
    pub batch: Option<usize>,
}

impl Model {
    /// Configuration of the plan that this model is trained in.
    pub fn configuration<'a>(&'a self, setup: &'a Setup) -> &'a str {
        self.configuration.as_deref().unwrap_or(&setup.configuration)
    }

    /// Patch, where protocol or model say one. That of the setup has the axes of the setup's configuration.
    pub fn patch<'a>(&'a self, setup: &'a Setup) -> Option<&'a [usize]> {
        let common = || if self.configuration.is_none() { setup.patch.as_deref() } else { None };
        self.patch.as_deref().or_else(common)
    }

    /// Samples per batch, where protocol or model say so.
    pub fn batch(&self, setup: &Setup) -> Option<usize> {
        self.batch.or(if self.configuration.is_none() { setup.batch } else { None })
    }
}

/// Depth of stages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Depth {
    /// The same in all.
    Same(usize),
    /// One number per stage.
    Each(Vec<usize>),
}

/// A method whose predictions are there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Name in tables.
    pub name: String,
    /// Folder or file per dataset name.
    pub predictions: BTreeMap<String, PathBuf>,
}

fn draws() -> usize {
    1000
}

fn tolerance() -> f64 {
    1.0
}

fn planner() -> String {
    "default".into()
}

fn configuration() -> String {
    "3d_fullres".into()
}

fn yes() -> bool {
    true
}

impl Protocol {
    /// Reads and checks a protocol.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
        let mut protocol: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let place = format!("{}: line {line}", file.display());
            Error::input(place, error.message(), "see `galen verify --help` for the keys")
        })?;
        protocol.folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        protocol.check().map_err(|error| error.within(file.display()))?;
        Ok(protocol)
    }

    /// A path of the protocol.
    pub fn place(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Names of what is compared, in order.
    pub fn contenders(&self) -> Vec<String> {
        match self.kind {
            Kind::Train => self.models.iter().map(|model| model.name.clone()).collect(),
            _ => self.methods.iter().map(|method| method.name.clone()).collect(),
        }
    }

    fn check(&self) -> Result<()> {
        let trained = self.kind == Kind::Train;
        if self.datasets.is_empty() {
            return Err(Error::input("dataset", "there is none", "add a [[dataset]] with name and path"));
        }
        match (&self.setup, trained) {
            (None, true) => {
                let remedy = "add [setup] with iterations and folds";
                return Err(Error::input("setup", "trained models need one", remedy));
            }
            (Some(_), false) => {
                let what = "only kind = \"train\" has one; predictions made elsewhere are taken as they are";
                return Err(Error::input("setup", what, "remove it"));
            }
            (Some(setup), true) => setup.check()?,
            (None, false) => {}
        }
        let (needed, other, list) = if trained {
            ("model", "method", (self.models.is_empty(), self.methods.is_empty()))
        } else {
            ("method", "model", (self.methods.is_empty(), self.models.is_empty()))
        };
        if list.0 {
            return Err(Error::input(needed, "there is none", format!("add a [[{needed}]]")));
        }
        if !list.1 {
            let what = format!("a protocol of this kind compares each [[{needed}]]");
            return Err(Error::input(other, what, format!("remove each [[{other}]], or change kind")));
        }
        unique("dataset", self.datasets.iter().map(|d| d.name.as_str()))?;
        let contenders = self.contenders();
        unique(needed, contenders.iter().map(String::as_str))?;
        for dataset in &self.datasets {
            dataset.check(trained)?;
        }
        for method in &self.methods {
            method.check(&self.datasets)?;
        }
        if !(1..=100_000).contains(&self.draws) {
            return Err(Error::input(
                "draws",
                format!("{} is out of range", self.draws),
                "1000 is usual, 1 to 100000",
            ));
        }
        if !(self.tolerance_mm >= 0.0 && self.tolerance_mm.is_finite()) {
            return Err(Error::input(
                "tolerance_mm",
                format!("{} is no distance", self.tolerance_mm),
                "give for example 1",
            ));
        }
        Ok(())
    }
}

impl Setup {
    fn check(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::input("setup.iterations", "0 trains nothing", "give 1 or more"));
        }
        match (self.folds.is_empty(), self.bootstrap) {
            (true, None | Some(0)) => {
                Err(Error::input("setup", "says neither folds nor bootstrap", "add folds = [0, 1]"))
            }
            (false, Some(_)) => Err(Error::input("setup", "says folds and bootstrap", "keep one of the two")),
            _ => Ok(()),
        }
    }
}

impl DatasetEntry {
    fn check(&self, trained: bool) -> Result<()> {
        let place = format!("dataset {}", self.name);
        let given = [
            ("path", self.path.is_some(), trained, true),
            ("preprocessed", self.preprocessed.is_some(), trained, false),
            ("reference", self.reference.is_some(), !trained, true),
            ("labels", self.labels.is_some(), !trained, false),
            ("images", self.images.is_some(), !trained, false),
        ];
        for (key, there, allowed, needed) in given {
            if there && !allowed {
                let what = format!("{key} has no place in a protocol of this kind");
                return Err(Error::input(place, what, "remove it, or change kind"));
            }
            if allowed && needed && !there {
                return Err(Error::input(place, format!("has no {key}"), format!("add {key} = \"...\"")));
            }
        }
        Ok(())
    }
}

impl Method {
    fn check(&self, datasets: &[DatasetEntry]) -> Result<()> {
        let place = format!("method {}", self.name);
        let known = |name: &&String| datasets.iter().any(|dataset| dataset.name == **name);
        if let Some(unknown) = self.predictions.keys().find(|name| !known(name)) {
            let what = format!("predictions for {unknown}, which is no dataset of the protocol");
            return Err(Error::input(place, what, "use the names of the datasets"));
        }
        match datasets.iter().find(|dataset| !self.predictions.contains_key(&dataset.name)) {
            Some(missing) => {
                let what = format!("has no predictions for {}", missing.name);
                let remedy = "add their folder; an empty folder counts every case as failed";
                Err(Error::input(place, what, remedy))
            }
            None => Ok(()),
        }
    }
}

/// Names become folder names and table cells.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        let folder = folder_name(name);
        if folder.is_empty() {
            return Err(Error::input(what, format!("`{name}` is no name"), "use letters and digits"));
        }
        if seen.contains(&folder) {
            return Err(Error::input(
                what,
                format!("`{name}` is there twice, or two differ only in signs"),
                "rename one",
            ));
        }
        seen.push(folder);
    }
    Ok(())
}

/// A name as a folder name: letters, digits and `-_.`; anything else is `-`.
pub fn folder_name(name: &str) -> String {
    let keep = |letter: char| {
        if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '-' }
    };
    name.chars().map(keep).collect::<String>().trim_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "title = 't'\nkind = 'train'\n[setup]\niterations = 3\nfolds = [0]\n[[dataset]]\nname = 'd'\npath = 'p'\n[[model]]\nname = 'm'\n";

    fn read(text: &str) -> Result<Protocol> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        Protocol::read(&file)
    }

    #[test]
    fn a_small_protocol_is_enough() {
        let protocol = read(WHOLE).unwrap();
        assert_eq!((protocol.draws, protocol.contenders()), (1000, vec!["m".to_owned()]));
        assert_eq!(protocol.setup.unwrap().configuration, "3d_fullres");
    }

    #[test]
    fn mistakes_are_said_and_placed() {
        let cases = [
            (WHOLE.replace("folds = [0]", "folds = [0]\nfoldz = 1"), "line 6: unknown field `foldz`"),
            (WHOLE.replace("folds = [0]\n", ""), "neither folds nor bootstrap"),
            (WHOLE.replace("iterations = 3", "iterations = 0"), "0 trains nothing"),
            (format!("{WHOLE}[[model]]\nname = 'm'\n"), "there twice"),
            (WHOLE.replace("kind = 'train'", "kind = 'masks'"), "setup: only kind"),
            (WHOLE.replace("path = 'p'", ""), "has no path"),
            (WHOLE.replace("path = 'p'", "path = 'p'\nreference = 'r'"), "no place in a protocol"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let masks = "title='t'\nkind='masks'\n[[dataset]]\nname='d'\nreference='r'\n[[method]]\nname='m'\n";
        let error = read(&format!("{masks}predictions = {{ e = 'x' }}\n")).unwrap_err().to_string();
        assert!(error.contains("e, which is no dataset"), "{error}");
        let error = read(&format!("{masks}predictions = {{ }}\n")).unwrap_err().to_string();
        assert!(error.contains("no predictions for d"), "{error}");
    }
}
