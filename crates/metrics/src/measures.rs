//! What every family hands out: numbers under ids, and the definition behind each id.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// What a number is, for whoever must decide whether to trust it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Definition {
    /// Id, with the convention where tools differ. A part behind `@` is a threshold and may vary.
    pub id: &'static str,
    /// Formula.
    pub definition: &'static str,
    /// Smallest and largest value, with `-` for unbounded.
    pub range: &'static str,
    /// What comes out when there is nothing to measure.
    pub empty: &'static str,
    /// How it misleads.
    pub pitfall: &'static str,
    /// Where it comes from, and the package whose values it reproduces.
    pub source: &'static str,
}

/// Shorthand for the tables of the families.
pub(crate) const fn define(
    id: &'static str,
    definition: &'static str,
    range: &'static str,
    empty: &'static str,
    pitfall: &'static str,
    source: &'static str,
) -> Definition {
    Definition { id, definition, range, empty, pitfall, source }
}

/// A number, or a list of them (per time, per hypothesis).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number; NaN is undefined.
    One(f64),
    /// Several, in the order of the input.
    Many(Vec<f64>),
}

/// Numbers under their ids, in the order in which they were measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures(Vec<(String, Value)>);

impl Measures {
    /// Adds a number.
    pub fn put(&mut self, id: impl Into<String>, value: f64) {
        self.0.push((id.into(), Value::One(value)));
    }

    /// Adds a list.
    pub fn put_many(&mut self, id: impl Into<String>, values: Vec<f64>) {
        self.0.push((id.into(), Value::Many(values)));
    }

    /// Adds everything that another family measured.
    pub fn append(&mut self, other: Measures) {
        self.0.extend(other.0);
    }

    /// The value under `id`.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == id).map(|(_, value)| value)
    }

    /// The single number under `id`; NaN when there is none.
    pub fn number(&self, id: &str) -> f64 {
        if let Some(Value::One(value)) = self.get(id) { *value } else { f64::NAN }
    }

    /// Ids and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(id, value)| (id.as_str(), value))
    }

    /// Keeps the ids that `wanted` approves.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(id, _)| wanted(id));
    }

    /// Mean over several sets of measures, per id, of the finite numbers; lists are left out.
    pub fn mean(all: &[Measures]) -> Measures {
        let mut mean = Measures::default();
        for (id, value) in all.first().map_or(&[][..], |first| &first.0) {
            if let Value::One(_) = value {
                let finite: Vec<f64> = all.iter().map(|m| m.number(id)).filter(|v| v.is_finite()).collect();
                mean.put(id.clone(), finite.iter().sum::<f64>() / finite.len() as f64);
            }
        }
        mean
    }
}

/// A map from id to number; `undefined`, `infinite` and `-infinite` stand for what JSON cannot say.
impl Serialize for Measures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, value) in &self.0 {
            match value {
                Value::One(value) => map.serialize_entry(id, &Number(*value))?,
                Value::Many(values) => {
                    map.serialize_entry(id, &values.iter().map(|v| Number(*v)).collect::<Vec<_>>())?;
                }
            }
        }
        map.end()
    }
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_nan() => serializer.serialize_str("undefined"),
            f64::INFINITY => serializer.serialize_str("infinite"),
            f64::NEG_INFINITY => serializer.serialize_str("-infinite"),
            v => serializer.serialize_f64(v),
        }
    }
}

/// `part / whole`, NaN when there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { f64::NAN } else { part / whole }
}

/// A threshold as it stands in ids: `.5`, `.25`, `1`.
pub(crate) fn threshold_name(threshold: f64) -> String {
    let text = threshold.to_string();
    text.strip_prefix('0').filter(|rest| rest.starts_with('.')).map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_cannot_say_become_words() {
        let mut measures = Measures::default();
        measures.put("a", f64::NAN);
        measures.put("b", f64::INFINITY);
        measures.put_many("c", vec![0.5, f64::NEG_INFINITY]);
        let text = serde_json::to_string(&measures).unwrap();
        assert_eq!(text, r#"{"a":"undefined","b":"infinite","c":[0.5,"-infinite"]}"#);
    }

    #[test]
    fn thresholds_are_written_as_in_ids() {
        let names = [0.5, 0.25, 0.0, 1.0].map(threshold_name);
        assert_eq!(names, [".5", ".25", "0", "1"]);
    }
}
