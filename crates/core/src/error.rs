//! One error type for the whole house: one line that says what, where, and what to try.

use std::fmt;

/// Result with Galen's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault it is; the binary turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something the user gave or asked for: exit 2.
    Input,
    /// The machine said no (disk full, permission): exit 2, since the user can act on it.
    System,
    /// A bug in Galen: exit 1.
    Bug,
    /// Stopped by the user: exit 130.
    Interrupted,
}

/// What went wrong, where, and what to try. Displays as one line.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    place: String,
    what: String,
    remedy: String,
}

impl Error {
    /// Bad input: `place` is the file, case or field; `what` says what was found and expected;
    /// `remedy` says what to try (may be empty).
    pub fn input(place: impl fmt::Display, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(Kind::Input, place, what, remedy)
    }

    /// The operating system refused something at `place`.
    pub fn system(place: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let remedy = match error.kind() {
            E::NotFound => "check the path",
            E::PermissionDenied | E::ReadOnlyFilesystem => "check the permissions, or choose another folder",
            E::StorageFull | E::QuotaExceeded => {
                "free some space, or choose another disk; nothing was written"
            }
            _ => "",
        };
        Self::new(Kind::System, place, error, remedy)
    }

    /// Something that cannot happen did.
    pub fn bug(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(
            Kind::Bug,
            place,
            what,
            "this is a bug in Galen: please report it with the command that you ran",
        )
    }

    /// The user pressed Ctrl-C (or the process got SIGTERM).
    pub fn interrupted(what: impl fmt::Display) -> Self {
        Self::new(Kind::Interrupted, "interrupted", what, "")
    }

    fn new(kind: Kind, place: impl fmt::Display, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        let line = |text: &dyn fmt::Display| text.to_string().replace('\n', " ");
        Self { kind, place: line(&place), what: line(&what), remedy: line(&remedy) }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error with `outer` (a case, a file) put before its place.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.place = format!("{outer}: {}", self.place);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if !self.remedy.is_empty() {
            write!(f, ". Try: {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_place_and_remedy() {
        let error = Error::input("a.nii", "cut\nshort", "copy it again").within("case 7");
        assert_eq!(error.to_string(), "case 7: a.nii: cut short. Try: copy it again");
        assert_eq!(error.kind(), Kind::Input);
    }
}
