//! Deflate in its two wrappers, gzip (RFC 1952) and zlib (RFC 1950).
//!
//! Whole buffers go through libdeflate where the size is known; several members and cut files are streamed.

use crate::runs::{self, Layout};
use flate2::bufread::{GzDecoder, MultiGzDecoder, ZlibDecoder};
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};
use std::io::{BufRead, ErrorKind, Read};

/// First bytes of every gzip file.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Deflate cannot expand more than this (RFC 1951: 258 bytes from two bits); a header that claims more is false.
pub const MAX_EXPANSION: u64 = 1032;

/// Up to `most` bytes of the content; fewer when the data are cut or broken.
pub fn prefix(compressed: impl BufRead, most: usize) -> Vec<u8> {
    let mut out = vec![0; most];
    let have = fill(&mut MultiGzDecoder::new(compressed), &mut out).unwrap_or_else(|(have, _)| have);
    out.truncate(have);
    out
}

/// Fills `out` with content that begins `skip` bytes into it; returns how many bytes there were.
/// Checksums are checked; what follows the last member is ignored, as gzip does.
pub fn inflate(compressed: &[u8], skip: u64, out: &mut [u8]) -> Result<usize, String> {
    let gzip = compressed.starts_with(&MAGIC);
    if skip == 0 {
        let mut whole = Decompressor::new();
        let done = if gzip {
            whole.gzip_decompress(compressed, out)
        } else {
            whole.zlib_decompress(compressed, out)
        };
        // One member of exactly this size is the common case, and the fast one.
        if done.is_ok_and(|n| n == out.len()) {
            return Ok(out.len());
        }
    }
    let mut sink = Sink { skip, out, have: 0 };
    if !gzip {
        sink.drain(&mut ZlibDecoder::new(compressed))?;
        return Ok(sink.have);
    }
    let mut rest = compressed;
    while rest.starts_with(&MAGIC) && sink.have < sink.out.len() {
        let mut member = GzDecoder::new(rest);
        if !sink.drain(&mut member)? {
            break;
        }
        rest = member.into_inner();
    }
    Ok(sink.have)
}

/// Bytes that the content has, all members together.
pub fn content_length(compressed: &[u8]) -> Result<u64, String> {
    let mut total = 0;
    let mut rest = compressed;
    while rest.starts_with(&MAGIC) {
        let mut member = GzDecoder::new(rest);
        total += std::io::copy(&mut member, &mut std::io::sink()).map_err(|error| damaged(&error))?;
        rest = member.into_inner();
    }
    if rest.len() == compressed.len() {
        return std::io::copy(&mut ZlibDecoder::new(rest), &mut std::io::sink())
            .map_err(|error| damaged(&error));
    }
    Ok(total)
}

/// Where streamed content goes: first nowhere, then into `out`, then nowhere again.
struct Sink<'a> {
    skip: u64,
    out: &'a mut [u8],
    have: usize,
}

impl Sink<'_> {
    /// Takes one member to its end, where its checksum is compared; false when the data are cut.
    fn drain(&mut self, member: &mut impl Read) -> Result<bool, String> {
        match self.take(member) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(damaged(&error)),
            Err(_) if self.have == self.out.len() => Err("ends within its checksum".into()),
            Err(_) => Ok(false),
        }
    }

    fn take(&mut self, member: &mut impl Read) -> std::io::Result<()> {
        self.skip -= std::io::copy(&mut member.take(self.skip), &mut std::io::sink())?;
        if self.skip == 0 {
            let (more, error) = match fill(member, &mut self.out[self.have..]) {
                Ok(more) => (more, None),
                Err((more, error)) => (more, Some(error)),
            };
            self.have += more;
            error.map_or(Ok(()), Err)?;
        }
        std::io::copy(member, &mut std::io::sink()).map(|_| ())
    }
}

/// Reads until `out` is full or the end; an error comes with the bytes before it.
fn fill(from: &mut impl Read, out: &mut [u8]) -> Result<usize, (usize, std::io::Error)> {
    let mut have = 0;
    while have < out.len() {
        match from.read(&mut out[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) => return Err((have, error)),
        }
    }
    Ok(have)
}

fn damaged(error: &std::io::Error) -> String {
    format!("the compressed data are damaged ({error})")
}

/// Level 1 of libdeflate is both faster and smaller than level 1 of zlib.
fn compressor() -> Compressor {
    Compressor::new(CompressionLvl::new(1).expect("level 1 exists"))
}

/// One gzip member that holds `head` and then `body`, without joining them in memory first:
/// the head is a stored block, which ends on a byte, so the blocks of the body can follow.
pub fn gzip(head: &[u8], body: &[u8], layout: Layout) -> Vec<u8> {
    let length = u16::try_from(head.len()).expect("headers are short");
    let (blocks, sum) = rayon::join(|| deflate(body, layout), || checksum(head, body));
    let mut out = Vec::with_capacity(head.len() + blocks.len() + 23);
    // Magic, deflate, no flags, no time, unknown system; then an unfinished stored block.
    out.extend([MAGIC[0], MAGIC[1], 8, 0, 0, 0, 0, 0, 0, 255, 0]);
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(head);
    out.extend(blocks);
    out.extend(sum.to_le_bytes());
    // The length field counts modulo 2^32 by definition.
    out.extend(((head.len() + body.len()) as u32).to_le_bytes());
    out
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(head);
    sum.update(body);
    sum.sum()
}

/// Blocks of a deflate stream: label maps by runs, images by libdeflate.
fn deflate(content: &[u8], layout: Layout) -> Vec<u8> {
    runs::deflate(content, layout).unwrap_or_else(|| {
        let mut compressor = compressor();
        let mut out = vec![0; compressor.deflate_compress_bound(content.len())];
        let n = compressor.deflate_compress(content, &mut out).expect("the bound is enough");
        out.truncate(n);
        out
    })
}

/// One zlib stream.
pub fn zlib(content: &[u8]) -> Vec<u8> {
    let mut compressor = compressor();
    let mut out = vec![0; compressor.zlib_compress_bound(content.len())];
    let n = compressor.zlib_compress(content, &mut out).expect("the bound is enough");
    out.truncate(n);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Layout = Layout { value: 1, row: 10 };

    fn content(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * i / 7) as u8).collect()
    }

    #[test]
    fn head_and_body_are_one_member_that_another_decoder_reads() {
        let (head, body) = (content(352), content(70_000));
        let packed = gzip(&head, &body, BYTES);
        let mut out = Vec::new();
        let mut decoder = GzDecoder::new(packed.as_slice());
        decoder.read_to_end(&mut out).unwrap();
        assert!(decoder.into_inner().is_empty(), "one member and nothing after it");
        assert_eq!(out, [head, body].concat());
    }

    #[test]
    fn members_are_joined_and_what_follows_them_is_ignored() {
        let mut packed = gzip(&content(10), &content(1000), BYTES);
        packed.extend(gzip(&[], &content(500), BYTES));
        packed.extend([0; 32]);
        let want = [content(10), content(1000), content(500)].concat();
        for skip in [0, 7, 1200] {
            let mut out = vec![0; want.len() - skip];
            assert_eq!(inflate(&packed, skip as u64, &mut out), Ok(out.len()));
            assert_eq!(out, want[skip..]);
        }
        assert_eq!(content_length(&packed), Ok(want.len() as u64));
    }

    #[test]
    fn every_cut_and_every_wrong_checksum_is_noticed() {
        for packed in [gzip(&content(20), &content(300), BYTES), zlib(&content(320))] {
            let mut out = vec![0; 320];
            assert_eq!(inflate(&packed, 0, &mut out), Ok(320));
            for cut in 0..packed.len() {
                assert!(!matches!(inflate(&packed[..cut], 0, &mut out), Ok(320)), "cut at {cut}");
            }
            let mut wrong = packed.clone();
            let last = wrong.len() - if packed.starts_with(&MAGIC) { 5 } else { 1 };
            wrong[last] ^= 1;
            assert!(inflate(&wrong, 0, &mut out).is_err());
        }
    }
}
