//! Do raters (people, tools, repeats) agree? Subjects by raters in, agreement out.

pub mod icc;
pub mod krippendorff;
pub mod nominal;
pub mod pair;

use crate::measures::{Definition, Measures, define};
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind agreement`.
pub static DEFINITIONS: &[&[Definition]] =
    &[COUNTS, icc::DEFINITIONS, krippendorff::DEFINITIONS, pair::DEFINITIONS, nominal::DEFINITIONS];

static COUNTS: &[Definition] = &[
    define("subjects", "rows", "0..inf", "0", "-", "count"),
    define(
        "complete-subjects",
        "rows without an empty cell; all but Krippendorff's alpha use these only",
        "0..inf",
        "0",
        "empty cells may not be empty by chance",
        "count",
    ),
    define("raters", "columns", "0..inf", "0", "-", "count"),
];

/// Ratings, `[subject][rater]`; NaN is an empty cell.
#[derive(Debug, Clone)]
pub struct Ratings(Vec<Vec<f64>>);

impl Ratings {
    /// Takes rows of equal length, two raters or more, at least two complete rows.
    pub fn new(rows: Vec<Vec<f64>>) -> Result<Self> {
        let raters = rows.first().map_or(0, Vec::len);
        if raters < 2 {
            let what = format!("{raters} columns of ratings");
            return Err(Error::input("the table", what, "give one column per rater, two or more"));
        }
        if let Some(row) = rows.iter().position(|row| row.len() != raters) {
            let what = format!("{} ratings, the first row has {raters}", rows[row].len());
            return Err(Error::input(
                format!("row {}", row + 1),
                what,
                "leave a cell empty where a rating is missing",
            ));
        }
        if let Some(row) = rows.iter().position(|row| row.iter().any(|v| v.is_infinite())) {
            return Err(Error::input(format!("row {}", row + 1), "an infinite rating", "give numbers"));
        }
        let ratings = Self(rows);
        if ratings.complete().len() < 2 {
            return Err(Error::input("the table", "has fewer than two complete rows", "rate more subjects"));
        }
        Ok(ratings)
    }

    fn complete(&self) -> Vec<Vec<f64>> {
        self.0.iter().filter(|row| row.iter().all(|v| !v.is_nan())).cloned().collect()
    }

    /// Complete rows of the first two raters, which the numbers of two raters are about.
    pub fn first_two(&self) -> Vec<[f64; 2]> {
        self.complete().iter().map(|row| [row[0], row[1]]).collect()
    }

    /// Every number of the family. Numbers of two raters are those of the first two columns.
    pub fn measure(&self) -> Measures {
        let rows = self.complete();
        let mut m = Measures::default();
        m.put("subjects", self.0.len() as f64);
        m.put("complete-subjects", rows.len() as f64);
        m.put("raters", rows[0].len() as f64);
        icc::measure(&rows, &mut m);
        m.put("krippendorff/interval", krippendorff::alpha(&self.0, |a, b| (a - b) * (a - b)));
        let differs = |a: f64, b: f64| f64::from(u8::from(a != b));
        m.put("krippendorff/nominal", krippendorff::alpha(&self.0, differs));
        let column = |rater: usize| rows.iter().map(|row| row[rater]).collect::<Vec<_>>();
        pair::measure(&column(0), &column(1), &mut m);
        if rows.iter().flatten().all(|v| v.fract() == 0.0) {
            nominal::measure(&rows, &mut m);
        }
        m
    }
}
