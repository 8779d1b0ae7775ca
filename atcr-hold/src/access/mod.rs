//! Who may do what: captain, crew and strangers.

mod legacy;
mod matrix;
mod roster;
mod tiers;
mod token;

pub use legacy::LegacyCrew;
pub(crate) use legacy::OldCrew;
pub(crate) use matrix::{Action, Standing};
pub(crate) use roster::Roster;
pub use tiers::{Tier, Tiers, TiersError};
pub(crate) use token::{Tokens, Use};
