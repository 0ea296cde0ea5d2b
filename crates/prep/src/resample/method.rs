//! The resampling functions that a plan can name, with their arguments.
//!
//! Source: nnunetv2 2.8.1 `preprocessing/resampling`.

use super::labels::TieRule;
use super::{Planes, all_planes, image, label_map, resize, thick_axis_beyond, torch};
use galen_core::{Error, Result};
use serde_json::Value;

/// How to resample, from the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// `resample_data_or_seg_to_shape`: splines of this order, between thick slices of `order_z`.
    Spline {
        /// 0, 1 or 3.
        order: u8,
        /// 0 or 1.
        order_z: u8,
        /// When slices count as thick.
        thick: Thick,
    },
    /// `resample_torch_fornnunet` and `resample_torch_simple`: linear in single precision.
    Torch {
        /// When slices count as thick.
        thick: Thick,
        /// `memefficient_seg_resampling`.
        frugal: bool,
    },
    /// `no_resampling_hack`: as it is.
    None,
}

/// When slices count as thick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thick {
    /// `force_separate_z`: always, never, or by spacing.
    pub force: Option<bool>,
    /// Ratio of the largest to the smallest spacing from which on they do.
    pub beyond: f64,
}

impl Thick {
    /// Axis between thick slices for a change from one spacing to another, mm.
    pub fn axis(self, current: [f64; 3], new: [f64; 3]) -> Option<usize> {
        thick_axis_beyond(self.beyond, self.force, current, new)
    }
}

/// A grid before and after: sizes in voxels and spacings in mm, `(z, y, x)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Size now.
    pub from: [usize; 3],
    /// Size wanted.
    pub to: [usize; 3],
    /// Spacing now.
    pub current: [f64; 3],
    /// Spacing wanted.
    pub new: [f64; 3],
}

impl Method {
    /// From the function's name and arguments in plans.json.
    pub fn parse(name: &str, arguments: &Value) -> Result<Self> {
        let arguments = Arguments { name, json: arguments };
        match name {
            "no_resampling_hack" => Ok(Self::None),
            "resample_data_or_seg_to_shape" => Ok(Self::Spline {
                order: arguments.order("order", 3, &[0, 1, 3])?,
                order_z: arguments.order("order_z", 0, &[0, 1])?,
                thick: arguments.thick(Some(false))?,
            }),
            "resample_torch_fornnunet" => Ok(Self::Torch {
                thick: arguments.thick(None)?,
                frugal: arguments.flag("memefficient_seg_resampling")?,
            }),
            "resample_torch_simple" => {
                let thick = Thick { force: Some(false), beyond: super::THICK };
                Ok(Self::Torch { thick, frugal: arguments.flag("memefficient_seg_resampling")? })
            }
            _ => Err(arguments.bad("this function is not available")),
        }
    }

    /// One image channel `[z, y, x]`; computed in double precision (torch: single), stored in single.
    pub fn image(self, values: &[f32], change: &Change) -> Vec<f32> {
        let Change { from, to, current, new } = *change;
        match self {
            _ if from == to => values.to_vec(),
            Self::None => values.to_vec(),
            Self::Spline { order, order_z, thick } => {
                image(values, from, to, order, order_z, thick.axis(current, new))
            }
            Self::Torch { thick, .. } => torch::Grid::new(from, to, thick.axis(current, new)).image(values),
        }
    }

    /// As [`Method::image`], of planes that are made one at a time: the input is never there as a whole.
    pub(crate) fn image_of(self, planes: &dyn Planes, change: &Change) -> Vec<f32> {
        let Change { from, to, current, new } = *change;
        match self {
            Self::Spline { order, thick, .. } if from != to && thick.axis(current, new).is_none() => {
                resize::volume_of(planes, from, to, order)
            }
            _ if from == to => all_planes(planes, from),
            Self::None => all_planes(planes, from),
            _ => self.image(&all_planes(planes, from), change),
        }
    }

    /// A label map `[z, y, x]`.
    pub fn labels(self, values: &[i16], change: &Change, rule: TieRule) -> Vec<i16> {
        let Change { from, to, current, new } = *change;
        match self {
            _ if from == to => values.to_vec(),
            Self::None => values.to_vec(),
            Self::Spline { order, order_z, thick } => {
                label_map(values, from, to, order.min(1), order_z, thick.axis(current, new), rule)
            }
            Self::Torch { thick, frugal } => {
                torch::Grid::new(from, to, thick.axis(current, new)).labels(values, frugal)
            }
        }
    }

    /// Size of the result: that of the input when nothing is resampled.
    pub fn size(self, change: &Change) -> [usize; 3] {
        if self == Self::None { change.from } else { change.to }
    }
}

/// Arguments of a function; an argument that Galen would have to ignore is refused.
struct Arguments<'a> {
    name: &'a str,
    json: &'a Value,
}

impl Arguments<'_> {
    fn bad(&self, why: &str) -> Error {
        Error::input(
            "plans.json, resampling function",
            format!("`{}` with {}: {why}", self.name, self.json),
            "Galen has resample_data_or_seg_to_shape (orders 0, 1, 3; order_z 0, 1), resample_torch_fornnunet, \
             resample_torch_simple and no_resampling_hack",
        )
    }

    fn order(&self, key: &str, default: u8, allowed: &[u8]) -> Result<u8> {
        let order = match self.json.get(key) {
            None => Some(default),
            Some(value) => value.as_u64().and_then(|v| u8::try_from(v).ok()),
        };
        order
            .filter(|order| allowed.contains(order))
            .ok_or_else(|| self.bad(&format!("`{key}` is not one of {allowed:?}")))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.modes()?;
        match self.json.get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.bad(&format!("`{key}` is not true or false"))),
        }
    }

    /// torch's interpolation modes: only the stock ones.
    fn modes(&self) -> Result<()> {
        for (key, stock) in [("mode", "linear"), ("aniso_axis_mode", "nearest-exact")] {
            if self.json.get(key).is_some_and(|value| value != stock) {
                return Err(self.bad(&format!("`{key}` is not `{stock}`")));
            }
        }
        Ok(())
    }

    fn thick(&self, default: Option<bool>) -> Result<Thick> {
        let force = match self.json.get("force_separate_z") {
            None => default,
            Some(Value::Null) => None,
            Some(Value::Bool(force)) => Some(*force),
            Some(_) => return Err(self.bad("`force_separate_z` is not true, false or null")),
        };
        let beyond = match self.json.get("separate_z_anisotropy_threshold") {
            None => super::THICK,
            Some(value) => value.as_f64().ok_or_else(|| self.bad("the threshold is not a number"))?,
        };
        Ok(Thick { force, beyond })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_galen_lacks_is_refused_by_name() {
        let parse = |name: &str, json: Value| Method::parse(name, &json);
        let error = parse("my_resampling", json!({})).unwrap_err().to_string();
        assert!(error.contains("my_resampling"), "{error}");
        assert!(parse("resample_data_or_seg_to_shape", json!({ "order": 2 })).is_err());
        assert!(parse("resample_torch_fornnunet", json!({ "mode": "nearest" })).is_err());
        assert_eq!(parse("no_resampling_hack", json!({})).unwrap(), Method::None);
        let auto = Thick { force: None, beyond: 3.0 };
        let given = json!({ "order": 1, "order_z": 0, "force_separate_z": null, "is_seg": false });
        let spline = Method::Spline { order: 1, order_z: 0, thick: auto };
        assert_eq!(parse("resample_data_or_seg_to_shape", given).unwrap(), spline);
    }
}
