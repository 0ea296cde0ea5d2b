//! Does a higher risk mean an earlier event? Harrell's and Uno's C.
//!
//! A pair is comparable when the earlier of the two had the event; at equal times, when one had it
//! and the other was censored. Two events at the same time are not comparable.

use super::kaplan_meier::Curve;
use crate::measures::{Definition, define, ratio};
use crate::statistics::ranks::{order, ties};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "c/harrell/exact ties (lifelines)",
        "concordant + half of equal risks / comparable pairs",
        "0..1",
        "no comparable pair: undefined",
        "rises with censoring; blind to how wrong a risk is",
        "Harrell et al. 1982; lifelines concordance_index",
    ),
    define(
        "c/harrell/tied_tol1e-8 (scikit-survival)",
        "the same, risks within 1e-8 count as equal",
        "0..1",
        "no comparable pair: undefined",
        "tiny risks all tie",
        "sksurv concordance_index_censored",
    ),
    define(
        "c/uno tau",
        "pairs weighted with 1 / G(time)^2, G the censoring curve; events before tau only",
        "0..1",
        "no comparable pair, or G = 0 at an event: undefined",
        "without tau the last times rule it; take G from training data",
        "Uno et al. 2011; sksurv concordance_index_ipcw",
    ),
    define(
        "c/uno tau/value",
        "tau of the row above; infinite: none",
        "0..inf",
        "-",
        "always quote it",
        "input",
    ),
];

/// Comparable, concordant, discordant and tied weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pairs {
    /// Weight of pairs with the higher risk first.
    pub concordant: f64,
    /// Weight of pairs with the lower risk first.
    pub discordant: f64,
    /// Weight of pairs with equal risks.
    pub tied: f64,
}

impl Pairs {
    /// The index; NaN without pairs.
    pub fn index(&self) -> f64 {
        ratio(self.concordant + self.tied / 2.0, self.concordant + self.discordant + self.tied)
    }
}

/// Harrell's C; risks at most `tolerance` apart are equal.
pub fn harrell(times: &[f64], events: &[bool], risks: &[f64], tolerance: f64) -> Pairs {
    weighted(times, events, risks, tolerance, |_| 1.0)
}

/// Uno's C with the censoring curve `censoring` and events before `tau`; NaN when an event has G = 0.
pub fn uno(times: &[f64], events: &[bool], risks: &[f64], tau: f64, censoring: &Curve) -> f64 {
    let weight = |i: usize| if times[i] < tau { censoring.at(times[i]).powi(-2) } else { 0.0 };
    weighted(times, events, risks, 1e-8, weight).index()
}

/// All pairs in O(n log n): later cases first into a tree of counts per rank of risk.
fn weighted(
    times: &[f64],
    events: &[bool],
    risks: &[f64],
    tolerance: f64,
    weight: impl Fn(usize) -> f64,
) -> Pairs {
    let slots = Slots::new(risks, tolerance);
    let mut later = Counts::new(slots.within.len());
    let mut pairs = Pairs::default();
    let order = order(times);
    for run in ties(times, &order).into_iter().rev() {
        let run = &order[run];
        // Those censored at this time outlive its events.
        run.iter().filter(|&&i| !events[i]).for_each(|&i| later.add(slots.of[i]));
        for &i in run.iter().filter(|&&i| events[i]) {
            let w = weight(i);
            if w == 0.0 {
                continue;
            }
            let [from, to] = slots.within[slots.of[i] as usize];
            let (below, within) = (f64::from(later.below(from)), f64::from(later.below(to)));
            pairs.concordant += w * below;
            pairs.tied += w * (within - below);
            pairs.discordant += w * (f64::from(later.all) - within);
        }
        run.iter().filter(|&&i| events[i]).for_each(|&i| later.add(slots.of[i]));
    }
    pairs
}

/// Distinct risks in ascending order.
struct Slots {
    /// Slot of every case.
    of: Vec<u32>,
    /// Per slot the first one that counts as equal, and the one after the last.
    within: Vec<[u32; 2]>,
}

impl Slots {
    fn new(risks: &[f64], tolerance: f64) -> Self {
        let order = order(risks);
        let (mut of, mut values) = (vec![0; risks.len()], Vec::new());
        for run in ties(risks, &order) {
            order[run.clone()].iter().for_each(|&i| of[i] = values.len() as u32);
            values.push(risks[order[run.start]]);
        }
        let (mut from, mut to) = (0, 0);
        let bounds = |value: &f64| {
            // A difference that is exactly the tolerance is decided as |a - b| <= tolerance decides it.
            while values[from] < *value && value - values[from] > tolerance {
                from += 1;
            }
            while to < values.len() && (values[to] <= *value || values[to] - value <= tolerance) {
                to += 1;
            }
            [from as u32, to as u32]
        };
        let within = values.iter().map(bounds).collect();
        Self { of, within }
    }
}

/// Counts per slot with fast sums from the start (Fenwick 1994).
struct Counts {
    tree: Vec<u32>,
    all: u32,
}

impl Counts {
    fn new(slots: usize) -> Self {
        Self { tree: vec![0; slots + 1], all: 0 }
    }

    fn add(&mut self, slot: u32) {
        self.all += 1;
        let mut at = slot as usize + 1;
        while at < self.tree.len() {
            self.tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, slot: u32) -> u32 {
        let (mut sum, mut at) = (0, slot as usize);
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn the_worked_example() {
        let times = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0];
        let events = [1, 1, 0, 1, 0, 1, 1, 0].map(|e| e == 1);
        let risks = [0.9, 0.7, 0.7, 0.8, 0.3, 0.4, 0.2, 0.2];
        let pairs = harrell(&times, &events, &risks, 0.0);
        assert_eq!((pairs.concordant, pairs.discordant, pairs.tied), (16.0, 1.0, 2.0));
        let censoring = super::super::kaplan_meier::censoring(&times, &events);
        assert!((uno(&times, &events, &risks, f64::INFINITY, &censoring) - 0.870_287).abs() < 1e-6);
        assert!((uno(&times, &events, &risks, 5.0, &censoring) - 0.899_065).abs() < 1e-6);
        assert_eq!(harrell(&[1.0, 2.0], &[true, true], &[0.5 + 1e-9, 0.5], 1e-8).index(), 0.5);
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_every_pair_tried(rows in vec((0u8..6, any::<bool>(), 0u8..5), 2..30)) {
            let times: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let events: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let risks: Vec<f64> = rows.iter().map(|r| f64::from(r.2)).collect();
            let mut plain = Pairs::default();
            for i in 0..rows.len() {
                for j in 0..rows.len() {
                    if i == j || !events[i] || times[j] < times[i] || (times[j] == times[i] && events[j]) {
                        continue;
                    }
                    match risks[i] - risks[j] {
                        d if d.abs() <= 1.0 => plain.tied += 1.0,
                        d if d > 0.0 => plain.concordant += 1.0,
                        _ => plain.discordant += 1.0,
                    }
                }
            }
            prop_assert_eq!(harrell(&times, &events, &risks, 1.0), plain);
        }
    }
}
