//! Blocks of numbers to bytes and back: bytes of equal significance side by side, then LZ4.
//! Source: the byte shuffle of HDF5 and Blosc, LZ4 block format. A block that hardly shrinks is kept plain.

/// A number with a fixed little-endian form of `N` bytes.
pub(super) trait Element<const N: usize>: Copy {
    fn to_bytes(self) -> [u8; N];
    fn from_bytes(bytes: [u8; N]) -> Self;
}

macro_rules! element {
    ($($type:ty, $n:literal;)*) => {$(
        impl Element<$n> for $type {
            fn to_bytes(self) -> [u8; $n] {
                self.to_le_bytes()
            }
            fn from_bytes(bytes: [u8; $n]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
element! { f32, 4; i16, 2; i8, 1; u32, 4; }

/// Compressed form; exactly `4, 2 or 1 × values.len()` bytes long when kept plain.
pub(super) fn encode<const N: usize, T: Element<N>>(values: &[T]) -> Vec<u8> {
    let n = values.len();
    let mut shuffled = vec![0u8; n * N];
    for (i, value) in values.iter().enumerate() {
        for (plane, byte) in value.to_bytes().into_iter().enumerate() {
            shuffled[plane * n + i] = byte;
        }
    }
    let packed = lz4_flex::block::compress(&shuffled);
    // Decoding costs more than reading an eighth more from disk.
    if packed.len() + n * N / 8 < n * N {
        return packed;
    }
    values.iter().flat_map(|value| value.to_bytes()).collect()
}

/// Reverses [`encode`] for `n` values; `None` when the bytes are not such a block.
pub(super) fn decode<const N: usize, T: Element<N>>(bytes: &[u8], n: usize) -> Option<Vec<T>> {
    if bytes.len() == n * N {
        let (whole, _) = bytes.as_chunks::<N>();
        return Some(whole.iter().map(|&chunk| T::from_bytes(chunk)).collect());
    }
    let mut shuffled = vec![0u8; n * N];
    let written = lz4_flex::block::decompress_into(bytes, &mut shuffled).ok()?;
    if written != shuffled.len() {
        return None;
    }
    let planes: [&[u8]; N] = std::array::from_fn(|plane| &shuffled[plane * n..(plane + 1) * n]);
    Some((0..n).map(|i| T::from_bytes(std::array::from_fn(|plane| planes[plane][i]))).collect())
}

/// 64-bit checksum that notices any change of a single word, and nearly every other.
/// Every step is a bijection of the state, so a difference never cancels by itself.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0u8; 8];
    last[..tail.len()].copy_from_slice(tail);
    let mut state = bytes.len() as u64;
    for &word in words.iter().chain([&last]) {
        state = (state ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR).rotate_left(29);
    }
    state ^ (state >> 32)
}

/// Label values in the narrowest type that holds them.
pub(super) fn encode_labels(values: &[i16], narrow: bool) -> Vec<u8> {
    if narrow {
        return encode(&values.iter().map(|&value| value as i8).collect::<Vec<i8>>());
    }
    encode(values)
}

/// Reverses [`encode_labels`].
pub(super) fn decode_labels(bytes: &[u8], n: usize, narrow: bool) -> Option<Vec<i16>> {
    if narrow {
        return Some(decode::<1, i8>(bytes, n)?.into_iter().map(i16::from).collect());
    }
    decode(bytes, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_come_back(values in proptest::collection::vec(any::<u32>(), 0..300), few in proptest::collection::vec(-1i16..3, 0..2000)) {
            let floats: Vec<f32> = values.iter().map(|&bits| f32::from_bits(bits)).collect();
            let back: Vec<f32> = decode(&encode(&floats), floats.len()).unwrap();
            prop_assert!(back.iter().map(|x| x.to_bits()).eq(values.iter().copied()));
            for narrow in [true, false] {
                prop_assert_eq!(&decode_labels(&encode_labels(&few, narrow), few.len(), narrow).unwrap(), &few);
            }
        }

        #[test]
        fn a_changed_byte_changes_the_checksum(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), at in any::<usize>(), by in 1u8..) {
            let before = checksum(&bytes);
            let at = at % bytes.len();
            bytes[at] ^= by;
            prop_assert_ne!(before, checksum(&bytes));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(decode::<4, f32>(&[1, 2, 3], 100).is_none());
        assert!(decode::<4, f32>(&[], 1).is_none());
    }
}
