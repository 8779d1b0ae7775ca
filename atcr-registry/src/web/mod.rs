//! The pages that people find, read and star images on.
//!
//! [`WebUi`] makes a router from an [`Index`](crate::index::Index). The program around it says who looks at a page and
//! writes in their name ([`Visitors`]), and where it gets bytes that the index does not have ([`Content`]); without
//! them the pages are the same for everybody. Every page is made here, works without a script, and loads nothing from
//! anywhere else. What changes something is a form with a token of the browser's session, sent from a page of this
//! registry; after it the page is shown anew (303).
//!
//! | path | page |
//! |---|---|
//! | `/` | what was pushed and what is starred |
//! | `/search?q=` | repositories by words, manifests by digest |
//! | `/u/{owner}` | an account, by handle or DID |
//! | `/r/{owner}/{repository}` | a repository: how to pull it, its tags, its history |
//! | `/r/{owner}/{repository}@{digest}` | a manifest: layers, platforms, referrers, the record |
//! | `/vulnerabilities/{owner}/{repository}@{digest}` | what a scanner found in it |
//! | `/edit/{owner}/{repository}` | for the owner: description and picture |
//! | `/avatar/{owner}/{repository}` | the picture |
//! | `/feed/{owner}/{repository}` | where tags went, as an Atom feed |
//! | `/live/{owner}` | says when an account's repo has changed |
//! | `/settings` | for whoever is signed in: hold, client, devices, their data |
//! | `/install`, `/install.sh`, `/install.ps1` | how to sign in, push and pull |
//!
//! | form (`POST`) | what it does |
//! |---|---|
//! | `/actions/star` | gives or takes back a star |
//! | `/actions/page` | writes description and picture |
//! | `/actions/delete-tag`, `/actions/move-tag` | removes a tag; points it at another manifest of the repository |
//! | `/actions/delete-manifest` | removes a manifest, with its tags if told so |
//! | `/settings`, `/settings/delete` | writes the profile; removes all records |
//! | `/settings/webhooks`, `…/test`, `…/delete` | adds a webhook; tries it; removes it |
//!
//! Below `/api/v1/` is the same as JSON, for the same cookie; `/api/v1/openapi.json` describes it.

mod actions;
mod api;
mod assets;
mod avatar;
mod brand;
mod client;
mod domain;
mod edit;
mod error;
mod feed;
mod forms;
mod home;
mod image_config;
mod install;
mod live;
mod manifest;
mod markdown;
mod owner;
mod page;
mod path;
mod report;
mod repository;
mod scan;
mod search;
mod settings;
mod ui;
mod visitors;
mod webhooks;
mod words;

pub use brand::{Brand, BrandError, Color, Logo};
pub use domain::{NoDomain, RegistryDomain};
pub use ui::WebUi;
pub use visitors::{Content, Person, Visitors};
