//! The pages that people find, read and star images on.
//!
//! [`WebUi`] makes a router from an [`Index`](crate::index::Index) and, where people can sign in, the
//! [`Browsers`](atcr_auth::browser::Browsers) of this registry. Every page is
//! made here, works without a script, and loads nothing from anywhere else.
//!
//! | path | page |
//! |---|---|
//! | `/` | what was pushed and what is starred |
//! | `/search?q=` | repositories by words, manifests by digest |
//! | `/u/{owner}` | an account, by handle or DID |
//! | `/r/{owner}/{repository}` | a repository: how to pull it, its tags, its history |
//! | `/r/{owner}/{repository}@{digest}` | a manifest: layers, platforms, referrers, the record |
//! | `/live/{owner}` | says when an account's repo has changed |
//! | `/install` | how to sign in, push and pull |
//!
//! Below `/api/v1/` is the same as JSON; `/api/v1/openapi.json` describes it.

mod api;
mod assets;
mod client;
mod error;
mod home;
mod install;
mod live;
mod manifest;
mod markdown;
mod owner;
mod page;
mod path;
mod repository;
mod search;
mod ui;
mod words;

pub use ui::WebUi;
