use atcr_core::methods::{
    GetLayersForManifestOutput, NotifiedManifest, NotifyManifest, NotifyManifestOutput, Operation, error_name,
};
use atcr_core::oci::{Digest, MediaType};
use atcr_core::syntax::{AtUri, Did};
use atcr_pds::xrpc::{Params, XrpcError};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

use super::input::call;
use crate::Hold;
use crate::access::{Action, Use};
use crate::repo::NewLayer;
use crate::uploads::{Found, Trust, UploadError};

/// What the lexicon has room for in the media type of a layer, in bytes.
const MAX_MEDIA_TYPE: usize = 128;

pub(super) async fn notify(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<NotifyManifestOutput>, XrpcError> {
    let (caller, input) = call::<NotifyManifest>(&hold, request, Use::Repeatable).await?;
    let (layers_created, stats_updated) = match &input.operation {
        Operation::Push => {
            hold.inner.tokens.allow(&caller, Action::Write).await?;
            if input.user_did != caller {
                let message = format!("the manifest is of {}, but the token is of {caller}", input.user_did);
                return Err(XrpcError::new(StatusCode::FORBIDDEN, error_name::USER_MISMATCH, message));
            }
            let layers = stored(&hold, &caller, &input.manifest).await?;
            hold.inner.repo.refresh_index().await?;
            let allowed = hold.inner.roster.allowed(&caller).await?;
            let sizes: Vec<(Digest, u64)> = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
            hold.inner.uploads.check_quota_of_manifest(&caller, &sizes, allowed).await?;
            let (digest, repository) = (&input.manifest_digest, &input.repository);
            let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
            hold.inner.uploads.claim(&digests, &caller, repository).await?;
            let created = hold.inner.repo.pushed(&input.user_did, repository, digest, &layers).await?;
            (Some(created), true)
        }
        Operation::Pull => {
            hold.inner.tokens.allow(&caller, Action::Read).await?;
            (None, hold.inner.repo.pulled(&input.user_did, &input.repository).await?)
        }
        other => {
            let message = format!("operation is push or pull, not {:?}", other.as_str());
            return Err(XrpcError::bad(error_name::INVALID_OPERATION, message));
        }
    };
    Ok(Json(NotifyManifestOutput {
        success: true,
        operation: input.operation,
        stats_updated,
        layers_created,
        post_created: None,
        post_uri: None,
    }))
}

/// The blobs of a manifest that are in this hold, with the sizes that they have here; others may be in another hold.
/// What the caller uploaded counts before it is verified, and does not when it was found to be something else.
async fn stored(hold: &Hold, caller: &Did, manifest: &NotifiedManifest) -> Result<Vec<NewLayer>, XrpcError> {
    let config = manifest.config.iter().map(|config| (config.digest, config_media_type(manifest)));
    let layers = manifest.layers.iter().map(|layer| (layer.digest, layer.media_type.as_str()));
    let mut stored = Vec::new();
    for (digest, media_type) in config.chain(layers) {
        let found = match hold.inner.uploads.find_for(&digest, Some(caller), Trust::Storage).await {
            Err(UploadError::Quarantined { .. }) => None,
            found => found?,
        };
        if let Some(Found { blob, .. }) = found {
            let fits = !media_type.is_empty() && media_type.len() <= MAX_MEDIA_TYPE;
            let media_type = if fits { media_type } else { "application/octet-stream" };
            stored.push(NewLayer { digest, size: blob.size, media_type: media_type.to_owned() });
        }
    }
    Ok(stored)
}

/// A notification does not say what the config is; the manifest's own type tells.
fn config_media_type(manifest: &NotifiedManifest) -> &'static str {
    if manifest.media_type == MediaType::DOCKER_MANIFEST {
        "application/vnd.docker.container.image.v1+json"
    } else {
        "application/vnd.oci.image.config.v1+json"
    }
}

pub(super) async fn layers(
    State(hold): State<Hold>,
    params: Params,
) -> Result<Json<GetLayersForManifestOutput>, XrpcError> {
    let manifest: AtUri = params.required("manifest")?;
    Ok(Json(GetLayersForManifestOutput { layers: hold.inner.repo.layers_of(&manifest).await? }))
}
