//! Data sets: elements by tag, sequences on demand. Source: DICOM PS3.5, sections 6 and 7.
//!
//! Nothing is copied and nothing is allocated by what a length field says: an element is a range of the file's
//! bytes, so a damaged length can at worst point past the end. What a data dictionary would be needed for (the
//! type of an element in implicit VR) is known to whoever asks: reading an image asks for three dozen attributes.

use super::tags;
use galen_core::{Error, Result};
use std::ops::Range;

/// Sequences within sequences that are followed; real files stay below ten.
const MAX_DEPTH: usize = 32;
/// Elements on one level; real files stay below some thousands.
const MAX_ELEMENTS: usize = 1 << 20;
const UNDEFINED: u32 = u32::MAX;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// With a value representation in each element.
    pub explicit: bool,
    /// Most significant byte first.
    pub big: bool,
}

impl Encoding {
    /// Explicit VR, little endian.
    pub const EXPLICIT: Self = Self { explicit: true, big: false };

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    pub fn tag(self, bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from(self.u16(bytes, at)?) << 16 | u32::from(self.u16(bytes, at.checked_add(2)?)?))
    }
}

/// One element: where its value lies and how to read it.
#[derive(Debug, Clone)]
pub struct Element {
    /// Group and element number.
    pub tag: u32,
    /// Value representation; zeros in implicit VR.
    pub vr: [u8; 2],
    /// The value's bytes; of an undefined length, without the delimiter.
    pub value: Range<usize>,
    /// How items in it are written.
    pub encoding: Encoding,
}

/// What stands at a position.
enum Found {
    /// An element, and where the next one begins.
    Element(Element, usize),
    /// The end of an item or of a sequence.
    End(usize),
    /// The file ends within the element.
    Cut,
}

/// Elements of one level.
#[derive(Debug, Clone)]
pub struct Dataset<'a> {
    /// The file, or as much of it as was read.
    pub bytes: &'a [u8],
    /// In the order of the file.
    pub elements: Vec<Element>,
    /// How the first element was written.
    pub encoding: Encoding,
    /// Where it ended.
    pub end: usize,
    /// The bytes ended within an element, which is left out.
    pub cut: bool,
}

/// Why a position holds nothing that can be read.
fn nested(at: usize) -> Error {
    Error::input(
        format!("byte {at}"),
        format!("sequences are nested deeper than {MAX_DEPTH}"),
        "the file is damaged or made to harm: get it from its source again",
    )
}

/// Reads the element at `at`, whatever is in it.
fn element(bytes: &[u8], at: usize, encoding: Encoding, depth: usize) -> Result<Found> {
    let Some(tag) = encoding.tag(bytes, at) else { return Ok(Found::Cut) };
    let body = at + 4;
    if tag >> 16 == 0xfffe {
        return Ok(if bytes.len() < at + 8 { Found::Cut } else { Found::End(at + 8) });
    }
    let letters = bytes.get(body..body + 2).map_or([0; 2], |two| [two[0], two[1]]);
    // Some writers fall back to implicit VR within a file; no length looks like two capitals in practice.
    let explicit = encoding.explicit && letters.iter().all(u8::is_ascii_uppercase);
    let (vr, length, start) = if explicit {
        let long = matches!(
            &letters,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        if long {
            (letters, encoding.u32(bytes, body + 4), body + 8)
        } else {
            (letters, encoding.u16(bytes, body + 2).map(u32::from), body + 4)
        }
    } else {
        ([0; 2], encoding.u32(bytes, body), body + 4)
    };
    let Some(length) = length else { return Ok(Found::Cut) };
    // Unknown content of undefined length is a sequence in implicit VR, whatever is around it (PS3.5, 6.2.2).
    let inner = if explicit && &vr != b"UN" { encoding } else { Encoding { explicit: false, ..encoding } };
    let make = |value| Element { tag, vr, value, encoding: inner };
    if length != UNDEFINED {
        let end = start.checked_add(length as usize).filter(|&end| end <= bytes.len());
        return Ok(end.map_or(Found::Cut, |end| Found::Element(make(start..end), end)));
    }
    if depth >= MAX_DEPTH {
        return Err(nested(at));
    }
    Ok(match end_of_items(bytes, start, inner, depth + 1)? {
        Some(end) => Found::Element(make(start..end), end + 8),
        None => Found::Cut,
    })
}

/// Position of the delimiter that ends a sequence of undefined length; `None` when the file ends before.
fn end_of_items(bytes: &[u8], mut at: usize, encoding: Encoding, depth: usize) -> Result<Option<usize>> {
    loop {
        let (Some(tag), Some(length)) = (encoding.tag(bytes, at), encoding.u32(bytes, at + 4)) else {
            return Ok(None);
        };
        match (tag, length) {
            (tags::SEQUENCE_END, _) => return Ok(Some(at)),
            (tags::ITEM, UNDEFINED) => match end_of_elements(bytes, at + 8, encoding, depth)? {
                Some(end) => at = end + 8,
                None => return Ok(None),
            },
            (tags::ITEM, length) => match (at + 8).checked_add(length as usize) {
                Some(end) if end <= bytes.len() => at = end,
                _ => return Ok(None),
            },
            // Anything else is no item: the delimiter is missing.
            _ => return Ok(None),
        }
    }
}

/// Position of the delimiter that ends an item of undefined length.
fn end_of_elements(bytes: &[u8], mut at: usize, encoding: Encoding, depth: usize) -> Result<Option<usize>> {
    loop {
        match element(bytes, at, encoding, depth)? {
            Found::Element(_, next) => at = next,
            Found::End(_) => return Ok(Some(at)),
            Found::Cut => return Ok(None),
        }
    }
}

/// Where a data set stands, which says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The file's meta information: ends before the first element of another group.
    Meta,
    /// The file itself: ends before its pixels.
    Top,
    /// An item of a sequence: ends at its delimiter or its length.
    Item,
}

impl Level {
    fn ends_before(self, tag: u32) -> bool {
        match self {
            Self::Meta => tag >> 16 != 2,
            Self::Top => (tags::FLOAT_PIXELS..=tags::PIXELS).contains(&tag),
            Self::Item => false,
        }
    }
}

impl<'a> Dataset<'a> {
    /// Elements of `range`.
    pub fn parse(bytes: &'a [u8], range: Range<usize>, encoding: Encoding, level: Level) -> Result<Self> {
        let within = &bytes[..range.end.min(bytes.len())];
        let mut set = Self { bytes, elements: Vec::new(), encoding, end: range.start, cut: false };
        while set.end < within.len()
            && !encoding.tag(within, set.end).is_some_and(|tag| level.ends_before(tag))
        {
            match element(within, set.end, encoding, 0)? {
                Found::Element(found, next) => {
                    set.elements.push(found);
                    set.end = next;
                }
                Found::End(_) if level == Level::Item => break,
                // A stray delimiter at the top means nothing.
                Found::End(next) => set.end = next,
                Found::Cut => {
                    set.cut = true;
                    break;
                }
            }
            if set.elements.len() > MAX_ELEMENTS {
                let what = format!("holds more than {MAX_ELEMENTS} elements on one level");
                return Err(Error::input("header", what, "the file is damaged"));
            }
        }
        Ok(set)
    }

    /// The element, when it is there.
    pub fn find(&self, tag: u32) -> Option<&Element> {
        self.elements.iter().find(|element| element.tag == tag)
    }

    /// Bytes of a value.
    pub fn value(&self, tag: u32) -> Option<&'a [u8]> {
        self.find(tag).map(|element| &self.bytes[element.value.clone()])
    }

    /// Data sets of a sequence; none when it is not there.
    pub fn items(&self, tag: u32) -> Result<Vec<Dataset<'a>>> {
        let Some(sequence) = self.find(tag) else { return Ok(Vec::new()) };
        let (mut at, end, encoding) = (sequence.value.start, sequence.value.end, sequence.encoding);
        let mut items = Vec::new();
        while let (Some(tags::ITEM), Some(length)) =
            (encoding.tag(&self.bytes[..end], at), encoding.u32(&self.bytes[..end], at + 4))
        {
            let start = at + 8;
            let stop = if length == UNDEFINED {
                end_of_elements(&self.bytes[..end], start, encoding, 1)?.unwrap_or(end)
            } else {
                start.saturating_add(length as usize).min(end)
            };
            items.push(Dataset::parse(self.bytes, start..stop, encoding, Level::Item)?);
            at = if length == UNDEFINED { stop + 8 } else { stop };
        }
        Ok(items)
    }

    /// First data set of a sequence.
    pub fn item(&self, tag: u32) -> Option<Dataset<'a>> {
        self.items(tag).ok()?.into_iter().next()
    }

    /// Text without padding, in the characters that the file names; others as question marks.
    pub fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.value(tag)?;
        let set = self.value(tags::CHARACTER_SET).map(String::from_utf8_lossy).unwrap_or_default();
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) if set.trim_end().ends_with("100") => bytes.iter().map(|&byte| char::from(byte)).collect(),
            Err(_) => bytes.iter().map(|&b| if b.is_ascii() { char::from(b) } else { '?' }).collect(),
        };
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.trim_matches(['\0', ' ']).chars().map(clean).collect();
        (!text.is_empty()).then_some(text)
    }

    /// Whole number that is stored as text (IS).
    pub fn integer(&self, tag: u32) -> Option<i64> {
        let text = self.text(tag)?;
        let first = text.split('\\').next()?.trim();
        first.parse().ok().or_else(|| first.parse::<f64>().ok().map(|number| number as i64))
    }

    /// Numbers that are stored as text (DS), or as binary where the file says so; finite ones only.
    pub fn numbers(&self, tag: u32) -> Option<Vec<f64>> {
        let element = self.find(tag)?;
        let bytes = &self.bytes[element.value.clone()];
        let numbers: Vec<f64> = match &element.vr {
            b"FD" => return self.doubles(tag),
            b"FL" => {
                let raw = bytes.chunks_exact(4).filter_map(|four| element.encoding.u32(four, 0));
                raw.map(|bits| f64::from(f32::from_bits(bits))).collect()
            }
            b"US" => {
                bytes.chunks_exact(2).filter_map(|two| element.encoding.u16(two, 0)).map(f64::from).collect()
            }
            _ => {
                let words = std::str::from_utf8(bytes).ok()?.split('\\');
                words.map(|word| word.trim_matches(['\0', ' ']).parse().ok()).collect::<Option<_>>()?
            }
        };
        numbers.iter().all(|number| number.is_finite()).then_some(numbers)
    }

    /// First of [`Self::numbers`].
    pub fn number(&self, tag: u32) -> Option<f64> {
        self.numbers(tag)?.first().copied()
    }

    /// Exactly `N` numbers.
    pub fn vector<const N: usize>(&self, tag: u32) -> Option<[f64; N]> {
        self.numbers(tag)?.try_into().ok()
    }

    /// Numbers of double precision (FD); finite ones only.
    pub fn doubles(&self, tag: u32) -> Option<Vec<f64>> {
        let element = self.find(tag)?;
        let of = |eight: &[u8]| {
            let eight: [u8; 8] = eight.try_into().ok()?;
            let number =
                if element.encoding.big { f64::from_be_bytes(eight) } else { f64::from_le_bytes(eight) };
            number.is_finite().then_some(number)
        };
        self.bytes[element.value.clone()].chunks_exact(8).map(of).collect()
    }

    /// Unsigned numbers of 16 bits (US), or a number as text where the file says so.
    pub fn shorts(&self, tag: u32) -> Vec<u16> {
        let Some(element) = self.find(tag) else { return Vec::new() };
        if matches!(&element.vr, b"IS" | b"DS") {
            return self.integer(tag).and_then(|number| number.try_into().ok()).into_iter().collect();
        }
        let bytes = &self.bytes[element.value.clone()];
        bytes.chunks_exact(2).filter_map(|two| element.encoding.u16(two, 0)).collect()
    }

    /// First of [`Self::shorts`].
    pub fn short(&self, tag: u32) -> Option<u16> {
        self.shorts(tag).first().copied()
    }

    /// Unsigned numbers of 32 bits (UL).
    pub fn long(&self, tag: u32) -> Option<u32> {
        let element = self.find(tag)?;
        element.encoding.u32(&self.bytes[element.value.clone()], 0)
    }
}
