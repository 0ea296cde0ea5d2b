//! The stack machine behind [`crate::pickle`]: one opcode at a time, no call ever carried out.

use crate::pickle::{Id, Refusal, Value};
use std::collections::HashMap;

/// Most values that a pickle may hold; real checkpoints have some ten thousands.
const VALUES_MAX: usize = 8_000_000;

/// What checkpoints of PyTorch and files of nnU-Net refer to. None of these is ever called.
const ALLOWED: &[&str] = &[
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.device",
    "torch.Size",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "builtins.set",
    "builtins.int",
    "builtins.float",
    "__builtin__.set",
    "__builtin__.int",
    "__builtin__.float",
];

/// The stack machine that a pickle is a program for.
pub(crate) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// All values made so far.
    pub(crate) values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

fn damaged(what: impl Into<String>) -> Refusal {
    Refusal::Damaged(what.into())
}

impl<'a> Machine<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs to the end; returns the value that was pickled.
    pub(crate) fn run(&mut self) -> Result<Id, Refusal> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
            if self.values.len() > VALUES_MAX {
                return Err(damaged(format!("more than {VALUES_MAX} values")));
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), Refusal> {
        match opcode {
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => self.string(opcode)?,
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' | b'l' | b'd' => self.collect_marked(opcode)?,
            0x85..=0x87 => self.small_tuple(usize::from(opcode - 0x84))?,
            b'a' | b'e' | 0x90 => self.append(opcode)?,
            b's' | b'u' => self.set_items(opcode)?,
            b'q' | b'r' | 0x94 => self.remember(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 => self.call()?,
            b'b' => drop(self.pop()?), // state set on an object: nothing that is needed
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            other => return Err(damaged(format!("unknown pickle opcode 0x{other:02x}"))),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Refusal> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| damaged("the pickle ends too early"))?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    /// An unsigned little-endian number of up to 8 bytes.
    fn unsigned(&mut self, count: usize) -> Result<usize, Refusal> {
        let mut wide = [0; 8];
        wide[..count].copy_from_slice(self.take(count)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| damaged("a length is out of range"))
    }

    fn line(&mut self) -> Result<String, Refusal> {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("the pickle ends too early"))?;
        let text = String::from_utf8(rest[..length].to_vec()).map_err(|_| damaged("a name is not UTF-8"))?;
        self.at += length + 1;
        Ok(text)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, Refusal> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(damaged("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| damaged("the stack is empty"))
    }

    fn top(&self) -> Result<Id, Refusal> {
        self.stack.last().copied().ok_or_else(|| damaged("the stack is empty"))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Refusal> {
        let mark = self.marks.pop().ok_or_else(|| damaged("there is no mark"))?;
        if mark > self.stack.len() {
            return Err(damaged("a mark lies above the stack"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn number(&mut self, opcode: u8) -> Result<(), Refusal> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'G' => {
                let bytes = self.take(8)?;
                let mut big_endian = [0; 8];
                big_endian.copy_from_slice(bytes);
                Value::Float(f64::from_be_bytes(big_endian))
            }
            _ => {
                let count = self.unsigned(1)?;
                let bytes = self.take(count)?;
                if count > 8 {
                    return Err(damaged("an integer has more than 64 bits"));
                }
                let sign = bytes.last().is_some_and(|&high| high & 0x80 != 0);
                let mut wide = if sign { [0xff; 8] } else { [0; 8] };
                wide[..count].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
        };
        self.push(value);
        Ok(())
    }

    fn string(&mut self, opcode: u8) -> Result<(), Refusal> {
        let width = match opcode {
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        let length = self.unsigned(width)?;
        let bytes = self.take(length)?.to_vec();
        let value = match opcode {
            b'C' | b'B' | 0x8e => Value::Bytes(bytes),
            _ => Value::Text(String::from_utf8(bytes).map_err(|_| damaged("a text is not UTF-8"))?),
        };
        self.push(value);
        Ok(())
    }

    fn collect_marked(&mut self, opcode: u8) -> Result<(), Refusal> {
        let items = self.since_mark()?;
        self.push(match opcode {
            b't' => Value::Tuple(items),
            b'l' => Value::List(items),
            _ => Value::Dict(pairs(&items)?),
        });
        Ok(())
    }

    fn small_tuple(&mut self, count: usize) -> Result<(), Refusal> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, opcode: u8) -> Result<(), Refusal> {
        let items = if opcode == b'a' { vec![self.pop()?] } else { self.since_mark()? };
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            Value::Call { .. } => {} // a set or a subclass: its members are not needed
            _ => return Err(damaged("items for something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), Refusal> {
        let items = if opcode == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.since_mark()?
        };
        let new = pairs(&items)?;
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(entries) => entries.extend(new),
            _ => return Err(damaged("entries for something that is no dictionary")),
        }
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<(), Refusal> {
        let key = match opcode {
            b'q' => self.unsigned(1)?,
            b'r' => self.unsigned(4)?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        self.memo.insert(key as u32, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), Refusal> {
        let key = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
        let id = *self.memo.get(&key).ok_or_else(|| damaged("a reference leads nowhere"))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), Refusal> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (&self.values[module], &self.values[name]) {
                (Value::Text(module), Value::Text(name)) => (module.clone(), name.clone()),
                _ => return Err(damaged("the name of a global is no text")),
            }
        };
        let full = format!("{module}.{name}");
        match ALLOWED.iter().find(|&&allowed| allowed == full) {
            Some(allowed) => self.push(Value::Global(allowed)),
            None => return Err(Refusal::Forbidden(full)),
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), Refusal> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(global) = self.values[function] else {
            return Err(damaged("something is called that is no global"));
        };
        self.push(match global {
            "collections.OrderedDict" => Value::Dict(Vec::new()),
            _ => Value::Call { global, arguments },
        });
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Refusal> {
    if items.len() % 2 == 1 {
        return Err(damaged("a dictionary has a key without a value"));
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
