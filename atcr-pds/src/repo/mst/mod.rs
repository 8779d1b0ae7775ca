//! The Merkle search tree (specification, Repository, "MST Structure"): a sorted map from record paths to CIDs whose
//! shape depends on nothing but its contents, so that its root names them all.
//!
//! Nothing in here does I/O. A tree is read through [`Nodes`]; where that does not have a node at hand, the operation
//! fails with [`MstError::Missing`] and has changed nothing, so that a caller can load the node and try again.
//!
//! Every node that is read must be the one canonical form of its contents: keys ascending, of the layer at which the
//! node stands, between those of the node above, with the shortest possible suffixes, and no node empty but the root
//! of an empty tree. There is no second tree with the same keys and values.

mod build;
mod diff;
mod error;
mod key;
mod list;
mod node;
mod nodes;
mod proof;
mod tree;

pub use build::Builder;
pub use diff::{Change, diff};
pub use error::MstError;
pub use key::{MAX_KEY, check_key, height};
pub use list::{Range, list};
pub(super) use node::Hash;
pub use node::{Item, MAX_NODE_BYTES, NodeBlock};
pub use nodes::{NodeMap, Nodes};
pub(super) use proof::root_layer;
pub use proof::{covering, invert, path};
pub use tree::{Tree, Written};
