//! Who may do what: captain, crew and strangers.

mod matrix;
mod roster;
mod token;

pub(crate) use matrix::{Action, Standing};
pub(crate) use roster::Roster;
pub(crate) use token::{Tokens, Use};
