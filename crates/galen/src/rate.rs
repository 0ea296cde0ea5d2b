//! Human evaluation: pictures judged blind, on forms served to this machine alone.
//!
//! Who made a picture stands in no page, address or header; order and sides are shuffled per rater. Every answer is
//! on disk before the next picture is shown.

mod answers;
mod forms;
mod server;
mod statistics;
mod study;

pub use answers::Answers;
pub use server::serve;
pub use statistics::summary;
pub use study::Study;
