//! From labels to series: which series do matchers select, which labels does a series have.
//!
//! [`postings`] holds the ids of the series with one label pair, `lists` the pairs of one series; [`head`] is the index of
//! the series in memory; [`select`] evaluates matchers over any index that answers [`select::Lookup`] (the head's and a
//! block's); `cache` remembers what patterns selected, and `arrivals` which series the head's index was given since.

mod arrivals;
mod cache;
pub mod head;
mod lists;
pub mod postings;
pub mod select;
mod table;

pub use cache::SelectCache;
pub use head::{HeadIndex, LabelsHash};
pub use select::{Lookup, Selecting, select, select_with};
pub use table::TagTable;
