//! A chunk: blocks that were filtered and compressed one by one.

use super::{codecs, filters};

/// Bytes of the header that Blosc2 writes; Blosc 1 wrote 16.
const HEADER: usize = 32;

/// Bytes that a chunk says it decodes to.
pub(super) fn claimed(bytes: &[u8]) -> Option<usize> {
    let four = bytes.get(4..8)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// Decodes a chunk that `bytes` begin with; it must fill `out`.
pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Result<(), String> {
    let header = bytes.get(..HEADER).ok_or("it ends in its header")?;
    let number =
        |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (flags, element) = (header[2], usize::from(header[3]));
    let (count, block, stored) = (number(4), number(8), number(12));
    // Both shuffle bits at once mean that the longer header is there.
    if flags & 0x05 != 0x05 {
        return Err("a chunk of Blosc 1".into());
    }
    if count != out.len() || element == 0 {
        return Err(format!("{count} bytes, expected {}", out.len()));
    }
    let chunk = bytes.get(..stored).ok_or("it is cut off")?;
    let body = chunk.get(HEADER..).ok_or("it ends in its header")?;
    let kinds = header[31];
    if kinds & 1 != 0 {
        return Err("compressed with a dictionary, which Galen does not read".into());
    }
    let special = kinds >> 4 & 7;
    if special != 0 {
        return fill(special, element, body, out);
    }
    if flags & 0x02 != 0 {
        out.copy_from_slice(body.get(..count).ok_or("it is cut off")?);
        return Ok(());
    }
    if block == 0 {
        return Err("blocks of no bytes".into());
    }
    let pipeline = filters::Pipeline::new(&header[16..22], &header[24..30], element)?;
    let mut scratch = vec![0; block.min(count)];
    for (number, target) in out.chunks_mut(block).enumerate() {
        let at = body.get(4 * number..4 * number + 4).ok_or("the list of blocks is cut off")?;
        let at = u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize;
        let streams = chunk.get(at..).ok_or("a block begins behind the end")?;
        // Only whole blocks are split, into one stream per byte of an element.
        let split = flags & 0x10 == 0 && target.len() == block;
        let parts = if split { element } else { 1 };
        if pipeline.is_empty() {
            read_streams(streams, flags >> 5, parts, target)?;
        } else {
            let scratch = &mut scratch[..target.len()];
            read_streams(streams, flags >> 5, parts, scratch)?;
            pipeline.undo(scratch, target);
        }
    }
    Ok(())
}

/// The streams of a block: each has its length in front.
fn read_streams(mut bytes: &[u8], codec: u8, parts: usize, out: &mut [u8]) -> Result<(), String> {
    if !out.len().is_multiple_of(parts) {
        return Err("a block that is no whole number of elements".into());
    }
    for target in out.chunks_mut(out.len() / parts) {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or("a block is cut off")?;
        match i32::from_le_bytes(*length) {
            0 => {
                target.fill(0);
                bytes = rest;
            }
            length @ ..0 => {
                let (token, rest) = rest.split_first().ok_or("a block is cut off")?;
                // A run of one byte, which the length holds.
                if token & 1 == 0 || length < -255 {
                    return Err("a block of a kind that is not known".into());
                }
                target.fill(length.unsigned_abs() as u8);
                bytes = rest;
            }
            length => {
                let (stream, rest) = rest.split_at_checked(length as usize).ok_or("a block is cut off")?;
                if stream.len() == target.len() {
                    target.copy_from_slice(stream);
                } else {
                    codecs::decompress(codec, stream, target)?;
                }
                bytes = rest;
            }
        }
    }
    Ok(())
}

/// A chunk that is one value over and over.
pub(super) fn fill(kind: u8, element: usize, value: &[u8], out: &mut [u8]) -> Result<(), String> {
    let nan: &[u8] = match element {
        4 => &f32::NAN.to_le_bytes(),
        8 => &f64::NAN.to_le_bytes(),
        _ => &[],
    };
    let value = match kind {
        1 | 4 => &[0][..], // zeros; never written
        2 => nan,
        3 => value.get(..element).unwrap_or_default(),
        _ => &[],
    };
    if value.is_empty() {
        return Err(format!("special values of kind {kind}, which is not known"));
    }
    out.chunks_mut(value.len()).for_each(|target| target.copy_from_slice(&value[..target.len()]));
    Ok(())
}
