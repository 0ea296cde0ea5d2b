//! Who is in a dataset: how often each value of a column of the user's table occurs.

use crate::dataset::Dataset;
use galen_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How often each value of a column of the user's table occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Column.
    pub column: String,
    /// Values and cases, the most frequent first.
    pub counts: Vec<(String, usize)>,
    /// Cases without a value.
    pub missing: usize,
}

/// Counts the values of some columns of the user's table over the cases of the dataset.
pub fn coverage(file: &Path, columns: &[String], dataset: &Dataset) -> Result<Vec<Coverage>> {
    let place = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(&place, &error))?;
    let tabs = text.lines().next().is_some_and(|line| line.contains('\t'));
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if tabs { b'\t' } else { b',' })
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let bad = |error: csv::Error| {
        Error::input(&place, error, "give a table with a header line, the case in the first column")
    };
    let header = reader.headers().map_err(bad)?.clone();
    let wanted = columns
        .iter()
        .map(|column| {
            header.iter().position(|name| name == column).ok_or_else(|| {
                let known = header.iter().collect::<Vec<_>>().join(", ");
                Error::input(&place, format!("has no column `{column}`"), format!("its columns are {known}"))
            })
        })
        .collect::<Result<Vec<usize>>>()?;
    let mut rows: HashMap<String, Vec<String>> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let values = wanted.iter().map(|&column| record.get(column).unwrap_or_default().to_owned()).collect();
        rows.insert(record.get(0).unwrap_or_default().to_owned(), values);
    }
    if !dataset.training.iter().any(|case| rows.contains_key(&case.id)) {
        let example = dataset.training.first().map_or("", |case| case.id.as_str());
        let what = format!("names no case of {}", dataset.name);
        return Err(Error::input(
            &place,
            what,
            format!("its first column holds the cases, such as {example}"),
        ));
    }
    let count = |(index, column): (usize, &String)| {
        let (mut counts, mut missing) = (BTreeMap::<&str, usize>::new(), 0);
        for case in dataset.training.iter().chain(&dataset.test) {
            match rows.get(&case.id).map(|values| values[index].as_str()).filter(|value| !value.is_empty()) {
                Some(value) => *counts.entry(value).or_default() += 1,
                None => missing += 1,
            }
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(v, n)| (v.to_owned(), n)).collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Coverage { column: column.clone(), counts: grouped(counts), missing }
    };
    Ok(columns.iter().enumerate().map(count).collect())
}

/// Numbers of many values, such as ages, become ranges.
fn grouped(counts: Vec<(String, usize)>) -> Vec<(String, usize)> {
    const RANGES: usize = 8;
    let numbers: Option<Vec<(f64, usize)>> = counts
        .iter()
        .map(|(value, n)| Some((value.parse().ok().filter(|v: &f64| v.is_finite())?, *n)))
        .collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() > RANGES) else { return counts };
    let low = numbers.iter().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
    let high = numbers.iter().map(|(value, _)| *value).fold(f64::NEG_INFINITY, f64::max);
    // A step of 1, 2 or 5 times a power of ten, so that the borders are numbers that people read.
    let rough = (high - low) / RANGES as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * power).find(|s| *s >= rough).unwrap_or(rough);
    let mut ranges: BTreeMap<i64, usize> = BTreeMap::new();
    for (value, n) in numbers {
        *ranges.entry((value / step).floor() as i64).or_default() += n;
    }
    let name = |place: i64| format!("{} to {}", place as f64 * step, (place + 1) as f64 * step);
    ranges.into_iter().map(|(place, n)| (name(place), n)).collect()
}
