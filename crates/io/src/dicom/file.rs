//! A DICOM file: preamble, meta information, transfer syntax. Source: DICOM PS3.10, section 7, and PS3.5, annex A.

use super::dataset::{Dataset, Encoding, Level};
use super::syntax::{Syntax, Wrapping};
use super::tags;
use flate2::read::DeflateDecoder;
use galen_core::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that are read at first: most headers are smaller.
const HEADER: u64 = 32 << 10;
/// A deflated file may grow to this many times its size (headers and pixels grow less) ...
const MAX_GROWTH: u64 = 64;
/// ... or to this many bytes.
const SMALL: u64 = 32 << 20;

/// A file's bytes (inflated where they were deflated) and how they are to be read.
pub struct Opened<'a> {
    /// All bytes that were read.
    pub bytes: Cow<'a, [u8]>,
    /// Where the data set begins.
    pub start: usize,
    /// How it is written.
    pub encoding: Encoding,
    /// How its pixels are written; `None` when the file does not say.
    pub syntax: Option<&'static Syntax>,
}

/// Does a file that begins so look like DICOM? Files without a preamble begin with group 2 or 8.
pub fn looks_like(start: &[u8]) -> bool {
    if start.get(128..132) == Some(b"DICM") {
        return true;
    }
    let Some(head) = start.get(..8) else { return false };
    let little = u16::from_le_bytes([head[0], head[1]]);
    let big = u16::from_be_bytes([head[0], head[1]]);
    let capitals = head[4].is_ascii_uppercase() && head[5].is_ascii_uppercase();
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let low = u16::from_le_bytes([head[2], head[3]]) <= 0x0070;
    (matches!(little, 2 | 8) && low && (capitals || (1..=64).contains(&length)))
        || (matches!(big, 2 | 8) && capitals)
}

/// The error of a file that is no DICOM, or has lost what says so.
fn no_header(place: &str) -> Error {
    let what = "has neither the mark DICM nor elements at its beginning: no DICOM file";
    Error::input(place, what, "give DICOM files, or get this one from its source again")
}

impl<'a> Opened<'a> {
    /// Understands the beginning of a file; `place` names it in errors.
    pub fn new(bytes: Cow<'a, [u8]>, place: &str) -> Result<Self> {
        if !looks_like(&bytes) {
            return Err(no_header(place));
        }
        let begin = if bytes.get(128..132) == Some(b"DICM") { 132 } else { 0 };
        let meta = Dataset::parse(&bytes, begin..bytes.len(), Encoding::EXPLICIT, Level::Meta)
            .map_err(|error| error.within(place))?;
        let uid = meta.text(tags::TRANSFER_SYNTAX).unwrap_or_default();
        let (syntax, start) = (Syntax::find(&uid), meta.end);
        if syntax.is_none() && !uid.is_empty() {
            return Err(Syntax::unknown(place, &uid));
        }
        let bytes = match syntax {
            Some(Syntax { wrapping: Wrapping::Deflated, .. }) => Cow::Owned(inflate(&bytes, start, place)?),
            _ => bytes,
        };
        let encoding = encoding(&bytes, start, syntax);
        Ok(Self { bytes, start, encoding, syntax })
    }

    /// Elements before the pixels.
    pub fn dataset(&self, place: &str) -> Result<Dataset<'_>> {
        Dataset::parse(&self.bytes, self.start..self.bytes.len(), self.encoding, Level::Top)
            .map_err(|error| error.within(place))
    }
}

/// What the first element looks like decides where the file names no transfer syntax, or names it wrongly.
fn encoding(bytes: &[u8], start: usize, syntax: Option<&Syntax>) -> Encoding {
    let head = bytes.get(start..start + 6);
    let explicit = head.is_some_and(|head| head[4..].iter().all(u8::is_ascii_uppercase));
    match syntax {
        Some(syntax) => Encoding { explicit, big: syntax.big },
        // No group of the standard that a file begins with is above 255: if it seems so, the order is the other.
        None => Encoding { explicit, big: head.is_some_and(|head| head[0] == 0 && head[1] != 0) },
    }
}

/// The bytes before `start` as they are, the others inflated.
fn inflate(bytes: &[u8], start: usize, place: &str) -> Result<Vec<u8>> {
    let most = SMALL.max(bytes.len() as u64 * MAX_GROWTH);
    let mut all = bytes[..start].to_vec();
    let read = DeflateDecoder::new(&bytes[start..]).take(most + 1).read_to_end(&mut all);
    if all.len() as u64 - start as u64 > most {
        let what = format!("{} compressed bytes grow beyond {most}, which no image does", bytes.len());
        return Err(Error::input(
            place,
            what,
            "the file is damaged or made to harm: get it from its source again",
        ));
    }
    // What came before the damage may still be whole, so that only the missing part is missed.
    match read {
        Err(_) if all.len() == start => {
            Err(Error::input(place, "its deflated data set cannot be inflated", "copy it again"))
        }
        _ => Ok(all),
    }
}

/// Bytes of a file up to its pixels, or all of them when it is small, and the size of the whole.
pub fn read_header(path: &Path) -> Result<(Vec<u8>, u64)> {
    let failed = |error: std::io::Error| Error::system(path.display(), &error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let (mut bytes, mut want, place) = (Vec::new(), HEADER, path.display().to_string());
    loop {
        let missing = want.min(size) - bytes.len() as u64;
        (&mut file).take(missing).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 >= size || !looks_like(&bytes) {
            return Ok((bytes, size));
        }
        let opened = Opened::new(Cow::Borrowed(&bytes), &place);
        let deflated = matches!(&opened, Ok(opened) if matches!(opened.bytes, Cow::Owned(_)));
        let whole = match opened {
            Ok(opened) => {
                let set = opened.dataset(&place)?;
                !deflated && !set.cut && set.end < opened.bytes.len()
            }
            // An unknown syntax will not become known.
            Err(_) => true,
        };
        if whole {
            return Ok((bytes, size));
        }
        want = if deflated { size } else { want.saturating_mul(8) };
    }
}
