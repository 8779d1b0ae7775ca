use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::jwt::ALGORITHMS;
use crate::accounts::Pds;

/// RFC 9728.
pub(super) async fn protected_resource(State(pds): State<Pds>) -> Json<Value> {
    Json(json!({
        "resource": pds.issuer(),
        "authorization_servers": [pds.issuer()],
        "scopes_supported": [],
        "bearer_methods_supported": ["header"],
        "resource_documentation": "https://atproto.com",
    }))
}

/// RFC 8414.
pub(super) async fn authorization_server(State(pds): State<Pds>) -> Json<Value> {
    let issuer = pds.issuer();
    let endpoint = |name: &str| format!("{issuer}/oauth/{name}");
    Json(json!({
        "issuer": issuer,
        "scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
        "subject_types_supported": ["public"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "ui_locales_supported": ["en-US"],
        "display_values_supported": ["page", "popup", "touch"],
        "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        "authorization_response_iss_parameter_supported": true,
        "request_object_signing_alg_values_supported": [],
        "request_object_encryption_alg_values_supported": [],
        "request_object_encryption_enc_values_supported": [],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": true,
        "require_request_uri_registration": true,
        "jwks_uri": endpoint("jwks"),
        "authorization_endpoint": endpoint("authorize"),
        "token_endpoint": endpoint("token"),
        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint": endpoint("revoke"),
        "pushed_authorization_request_endpoint": endpoint("par"),
        "require_pushed_authorization_requests": true,
        "dpop_signing_alg_values_supported": ALGORITHMS,
        "protected_resources": [issuer],
        "client_id_metadata_document_supported": true,
    }))
}

/// The server's own keys: none that anybody else could verify a token with.
pub(super) async fn jwks() -> Json<Value> {
    Json(json!({"keys": []}))
}
