//! docs/metrics.md: every number, what it is compared with, on how many cases, and how far it is off. Made here from
//! the goldens, so that it cannot say anything that was not just measured.
//!
//! `GALEN_WRITE_DOCS=1 cargo test -p galen-metrics --test all table` writes the file anew.

use crate::goldens::compare;
use crate::tally::Tally;
use galen_metrics::{ALL, catalogue};
use std::path::PathBuf;

/// Largest relative difference, rounded up to a step that does not depend on the machine's vector width.
fn step(difference: f64) -> &'static str {
    match difference {
        d if d <= 1e-12 => "1e-12",
        d if d <= 1e-9 => "1e-9",
        d if d <= 1e-6 => "1e-6",
        _ => "above 1e-6",
    }
}

const HEAD: &str = "\
# Every metric, and what it was compared with

Made by the tests of `crates/metrics` from the files in `crates/metrics/tests/goldens`, which `goldens/metrics.py` makes
with the packages named under each heading; a test fails when this page is out of date. `galen evaluate --kind KIND
--definitions` prints formula, range, empty case and pitfall of each.

Columns: golden cases of the number; among them those with an **empty** mask or class, a mask of **one** voxel, an
**anisotropic** grid, **tied** scores or times, and an **undefined** or infinite value expected; the largest relative
difference of all cases, rounded up to 1e-12, 1e-9 or 1e-6 (values below a thousandth are compared as if they were that
large). Numbers without a golden say why.

Nothing is above 1e-6.
";

/// Why numbers have no golden; what holds them instead.
const WITHOUT: &[(&str, &str, &str)] = &[
    (
        "binary",
        "auroc-ci95/",
        "drawn with Galen's own generator; a test compares with scipy's bootstrap within its error",
    ),
    ("fairness", "auroc-gap/p permuted", "drawn with Galen's own generator; a test plants gaps and none"),
    ("detection2d", "operating/", "as in detection3d, where they have goldens"),
];

/// What the field uses and is not here, and why.
const NOT_HERE: &str = "
## Not here, and why

Needs weights, a language model or a tokeniser that no package carries with it:

| metric | instead |
|---|---|
| LPIPS with its learned weights, DISTS | `lpips/unit weights` on features of any encoder |
| FID, KID on Inception or RadImageNet features | the same numbers on the features that are given |
| BERTScore with its encoders | `bertscore-matching` on vectors of any encoder |
| CheXbert-F1, RadGraph-F1, GREEN | `label-f1` on labels of any labeller; never to be compared with published ones |
| METEOR with WordNet | `meteor-es`: exact words and stems |
| BLEU and CIDEr-D of the COCO captions code (Java tokeniser) | sacrebleu's and nltk's BLEU |
| perplexity, answers of a language model | - |

Open; references run offline:

| family | metrics |
|---|---|
| seg | generalised and pooled Dice, soft clDice, Euler and Betti errors, Betti matching, AJI, instance AP, branches detected, contour HD in 2D |
| image | SSIM with padded borders, UQI, VIF, GMSD, FSIM, HFEN |
| features | FID extrapolated to infinite size, Vendi score, share of copies |
| binary | integrated calibration index, kernel calibration error, Brier score decomposed |
| survival | Antolini's C, incident/dynamic AUC, Nelson-Aalen, hazard ratios, D-calibration, Aalen-Johansen, NRI and IDI |
| text | TER, ROUGE-Lsum, MCQ accuracy, retrieval (recall, MRR, nDCG) |
| agreement | STAPLE |
| uncertainty | CRPS, pinball, Winkler, PICP, generalised energy distance, voxel-wise calibration |
| tests | Friedman with Nemenyi, corrected t over folds, equivalence, Wilson intervals |
| registration | inverse consistency |
";

fn reason(kind: &str, id: &str) -> Option<&'static str> {
    WITHOUT.iter().find(|(k, start, _)| *k == kind && id.starts_with(start)).map(|(_, _, why)| *why)
}

/// The page.
fn page() -> String {
    let mut text = HEAD.to_owned();
    let (mut compared, mut all) = (0, 0);
    let mut sections = String::new();
    for kind in catalogue::KINDS {
        let (tallies, versions, _) = compare(kind);
        sections += &format!("\n## {kind}\n\nCompared with {versions}.\n\n");
        sections += "| id | source | cases | empty | one | anisotropic | tied | undefined | difference |\n";
        sections += "|---|---|---|---|---|---|---|---|---|\n";
        for definition in catalogue::definitions(kind) {
            all += 1;
            let none = Tally::default();
            let tally = tallies.get(definition.id).unwrap_or(&none);
            compared += usize::from(tally.cases > 0);
            let count = |n: usize| if n == 0 { "-".to_owned() } else { n.to_string() };
            let difference = if tally.cases == 0 {
                reason(kind, definition.id).unwrap_or("no golden")
            } else {
                step(tally.worst)
            };
            sections += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {difference} |\n",
                definition.id.replace('|', "\\|"),
                definition.source.replace('|', "\\|"),
                tally.cases,
                count(tally.empty),
                count(tally.one),
                count(tally.anisotropic),
                count(tally.tied),
                count(tally.undefined)
            );
        }
    }
    text += &format!("\n{compared} of {all} numbers have goldens.\n{sections}");
    text += "\n## Label maps with many labels (`galen evaluate --pred --ref`)\n\n| id | convention | source |\n|---|---|---|\n";
    for entry in ALL {
        text += &format!("| {} | {} | {} |\n", entry.id, entry.convention, entry.source);
    }
    text += "\nCompared with nnU-Net's summary.json and with surface-distance in tests of their own.\n";
    text + NOT_HERE
}

#[test]
fn the_page_of_golden_comparisons_is_current() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let now = page();
    assert!(!now.contains("| above 1e-6 |"), "a number is off");
    assert!(!now.contains("| no golden |"), "a number has neither a golden nor a reason: {now}");
    if std::env::var_os("GALEN_WRITE_DOCS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let then = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = now.lines().zip(then.lines()).find(|(a, b)| a != b);
    assert!(now == then, "docs/metrics.md is out of date (GALEN_WRITE_DOCS=1 makes it again): {differs:?}");
}
