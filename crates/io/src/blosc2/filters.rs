//! Filters that bring bytes of the same weight together before compression, undone.

/// The filters of a chunk, in the order in which they were applied.
pub(super) struct Pipeline {
    filters: Vec<(Filter, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Bytes,
    Bits,
}

impl Pipeline {
    /// From the codes in a chunk's header; a filter's meta says its element size, 0 for that of the array.
    pub fn new(codes: &[u8], metas: &[u8], element: usize) -> Result<Self, String> {
        let mut filters = Vec::new();
        for (&code, &meta) in codes.iter().zip(metas) {
            let size = if meta == 0 { element } else { meta.into() };
            match code {
                0 | 4 => {} // nothing; cut precision, which cannot be undone
                1 => filters.push((Filter::Bytes, size)),
                2 => filters.push((Filter::Bits, size)),
                3 => return Err("the delta filter, which Galen does not read".into()),
                other => return Err(format!("filter {other}, which Galen does not read")),
            }
        }
        Ok(Self { filters })
    }

    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Undoes all filters; `scratch` holds the filtered bytes, and is overwritten.
    pub fn undo(&self, scratch: &mut [u8], out: &mut [u8]) {
        for (number, &(filter, size)) in self.filters.iter().rev().enumerate() {
            if number > 0 {
                scratch.copy_from_slice(out);
            }
            match filter {
                Filter::Bytes => join_bytes(scratch, size, out),
                Filter::Bits => join_bits(scratch, size, out),
            }
        }
    }
}

/// First bytes of all elements, second bytes of all, ... → elements. What is left over was not moved.
fn join_bytes(from: &[u8], size: usize, out: &mut [u8]) {
    let count = from.len() / size;
    for byte in 0..size {
        let plane = &from[byte * count..(byte + 1) * count];
        for (element, &value) in plane.iter().enumerate() {
            out[element * size + byte] = value;
        }
    }
    out[count * size..].copy_from_slice(&from[count * size..]);
}

/// As [`join_bytes`] for single bits. Elements beyond the last multiple of 8 were not moved.
fn join_bits(from: &[u8], size: usize, out: &mut [u8]) {
    let count = from.len() / size / 8 * 8;
    let whole = count * size;
    out[..whole].fill(0);
    for (plane, bits) in from[..whole].chunks_exact((count / 8).max(1)).enumerate() {
        let (byte, bit) = (plane / 8, plane % 8);
        for (group, &eight) in bits.iter().enumerate() {
            for i in 0..8 {
                out[(group * 8 + i) * size + byte] |= (eight >> i & 1) << bit;
            }
        }
    }
    out[whole..].copy_from_slice(&from[whole..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_bytes_and_bits_come_back() {
        let values: Vec<u8> = (0..39u8).map(|i| i.wrapping_mul(37)).collect();
        let mut out = vec![0; values.len()];
        for size in [1, 2, 4] {
            let count = values.len() / size;
            let mut mixed = values.clone();
            for (i, value) in values[..count * size].iter().enumerate() {
                mixed[i % size * count + i / size] = *value;
            }
            join_bytes(&mixed, size, &mut out);
            assert_eq!(out, values, "{size} bytes");
            let count = count / 8 * 8;
            let mut mixed = values.clone();
            mixed[..count * size].fill(0);
            for (i, value) in values[..count * size].iter().enumerate() {
                let (element, byte) = (i / size, i % size);
                for bit in 0..8 {
                    mixed[(byte * 8 + bit) * count / 8 + element / 8] |= (value >> bit & 1) << (element % 8);
                }
            }
            join_bits(&mixed, size, &mut out);
            assert_eq!(out, values, "{size} bytes, bits");
        }
    }
}
