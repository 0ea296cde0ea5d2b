//! One line of a distance transform by the lower envelope of parabolas: linear time whatever the distances.
//!
//! Source: Felzenszwalb and Huttenlocher 2012. Differs: lines without a site are skipped.

/// Lower envelope of parabolas over one line, with its work space.
pub(super) struct Envelope {
    square: f64,
    spacing: f64,
    /// Where each parabola of the envelope stands.
    at: Vec<usize>,
    height: Vec<f64>,
    /// First position, in cells, at which each parabola is the lowest.
    from: Vec<f64>,
    result: Vec<f32>,
}

impl Envelope {
    /// For lines of up to `n` cells, `spacing` mm apart.
    pub fn new(n: usize, spacing: f64) -> Self {
        let zeros = vec![0.0; n];
        Self {
            square: spacing * spacing,
            spacing,
            at: vec![0; n],
            height: zeros.clone(),
            from: zeros,
            result: vec![0.0; n],
        }
    }

    /// Replaces squared distances across the line by those that also run along it.
    pub fn transform(&mut self, line: &mut [f32]) {
        let count = self.build(line);
        if count == 0 {
            return;
        }
        let mut k = 0;
        for i in 0..line.len() {
            while k + 1 < count && self.from[k + 1] <= i as f64 {
                k += 1;
            }
            let step = i.abs_diff(self.at[k]) as f64 * self.spacing;
            self.result[i] = (self.height[k] + step * step) as f32;
        }
        line.copy_from_slice(&self.result[..line.len()]);
    }

    /// Number of parabolas in the envelope.
    fn build(&mut self, line: &[f32]) -> usize {
        let mut count = 0;
        for (i, &value) in line.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let height = f64::from(value);
            let mut start = f64::NEG_INFINITY;
            while count > 0 {
                let (before, low) = (self.at[count - 1], self.height[count - 1]);
                let gap = (i - before) as f64;
                start = (before + i) as f64 / 2.0 + (height - low) / (2.0 * self.square * gap);
                if start > self.from[count - 1] {
                    break;
                }
                count -= 1;
                start = f64::NEG_INFINITY;
            }
            (self.at[count], self.height[count], self.from[count]) = (i, height, start);
            count += 1;
        }
        count
    }
}
