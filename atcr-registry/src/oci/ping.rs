//! `GET /v2/` (distribution specification, Determining Support).

use axum::response::Response;

use super::page;

pub(crate) fn get() -> Response {
    page::json("{}", None)
}
