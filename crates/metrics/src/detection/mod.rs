//! Boxes and candidates against targets.

pub mod coco;
pub mod froc;
mod matching;
