//! Folder layouts: each lists the cases of a dataset and what is wrong with the listing.

pub(crate) mod msd;
pub(crate) mod nnunet;

use crate::dataset::{Case, Problem, ProblemKind};
use galen_core::{Error, Result};
use std::path::Path;

/// What a layout finds in a folder.
pub(crate) struct Listing {
    pub training: Vec<Case>,
    pub test: Vec<Case>,
    pub problems: Vec<Problem>,
    pub file_ending: String,
}

impl Listing {
    pub fn new(file_ending: String) -> Self {
        Self { training: Vec::new(), test: Vec::new(), problems: Vec::new(), file_ending }
    }

    pub fn problem(&mut self, case: &str, kind: ProblemKind, message: String) {
        self.problems.push(Problem { case: case.to_owned(), kind, message });
    }

    /// Order by id, so that everything that follows has one order.
    pub fn sorted(mut self) -> Self {
        self.training.sort_by(|a, b| a.id.cmp(&b.id));
        self.test.sort_by(|a, b| a.id.cmp(&b.id));
        self.problems.sort_by(|a, b| (&a.case, &a.message).cmp(&(&b.case, &b.message)));
        self
    }
}

/// Names of the files in a folder, sorted; none when there is no such folder. Hidden files (such as
/// the `._*` twins that macOS puts into archives) are left out.
pub(crate) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::system(folder.display(), &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::system(folder.display(), &error))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort_unstable();
    Ok(names)
}

/// Splits nnU-Net's file name without ending, `CASE_0002`, into `CASE` and channel 2.
pub fn channel_of(stem: &str) -> Option<(&str, usize)> {
    let (id, digits) = stem.rsplit_once('_')?;
    let four = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if four && !id.is_empty() { Some((id, digits.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_numbers_have_four_digits() {
        assert_eq!(channel_of("la_003_0001"), Some(("la_003", 1)));
        for other in ["la_003", "la_00001", "la", "_0000", "la_-001"] {
            assert_eq!(channel_of(other), None, "{other}");
        }
    }
}
