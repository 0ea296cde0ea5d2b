//! How a configuration wants its logits resampled.
//!
//! Source: nnU-Net v2.8.1, `determine_do_sep_z_and_axis`: grids with thick slices are resampled within slices, and
//! between slices by the nearest one.

use crate::resample::Rule;
use galen_core::{Error, Result};
use galen_prep::{Configuration, Undo};
use serde_json::Value;

/// Spacing along one axis over that of another from which slices count as thick.
const THICK: f64 = 3.0;

/// Resampling of logits as named in plans.json.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resampling {
    within: Rule,
    between: Rule,
    /// `force_separate_z`.
    separate: Option<bool>,
    /// The reference rounds the result to float16.
    pub(crate) rounds: bool,
}

impl Resampling {
    /// Resampling that a configuration asks for.
    pub(crate) fn of(configuration: &Configuration) -> Result<Self> {
        let arguments = &configuration.resampling_fn_probabilities_kwargs;
        Self::parse(&configuration.resampling_fn_probabilities, arguments)
    }

    /// From the function's name and arguments in plans.json.
    fn parse(name: &str, arguments: &Value) -> Result<Self> {
        let order = |key: &str, default: u64| arguments.get(key).map_or(Some(default), Value::as_u64);
        let rule = |order| match order {
            Some(0) => Some(Rule::Nearest),
            Some(1) => Some(Rule::Linear),
            _ => None,
        };
        let separate = arguments.get("force_separate_z").and_then(Value::as_bool);
        let rules = match name {
            "resample_data_or_seg_to_shape" => (rule(order("order", 3)), rule(order("order_z", 0)), true),
            "resample_torch_fornnunet" | "resample_torch_simple" => {
                (Some(Rule::Linear), Some(Rule::Nearest), false)
            }
            "no_resampling_hack" => (Some(Rule::Nearest), Some(Rule::Nearest), false),
            _ => (None, None, false),
        };
        let (Some(within), Some(between), rounds) = rules else {
            let what = format!("`{name}` with {arguments}");
            let remedy = "use one of nnU-Net's own resampling functions of order 0 or 1";
            return Err(Error::input("plans.json, resampling_fn_probabilities", what, remedy));
        };
        Ok(Self { within, between, separate, rounds })
    }

    /// Rule per axis for logits that go from the `current` to the `new` spacing, `(z, y, x)` in mm.
    pub(crate) fn rules(&self, current: [f64; 3], new: [f64; 3]) -> [Rule; 3] {
        let mut rules = [self.within; 3];
        if let Some(axis) = self.separate_axis(current, new) {
            rules[axis] = self.between;
        }
        rules
    }

    fn separate_axis(&self, current: [f64; 3], new: [f64; 3]) -> Option<usize> {
        let thick = |spacing: [f64; 3]| {
            let least = spacing.iter().copied().fold(f64::INFINITY, f64::min);
            spacing.iter().copied().fold(0.0, f64::max) / least > THICK
        };
        let spacing = match self.separate {
            Some(false) => return None,
            Some(true) => current,
            None if thick(current) => current,
            None if thick(new) => new,
            None => return None,
        };
        let most = spacing.iter().copied().fold(0.0, f64::max);
        let mut axes = (0..3).filter(|&axis| spacing[axis] == most);
        let axis = axes.next();
        // Two equally thick axes: no axis is the one between slices.
        if axes.next().is_some() { None } else { axis }
    }
}

/// Spacings in mm of the network's grid and of the cropped scan, both in the network's axis order.
pub(crate) fn grids(configuration: &Configuration, undo: &Undo) -> ([f64; 3], [f64; 3]) {
    let scan = undo.spacing;
    let network = match *configuration.spacing {
        [y, x] => [scan[0], y, x],
        [z, y, x] => [z, y, x],
        _ => scan,
    };
    (network, scan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn default() -> Resampling {
        let arguments = json!({"is_seg": false, "order": 1, "order_z": 0, "force_separate_z": null});
        Resampling::parse("resample_data_or_seg_to_shape", &arguments).unwrap()
    }

    #[test]
    fn thick_slices_are_not_mixed() {
        use Rule::{Linear, Nearest};
        assert_eq!(default().rules([5.0, 1.0, 1.0], [5.0, 0.8, 0.8]), [Nearest, Linear, Linear]);
        assert_eq!(default().rules([1.0; 3], [1.0, 1.0, 4.0]), [Linear, Linear, Nearest]);
        assert_eq!(default().rules([2.0, 1.0, 1.0], [3.0, 1.0, 1.0]), [Linear; 3]);
        assert_eq!(default().rules([5.0, 5.0, 1.0], [1.0; 3]), [Linear; 3]);
    }

    #[test]
    fn unknown_functions_are_refused() {
        assert!(Resampling::parse("my_resampling", &json!({})).is_err());
        assert!(Resampling::parse("resample_data_or_seg_to_shape", &json!({"order": 3})).is_err());
    }
}
