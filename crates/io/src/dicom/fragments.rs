//! Encapsulated pixels: fragments, and which of them make a frame. Source: DICOM PS3.5, annex A.4.

use super::tags;
use galen_core::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;

/// Fragments of the pixel element whose items begin at `start`, as ranges of `bytes`; the first is the table of
/// offsets. A file that ends early gives the fragments that are whole and, cut short, the last one.
fn fragments(bytes: &[u8], start: usize) -> Vec<Range<usize>> {
    let word = |at: usize| {
        let four: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_le_bytes)
    };
    let (mut at, mut found) = (start, Vec::new());
    while let (Some(tag), Some(length)) = (word(at), word(at + 4)) {
        if tag.rotate_left(16) != tags::ITEM {
            break;
        }
        let end = (at + 8).saturating_add(length as usize).min(bytes.len());
        found.push(at + 8..end);
        at = end;
    }
    found
}

/// Compressed bytes of each frame.
pub fn frames<'a>(bytes: &'a [u8], start: usize, count: usize, place: &str) -> Result<Vec<Cow<'a, [u8]>>> {
    let all = fragments(bytes, start);
    let Some((table, parts)) = all.split_first() else {
        return Err(Error::input(place, "its encapsulated pixels hold no fragment", "copy it again"));
    };
    let join = |ranges: &[Range<usize>]| match ranges {
        [one] => Cow::Borrowed(&bytes[one.clone()]),
        many => Cow::Owned(many.iter().flat_map(|range| bytes[range.clone()].iter().copied()).collect()),
    };
    if count == 1 {
        return Ok(vec![join(parts)]);
    }
    if parts.len() == count {
        return Ok(parts.iter().map(|range| Cow::Borrowed(&bytes[range.clone()])).collect());
    }
    let short = || {
        let what = format!("has {} fragments for {count} frames", parts.len());
        Error::input(place, what, "the copy is incomplete: copy it again")
    };
    if parts.len() < count {
        return Err(short());
    }
    // Offsets count from the first fragment's item, 8 bytes before its value.
    let offsets: Vec<usize> = bytes[table.clone()]
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
        .collect();
    let begins: Vec<usize> = if offsets.len() == count {
        let base = parts[0].start;
        let found = offsets.iter().map(|&offset| parts.iter().position(|range| range.start - base == offset));
        found.collect::<Option<_>>().ok_or_else(short)?
    } else {
        // Without a table, a frame begins where a code stream does.
        let starts = |range: &Range<usize>| {
            let head = &bytes[range.clone()];
            head.starts_with(&[0xff, 0xd8]) || head.starts_with(&[0xff, 0x4f, 0xff, 0x51])
        };
        (0..parts.len()).filter(|&part| starts(&parts[part])).collect()
    };
    if begins.len() != count || begins[0] != 0 || begins.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(short());
    }
    let ends = begins.iter().skip(1).copied().chain([parts.len()]);
    Ok(begins.iter().zip(ends).map(|(&from, to)| join(&parts[from..to])).collect())
}
