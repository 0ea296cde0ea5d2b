//! What is judged: a TOML file, folders of pictures, and the shuffled list of items that a rater sees.

use galen_core::{Error, Result};
use galen_metrics::bootstrap::below;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Picture formats that every browser shows.
const FORMATS: [(&str, &str); 4] =
    [("png", "image/png"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("svg", "image/svg+xml")];

/// A study as it stands in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    kind: Kind,
    question: String,
    #[serde(default)]
    seed: u64,
    #[serde(default = "five")]
    scale: u8,
    #[serde(rename = "method")]
    methods: Vec<Method>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    name: String,
    pictures: PathBuf,
}

fn five() -> u8 {
    5
}

/// How pictures are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two side by side: left, right, or equal.
    Pairs,
    /// One at a time on a scale from 1.
    Opinion,
}

/// A study, checked.
#[derive(Debug)]
pub struct Study {
    /// Heading.
    pub title: String,
    /// How pictures are judged.
    pub kind: Kind,
    /// What the rater is asked.
    pub question: String,
    /// Highest mark.
    pub scale: u8,
    /// Names of the methods.
    pub methods: Vec<String>,
    /// Cases, sorted; each has a picture by every method.
    pub cases: Vec<String>,
    /// `[case][method]`.
    pictures: Vec<Vec<PathBuf>>,
    seed: u64,
}

/// One thing to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Index of the case.
    pub case: usize,
    /// Methods shown: left and right, or one.
    pub methods: Vec<usize>,
}

impl Item {
    /// Key that is the same for every rater: the case and its methods in ascending order.
    pub fn key(&self) -> (usize, Vec<usize>) {
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        (self.case, methods)
    }
}

impl Study {
    /// Reads a study; every method must have a picture of every case.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
        let stated: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let remedy = "see `galen verify rate --help` for the keys";
            Error::input(format!("{}: line {line}", file.display()), error.message(), remedy)
        })?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::check(stated, folder).map_err(|error| error.within(file.display()))
    }

    fn check(stated: File, folder: &Path) -> Result<Self> {
        let least = if stated.kind == Kind::Pairs { 2 } else { 1 };
        if stated.methods.len() < least {
            return Err(Error::input("method", "there are too few to compare", "add a [[method]]"));
        }
        if !(2..=9).contains(&stated.scale) {
            let what = format!("{} is no scale that fits the keys", stated.scale);
            return Err(Error::input("scale", what, "choose 2 to 9; 5 is usual"));
        }
        let mut by_case: BTreeMap<String, BTreeMap<usize, PathBuf>> = BTreeMap::new();
        for (number, method) in stated.methods.iter().enumerate() {
            if stated.methods[..number].iter().any(|other| other.name == method.name) {
                return Err(Error::input(
                    "method",
                    format!("`{}` is there twice", method.name),
                    "rename one",
                ));
            }
            let place = folder.join(&method.pictures);
            for (case, file) in pictures(&place)? {
                by_case.entry(case).or_default().insert(number, file);
            }
        }
        if let Some((case, found)) = by_case.iter().find(|(_, found)| found.len() < stated.methods.len()) {
            let lacking = (0..stated.methods.len()).find(|method| !found.contains_key(method)).unwrap_or(0);
            let what = format!("{} has no picture of {case}", stated.methods[lacking].name);
            return Err(Error::input(
                "pictures",
                what,
                "show a failed case too, for example as an empty picture",
            ));
        }
        if by_case.is_empty() {
            return Err(Error::input("pictures", "there is none", "give folders of PNG, JPEG or SVG files"));
        }
        let (cases, pictures) =
            by_case.into_iter().map(|(case, files)| (case, files.into_values().collect())).unzip();
        Ok(Self {
            title: stated.title,
            kind: stated.kind,
            question: stated.question,
            scale: stated.scale,
            methods: stated.methods.into_iter().map(|method| method.name).collect(),
            cases,
            pictures,
            seed: stated.seed,
        })
    }

    /// The items of a rater in their order, sides shuffled; the same rater always gets the same list.
    pub fn items(&self, rater: &str) -> Vec<Item> {
        let mut random = self.stream(rater);
        let mut items = Vec::new();
        for case in 0..self.cases.len() {
            match self.kind {
                Kind::Opinion => {
                    items.extend((0..self.methods.len()).map(|method| Item { case, methods: vec![method] }));
                }
                Kind::Pairs => {
                    for second in 1..self.methods.len() {
                        for first in 0..second {
                            let swapped = below(&mut random, 2) == 1;
                            let methods = if swapped { vec![second, first] } else { vec![first, second] };
                            items.push(Item { case, methods });
                        }
                    }
                }
            }
        }
        for last in (1..items.len()).rev() {
            items.swap(last, below(&mut random, last + 1));
        }
        items
    }

    fn stream(&self, rater: &str) -> ChaCha8Rng {
        let mut sha = Sha256::new();
        sha.update(self.seed.to_le_bytes());
        sha.update(rater.as_bytes());
        ChaCha8Rng::from_seed(sha.finalize().into())
    }

    /// Bytes and type of a picture.
    pub fn picture(&self, case: usize, method: usize) -> Result<(Vec<u8>, &'static str)> {
        let file = &self.pictures[case][method];
        let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
        Ok((bytes, media_type(file).unwrap_or("application/octet-stream")))
    }
}

fn media_type(file: &Path) -> Option<&'static str> {
    let ending = file.extension()?.to_string_lossy().to_lowercase();
    FORMATS.iter().find(|(known, _)| *known == ending).map(|(_, media)| *media)
}

/// Pictures of a folder by case: the path below it without its ending, so that `verify`'s picture folders can be given.
fn pictures(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let system = |error: std::io::Error| Error::system(next.display(), &error);
        for entry in std::fs::read_dir(&next).map_err(system)? {
            let path = entry.map_err(system)?.path();
            if path.is_dir() {
                open.push(path);
            } else if media_type(&path).is_some() {
                let name = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
                let case = name.to_string_lossy().into_owned();
                if let Some(other) = found.insert(case.clone(), path.clone()) {
                    let what = format!("{case} is there twice: {} and {}", other.display(), path.display());
                    return Err(Error::input(folder.display(), what, "remove one of them"));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two methods, `cases` cases.
    pub fn study(kind: &str, cases: usize) -> (tempfile::TempDir, Study) {
        let folder = tempfile::tempdir().unwrap();
        for method in ["a", "b"] {
            std::fs::create_dir(folder.path().join(method)).unwrap();
            for case in 0..cases {
                let file = folder.path().join(format!("{method}/case{case}.svg"));
                std::fs::write(file, "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap();
            }
        }
        let text = format!(
            "title='T'\nkind='{kind}'\nquestion='Which?'\n[[method]]\nname='A'\npictures='a'\n[[method]]\nname='B'\npictures='b'\n"
        );
        std::fs::write(folder.path().join("s.toml"), text).unwrap();
        let study = Study::read(&folder.path().join("s.toml")).unwrap();
        (folder, study)
    }

    #[test]
    fn order_and_sides_differ_between_raters_and_stay_for_each() {
        let (_folder, study) = study("pairs", 20);
        let (one, other) = (study.items("Ann"), study.items("Bob"));
        assert_eq!(one, study.items("Ann"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 20);
        let left = one.iter().filter(|item| item.methods[0] == 0).count();
        assert!((3..18).contains(&left), "{left}");
        let mut keys: Vec<_> = one.iter().map(Item::key).collect();
        keys.sort();
        assert_eq!(keys, (0..20).map(|case| (case, vec![0, 1])).collect::<Vec<_>>());
    }

    #[test]
    fn a_missing_picture_is_named() {
        let (folder, _) = study("opinion", 2);
        std::fs::remove_file(folder.path().join("b/case1.svg")).unwrap();
        let error = Study::read(&folder.path().join("s.toml")).unwrap_err().to_string();
        assert!(error.contains("B has no picture of case1"), "{error}");
    }
}
