//! Writes Python pickles (protocol 2) of plain values, and of tensors as PyTorch pickles them.
//!
//! Source: the opcode table of Python's `pickletools`. Only opcodes that `torch.load(weights_only=True)` accepts.

use serde_json::Value as Json;

/// A value to pickle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Object>),
    Tuple(Vec<Object>),
    Dict(Vec<(Object, Object)>),
    /// `collections.OrderedDict`.
    Ordered(Vec<(Object, Object)>),
    /// `torch.device("cpu")`.
    CpuDevice,
    /// A C-ordered `float32` tensor that fills a storage of the archive.
    Tensor {
        storage: usize,
        shape: Vec<usize>,
    },
}

impl Object {
    /// JSON as Python's `json` reads it.
    pub(crate) fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                Self::Dict(entries.iter().map(|(key, value)| (key.into(), Self::from_json(value))).collect())
            }
        }
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Object {
    fn from(text: &T) -> Self {
        Self::Text(text.as_ref().to_owned())
    }
}

/// The bytes of one pickle.
pub(crate) fn pickle(object: &Object) -> Vec<u8> {
    let mut bytes = b"\x80\x02".to_vec();
    write(object, &mut bytes);
    bytes.push(b'.');
    bytes
}

fn write(object: &Object, bytes: &mut Vec<u8>) {
    match object {
        Object::None => bytes.push(b'N'),
        Object::Bool(true) => bytes.push(0x88),
        Object::Bool(false) => bytes.push(0x89),
        Object::Int(value) => integer(*value, bytes),
        Object::Float(value) => {
            bytes.push(b'G');
            bytes.extend(value.to_be_bytes());
        }
        Object::Text(value) => text(value, bytes),
        Object::List(items) => {
            bytes.extend(b"](");
            items.iter().for_each(|item| write(item, bytes));
            bytes.push(b'e');
        }
        Object::Tuple(items) => {
            bytes.push(b'(');
            items.iter().for_each(|item| write(item, bytes));
            bytes.push(b't');
        }
        Object::Dict(entries) => {
            bytes.push(b'}');
            set_items(entries, bytes);
        }
        Object::Ordered(entries) => {
            bytes.extend(b"ccollections\nOrderedDict\n)R");
            set_items(entries, bytes);
        }
        Object::CpuDevice => {
            bytes.extend(b"ctorch\ndevice\n");
            text("cpu", bytes);
            bytes.extend(b"\x85R");
        }
        Object::Tensor { storage, shape } => tensor(*storage, shape, bytes),
    }
}

fn set_items(entries: &[(Object, Object)], bytes: &mut Vec<u8>) {
    bytes.push(b'(');
    for (key, value) in entries {
        write(key, bytes);
        write(value, bytes);
    }
    bytes.push(b'u');
}

fn integer(value: i64, bytes: &mut Vec<u8>) {
    match i32::try_from(value) {
        Ok(small) => {
            bytes.push(b'J');
            bytes.extend(small.to_le_bytes());
        }
        Err(_) => {
            bytes.extend([0x8a, 8]);
            bytes.extend(value.to_le_bytes());
        }
    }
}

/// Texts of plans and names are far below the 4 GiB that the opcode allows.
fn text(value: &str, bytes: &mut Vec<u8>) {
    bytes.push(b'X');
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value.as_bytes());
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)`.
fn tensor(storage: usize, shape: &[usize], bytes: &mut Vec<u8>) {
    let sizes = |sizes: &[usize]| Object::Tuple(sizes.iter().map(|&size| Object::Int(size as i64)).collect());
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text("storage", bytes);
    bytes.extend(b"ctorch\nFloatStorage\n");
    text(&storage.to_string(), bytes);
    text("cpu", bytes);
    integer(shape.iter().product::<usize>() as i64, bytes);
    bytes.extend(b"tQ");
    integer(0, bytes);
    write(&sizes(shape), bytes);
    write(&sizes(&strides), bytes);
    bytes.push(0x89);
    write(&Object::Ordered(Vec::new()), bytes);
    bytes.extend(b"tR");
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_io::pickle::Pickle;
    use serde_json::json;

    #[test]
    fn json_comes_back_through_the_reader() {
        let json = json!({
            "a": [1, -2, 70000, -5_000_000_000i64, 2.5, 1e300], "b": {"c": null, "d": [true, false], "e": []},
            "f": "\u{e4} \"quoted\"", "g": {},
        });
        let read = Pickle::read(&pickle(&Object::from_json(&json))).unwrap();
        assert_eq!(read.json(read.root).unwrap(), json);
    }
}
