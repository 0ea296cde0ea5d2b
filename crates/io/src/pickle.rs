//! Reads Python pickles without running anything: a fixed set of types, everything else is refused by name.
//!
//! Source: the opcode table of Python's `pickletools`, protocols 0 to 5 as far as PyTorch uses them.
//! Values live in one list and refer to each other by number, so that deeply nested or cyclic input cannot
//! overflow the stack.

use crate::pickle_machine::Machine;

/// Number of a value in a [`Pickle`].
pub type Id = usize;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// Truth value.
    Bool(bool),
    /// Integer of up to 64 bits.
    Int(i64),
    /// Number.
    Float(f64),
    /// `str`.
    Text(String),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// List or set.
    List(Vec<Id>),
    /// Tuple.
    Tuple(Vec<Id>),
    /// Dictionary, ordered or not: keys and values.
    Dict(Vec<(Id, Id)>),
    /// A class or function of the whitelist, `module.name`.
    Global(&'static str),
    /// A call of a whitelisted global, not carried out.
    Call {
        /// What would be called.
        global: &'static str,
        /// Tuple of its arguments.
        arguments: Id,
    },
    /// A reference to data outside of the pickle.
    Persistent(Id),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    /// The value that was pickled.
    pub root: Id,
}

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes end or contradict themselves.
    Damaged(String),
    /// It refers to something that is not on the list.
    Forbidden(String),
}

impl Pickle {
    /// Reads one pickle.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    /// The value of a number.
    pub fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Entry of a dictionary (or of an ordered dictionary) under a text key.
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.value(dict) else { return None };
        entries
            .iter()
            .rev()
            .find(|(k, _)| matches!(self.value(*k), Value::Text(text) if text == key))
            .map(|e| e.1)
    }

    /// Text of a value.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Elements of a list or tuple.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A non-negative integer.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.value(id) {
            Value::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value as JSON: tuples become lists, numpy scalars numbers, calls their arguments.
    /// `None` when it is nested too deeply, or too large, to be what it should.
    pub fn json(&self, id: Id) -> Option<serde_json::Value> {
        let mut left = 16_000_000;
        self.json_within(id, 32, &mut left)
    }

    /// `left` is bytes: a text that a thousand entries refer to is written a thousand times.
    fn json_within(&self, id: Id, depth: usize, left: &mut usize) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        let cost = match self.value(id) {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => size_of::<Json>() * bytes.len(),
            _ => 0,
        };
        *left = left.checked_sub(size_of::<Json>() + cost)?;
        let depth = depth.checked_sub(1)?;
        Some(match self.value(id) {
            Value::None | Value::Global(_) | Value::Persistent(_) => Json::Null,
            Value::Bool(value) => Json::from(*value),
            Value::Int(value) => Json::from(*value),
            Value::Float(value) => Json::from(*value),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Bytes(bytes) => Json::from(bytes.as_slice()),
            Value::List(items) | Value::Tuple(items) => items
                .iter()
                .map(|&item| self.json_within(item, depth, left))
                .collect::<Option<Vec<_>>>()?
                .into(),
            Value::Dict(entries) => {
                let mut object = serde_json::Map::new();
                for &(key, value) in entries {
                    let key = match self.value(key) {
                        Value::Text(text) => {
                            *left = left.checked_sub(text.len())?;
                            text.clone()
                        }
                        Value::Int(number) => number.to_string(),
                        _ => return None,
                    };
                    object.insert(key, self.json_within(value, depth, left)?);
                }
                Json::Object(object)
            }
            Value::Call { arguments, .. } => match self.numpy_scalar(id) {
                Some(number) => Json::from(number),
                None => self.json_within(*arguments, depth, left)?,
            },
        })
    }

    /// A numpy scalar: `scalar(dtype, bytes)`.
    fn numpy_scalar(&self, id: Id) -> Option<f64> {
        let Value::Call { global, arguments } = self.value(id) else { return None };
        let [dtype, bytes] = *self.items(*arguments)? else { return None };
        let Value::Call { global: "numpy.dtype", arguments: dtype } = self.value(dtype) else { return None };
        let bytes = self.latin1(bytes)?;
        match (global.ends_with("multiarray.scalar"), self.text(*self.items(*dtype)?.first()?)?) {
            (true, "f8") => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
            (true, "f4") => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            (true, "i8") => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64),
            _ => None,
        }
    }

    /// Bytes, also where protocol 2 wrote them as `encode(text, "latin1")`.
    fn latin1(&self, id: Id) -> Option<Vec<u8>> {
        match self.value(id) {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Call { global: "_codecs.encode", arguments } => {
                let text = self.text(*self.items(*arguments)?.first()?)?;
                text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_like_values_are_read() {
        // pickle.dumps({"a": [1, -2.5, None, True], "b": (300, "x")}, protocol=2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03M,\x01X\x01\x00\x00\x00xq\x04\x86q\x05u.";
        let pickle = Pickle::read(bytes).unwrap();
        let json = pickle.json(pickle.root).unwrap();
        assert_eq!(json, serde_json::json!({"a": [1, -2.5, null, true], "b": [300, "x"]}));
        for length in 0..bytes.len() {
            assert!(matches!(Pickle::read(&bytes[..length]), Err(Refusal::Damaged(_))), "{length}");
        }
    }

    #[test]
    fn code_is_refused_by_name() {
        let bytes = b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(Pickle::read(bytes).unwrap_err(), Refusal::Forbidden("posix.system".into()));
        let stack_global = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
        assert_eq!(Pickle::read(stack_global).unwrap_err(), Refusal::Forbidden("builtins.eval".into()));
    }

    #[test]
    fn nesting_and_cycles_end_in_an_answer() {
        let deep = [b"]".repeat(100_000), b"a".repeat(99_999), b".".to_vec()].concat();
        let pickle = Pickle::read(&deep).unwrap();
        assert_eq!(pickle.json(pickle.root), None);
        let own_member = Pickle::read(b"]q\x00h\x00a.").unwrap();
        assert_eq!(own_member.json(own_member.root), None);
    }

    #[test]
    fn a_text_that_many_entries_refer_to_is_not_multiplied_without_end() {
        let mut bytes = vec![b'X'];
        bytes.extend(1_000_000u32.to_le_bytes());
        bytes.extend(vec![b'a'; 1_000_000]);
        bytes.extend(b"q\x00]");
        bytes.extend(b"h\x00a".repeat(10_000));
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.json(pickle.root), None);
    }
}
