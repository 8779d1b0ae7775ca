//! Seeds of the targets that people sign in by: tokens, proofs, what servers say of themselves and of accounts.

/// The names of the targets.
pub const TARGETS: [&str; 6] =
    ["auth_jwt", "auth_server_metadata", "handle_answer", "helper_stdin", "outside_json", "pds_dpop"];

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let seeds: &[&str] = match target {
        "auth_jwt" => &[REGISTRY_TOKEN, SERVICE_TOKEN, UNSIGNED],
        "auth_server_metadata" => &[SERVER],
        "handle_answer" => {
            &["did:plc:ewvi7nxzyoun6zhxrhs64oiz\n", "did=did:web:alice.example\nv=spf1 -all\n"]
        }
        "helper_stdin" => &["https://registry.example", "localhost:5000\n", STORE, KUBELET],
        "outside_json" => &[DID_DOCUMENT, MANIFEST, TAG],
        "pds_dpop" => &[PROOF],
        other => panic!("there is no target {other}"),
    };
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

// Their signatures are the bytes 0 to 63.
const REGISTRY_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsifQ.eyJpc3MiOiJyZWdpc3RyeS5leGFtcGxlIiwiYXVkIjoicmVnaXN0cnkuZXhhbXBsZSIsInN1YiI6ImRpZDpwbGM6YWxpY2UiLCJleHAiOjE4MDAwMDAzMDAsImlhdCI6MTgwMDAwMDAwMCwiYWNjZXNzIjpbeyJ0eXBlIjoicmVwb3NpdG9yeSIsIm5hbWUiOiJhbGljZS5leGFtcGxlL2FwcCIsImFjdGlvbnMiOlsicHVsbCJdfV19.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-Pw";
const SERVICE_TOKEN: &str = "eyJhbGciOiJFUzI1NksiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJkaWQ6cGxjOmFsaWNlIiwiYXVkIjoiZGlkOndlYjpob2xkLmV4YW1wbGUiLCJseG0iOiJpby5hdGNyLmhvbGQuaW5pdGlhdGVVcGxvYWQiLCJleHAiOjE4MDAwMDAwNjAsImlhdCI6MTgwMDAwMDAwMCwianRpIjoiMSJ9.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-Pw";
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJkaWQ6cGxjOmFsaWNlI2F0cHJvdG9fcGRzIiwiYXVkIjoiZGlkOndlYjpob2xkLmV4YW1wbGUjYXRjcl9ob2xkIiwiZXhwIjoxODAwMDAwMDYwfQ.";
const PROOF: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImRwb3Arand0IiwiandrIjp7Imt0eSI6IkVDIiwiY3J2IjoiUC0yNTYiLCJ4IjoiZjgzT0ozRDJ4RjFCZzh2dWI5dExlMWdITXpWNzZlOFR1czl1UEh2UlZFVSIsInkiOiJ4X0ZFelJ1OW0zNkhMTl90dWU2NTlMTnBYVzZwQ3lTdGlrWWpLSVdJNWEwIn19.eyJodG0iOiJQT1NUIiwiaHR1IjoiaHR0cDovL2xvY2FsaG9zdDoyNTgzL29hdXRoL3BhciIsImlhdCI6MTgwMDAwMDAwMCwianRpIjoiMSJ9.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-Pw";
const SERVER: &str = r#"{"issuer":"https://pds.example","authorization_endpoint":"https://pds.example/oauth/authorize","token_endpoint":"https://pds.example/oauth/token","pushed_authorization_request_endpoint":"https://pds.example/oauth/par","revocation_endpoint":"https://pds.example/oauth/revoke","require_pushed_authorization_requests":true,"client_id_metadata_document_supported":true,"authorization_response_iss_parameter_supported":true,"response_types_supported":["code"],"grant_types_supported":["authorization_code","refresh_token"],"code_challenge_methods_supported":["S256"],"token_endpoint_auth_methods_supported":["none","private_key_jwt"],"token_endpoint_auth_signing_alg_values_supported":["ES256"],"scopes_supported":["atproto","transition:generic"],"dpop_signing_alg_values_supported":["ES256"]}"#;
const DID_DOCUMENT: &str = r##"{"id":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","alsoKnownAs":["at://alice.example"],"verificationMethod":[{"id":"did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto","type":"Multikey","controller":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","publicKeyMultibase":"zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w"}],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example"}]}"##;
const MANIFEST: &str = r#"{"$type":"io.atcr.manifest","repository":"app","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","holdDid":"did:web:hold.example","mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"createdAt":"2026-01-01T00:00:00Z"}"#;
const TAG: &str = r#"{"$type":"io.atcr.tag","repository":"app","tag":"1.0","manifestDigest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","updatedAt":"2026-01-01T00:00:00Z"}"#;
const STORE: &str = r#"{"ServerURL":"https://registry.example","Username":"alice.example","Secret":"s"}"#;
const KUBELET: &str = r#"{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderRequest","image":"registry.example/alice.example/app:1"}"#;
