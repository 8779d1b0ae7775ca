//! Who may do what: captain, crew and strangers.

mod matrix;
mod roster;
mod tiers;
mod token;

pub(crate) use matrix::{Action, Standing};
pub(crate) use roster::Roster;
pub use tiers::{Tier, Tiers, TiersError};
pub(crate) use token::{Tokens, Use};
