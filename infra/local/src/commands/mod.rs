//! The commands of `hawser`, one file each.

pub(crate) mod api_key;
pub(crate) mod at;
pub(crate) mod audit;
pub(crate) mod integrations;
pub(crate) mod offboard;
pub(crate) mod serve;
pub(crate) mod token;

use std::error::Error;

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
