use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// The example lexicons of the published vectors.
fn catalog() -> Lexicons {
    Lexicons::parse([
        include_str!("../../tests/vectors/lexicon/catalog/permission-set.json"),
        include_str!("../../tests/vectors/lexicon/catalog/procedure.json"),
        include_str!("../../tests/vectors/lexicon/catalog/query.json"),
        include_str!("../../tests/vectors/lexicon/catalog/record.json"),
        include_str!("../../tests/vectors/lexicon/catalog/subscription.json"),
    ])
    .unwrap()
}

#[derive(Deserialize)]
struct DataVector {
    name: String,
    data: Value,
}

#[derive(Deserialize)]
struct LexiconVector {
    name: String,
    lexicon: Value,
}

#[test]
fn the_published_records_are_judged_as_published() {
    let lexicons = catalog();
    let nsid = "example.lexicon.record".parse().unwrap();
    let valid: Vec<DataVector> =
        serde_json::from_str(include_str!("../../tests/vectors/lexicon/record-data-valid.json")).unwrap();
    let invalid: Vec<DataVector> =
        serde_json::from_str(include_str!("../../tests/vectors/lexicon/record-data-invalid.json")).unwrap();
    assert!(valid.len() >= 3 && invalid.len() >= 40);
    for vector in valid {
        assert_eq!(lexicons.validate_record(&nsid, &vector.data), Ok(()), "{}", vector.name);
    }
    for vector in invalid {
        assert!(
            matches!(lexicons.validate_record(&nsid, &vector.data), Err(LexiconError::Invalid { .. })),
            "invalid, but accepted: {}",
            vector.name
        );
    }
}

#[test]
fn the_published_lexicons_are_judged_as_published() {
    let valid: Vec<LexiconVector> =
        serde_json::from_str(include_str!("../../tests/vectors/lexicon/lexicon-valid.json")).unwrap();
    let invalid: Vec<LexiconVector> =
        serde_json::from_str(include_str!("../../tests/vectors/lexicon/lexicon-invalid.json")).unwrap();
    assert!(!valid.is_empty() && !invalid.is_empty());
    for vector in valid {
        Lexicons::parse([&*vector.lexicon.to_string()])
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
    }
    for vector in invalid {
        let parsed = Lexicons::parse([&*vector.lexicon.to_string()]);
        assert!(matches!(parsed, Err(LexiconError::Document(_))), "invalid, but read: {}", vector.name);
    }
}

#[test]
fn every_built_in_lexicon_is_read_under_its_own_name() {
    for (name, text) in BUILTIN {
        let document = Document::parse(text).unwrap();
        assert_eq!(document.id.as_str(), *name);
        assert!(Lexicons::builtin().contains(&document.id));
    }
    let mut files = Vec::new();
    let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lexicons/io")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), BUILTIN.len(), "every file is built in: {files:?}");
}

#[test]
fn a_rule_that_is_not_known_is_not_passed_over() {
    let lexicon = json!({
        "lexicon": 1, "id": "example.lexicon.other",
        "defs": {"demo": {"type": "string", "maxWords": 3}},
    });
    assert!(matches!(Lexicons::parse([&*lexicon.to_string()]), Err(LexiconError::Document(_))));
}

#[test]
fn references_that_turn_in_a_circle_end() {
    let lexicon = json!({
        "lexicon": 1, "id": "example.lexicon.tree",
        "defs": {
            "node": {"type": "object", "properties": {"next": {"type": "ref", "ref": "#node"}}},
        },
    });
    let lexicons = Lexicons::parse([&*lexicon.to_string()]).unwrap();
    let nsid = "example.lexicon.tree".parse().unwrap();
    let mut value = json!({});
    for _ in 0..20 {
        value = json!({ "next": value });
    }
    assert_eq!(lexicons.validate_def(&nsid, "node", &value), Ok(()));
    for _ in 0..200 {
        value = json!({ "next": value });
    }
    assert!(lexicons.validate_def(&nsid, "node", &value).is_err());
}

#[test]
fn an_error_says_where_and_an_unknown_collection_is_told_apart() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut record = json!({
        "$type": "io.atcr.manifest", "repository": "app", "digest": digest, "mediaType": "a/b",
        "schemaVersion": 2, "createdAt": "2026-08-01T00:00:00Z",
        "layers": [{"mediaType": "a/b", "digest": digest, "size": 1}, {"mediaType": "a/b", "digest": digest}],
    });
    let nsid = "io.atcr.manifest".parse().unwrap();
    let error = validate_record(&nsid, &record).unwrap_err();
    assert_eq!(error.to_string(), "layers.1: the required field size is missing");
    record["layers"] = json!([]);
    assert_eq!(validate_record(&nsid, &record), Ok(()));
    record["$type"] = "io.atcr.tag".into();
    assert!(matches!(validate_record(&nsid, &record), Err(LexiconError::Invalid { .. })));
    let other = "app.bsky.feed.post".parse().unwrap();
    assert!(matches!(validate_record(&other, &record), Err(LexiconError::Unknown(_))));
    // A method is not a collection.
    let method = "io.atcr.hold.getQuota".parse().unwrap();
    assert!(matches!(validate_record(&method, &record), Err(LexiconError::Unknown(_))));
}
