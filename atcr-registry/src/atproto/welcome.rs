use std::fmt;

use async_trait::async_trait;
use atcr_auth::{OnSignIn, PdsSessions};
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::egress::Egress;
use atcr_core::methods::{Method as _, RequestCrew, RequestCrewInput, RequestCrewOutput};
use atcr_core::records::{ProfileRecord, Record};
use atcr_core::syntax::{Datetime, Did, RecordKey};
use atcr_core::xrpc::{XrpcClient, XrpcError};
use atcr_core::{Account, StoreError};
use serde_json::json;

use super::hold_client::session_error;
use super::pds_reader::PdsReader;

/// What a registry does when somebody has signed in: a profile for those who have none, and a request to be crew at
/// the hold that they push to. Nothing of it is needed for anything else; what fails is reported in the log and tried
/// again at the next sign-in.
pub struct Welcome {
    egress: Egress,
    identities: IdentityResolver,
    reader: PdsReader,
    default_hold: Did,
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome").field("default_hold", &self.default_hold).finish_non_exhaustive()
    }
}

impl Welcome {
    /// With the hold for those who have chosen none.
    pub fn new(egress: Egress, identities: IdentityResolver, default_hold: Did) -> Self {
        let reader = PdsReader::new(egress.clone(), identities.clone());
        Self { egress, identities, reader, default_hold }
    }

    /// The profile, made where there is none.
    async fn profile(
        &self,
        sessions: &dyn PdsSessions,
        did: &Did,
    ) -> Result<Option<ProfileRecord>, StoreError> {
        let (collection, rkey) = (ProfileRecord::collection(), RecordKey::this());
        // One that cannot be read as a profile is somebody's all the same.
        let found = self.reader.record::<serde_json::Value>(did, &collection, &rkey).await?;
        if let Some(found) = found {
            return Ok(serde_json::from_value(found.value).ok());
        }
        let record = json!({ "$type": collection, "createdAt": Datetime::now() });
        // `swapRecord: null`: whoever else makes one at this moment is not overwritten.
        let input = json!({
            "repo": did, "collection": collection, "rkey": rkey,
            "validate": false, "record": record, "swapRecord": null,
        });
        match sessions.procedure(did, "com.atproto.repo.putRecord", input).await {
            Ok(_) => tracing::info!(%did, "made a profile"),
            Err(error) if error.xrpc().and_then(XrpcError::name) == Some("InvalidSwap") => {}
            Err(error) => return Err(session_error(error)),
        }
        Ok(None)
    }

    async fn join(&self, sessions: &dyn PdsSessions, did: &Did, hold: &Did) -> Result<(), StoreError> {
        let unavailable = |source| StoreError::unavailable(format!("the hold {hold}"), source);
        let document = self.identities.dids().resolve(hold).await.map_err(|e| unavailable(e.to_string()))?;
        let url = document.service("atcr_hold").or_else(|_| document.pds());
        let url = url.map_err(|e| unavailable(e.to_string()))?;
        let token = sessions.service_token(did, hold, RequestCrew::NSID).await.map_err(session_error)?;
        let client = XrpcClient::new(self.egress.clone(), url).with_bearer(token);
        let joined: Result<RequestCrewOutput, _> =
            client.procedure(RequestCrew::NSID, &RequestCrewInput::default()).await;
        match joined {
            Ok(output) => tracing::debug!(%did, %hold, status = ?output.status, "asked to be crew"),
            // A hold that takes nobody says so; that is its answer.
            Err(error) if error.status().is_some_and(|status| status.is_client_error()) => {
                tracing::debug!(%did, %hold, %error, "not crew");
            }
            Err(error) => return Err(unavailable(error.to_string())),
        }
        Ok(())
    }
}

#[async_trait]
impl OnSignIn for Welcome {
    async fn signed_in(&self, sessions: &dyn PdsSessions, account: &Account) {
        let did = &account.did;
        let profile = self.profile(sessions, did).await.unwrap_or_else(|error| {
            tracing::warn!(%did, %error, "the profile could not be made; it is tried again at the next sign-in");
            None
        });
        let hold = profile.and_then(|profile| profile.default_hold);
        let hold = hold.as_ref().unwrap_or(&self.default_hold);
        if let Err(error) = self.join(sessions, did, hold).await {
            tracing::warn!(%did, %hold, %error, "could not ask to be crew; it is tried again at the next sign-in");
        }
    }
}
