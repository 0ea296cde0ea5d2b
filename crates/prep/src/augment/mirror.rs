//! Flips along array axes.

/// Reverses the chosen axes `(z, y, x)` of one array.
pub fn mirror<T: Copy>(values: &mut [T], size: [usize; 3], axes: [bool; 3]) {
    for axis in (0..3).filter(|&axis| axes[axis]) {
        let inner: usize = size[axis + 1..].iter().product();
        for block in values.chunks_exact_mut(inner * size[axis]) {
            if inner == 1 {
                block.reverse();
                continue;
            }
            for i in 0..size[axis] / 2 {
                let (low, high) = block.split_at_mut((size[axis] - 1 - i) * inner);
                low[i * inner..(i + 1) * inner].swap_with_slice(&mut high[..inner]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_axis_is_reversed_alone() {
        let size = [2, 3, 2];
        let start: Vec<u8> = (0..12).collect();
        let mut values = start.clone();
        mirror(&mut values, size, [false, true, false]);
        assert_eq!(values, [4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]);
        mirror(&mut values, size, [true, true, true]);
        mirror(&mut values, size, [true, false, true]);
        assert_eq!(values, start);
    }
}
