//! Who is signed in in a browser: a random name in a cookie, and whose browser has that name.
//!
//! A page asks [`Browsers::signed_in`] and, where nobody is, sends the browser to [`Browsers::login_path`]. Whoever is
//! signed in has a session at their PDS as well: when that one ends, so does this one.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod cookie;
mod form;
mod return_to;
mod signed_in;
mod store;

pub use form::ForeignForm;
pub use return_to::ReturnTo;
pub use signed_in::{Browsers, LOGIN, SignedIn};
pub use store::{BrowserStore, RowName};

pub(crate) use cookie::{Cookie, Secret};
