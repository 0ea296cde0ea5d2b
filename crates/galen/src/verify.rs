//! Comparisons of methods under one protocol: from a TOML file to a leaderboard that can be trusted.

mod board;
mod cells;
mod page;
mod predictions;
mod protocol;
mod record;
mod tables;
mod variant;

pub use board::{Board, Field, Leaderboard};
pub use cells::{Cells, value};
pub use page::{Pictures, figures, page};
pub use predictions::{board as board_of_predictions, picture};
pub use protocol::{Kind, Protocol, folder_name};
pub use record::{Cost, Out, Record};
pub use tables::{cases_csv, csv, latex, quoted, terminal};
