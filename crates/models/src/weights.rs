//! Named tensors in a fixed order: the weights of a network, their gradients, the state of an optimiser.

use std::collections::HashMap;

/// A dense array, C-ordered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    /// Length of each axis; a scalar has none.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub values: Vec<f32>,
}

impl Tensor {
    /// All values the same.
    pub fn filled(shape: &[usize], value: f32) -> Self {
        Self { shape: shape.to_vec(), values: vec![value; shape.iter().product()] }
    }
}

/// Tensors by name, in the order in which they were put in.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    entries: Vec<(String, Tensor)>,
    places: HashMap<String, usize>,
}

impl PartialEq for Weights {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Weights {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor at the end, or replaces the one of that name where it stands.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        let name = name.into();
        match self.places.get(&name) {
            Some(&place) => self.entries[place].1 = tensor,
            None => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push((name, tensor));
            }
        }
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.places.get(name).map(|&place| &self.entries[place].1)
    }

    /// The tensor of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.places.get(name).map(|&place| &mut self.entries[place].1)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and tensors in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Tensor)> {
        self.entries.iter_mut().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of values of all tensors.
    pub fn values(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.values.len()).sum()
    }
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(entries: I) -> Self {
        let mut weights = Self::new();
        entries.into_iter().for_each(|(name, tensor)| weights.insert(name, tensor));
        weights
    }
}
