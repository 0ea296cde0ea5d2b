//! numpy's legacy generator, `RandomState`: MT19937 with masked rejection.
//!
//! nnU-Net's folds, foreground samples and fingerprint samples come from it, so Galen repeats it bit for bit.
//! Source: Matsumoto and Nishimura 1998; draws as in numpy 1.x and 2.x `RandomState`.

const N: usize = 624;
const M: usize = 397;

/// `numpy.random.RandomState(seed)`.
#[derive(Clone)]
pub struct RandomState {
    state: [u32; N],
    next: usize,
}

impl RandomState {
    /// Seeds as numpy does with an integer seed below 2³².
    pub fn new(seed: u32) -> Self {
        let mut state = [0; N];
        state[0] = seed;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    /// Next 32 bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        let mixed = |here: u32, next: u32| {
            let y = (here & 0x8000_0000) | (next & 0x7fff_ffff);
            (y >> 1) ^ ((y & 1).wrapping_neg() & 0x9908_b0df)
        };
        let state = &mut self.state;
        for i in 0..N - M {
            state[i] = state[i + M] ^ mixed(state[i], state[i + 1]);
        }
        for i in N - M..N - 1 {
            state[i] = state[i + M - N] ^ mixed(state[i], state[i + 1]);
        }
        state[N - 1] = state[M - 1] ^ mixed(state[N - 1], state[0]);
        self.next = 0;
    }

    /// Uniform in `0..=max`; `max` of 0 draws nothing.
    #[inline]
    pub fn up_to(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `shuffle`, in place.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            let j = self.up_to(i as u32) as usize;
            values.swap(i, j);
        }
    }

    /// `permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut values: Vec<usize> = (0..n).collect();
        self.shuffle(&mut values);
        values
    }

    /// `choice(n, k, replace=False)`.
    pub fn choice(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut values = self.permutation(n);
        values.truncate(k);
        values
    }
}
