//! What is asked for, and whether what was granted is enough (specification, Permissions).

use std::fmt;

use atcr_core::methods::{
    AbortUpload, CompleteUpload, DeleteBlob, DeleteUserData, ExportUserData, GetLayersForManifest,
    GetPartUploadUrl, GetQuota, InitiateUpload, Method, NotifyManifest, RequestCrew, SetStats, UploadPart,
};
use atcr_core::oci::MediaType;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

/// What every session has.
const ATPROTO: &str = "atproto";
/// All but chats and e-mail, of servers from before there were permissions.
const GENERIC: &str = "transition:generic";
/// The published permission set, which a server shows by its title.
const FULL_APP: &str = "include:io.atcr.authFullApp";
/// The collections that a registry writes.
const COLLECTIONS: [&str; 5] =
    ["io.atcr.manifest", "io.atcr.tag", "io.atcr.sailor.profile", "io.atcr.sailor.star", "io.atcr.repo.page"];
const ACTIONS: [&str; 3] = ["create", "update", "delete"];
/// The manifests that are uploaded as blobs.
const MANIFESTS: [&str; 4] =
    [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];
/// The pictures of repositories. A session that does not permit them is enough for everything else.
const PICTURES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];
/// What a registry does at holds for a user. A service token for any hold (`aud=*`) is bound to one method.
const METHODS: [&str; 14] = [
    InitiateUpload::NSID,
    GetPartUploadUrl::NSID,
    UploadPart::NSID,
    CompleteUpload::NSID,
    AbortUpload::NSID,
    NotifyManifest::NSID,
    GetLayersForManifest::NSID,
    DeleteBlob::NSID,
    GetQuota::NSID,
    RequestCrew::NSID,
    SetStats::NSID,
    ExportUserData::NSID,
    DeleteUserData::NSID,
    "com.atproto.sync.getBlob",
];

/// How much is asked for: the steps of a ladder that is gone down when a server does not know the one above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The published permission set, and what a set cannot hold.
    Set,
    /// Each permission by itself, where the set cannot be resolved.
    Each,
    /// `transition:generic`, where permissions are not known.
    Generic,
}

impl Ask {
    /// The next step down.
    pub(super) fn less_precise(self) -> Option<Self> {
        match self {
            Self::Set => Some(Self::Each),
            Self::Each => Some(Self::Generic),
            Self::Generic => None,
        }
    }

    /// The scope to ask for.
    pub(super) fn scope(self) -> String {
        let mut scopes = vec![ATPROTO.to_owned()];
        match self {
            Self::Set => scopes.push(FULL_APP.to_owned()),
            Self::Each => scopes.extend(COLLECTIONS.map(|name| format!("repo:{name}"))),
            Self::Generic => scopes.push(GENERIC.to_owned()),
        }
        if self != Self::Generic {
            scopes.extend(MANIFESTS.iter().chain(&PICTURES).map(|media_type| format!("blob:{media_type}")));
            scopes.extend(METHODS.map(|method| format!("rpc:{method}?aud=*")));
        }
        scopes.join(" ")
    }
}

/// Everything that may ever be asked for: what the client's metadata declare.
pub(super) fn declared() -> String {
    let mut all: Vec<String> = Vec::new();
    for ask in [Ask::Set, Ask::Each, Ask::Generic] {
        for scope in ask.scope().split(' ') {
            if !all.iter().any(|known| known == scope) {
                all.push(scope.to_owned());
            }
        }
    }
    all.join(" ")
}

/// What a server says it has granted.
#[derive(Debug, Clone)]
pub(super) struct Granted<'a>(Vec<Permission<'a>>);

#[derive(Debug, Clone)]
struct Permission<'a> {
    resource: &'a str,
    positional: Option<String>,
    params: Vec<(String, String)>,
}

/// A permission that a registry cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    Atproto,
    Repo(&'static str),
    Blob(&'static str),
    Rpc(&'static str),
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Atproto => f.write_str(ATPROTO),
            Self::Repo(collection) => write!(f, "repo:{collection}"),
            Self::Blob(media_type) => write!(f, "blob:{media_type}"),
            Self::Rpc(method) => write!(f, "rpc:{method}?aud=*"),
        }
    }
}

impl<'a> Granted<'a> {
    pub(super) fn parse(scope: &'a str) -> Self {
        Self(scope.split(' ').filter(|item| !item.is_empty()).map(Permission::parse).collect())
    }

    /// What is lacking.
    pub(super) fn missing(&self) -> Vec<Needed> {
        let needed = [Needed::Atproto]
            .into_iter()
            .chain(COLLECTIONS.map(Needed::Repo))
            .chain(MANIFESTS.map(Needed::Blob))
            .chain(METHODS.map(Needed::Rpc));
        needed.filter(|needed| !self.allows(*needed)).collect()
    }

    /// Whether no permission of any kind was granted, as by a server that does not know them.
    pub(super) fn is_bare(&self) -> bool {
        self.0.iter().all(|permission| permission.resource == ATPROTO)
    }

    fn allows(&self, needed: Needed) -> bool {
        match needed {
            Needed::Atproto => self.0.iter().any(|p| p.resource == ATPROTO && p.is_word()),
            _ if self.0.iter().any(Permission::is_generic) => true,
            // Each action may have come with a permission of its own.
            Needed::Repo(collection) => ACTIONS.iter().all(|action| {
                self.of("repo").any(|p| {
                    p.names("collection").any(|name| name == "*" || name == collection)
                        && (p.param("action").next().is_none() || p.param("action").any(|a| a == *action))
                })
            }),
            Needed::Blob(media_type) => {
                self.of("blob").any(|p| p.names("accept").any(|accepted| accepts(accepted, media_type)))
            }
            Needed::Rpc(method) => self
                .of("rpc")
                .any(|p| p.param("aud").any(|aud| aud == "*") && p.names("lxm").any(|lxm| lxm == method)),
        }
    }

    fn of(&self, resource: &'static str) -> impl Iterator<Item = &Permission<'a>> {
        self.0.iter().filter(move |permission| permission.resource == resource)
    }
}

impl<'a> Permission<'a> {
    fn parse(text: &'a str) -> Self {
        let (head, query) = text.split_once('?').unwrap_or((text, ""));
        let (resource, positional) = match head.split_once(':') {
            Some((resource, value)) => {
                (resource, Some(percent_decode_str(value).decode_utf8_lossy().into_owned()))
            }
            None => (head, None),
        };
        let params = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { resource, positional, params }
    }

    fn is_word(&self) -> bool {
        self.positional.is_none() && self.params.is_empty()
    }

    fn is_generic(&self) -> bool {
        self.resource == "transition" && self.positional.as_deref() == Some("generic")
    }

    fn param(&self, name: &str) -> impl Iterator<Item = &str> {
        self.params.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values that stand after the colon, or in the parameter of this name.
    fn names(&self, name: &str) -> impl Iterator<Item = &str> {
        self.positional.as_deref().into_iter().chain(self.param(name))
    }
}

/// Whether a pattern such as `*/*` or `application/*` takes a media type.
fn accepts(pattern: &str, media_type: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some("*") => true,
        Some(kind) => media_type.split_once('/').is_some_and(|(first, _)| first == kind),
        None => pattern == media_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn missing(scope: &str) -> Vec<String> {
        Granted::parse(scope).missing().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_asked_for_is_enough_and_declared() {
        assert_eq!(missing(&Ask::Each.scope()), [""; 0]);
        assert_eq!(missing(&Ask::Generic.scope()), [""; 0]);
        let declared = declared();
        for ask in [Ask::Set, Ask::Each, Ask::Generic] {
            for scope in ask.scope().split(' ') {
                assert!(declared.split(' ').any(|known| known == scope), "{scope}");
            }
        }
        assert!(declared.contains("rpc:io.atcr.hold.deleteBlob?aud=*"));
    }

    #[test]
    fn a_permission_set_comes_back_expanded() {
        let rest = Ask::Set.scope().replace(FULL_APP, "");
        let expanded = COLLECTIONS.map(|name| format!("collection={name}")).join("&");
        assert_eq!(missing(&format!("repo?{expanded} {rest}")), [""; 0]);
        let actions = "action=create&action=update&action=delete";
        assert_eq!(missing(&format!("repo?{expanded}&{actions} {rest}")), [""; 0]);
        assert_eq!(
            missing(&format!(
                "repo?{expanded}&action=create&action=update repo?{expanded}&action=delete {rest}"
            )),
            [""; 0]
        );
        // A set that somebody has published with less in it.
        assert_eq!(missing(&format!("repo:io.atcr.manifest {rest}")).len(), 4);
        assert_eq!(missing(&format!("repo?{expanded}&action=create {rest}")).len(), 5);
    }

    #[test]
    fn what_was_left_out_is_noticed_one_by_one() {
        let full = Ask::Each.scope();
        for scope in full.split(' ') {
            let rest: Vec<&str> = full.split(' ').filter(|other| *other != scope).collect();
            let wished = PICTURES.iter().any(|picture| scope == format!("blob:{picture}"));
            assert_eq!(missing(&rest.join(" ")), if wished { vec![] } else { vec![scope] });
        }
        assert!(Granted::parse("atproto").is_bare());
        assert!(!Granted::parse("atproto repo:io.atcr.tag").is_bare());
    }

    #[test]
    fn wider_grants_count_and_narrower_ones_do_not() {
        let only = |needed: Needed, scope: &str| Granted::parse(scope).allows(needed);
        let manifest = Needed::Blob(MediaType::OCI_MANIFEST);
        assert!(only(manifest, "blob:*/*") && only(manifest, "blob:application/*"));
        assert!(only(manifest, "blob?accept=image/*&accept=application/*"));
        assert!(
            !only(manifest, "blob:image/*") && !only(manifest, "blob:application") && !only(manifest, "blob")
        );
        let method = Needed::Rpc(DeleteBlob::NSID);
        assert!(only(method, "rpc?lxm=io.atcr.hold.getQuota&lxm=io.atcr.hold.deleteBlob&aud=*"));
        assert!(!only(method, "rpc:io.atcr.hold.deleteBlob?aud=did:web:hold.example%23atcr_hold"));
        assert!(!only(method, "rpc:io.atcr.hold.deleteBlob"));
        let tag = Needed::Repo("io.atcr.tag");
        assert!(only(tag, "repo:*") && only(tag, "repo:io.atcr.tag"));
        assert!(!only(tag, "repo:io.atcr.*") && !only(tag, "repo:io.atcr.tag?action=create"));
        assert!(!only(Needed::Atproto, "atproto:x") && !only(tag, "transition:email"));
    }

    proptest! {
        #[test]
        fn no_answer_of_a_server_makes_it_panic(scope in any::<String>()) {
            let granted = Granted::parse(&scope);
            let _ = (granted.missing(), granted.is_bare());
        }
    }
}
