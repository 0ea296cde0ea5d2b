//! Answers on disk: one CSV, whole after every answer.

use super::study::{Item, Kind, Study};
use galen_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All answers of a study.
pub struct Answers {
    file: PathBuf,
    /// By rater, case and methods; the answer is 0 or a mark, for pairs 1 or 2 for the first or second method.
    given: BTreeMap<(String, usize, Vec<usize>), u8>,
}

const HEADER: &str = "rater,case,method,other,answer";

impl Answers {
    /// Reads the answers that are there.
    pub fn open(file: &Path, study: &Study) -> Result<Self> {
        let mut answers = Self { file: file.to_path_buf(), given: BTreeMap::new() };
        if !file.exists() {
            return Ok(answers);
        }
        let unreadable = |row: usize, what: String| {
            let place = format!("{}: row {row}", file.display());
            Error::input(place, what, "choose another --out, or correct the file")
        };
        let mut reader = csv::Reader::from_path(file).map_err(|error| unreadable(1, error.to_string()))?;
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|error| unreadable(row + 2, error.to_string()))?;
            let cell = |i: usize| record.get(i).unwrap_or_default();
            let method = |name: &str| study.methods.iter().position(|known| known == name);
            let case = study.cases.iter().position(|known| known == cell(1));
            let (Some(case), Some(first)) = (case, method(cell(2))) else {
                return Err(unreadable(
                    row + 2,
                    "names a case or method that the study does not have".into(),
                ));
            };
            let methods = match (cell(3), method(cell(3))) {
                ("", _) => vec![first],
                (_, Some(second)) => vec![first, second],
                (name, None) => {
                    return Err(unreadable(row + 2, format!("`{name}` is no method of the study")));
                }
            };
            let answer = cell(4).parse::<u8>().ok().filter(|a| allowed(study, *a));
            let Some(answer) = answer else {
                return Err(unreadable(row + 2, format!("`{}` is no answer", cell(4))));
            };
            answers.given.insert((cell(0).to_owned(), case, methods), answer);
        }
        Ok(answers)
    }

    /// The answer of a rater to an item, as the rater saw it: for pairs 1 is left and 2 is right.
    pub fn of(&self, rater: &str, item: &Item) -> Option<u8> {
        let (case, methods) = item.key();
        let stored = *self.given.get(&(rater.to_owned(), case, methods.clone()))?;
        Some(turned(stored, item.methods != methods))
    }

    /// Stores an answer and writes the file before it returns.
    pub fn put(&mut self, study: &Study, rater: &str, item: &Item, answer: u8) -> Result<()> {
        if !allowed(study, answer) {
            return Err(Error::input("answer", format!("{answer} is not on the scale"), "use the buttons"));
        }
        let (case, methods) = item.key();
        let stored = turned(answer, item.methods != methods);
        self.given.insert((rater.to_owned(), case, methods), stored);
        galen_io::replace_file(&self.file, self.csv(study).as_bytes())
    }

    fn csv(&self, study: &Study) -> String {
        let mut text = format!("{HEADER}\n");
        for ((rater, case, methods), answer) in &self.given {
            let name = |i: usize| {
                methods.get(i).map_or(String::new(), |&m| crate::verify::quoted(&study.methods[m]))
            };
            let (rater, case) = (crate::verify::quoted(rater), crate::verify::quoted(&study.cases[*case]));
            text += &format!("{rater},{case},{},{},{answer}\n", name(0), name(1));
        }
        text
    }

    /// Raters, sorted.
    pub fn raters(&self) -> Vec<String> {
        let mut raters: Vec<String> = self.given.keys().map(|(rater, _, _)| rater.clone()).collect();
        raters.dedup();
        raters
    }

    /// Answers as `((rater, case, methods), answer)`; for pairs 1 is the first and 2 the second method, 0 is equal.
    pub fn all(&self) -> impl Iterator<Item = (&(String, usize, Vec<usize>), u8)> {
        self.given.iter().map(|(key, answer)| (key, *answer))
    }
}

/// Sides swapped, when the rater saw the methods the other way round.
fn turned(answer: u8, swapped: bool) -> u8 {
    match (answer, swapped) {
        (1, true) => 2,
        (2, true) => 1,
        (other, _) => other,
    }
}

fn allowed(study: &Study, answer: u8) -> bool {
    match study.kind {
        Kind::Pairs => answer <= 2,
        Kind::Opinion => (1..=study.scale).contains(&answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::study::tests::study;
    use super::*;

    #[test]
    fn answers_are_of_methods_and_not_of_sides() {
        let (folder, study) = study("pairs", 3);
        let file = folder.path().join("answers.csv");
        let mut answers = Answers::open(&file, &study).unwrap();
        let straight = Item { case: 1, methods: vec![0, 1] };
        let crossed = Item { case: 1, methods: vec![1, 0] };
        answers.put(&study, "Ann, \"A\"", &straight, 1).unwrap();
        answers.put(&study, "Bob", &crossed, 1).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("Bob,case1,A,B,2\n"), "{text}");
        let again = Answers::open(&file, &study).unwrap();
        assert_eq!((again.of("Ann, \"A\"", &crossed), again.of("Bob", &crossed)), (Some(2), Some(1)));
        assert_eq!(again.raters().len(), 2);
        assert!(answers.put(&study, "Bob", &crossed, 3).is_err());
        std::fs::write(&file, "rater,case,method,other,answer\nx,case9,A,B,1\n").unwrap();
        assert!(Answers::open(&file, &study).err().unwrap().to_string().contains("row 2"));
    }
}
