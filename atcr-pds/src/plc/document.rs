use atcr_core::crypto::{Curve, PublicKey};
use atcr_core::syntax::Did;
use serde_json::{Value, json};

use super::PlcState;

/// The DID document of `did` in `state`, laid out as the public PLC directory does it: keys as `Multikey` with
/// absolute ids, services with relative ones, and a context line for each curve in use.
///
/// Keys of kinds that the AT Protocol does not use keep their multibase text and add no context.
pub fn did_document(did: &Did, state: &PlcState) -> Value {
    let mut context = vec!["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"];
    let mut methods = Vec::with_capacity(state.verification_methods.len());
    for (name, key) in &state.verification_methods {
        let suite = PublicKey::from_did_key(key).ok().map(|key| match key.curve() {
            Curve::K256 => "https://w3id.org/security/suites/secp256k1-2019/v1",
            Curve::P256 => "https://w3id.org/security/suites/ecdsa-2019/v1",
        });
        if let Some(suite) = suite.filter(|suite| !context.contains(suite)) {
            context.push(suite);
        }
        methods.push(json!({
            "id": format!("{did}#{name}"),
            "type": "Multikey",
            "controller": did,
            "publicKeyMultibase": key.strip_prefix("did:key:").unwrap_or(key),
        }));
    }
    let services: Vec<Value> = state
        .services
        .iter()
        .map(|(name, service)| {
            json!({"id": format!("#{name}"), "type": service.kind, "serviceEndpoint": service.endpoint})
        })
        .collect();
    json!({
        "@context": context,
        "id": did,
        "alsoKnownAs": state.also_known_as,
        "verificationMethod": methods,
        "service": services,
    })
}

#[cfg(test)]
mod tests {
    use crate::plc::{LogEntry, did_document, validate_log};

    #[test]
    fn renders_the_reference_directorys_document() {
        let log = include_bytes!("../../tests/vectors/reference-pds-0.5.35/plc-audit-log.json");
        let log: Vec<LogEntry> = serde_json::from_slice(log).unwrap();
        let document = include_bytes!("../../tests/vectors/reference-pds-0.5.35/did-doc.json");
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        let did = &log[0].did;
        let states = (1..=log.len()).map(|n| validate_log(did, &log[..n]).unwrap().unwrap());
        assert!(states.map(|state| did_document(did, &state)).any(|rendered| rendered == document));
    }
}
