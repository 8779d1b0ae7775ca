use super::*;

const HOLD: &str = "did:web:hold.example.com#atcr_hold";

/// Each line of the reference server's table that is not about permission sets: scope, what is granted, and what it
/// allows: put, create, delete of a manifest, a manifest blob, service tokens with and without fragment, without method.
const MATRIX: [(&str, &str, [bool; 7]); 20] = {
    const NONE: [bool; 7] = [false; 7];
    const ALL: [bool; 7] = [true; 7];
    const REPO: [bool; 7] = [true, true, true, false, false, false, false];
    const BLOB: [bool; 7] = [false, false, false, true, false, false, false];
    [
        ("atproto", "atproto", NONE),
        ("transition:generic", "transition:generic", ALL),
        ("transition:email", "transition:email", NONE),
        ("transition:chat.bsky", "transition:chat.bsky", NONE),
        ("repo:io.atcr.manifest", "repo:io.atcr.manifest", REPO),
        (
            "repo:io.atcr.manifest?action=create",
            "repo:io.atcr.manifest?action=create",
            [false, true, false, false, false, false, false],
        ),
        (
            "repo:io.atcr.manifest?action=create&action=update",
            "repo:io.atcr.manifest?action=create&action=update",
            [true, true, false, false, false, false, false],
        ),
        (
            "repo?collection=io.atcr.manifest&collection=io.atcr.tag",
            "repo?collection=io.atcr.manifest&collection=io.atcr.tag",
            REPO,
        ),
        ("repo:io.atcr.*", "", NONE),
        ("repo:*", "repo:*", REPO),
        ("blob:*/*", "blob:*/*", BLOB),
        (
            "blob:application/vnd.oci.image.manifest.v1+json",
            "blob:application/vnd.oci.image.manifest.v1+json",
            BLOB,
        ),
        ("blob:application/*", "blob:application/*", BLOB),
        ("blob?accept=application/*&accept=image/*", "blob?accept=application/*&accept=image/*", BLOB),
        (
            "rpc:io.atcr.hold.uploadBlob?aud=did:web:hold.example.com%23atcr_hold",
            "rpc:io.atcr.hold.uploadBlob?aud=did:web:hold.example.com%23atcr_hold",
            [false, false, false, false, true, false, false],
        ),
        (
            "rpc:*?aud=did:web:hold.example.com%23atcr_hold",
            "rpc:*?aud=did:web:hold.example.com%23atcr_hold",
            [false, false, false, false, true, false, true],
        ),
        (
            "rpc:io.atcr.hold.uploadBlob?aud=*",
            "rpc:io.atcr.hold.uploadBlob?aud=*",
            [false, false, false, false, true, true, false],
        ),
        ("rpc:*?aud=*", "", NONE),
        ("rpc:io.atcr.hold.uploadBlob", "", NONE),
        ("rpc:io.atcr.hold.uploadBlob?aud=did:web:hold.example.com", "", NONE),
    ]
};

#[test]
fn scopes_allow_what_the_reference_server_lets_them_allow() {
    let manifest: Nsid = "io.atcr.manifest".parse().unwrap();
    for (asked, granted, allowed) in MATRIX {
        let scopes = Scopes::understood(asked);
        assert_eq!(scopes.as_str(), granted, "{asked}");
        let repo = |action| scopes.check_repo(&manifest, action).is_ok();
        let rpc = |method: &str, audience: &str| scopes.check_rpc(method, audience).is_ok();
        let seen = [
            repo(RepoAction::Create) && repo(RepoAction::Update),
            repo(RepoAction::Create),
            repo(RepoAction::Delete),
            scopes.check_blob("application/vnd.oci.image.manifest.v1+json").is_ok(),
            rpc("io.atcr.hold.uploadBlob", HOLD),
            rpc("io.atcr.hold.uploadBlob", "did:web:hold.example.com"),
            rpc("*", HOLD),
        ];
        assert_eq!(seen, allowed, "{asked}");
    }
}

#[test]
fn a_missing_scope_is_named_as_it_would_have_to_be_asked_for() {
    let scopes = Scopes::understood("atproto");
    let other: Nsid = "io.other.thing".parse().unwrap();
    assert_eq!(
        scopes.check_repo(&other, RepoAction::Create).unwrap_err(),
        "repo:io.other.thing?action=create"
    );
    assert_eq!(
        scopes.check_blob("application/vnd.oci.image.manifest.v1+json").unwrap_err(),
        "blob:application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        scopes.check_rpc("io.atcr.hold.x", HOLD).unwrap_err(),
        format!("rpc:io.atcr.hold.x?aud={}", HOLD.replace('#', "%23"))
    );
    assert_eq!(
        scopes.check_account(AccountAttribute::Status, true).unwrap_err(),
        "account:status?action=manage"
    );
    assert_eq!(scopes.check_account(AccountAttribute::Email, false).unwrap_err(), "account:email");
    assert_eq!(scopes.check_identity(IdentityAttribute::Handle).unwrap_err(), "identity:handle");
}

#[test]
fn unknown_and_malformed_scopes_are_not_understood() {
    for scope in [
        "bogus:thing",
        "repo",
        "repo:",
        "repo:io.atcr.manifest?collection=io.atcr.tag",
        "repo:io.atcr.manifest?action=admin",
        "repo:io.atcr.manifest?more=x",
        "repo:io.atcr.manifest%",
        "repository:io.atcr.manifest",
        "blob",
        "blob:*",
        "blob:*/png",
        "blob:image/p*",
        "blob:a/b/c",
        "rpc:io.atcr.x?aud=https://x.example.com",
        "account",
        "account:password",
        "account:email?action=delete",
        "identity:keys",
        "identity:*?action=manage",
        "include:nope",
        "include:io.atcr.authBasic?aud=did:web:hold.example.com",
        "transition:everything",
        "ATPROTO",
        "",
    ] {
        assert_eq!(Scopes::understood(scope).permissions(), [], "{scope}");
    }
    assert_eq!(Scopes::understood("atproto bogus repo:* atproto").as_str(), "atproto repo:*");
}

#[test]
fn the_text_of_a_scope_is_bounded_and_has_no_odd_characters() {
    assert!(is_scope_text("atproto repo:*"));
    for bad in
        ["", " ", "atproto  x", "a\"b", "a\\b", "a\nb", "\u{e9}", &"x ".repeat(9000), &"x".repeat(20_000)]
    {
        assert!(!is_scope_text(bad), "{bad:.20}");
    }
}
