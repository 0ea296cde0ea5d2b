//! Where the voxels of an image lie on disk, and how they get into memory: one allocation and no second copy, but for
//! text, digits, and colours that lie together.
//!
//! Claims of a header are compared with the sizes of the files before anything is allocated for them.

use crate::bytes::{self, Type, truncated, with_type};
use crate::gzip;
use bytemuck::Pod;
use galen_core::{Error, Result, Scalar, Voxels};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How values are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are in memory.
    Plain,
    /// Gzip or zlib; the first bytes say which.
    Deflate,
    /// Numbers in words.
    Text,
    /// Two digits per byte.
    Hex,
}

/// Bytes that are no voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// So many before the voxels.
    Bytes(u64),
    /// All but the last, which are the voxels.
    ToTail,
}

/// Voxels on disk.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Files that hold equal shares, in order.
    pub parts: Vec<PathBuf>,
    /// Byte of each file where the (packed) data begin.
    pub start: u64,
    /// Lines to pass after that.
    pub lines: usize,
    /// Bytes to pass after that, counted in the unpacked content.
    pub skip: Skip,
    /// Packing.
    pub packing: Packing,
    /// Type.
    pub kind: Type,
    /// Values, all parts together.
    pub count: usize,
    /// Stored in the other byte order than this machine's.
    pub swap: bool,
}

impl Stored {
    /// The voxels, in this machine's byte order.
    pub fn read(&self) -> Result<Voxels> {
        let parts = self.parts.len();
        if parts == 0 || !self.count.is_multiple_of(parts) {
            let place = self.parts.first().map_or(Path::new("LIST"), PathBuf::as_path).display();
            let what = format!("{} values in {parts} files", self.count);
            return Err(Error::input(place, what, "list one file per slice, all of one size"));
        }
        let share = self.count / parts;
        let starts = self.parts.iter().map(|part| self.begin(part, share)).collect::<Result<Vec<_>>>()?;
        with_type!(self.kind, T => self.typed::<T>(share, &starts))
    }

    /// Where the data of a part begin; refuses a part that cannot hold its share.
    fn begin(&self, part: &Path, share: usize) -> Result<u64> {
        let failed = |error: std::io::Error| Error::system(part.display(), &error);
        let mut file = File::open(part).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut start = self.start;
        if self.lines > 0 {
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
            let mut lines = BufReader::new(file);
            for _ in 0..self.lines {
                match lines.skip_until(b'\n').map_err(failed)? {
                    0 => break,
                    n => start += n as u64,
                }
            }
        }
        let held = length.saturating_sub(start);
        let need = (share * self.kind.size()) as u64;
        let skip = if let Skip::Bytes(skip) = self.skip { skip } else { 0 };
        let fits = match self.packing {
            Packing::Plain if need.saturating_add(skip) > held => {
                return Err(truncated(part, length, start.saturating_add(skip).saturating_add(need)));
            }
            Packing::Plain => true,
            Packing::Deflate => need.saturating_add(skip) <= held.saturating_mul(gzip::MAX_EXPANSION),
            // A digit and a space per value, but for the last.
            Packing::Text => (share as u64) <= held.div_ceil(2),
            Packing::Hex => need <= held / 2,
        };
        if !fits {
            let what = format!("the header claims {need} bytes of voxels, which {held} bytes cannot hold");
            let remedy = "the copy is incomplete or the header damaged: copy it again";
            return Err(Error::input(part.display(), what, remedy));
        }
        Ok(start)
    }

    fn typed<T: Scalar + Pod + FromStr>(&self, share: usize, starts: &[u64]) -> Result<Voxels> {
        if self.packing == Packing::Text {
            return self.words::<T>(share, starts);
        }
        let size = size_of::<T>();
        // A short lead is inflated along with the voxels, so that the fast whole-buffer decoder can be used.
        let lead = match (self.skip, self.packing) {
            (Skip::Bytes(skip @ 0..65536), Packing::Deflate) if starts.len() == 1 => skip as usize,
            _ => 0,
        };
        let room = lead.div_ceil(size);
        let mut values = allocate::<T>(&self.parts[0], room + self.count)?;
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        if lead > 0 {
            // The voxels begin on a whole value; one move then brings them to the front.
            self.fill(0, starts[0], Skip::Bytes(0), &mut all[room * size - lead..])?;
            values.drain(..room);
        } else {
            for (index, out) in all.chunks_exact_mut(share * size).enumerate() {
                self.fill(index, starts[index], self.skip, out)?;
            }
        }
        if self.swap {
            bytes::swap(&mut values);
        }
        Ok(T::wrap(values))
    }

    /// Fills `out` from one part.
    fn fill(&self, index: usize, start: u64, skip: Skip, out: &mut [u8]) -> Result<()> {
        let part = &self.parts[index];
        let failed = |error: std::io::Error| Error::system(part.display(), &error);
        let mut file = File::open(part).map_err(failed)?;
        if self.packing == Packing::Plain {
            let from = match skip {
                Skip::Bytes(skip) => start + skip,
                Skip::ToTail => file.metadata().map_err(failed)?.len().saturating_sub(out.len() as u64),
            };
            file.seek(SeekFrom::Start(from)).map_err(failed)?;
            return file.read_exact(out).map_err(failed);
        }
        let (packed, ()) = rayon::join(|| rest(&mut file, start), || touch(out));
        let packed = packed.map_err(failed)?;
        let bad = |what: String| Error::input(part.display(), what, "copy it again");
        let have = if self.packing == Packing::Hex {
            unhex(&packed, skip, out).ok_or_else(|| bad("a character that is no hexadecimal digit".into()))?
        } else {
            let skip = match skip {
                Skip::Bytes(skip) => skip,
                Skip::ToTail => gzip::content_length(&packed).map_err(bad)?.saturating_sub(out.len() as u64),
            };
            gzip::inflate(&packed, skip, out).map_err(bad)?
        };
        if have < out.len() { Err(truncated(part, have as u64, out.len() as u64)) } else { Ok(()) }
    }

    fn words<T: Scalar + FromStr>(&self, share: usize, starts: &[u64]) -> Result<Voxels> {
        let Skip::Bytes(skip) = self.skip else {
            let what = "text whose beginning only its length tells";
            return Err(Error::input(self.parts[0].display(), what, "write the file again"));
        };
        let mut values = Vec::new();
        for (part, &start) in self.parts.iter().zip(starts) {
            let start = start.saturating_add(skip);
            let failed = |error: std::io::Error| Error::system(part.display(), &error);
            let text = rest(&mut File::open(part).map_err(failed)?, start).map_err(failed)?;
            let text = String::from_utf8_lossy(&text);
            let before = values.len();
            for word in
                text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()).take(share)
            {
                values.push(word.parse::<T>().map_err(|_| {
                    let what = format!("`{word}` is no {}", T::NAME);
                    Error::input(part.display(), what, "write the file again")
                })?);
            }
            if values.len() - before < share {
                let what = format!("ends after {} of {share} values", values.len() - before);
                return Err(Error::input(part.display(), what, "the copy is incomplete: copy it again"));
            }
        }
        Ok(T::wrap(values))
    }
}

/// Zeroed values, or an error where the machine has no room.
fn allocate<T: Pod>(path: &Path, count: usize) -> Result<Vec<T>> {
    bytemuck::try_zeroed_vec(count).map_err(|()| {
        let what = format!("{} bytes of voxels do not fit into memory", count.saturating_mul(size_of::<T>()));
        Error::input(path.display(), what, "use a machine with more memory, or crop the image")
    })
}

/// Has the system hand out the pages of fresh memory, which costs a quarter of the time of decoding: here it
/// happens on several threads and while the file is read.
fn touch(fresh: &mut [u8]) {
    const PAGE: usize = 4096;
    const PART: usize = 256 * PAGE;
    fresh.par_chunks_mut(PART).for_each(|part| part.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0));
}

/// What a file holds from a byte on.
fn rest(file: &mut File, start: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    content.reserve_exact(file.metadata()?.len().saturating_sub(start) as usize);
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Decodes pairs of digits; `None` when something else is between them.
fn unhex(text: &[u8], skip: Skip, out: &mut [u8]) -> Option<usize> {
    let digits: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let skip = match skip {
        Skip::Bytes(skip) => usize::try_from(skip).ok()?.saturating_mul(2),
        Skip::ToTail => digits.len().saturating_sub(2 * out.len()),
    };
    let pairs = digits.get(skip..).unwrap_or_default().chunks_exact(2);
    let have = pairs.len().min(out.len());
    out.iter_mut().zip(pairs).for_each(|(byte, pair)| *byte = pair[0] << 4 | pair[1]);
    Some(have)
}

/// Files that a detached header names: `LIST`, whose names `list` reads, a pattern with first, last and step, or one
/// name; relative to the header's folder. `None` when that is no file.
pub fn named_files(
    header: &Path,
    place: &str,
    list: impl FnOnce() -> Result<Vec<String>>,
) -> Result<Option<Vec<PathBuf>>> {
    let words: Vec<&str> = place.split_whitespace().collect();
    let names = match words.as_slice() {
        ["LIST", ..] => list()?,
        [pattern, numbers @ ..] if pattern.contains('%') && numbers.len() >= 2 => {
            let number = |i: usize| numbers.get(i).map_or(Some(1), |word| word.parse::<i64>().ok());
            match (number(0), number(1), number(2)) {
                (Some(first), Some(last), Some(step)) => {
                    numbered(pattern, first, last, step).unwrap_or_default()
                }
                _ => Vec::new(),
            }
        }
        _ => vec![place.to_owned()],
    };
    let folder = header.parent().unwrap_or(Path::new(""));
    let named = !names.is_empty() && !names.iter().any(String::is_empty);
    Ok(named.then(|| names.iter().map(|name| folder.join(name)).collect()))
}

/// Names of numbered files: a pattern with one `%d` (as in C, with width) and the first, last and step.
fn numbered(pattern: &str, first: i64, last: i64, step: i64) -> Option<Vec<String>> {
    let (before, rest) = pattern.split_once('%')?;
    let (width, after) = rest.split_once('d')?;
    let zeros = width.starts_with('0');
    let width: usize = if width.is_empty() { 0 } else { width.parse().ok().filter(|&width| width < 64)? };
    let steps = if step == 0 { return None } else { (last.checked_sub(first)?).checked_div(step)? };
    if !(0..1_000_000).contains(&steps) {
        return None;
    }
    let name = |i: i64| {
        let number = first + i * step;
        let number = if zeros { format!("{number:0width$}") } else { format!("{number:width$}") };
        format!("{before}{number}{after}")
    };
    Some((0..=steps).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_as_in_c() {
        assert_eq!(numbered("a%03d.raw", 8, 12, 2).unwrap(), ["a008.raw", "a010.raw", "a012.raw"]);
        assert_eq!(numbered("%d", 3, 1, -1).unwrap(), ["3", "2", "1"]);
        for (pattern, step) in [("none", 1), ("a%d", 0), ("a%xd", 1), ("a%d", -1)] {
            assert_eq!(numbered(pattern, 1, 3, step), None, "{pattern} {step}");
        }
        assert_eq!(numbered("a%d", 0, i64::MAX, 1), None);
    }

    #[test]
    fn hex_skips_and_refuses() {
        let mut out = [0; 2];
        assert_eq!(unhex(b"00 0a\nFF", Skip::Bytes(1), &mut out), Some(2));
        assert_eq!(out, [0x0a, 0xff]);
        assert_eq!(unhex(b"00 0a FF 1", Skip::ToTail, &mut out), Some(2));
        assert_eq!(unhex(b"0x", Skip::Bytes(0), &mut out), None);
        assert_eq!(unhex(b"01", Skip::Bytes(9), &mut out), Some(0));
    }
}
