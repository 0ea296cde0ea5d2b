//! Run lengths: one run-length stream for each byte of a pixel. Source: DICOM PS3.5, annex G.

/// The bytes of a frame, `width` little-endian bytes for each of `samples` interleaved samples of `pixels` pixels.
pub fn decode(stream: &[u8], pixels: usize, samples: usize, width: usize) -> Result<Vec<u8>, String> {
    let header = |word: usize| -> Option<usize> {
        let four = stream.get(word * 4..word * 4 + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(four) as usize)
    };
    let planes = samples * width;
    if header(0) != Some(planes) {
        return Err(format!("{} byte planes, not {planes}", header(0).unwrap_or(0)));
    }
    // Two bytes make at most 128.
    if stream.len().saturating_mul(64) < pixels.saturating_mul(planes) {
        return Err(format!("{} bytes cannot hold {pixels} pixels of {planes} bytes", stream.len()));
    }
    let mut out = vec![0u8; pixels * planes];
    for plane in 0..planes {
        let start = header(1 + plane).filter(|&start| start >= 64);
        let end = if plane + 1 < planes { header(2 + plane) } else { Some(stream.len()) };
        let bytes = start.zip(end).and_then(|(start, end)| stream.get(start..end));
        let bytes = bytes.ok_or_else(|| format!("byte plane {plane} lies outside the frame"))?;
        // The planes of a sample go from its most significant byte to its least.
        let at = plane / width * width + (width - 1 - plane % width);
        let filled = unpack(bytes, &mut out[at..], planes, pixels);
        if filled < pixels {
            return Err(format!("byte plane {plane} ends after {filled} of {pixels} pixels"));
        }
    }
    Ok(out)
}

/// Puts the unpacked bytes into every `step`-th place of `out`; how many there were, up to `count`.
fn unpack(bytes: &[u8], out: &mut [u8], step: usize, count: usize) -> usize {
    let (mut at, mut filled) = (0, 0);
    while filled < count && at < bytes.len() {
        let code = bytes[at] as i8;
        at += 1;
        if code >= 0 {
            let run = (code as usize + 1).min(count - filled).min(bytes.len() - at);
            for k in 0..run {
                out[(filled + k) * step] = bytes[at + k];
            }
            filled += run;
            at += code as usize + 1;
        } else if code != -128 {
            let Some(&value) = bytes.get(at) else { break };
            let run = ((1 - i32::from(code)) as usize).min(count - filled);
            for k in 0..run {
                out[(filled + k) * step] = value;
            }
            filled += run;
            at += 1;
        }
    }
    filled
}
