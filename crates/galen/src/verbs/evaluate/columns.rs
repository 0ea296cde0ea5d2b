//! Tables of numbers: CSV with or without a header.

use galen_core::{Error, Result};
use std::path::{Path, PathBuf};

/// A table as text. Rows are counted from 1, the header apart.
pub struct Columns {
    file: PathBuf,
    /// Names in lower case; empty when the first row holds numbers.
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Reads a CSV file. A first row of numbers alone is data, anything else is the header.
    pub fn read(file: &Path) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .from_path(file)
            .map_err(|error| unreadable(file, &error))?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| unreadable(file, &error))?;
            rows.push(record.iter().map(str::to_owned).collect::<Vec<_>>());
        }
        let headed = rows.first().is_some_and(|row| row.iter().any(|cell| number(cell).is_none()));
        let names = if headed { rows.remove(0) } else { Vec::new() };
        let names: Vec<String> =
            names.into_iter().map(|n| n.trim_start_matches('\u{feff}').to_lowercase()).collect();
        let twice = (1..names.len()).find(|&i| !names[i].is_empty() && names[..i].contains(&names[i]));
        if let Some(twice) = twice {
            let what = format!("the column `{}` is there twice", names[twice]);
            return Err(Error::input(file.display(), what, "rename one of them, or remove it"));
        }
        if rows.is_empty() {
            return Err(Error::input(file.display(), "holds no rows", "give a CSV with one row per case"));
        }
        Ok(Self { file: file.to_path_buf(), names, rows })
    }

    /// Names of the columns, lower case; empty without a header.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Is there a column of one of these names?
    pub fn has(&self, names: &[&str]) -> bool {
        self.find(names).is_some()
    }

    fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.names.iter().position(|own| own == name))
    }

    fn need(&self, names: &[&str]) -> Result<usize> {
        self.find(names).ok_or_else(|| {
            let there = if self.names.is_empty() { "none".to_owned() } else { self.names.join(", ") };
            let what = format!("has no column `{}` (columns: {there})", names[0]);
            Error::input(self.file.display(), what, "name the columns in the first row")
        })
    }

    /// Numbers of the first column that has one of these names.
    pub fn numbers(&self, names: &[&str]) -> Result<Vec<f64>> {
        let column = self.need(names)?;
        (0..self.rows.len()).map(|row| self.cell(row, column)).collect()
    }

    /// Text of the first column that has one of these names.
    pub fn texts(&self, names: &[&str]) -> Result<Vec<String>> {
        let column = self.need(names)?;
        Ok(self.rows.iter().map(|row| row[column].clone()).collect())
    }

    /// Columns `prefix0`, `prefix1`, .. as `[row][column]`.
    pub fn numbered(&self, prefix: &str) -> Result<Vec<Vec<f64>>> {
        let mut columns = Vec::new();
        while let Some(at) = self.find(&[&format!("{prefix}{}", columns.len())]) {
            columns.push(at);
        }
        if columns.is_empty() {
            self.need(&[&format!("{prefix}0")])?;
        }
        (0..self.rows.len()).map(|row| columns.iter().map(|&c| self.cell(row, c)).collect()).collect()
    }

    /// All cells, empty ones as NaN; a first column of names is left out.
    pub fn matrix(&self) -> Result<Vec<Vec<f64>>> {
        let named = self.rows.iter().all(|row| number(&row[0]).is_none() && !row[0].is_empty())
            || self
                .names
                .first()
                .is_some_and(|n| ["subject", "case", "id", "image", "patient"].contains(&n.as_str()));
        let cells = |row: usize| {
            (usize::from(named)..self.rows[row].len())
                .map(|c| if self.rows[row][c].is_empty() { Ok(f64::NAN) } else { self.cell(row, c) })
                .collect()
        };
        (0..self.rows.len()).map(cells).collect()
    }

    fn cell(&self, row: usize, column: usize) -> Result<f64> {
        let text = &self.rows[row][column];
        let name = self.names.get(column).map_or_else(|| (column + 1).to_string(), |n| format!("`{n}`"));
        number(text).ok_or_else(|| {
            let what = if text.is_empty() {
                format!("column {name} is empty: a prediction or label is missing")
            } else {
                format!("column {name} holds `{text}`, which is no number")
            };
            Error::input(
                format!("{}: row {}", self.file.display(), row + 1),
                what,
                "fill the cell, or remove the case from both sides and say so",
            )
        })
    }
}

fn number(text: &str) -> Option<f64> {
    match text.to_lowercase().as_str() {
        "true" => Some(1.0),
        "false" => Some(0.0),
        text => text.parse().ok(),
    }
}

fn unreadable(file: &Path, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::Io(io) => Error::system(file.display(), io),
        _ => Error::input(
            file.display(),
            error,
            "give comma-separated values, every row with as many cells as the first",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Result<Columns> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.csv");
        std::fs::write(&file, text).unwrap();
        Columns::read(&file)
    }

    #[test]
    fn headers_are_found_and_missing_cells_named() {
        let table = columns("Label, Score\n1,0.5\n0,\n").unwrap();
        assert_eq!(table.numbers(&["label"]).unwrap(), [1.0, 0.0]);
        let error = table.numbers(&["score"]).unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("missing"), "{error}");
        assert!(table.numbers(&["risk"]).unwrap_err().to_string().contains("no column `risk`"));
        assert_eq!(columns("1,2\n3,4\n").unwrap().matrix().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert!(columns("a,b\n").is_err() && columns("a,b\n1\n").is_err());
    }
}
