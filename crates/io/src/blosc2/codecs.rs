//! Codecs of compressed streams.

use std::io::Read;

/// Decompresses a stream that must fill `out`.
pub(super) fn decompress(codec: u8, stream: &[u8], out: &mut [u8]) -> Result<(), String> {
    let damaged = |name: &str| format!("damaged {name} data");
    match codec {
        0 => blosclz(stream, out).ok_or_else(|| damaged("BloscLZ")),
        1 => match lz4_flex::block::decompress_into(stream, out) {
            Ok(count) if count == out.len() => Ok(()),
            _ => Err(damaged("LZ4")),
        },
        3 => flate2::read::ZlibDecoder::new(stream).read_exact(out).map_err(|_| damaged("zlib")),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(stream);
            decoder.map_err(|_| damaged("zstd"))?.read_exact(out).map_err(|_| damaged("zstd"))
        }
        other => Err(format!("codec {other}, which Galen does not have")),
    }
}

/// BloscLZ: runs of literals and matches, a control byte before each.
///
/// Source of the format: c-blosc2's `blosclz.c`. `None` when the stream is damaged.
fn blosclz(stream: &[u8], out: &mut [u8]) -> Option<()> {
    const FAR: usize = 8191;
    let mut bytes = stream.iter().copied().map(usize::from);
    let mut at = 0;
    // The first control byte is always one of literals.
    let mut control = bytes.next()? & 31;
    loop {
        if control < 32 {
            for _ in 0..=control {
                *out.get_mut(at)? = bytes.next()? as u8;
                at += 1;
            }
        } else {
            let (mut length, mut distance) = ((control >> 5) - 1, (control & 31) << 8);
            if length == 6 {
                loop {
                    let more = bytes.next()?;
                    length += more;
                    if more != 255 {
                        break;
                    }
                }
            }
            let low = bytes.next()?;
            distance += low;
            if low == 255 && distance == (31 << 8) + 255 {
                distance = FAR + (bytes.next()? << 8) + bytes.next()?;
            }
            // A distance of 0 is the byte before.
            let from = at.checked_sub(distance + 1)?;
            let target = at + length + 3;
            if target > out.len() {
                return None;
            }
            for (i, to) in (at..target).enumerate() {
                out[to] = out[from + i]; // a match may reach into itself
            }
            at = target;
        }
        match bytes.next() {
            Some(next) => control = next,
            None => return (at == out.len()).then_some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blosclz_matches_reach_back_and_into_themselves() {
        let mut out = [0; 12];
        // "abc", then 9 bytes from 3 back.
        assert!(blosclz(&[2, b'a', b'b', b'c', 7 << 5, 0, 2], &mut out).is_some());
        assert_eq!(&out, b"abcabcabcabc");
        for stream in [&[2, b'a'][..], &[0, b'a', 1 << 5, 5], &[0, b'a', 7 << 5, 255], &[]] {
            assert!(blosclz(stream, &mut out).is_none(), "{stream:?}");
        }
    }
}
