//! Arrays in Blosc2 frames (`.b2nd`), as nnU-Net 2.6 and later keeps preprocessed cases: read only.
//!
//! Sources: c-blosc2's descriptions of the contiguous frame, the chunk and the `b2nd` metalayer; files of python-blosc2
//! 4.14. Codecs: BloscLZ (which frames use for their own index), LZ4, zlib, zstd. Filters: byte and bit shuffle.
//! Refused by name: dictionaries, delta and other filters, plug-in codecs, frames in several files.

mod chunk;
mod codecs;
mod filters;
mod frame;

use frame::Frame;
use galen_core::{Error, Result};
use std::path::Path;

/// An array of up to 8 axes as it lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blosc2Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Type of an element as numpy writes it, such as `<f4`.
    pub dtype: String,
    /// Elements in C order, last axis fastest.
    pub bytes: Vec<u8>,
}

/// Reads a `.b2nd` file whole.
pub fn read_blosc2(path: &Path) -> Result<Blosc2Array> {
    let bytes = std::fs::read(path).map_err(|error| Error::system(path.display(), &error))?;
    decode(&bytes).map_err(|what| Error::input(path.display(), what, "copy the file again, or make it again"))
}

fn decode(bytes: &[u8]) -> Result<Blosc2Array, String> {
    let frame = Frame::parse(bytes)?;
    let mut all = Vec::new();
    let room = all.try_reserve_exact(frame.bytes());
    room.map_err(|_| format!("no memory for the {} bytes of {:?}", frame.bytes(), frame.shape))?;
    all.resize(frame.bytes(), 0);
    let mut chunk = vec![0u8; frame.chunk_bytes];
    for number in 0..frame.chunks() {
        frame.chunk(number, &mut chunk).map_err(|what| format!("chunk {number}: {what}"))?;
        frame.place(number, &chunk, &mut all);
    }
    Ok(Blosc2Array { shape: frame.shape, dtype: frame.dtype, bytes: all })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[3, 4, 5]` of int16 from 0 to 59 in chunks of `[2, 3, 5]` and blocks of `[1, 2, 4]`, LZ4 and shuffled
    /// (`goldens/blosc2_arrays.py`).
    const SMALL: &[u8] = include_bytes!("blosc2/small.b2nd");

    #[test]
    fn padding_of_chunks_and_blocks_is_left_out() {
        let array = decode(SMALL).unwrap();
        assert_eq!((array.shape.as_slice(), array.dtype.as_str()), (&[3, 4, 5][..], "<i2"));
        let expected: Vec<u8> = (0..60i16).flat_map(i16::to_le_bytes).collect();
        assert_eq!(array.bytes, expected);
    }

    #[test]
    fn cut_files_are_refused_and_damage_never_panics() {
        for length in 0..SMALL.len() {
            let what = decode(&SMALL[..length]).unwrap_err();
            assert!(!what.is_empty() && !what.contains('\n'), "{length}: {what}");
        }
        let mut refused = 0;
        for at in 0..SMALL.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = SMALL.to_vec();
                bytes[at] ^= flip;
                refused += usize::from(decode(&bytes).is_err());
            }
        }
        assert!(refused > SMALL.len(), "{refused}");
        assert!(decode(b"").is_err() && decode(b"PK\x03\x04").is_err());
    }
}
