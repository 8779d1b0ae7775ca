//! The paths below `/v2/` (distribution specification, Endpoints).
//!
//! A repository's name may contain any of the words that the paths are made of (`a/blobs/uploads` is a name), so a
//! path is read from its end.

use std::str::FromStr;

use atcr_core::oci::{Digest, Reference, RepositoryName};
use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    Api,
    Catalog,
    Tags(RepositoryName),
    Referrers(RepositoryName, Digest),
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
}

/// Why a path names nothing; the texts are for the person at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathError {
    Unknown,
    Name(String),
    Digest(String),
    Reference(String),
}

impl Path {
    /// Reads the path of a request; its segments may be percent-encoded.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Api),
            Some(rest) => rest.strip_prefix('/').ok_or(PathError::Unknown)?,
            None => return Err(PathError::Unknown),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let (rest, last) = rest.rsplit_once('/').ok_or(PathError::Unknown)?;
        if last.is_empty() {
            let name = rest.strip_suffix("/blobs/uploads").ok_or(PathError::Unknown)?;
            return Ok(Self::Uploads(repository(name)?));
        }
        let (name, kind) = rest.rsplit_once('/').ok_or(PathError::Unknown)?;
        match (kind, last) {
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("blobs", "uploads") => Ok(Self::Uploads(repository(name)?)),
            ("uploads", token) => {
                let name = name.strip_suffix("/blobs").ok_or(PathError::Unknown)?;
                Ok(Self::Upload(repository(name)?, decode(token).ok_or(PathError::Unknown)?))
            }
            ("blobs", digest) => Ok(Self::Blob(repository(name)?, parse(digest, PathError::Digest)?)),
            ("referrers", digest) => {
                Ok(Self::Referrers(repository(name)?, parse(digest, PathError::Digest)?))
            }
            ("manifests", reference) => {
                let name = repository(name)?;
                let is_digest = decode(reference).is_some_and(|text| text.contains(':'));
                let error = if is_digest { PathError::Digest } else { PathError::Reference };
                Ok(Self::Manifest(name, parse(reference, error)?))
            }
            _ => Err(PathError::Unknown),
        }
    }

    /// The word for it in a log.
    pub(crate) fn endpoint(&self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) => "uploads",
            Self::Upload(..) => "upload",
        }
    }

    /// The repository, where there is one.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Api | Self::Catalog => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    /// The methods it has, as an `Allow` header says them.
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Self::Api | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }
}

fn decode(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

fn parse<T: FromStr<Err: ToString>>(segment: &str, error: fn(String) -> PathError) -> Result<T, PathError> {
    let text = decode(segment).ok_or_else(|| error("the path is not UTF-8".to_owned()))?;
    text.parse().map_err(|e: T::Err| error(e.to_string()))
}

/// The slashes of a name are those of the path: an encoded one is not a separator.
fn repository(path: &str) -> Result<RepositoryName, PathError> {
    if path.contains("%2F") || path.contains("%2f") {
        return Err(PathError::Name("a repository name is written with plain slashes".to_owned()));
    }
    parse(path, PathError::Name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn every_endpoint_is_found() {
        let path = |text: &str| Path::parse(text).unwrap();
        let digest: Digest = DIGEST.parse().unwrap();
        assert_eq!(path("/v2"), Path::Api);
        assert_eq!(path("/v2/"), Path::Api);
        assert_eq!(path("/v2/_catalog"), Path::Catalog);
        assert_eq!(path("/v2/a/tags/list"), Path::Tags(name("a")));
        assert_eq!(path("/v2/a/b/manifests/1.0"), Path::Manifest(name("a/b"), "1.0".parse().unwrap()));
        assert_eq!(path(&format!("/v2/a/manifests/{DIGEST}")), Path::Manifest(name("a"), digest.into()));
        assert_eq!(path(&format!("/v2/a/blobs/{DIGEST}")), Path::Blob(name("a"), digest));
        assert_eq!(path(&format!("/v2/a/referrers/{DIGEST}")), Path::Referrers(name("a"), digest));
        assert_eq!(path("/v2/a/blobs/uploads/"), Path::Uploads(name("a")));
        assert_eq!(path("/v2/a/blobs/uploads"), Path::Uploads(name("a")));
        assert_eq!(path("/v2/a/blobs/uploads/x.y_z-0"), Path::Upload(name("a"), "x.y_z-0".to_owned()));
    }

    #[test]
    fn a_name_may_be_made_of_the_words_of_the_paths() {
        let path = |text: &str| Path::parse(text).unwrap();
        assert_eq!(path("/v2/a/blobs/uploads/tags/list"), Path::Tags(name("a/blobs/uploads")));
        assert_eq!(path("/v2/tags/list/tags/list"), Path::Tags(name("tags/list")));
        assert_eq!(path("/v2/blobs/blobs/uploads/"), Path::Uploads(name("blobs")));
        assert_eq!(
            path("/v2/blobs/uploads/blobs/uploads/t"),
            Path::Upload(name("blobs/uploads"), "t".to_owned())
        );
        let manifest = Path::Manifest(name("manifests/manifests"), "latest".parse().unwrap());
        assert_eq!(path("/v2/manifests/manifests/manifests/latest"), manifest);
    }

    #[test]
    fn segments_may_be_percent_encoded_but_not_their_slashes() {
        let digest: Digest = DIGEST.parse().unwrap();
        let encoded = format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A"));
        assert_eq!(Path::parse(&encoded), Ok(Path::Blob(name("a"), digest)));
        assert_eq!(Path::parse("/v2/did%3Aplc%3Aabc/app/tags/list"), Ok(Path::Tags(name("did:plc:abc/app"))));
        assert!(matches!(Path::parse("/v2/a%2Fb/tags/list"), Err(PathError::Name(_))));
        assert!(matches!(Path::parse("/v2/a%ff/tags/list"), Err(PathError::Name(_))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(Path::parse("/v2/A/tags/list"), Err(PathError::Name(_))));
        assert!(matches!(Path::parse("/v2/a/../b/tags/list"), Err(PathError::Name(_))));
        assert!(matches!(Path::parse("/v2/a/blobs/sha256:bad"), Err(PathError::Digest(_))));
        assert!(matches!(Path::parse("/v2/a/manifests/sha256:bad"), Err(PathError::Digest(_))));
        assert!(matches!(Path::parse("/v2/a/manifests/.bad"), Err(PathError::Reference(_))));
        for unknown in ["", "/", "/v1/", "/v2x", "/v2/a", "/v2/a/", "/v2/a/tags/", "/v2/a/uploads/x", "/v2//"]
        {
            assert_eq!(Path::parse(unknown), Err(PathError::Unknown), "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_harm(path in "(/v2)?[/a-z%0-9:._-]{0,60}") {
            let _ = Path::parse(&path);
        }

        #[test]
        fn a_name_survives(parts in prop::collection::vec("(blobs|uploads|tags|list|manifests|referrers|[a-z]{1,3})", 1..6)) {
            let repository = name(&parts.join("/"));
            prop_assert_eq!(Path::parse(&format!("/v2/{repository}/tags/list")), Ok(Path::Tags(repository.clone())));
            prop_assert_eq!(Path::parse(&format!("/v2/{repository}/blobs/uploads/")), Ok(Path::Uploads(repository.clone())));
            prop_assert_eq!(
                Path::parse(&format!("/v2/{repository}/blobs/uploads/t")),
                Ok(Path::Upload(repository.clone(), "t".to_owned()))
            );
            prop_assert_eq!(
                Path::parse(&format!("/v2/{repository}/manifests/list")),
                Ok(Path::Manifest(repository, "list".parse().unwrap()))
            );
        }
    }
}
