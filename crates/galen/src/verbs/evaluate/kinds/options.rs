//! Options of `--kind`, and which kind uses which: one that a kind does not use is refused, never ignored.

use super::super::Arguments;
use clap::builder::PossibleValuesParser;
use galen_core::{Error, Result};
use galen_metrics::catalogue::{KINDS, TOOLS};
use std::path::PathBuf;

/// Arguments of `--kind`.
#[derive(clap::Args)]
pub struct Options {
    /// What the input holds; prints every number of that family under its id
    #[arg(long, value_parser = PossibleValuesParser::new(KINDS), help_heading = "Kinds")]
    pub kind: Option<String>,
    /// Table or file to measure (may be given again for tests and conformal)
    #[arg(long, alias = "csv", alias = "table", value_name = "FILE", help_heading = "Kinds")]
    pub(super) input: Vec<PathBuf>,
    /// Conventions to print, by tool and comma-separated, or all
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Kinds")]
    pub(super) conventions: Vec<String>,
    /// Print definition, range, empty case, pitfall and source of every number
    #[arg(long, help_heading = "Kinds")]
    pub(super) definitions: bool,
    /// binary, fairness: scores of at least this are positive; detection: the operating point [default: 0.5]
    #[arg(long, value_name = "P", help_heading = "Kinds")]
    pub(super) threshold: Option<f64>,
    /// binary: threshold probability of net benefit [default: 0.2]
    #[arg(long, value_name = "P", help_heading = "Kinds")]
    pub(super) pt: Option<f64>,
    /// conformal: share of misses allowed [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Kinds")]
    pub(super) alpha: Option<f64>,
    /// survival: events before this time enter Uno's C [default: all]
    #[arg(long, value_name = "TIME", help_heading = "Kinds")]
    pub(super) tau: Option<f64>,
    /// survival: times of the time-dependent AUC and of the columns of --survival
    #[arg(long, value_delimiter = ',', value_name = "TIMES", help_heading = "Kinds")]
    pub(super) times: Vec<f64>,
    /// survival: probabilities, cases x times: CSV with the times as header, or .npy with --times
    #[arg(long, value_name = "FILE", help_heading = "Kinds")]
    pub(super) survival: Option<PathBuf>,
    /// survival: table that the censoring curve is taken from [default: the input]
    #[arg(long, value_name = "FILE", help_heading = "Kinds")]
    pub(super) train: Option<PathBuf>,
    /// conformal: table that the threshold is taken from; binary, multiclass: table that temperature and isotonic curve
    /// are fitted on
    #[arg(long, value_name = "FILE", help_heading = "Kinds")]
    pub(super) calibration: Option<PathBuf>,
    /// conformal: table that the sets are made for
    #[arg(long, value_name = "FILE", help_heading = "Kinds")]
    pub(super) test: Option<PathBuf>,
    /// lesion: neighbours that belong together: 6, 18 or 26 (4 or 8 in flat images) [default: 26]
    #[arg(long, value_name = "N", help_heading = "Kinds")]
    pub(super) connectivity: Option<u8>,
    /// image: largest minus smallest possible value
    #[arg(long, value_name = "RANGE", help_heading = "Kinds")]
    pub(super) data_range: Option<f64>,
    /// image: label map of tissues, for contrast (tct), contrast to noise and signal to noise
    #[arg(long, value_name = "FILE", requires = "tissues", help_heading = "Kinds")]
    pub(super) tissue_map: Option<PathBuf>,
    /// image: the two values of --tissue-map that are compared, e.g. 1,2; 0 is background
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 1,
        value_name = "A,B",
        requires = "tissue_map",
        help_heading = "Kinds"
    )]
    pub(super) tissues: Vec<u16>,
    /// features: .npy of class probabilities of the generated images, for the inception score
    #[arg(long, value_name = "FILE", help_heading = "Kinds")]
    pub(super) class_probabilities: Option<PathBuf>,
    /// detection2d, detection3d: overlap that makes a hit at the operating point [default: 0.5; in volumes 0.1]
    #[arg(long, value_name = "IOU", help_heading = "Kinds")]
    pub(super) iou: Option<f64>,
    /// fairness: columns that divide the cases, e.g. sex,age,site,scanner [default: group]
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", help_heading = "Kinds")]
    pub(super) by: Vec<String>,
    /// fairness: limits that cut a column of numbers into groups, e.g. age:40,65
    #[arg(long, value_name = "COLUMN:LIMITS", help_heading = "Kinds")]
    pub(super) bands: Vec<String>,
    /// froc: targets in all images
    #[arg(long, value_name = "N", help_heading = "Kinds")]
    pub(super) targets: Option<usize>,
    /// froc: images, those without candidates too
    #[arg(long, value_name = "N", help_heading = "Kinds")]
    pub(super) images: Option<usize>,
    /// tests, binary, fairness: seed of what is drawn (signs, cases, groups) [default: 0]
    #[arg(long, value_name = "N", help_heading = "Kinds")]
    pub(super) seed: Option<u64>,
}

/// Options that each kind uses, beside --input, --conventions and --definitions.
const USED: &[(&str, &[&str])] = &[
    ("seg", &["--pred", "--ref", "--tolerance", "--report"]),
    ("lesion", &["--pred", "--ref", "--connectivity", "--report"]),
    ("detection2d", &["--pred", "--ref", "--threshold", "--iou", "--report"]),
    ("detection3d", &["--pred", "--ref", "--threshold", "--iou", "--report"]),
    ("froc", &["--pred", "--targets", "--images", "--report"]),
    ("image", &["--pred", "--ref", "--data-range", "--tissue-map", "--tissues", "--report"]),
    ("features", &["--pred", "--ref", "--class-probabilities", "--report"]),
    ("text", &["--pred", "--report"]),
    ("binary", &["--pred", "--threshold", "--pt", "--seed", "--calibration", "--report"]),
    ("multiclass", &["--pred", "--calibration", "--report"]),
    ("multilabel", &["--pred", "--report"]),
    ("survival", &["--pred", "--tau", "--times", "--survival", "--train", "--report"]),
    ("agreement", &["--pred", "--report"]),
    ("fairness", &["--pred", "--threshold", "--by", "--bands", "--seed", "--report"]),
    ("registration", &["--pred", "--ref", "--report"]),
    ("conformal", &["--alpha", "--calibration", "--test", "--report"]),
    ("tests", &["--pred", "--seed", "--report"]),
];

impl Options {
    /// Options of kinds mean nothing without one.
    pub fn refuse_without_kind(&self) -> Result<()> {
        let mut given = self.given();
        if !self.input.is_empty() {
            given.push("--input");
        }
        if !self.conventions.is_empty() {
            given.push("--conventions");
        }
        if self.definitions {
            given.push("--definitions");
        }
        match given.first() {
            Some(option) => Err(Error::input(option, "belongs to a kind of evaluation", "add --kind")),
            None => Ok(()),
        }
    }

    pub(super) fn given(&self) -> Vec<&'static str> {
        let all = [
            ("--threshold", self.threshold.is_some()),
            ("--pt", self.pt.is_some()),
            ("--alpha", self.alpha.is_some()),
            ("--tau", self.tau.is_some()),
            ("--times", !self.times.is_empty()),
            ("--survival", self.survival.is_some()),
            ("--train", self.train.is_some()),
            ("--calibration", self.calibration.is_some()),
            ("--test", self.test.is_some()),
            ("--seed", self.seed.is_some()),
            ("--connectivity", self.connectivity.is_some()),
            ("--data-range", self.data_range.is_some()),
            ("--tissue-map", self.tissue_map.is_some()),
            ("--tissues", !self.tissues.is_empty()),
            ("--class-probabilities", self.class_probabilities.is_some()),
            ("--iou", self.iou.is_some()),
            ("--by", !self.by.is_empty()),
            ("--bands", !self.bands.is_empty()),
            ("--targets", self.targets.is_some()),
            ("--images", self.images.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

/// Refuses what the kind does not use.
pub(super) fn refuse_unused(arguments: &Arguments, kind: &str) -> Result<()> {
    let used = USED.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, used)| used);
    let mut given = arguments.kinds.given();
    let others = [
        ("--pred", arguments.pred.is_some()),
        ("--ref", arguments.reference.is_some()),
        ("--out", arguments.out.is_some()),
        ("--labels", arguments.labels.is_some()),
        ("--tolerance", arguments.tolerance.is_some()),
        ("--partial", arguments.partial),
        ("--report", arguments.report.is_some()),
    ];
    given.extend(others.iter().filter(|(_, there)| *there).map(|(name, _)| name));
    match given.iter().find(|option| !used.contains(option)) {
        Some(option) => {
            let what = format!("--kind {kind} does not use it");
            let remedy = format!("leave it out; --kind {kind} takes --input {}", used.join(" "));
            Err(Error::input(option, what, remedy))
        }
        None => Ok(()),
    }
}

/// Conventions asked for, checked; all without a wish.
pub(super) fn conventions(asked: &[String]) -> Result<Vec<String>> {
    if asked.is_empty() {
        return Ok(vec!["all".to_owned()]);
    }
    match asked.iter().find(|name| *name != "all" && !TOOLS.iter().any(|(tool, _)| tool == name)) {
        Some(unknown) => {
            let known: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
            let remedy = format!("all, or some of {}", known.join(", "));
            Err(Error::input("--conventions", format!("`{unknown}` is no convention"), remedy))
        }
        None => Ok(asked.to_vec()),
    }
}
