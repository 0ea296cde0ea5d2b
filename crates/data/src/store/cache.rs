//! Decoded chunks and positions that were read lately, up to a fixed number of bytes. It changes speed, never results.

use galen_prep::ClassLocations;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Case, and channel (labels come after the last) with chunk; the largest number for positions.
pub(super) type Key = (usize, usize);

/// A decoded chunk.
#[derive(Debug, Clone)]
pub(super) enum Chunk {
    Image(Arc<Vec<f32>>),
    Labels(Arc<Vec<i16>>),
    Locations(Arc<Vec<ClassLocations>>),
}

impl Chunk {
    fn bytes(&self) -> usize {
        match self {
            Self::Image(values) => values.len() * 4,
            Self::Labels(values) => values.len() * 2,
            Self::Locations(classes) => classes.iter().map(|class| 12 * class.voxels.len() + 64).sum(),
        }
    }
}

/// Keeps the chunks used last.
#[derive(Debug)]
pub(super) struct Cache {
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<Key, (Chunk, u64)>,
    /// Time of last use → key.
    by_age: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

impl Cache {
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default() }
    }

    pub fn get(&self, key: Key) -> Option<Chunk> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let (chunk, age) = state.chunks.get_mut(&key)?;
        state.by_age.remove(age);
        state.clock += 1;
        *age = state.clock;
        state.by_age.insert(state.clock, key);
        Some(chunk.clone())
    }

    pub fn put(&self, key: Key, chunk: Chunk) {
        let bytes = chunk.bytes();
        if bytes > self.most_bytes {
            return;
        }
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if state.chunks.contains_key(&key) {
            return;
        }
        state.clock += 1;
        state.bytes += bytes;
        state.chunks.insert(key, (chunk, state.clock));
        state.by_age.insert(state.clock, key);
        while state.bytes > self.most_bytes {
            let Some((_, oldest)) = state.by_age.pop_first() else { break };
            if let Some((chunk, _)) = state.chunks.remove(&oldest) {
                state.bytes -= chunk.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_used_longest_ago_goes_first() {
        let cache = Cache::new(80);
        let chunk = || Chunk::Image(Arc::new(vec![0.0; 10]));
        cache.put((0, 0), chunk());
        cache.put((0, 1), chunk());
        assert!(cache.get((0, 0)).is_some());
        cache.put((0, 2), chunk());
        assert!(cache.get((0, 1)).is_none());
        assert!(cache.get((0, 0)).is_some() && cache.get((0, 2)).is_some());
        cache.put((1, 0), Chunk::Labels(Arc::new(vec![0; 100])));
        assert!(cache.get((1, 0)).is_none(), "larger than the whole cache");
    }
}
