//! Which patient a case belongs to, so that one patient never lies on both sides of a split.

use galen_core::{Error, Result};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Patient of every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patients {
    of_case: BTreeMap<String, String>,
}

impl Patients {
    /// From a command-line argument: a CSV table when a file of that name exists, else a regular expression.
    pub fn from_argument(text: &str, ids: &[String]) -> Result<Self> {
        let file = Path::new(text);
        if file.is_file() { Self::from_table(file, ids) } else { Self::from_regex(text, ids) }
    }

    /// From a regular expression whose first group is the patient; it must match every case.
    pub fn from_regex(pattern: &str, ids: &[String]) -> Result<Self> {
        let remedy = "write for example '^(p[0-9]+)_' : the first group is the patient";
        let regex = Regex::new(pattern).map_err(|error| Error::input(pattern, error, remedy))?;
        if regex.captures_len() < 2 {
            return Err(Error::input(pattern, "the expression has no group", remedy));
        }
        let mut of_case = BTreeMap::new();
        for id in ids {
            let Some(patient) = regex.captures(id).and_then(|groups| groups.get(1)) else {
                return Err(Error::input(pattern, format!("does not match case {id}"), remedy));
            };
            of_case.insert(id.clone(), patient.as_str().to_owned());
        }
        Ok(Self { of_case })
    }

    /// From a CSV table with the columns case and patient (a header line with these names may swap them).
    /// Rows of cases that are not in the dataset are ignored; a case without row is an error.
    pub fn from_table(file: &Path, ids: &[String]) -> Result<Self> {
        let place = &file.display();
        let remedy = "write one line per case: case,patient";
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .from_path(file)
            .map_err(|error| Error::input(place, error, remedy))?;
        let (mut table, mut columns) = (BTreeMap::new(), (0, 1));
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|error| Error::input(place, error, remedy))?;
            if row == 0 {
                let at = |name: &str| record.iter().position(|field| field.eq_ignore_ascii_case(name));
                if let (Some(case), Some(patient)) = (at("case"), at("patient")) {
                    columns = (case, patient);
                    continue;
                }
            }
            let (Some(case), Some(patient)) = (record.get(columns.0), record.get(columns.1)) else {
                return Err(Error::input(place, format!("line {} has too few columns", row + 1), remedy));
            };
            let before = table.insert(case.to_owned(), patient.to_owned());
            if before.is_some_and(|before| before != patient) {
                return Err(Error::input(
                    place,
                    format!("case {case} has two patients"),
                    "keep one line per case",
                ));
            }
        }
        let without: Vec<&str> =
            ids.iter().map(String::as_str).filter(|id| !table.contains_key(*id)).collect();
        if !without.is_empty() {
            let what = format!("{} cases have no line: {}", without.len(), without.join(", "));
            return Err(Error::input(place, what, remedy));
        }
        let known: BTreeSet<&String> = ids.iter().collect();
        table.retain(|case, _| known.contains(case));
        Ok(Self { of_case: table })
    }

    /// Patient of a case; a case nobody assigned is its own patient.
    pub fn of<'a>(&'a self, case: &'a str) -> &'a str {
        self.of_case.get(case).map_or(case, String::as_str)
    }

    /// All patients of these cases, sorted.
    pub fn among(&self, ids: &[String]) -> Vec<String> {
        let all: BTreeSet<&str> = ids.iter().map(|id| self.of(id)).collect();
        all.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_group_is_the_patient() {
        let cases = ids(&["p1_a", "p1_b", "p2_a"]);
        let patients = Patients::from_regex("^(p[0-9]+)_", &cases).unwrap();
        assert_eq!(patients.among(&cases), ["p1", "p2"]);
        for (pattern, part) in [("p1", "no group"), ("(", "("), ("^(p1)", "p2_a")] {
            let error = Patients::from_regex(pattern, &cases).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_table_may_have_a_header_and_must_name_every_case() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patients.csv");
        std::fs::write(&file, "patient,case\nx, a\nx,b\ny,unknown\n").unwrap();
        let patients = Patients::from_argument(file.to_str().unwrap(), &ids(&["a", "b"])).unwrap();
        assert_eq!((patients.of("a"), patients.of("b")), ("x", "x"));
        let error = Patients::from_table(&file, &ids(&["a", "c"])).unwrap_err().to_string();
        assert!(error.contains("1 cases have no line: c"), "{error}");
        std::fs::write(&file, "a,x\na,y\n").unwrap();
        assert!(Patients::from_table(&file, &ids(&["a"])).is_err());
    }
}
