use std::path::Path;

use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::{Did, Handle};
use atcr_pds::plc::{Operation, PlcError, PlcState};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::plc::PlcAccount;
use super::{Address, Difference, IdentityError, IdentityMethod, key_file};
use crate::hold::{blocking, lock, signing_key_path};
use crate::{HoldConfig, HoldError};

/// Who a hold is, and whether its directory agrees.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IdentityReport {
    /// The DID; `None` before the first start of a did:plc hold.
    pub did: Option<Did>,
    /// Where the hold is reached.
    pub public_url: Url,
    /// The handle that comes with the URL.
    pub handle: Option<Handle>,
    /// The signing key as did:key; `None` when there is none yet.
    pub signing_key: Option<String>,
    /// The document as it is in effect, as far as it can be known here.
    pub document: Option<Value>,
    /// What a did:plc has besides.
    pub plc: Option<PlcReport>,
}

/// The did:plc part of an [`IdentityReport`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlcReport {
    /// The rotation key that lies on this machine, as did:key.
    pub rotation_key: Option<String>,
    /// What the directory has; `None` when it could not be asked, or has nothing.
    pub state: Option<PlcState>,
    /// Where that is not what the hold is.
    pub differences: Vec<Difference>,
    /// The operation, without `sig`, that would mend the differences.
    pub operation: Option<Value>,
    /// Whether the rotation key here may sign it.
    pub may_sign: bool,
    /// Why the directory's answer is missing.
    pub problem: Option<String>,
}

/// What an operator may ask of [`update`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UpdateOptions {
    /// Signs with this key instead of the one in the data directory: the operator's recovery key, say.
    pub sign_with: Option<SigningKey>,
    /// Rotation keys (did:key) that are to go: one that was lost or stolen.
    pub drop_rotation_keys: Vec<String>,
}

/// Who the hold is. Changes nothing, and may be called beside a running hold.
pub async fn inspect(config: &HoldConfig) -> Result<IdentityReport, HoldError> {
    let config = config.clone();
    let account = blocking(move || {
        let key = key_file::key(&signing_key_path(&config))?.map(|key| key.public_key());
        let address = Address::new(&config.public_url)?;
        let account = match (&config.identity, &key) {
            (IdentityMethod::Plc(plc), Some(key)) => {
                PlcAccount::find(&config.data_dir, plc, address.clone(), key.clone())?
            }
            _ => None,
        };
        Ok((config, address, key, account))
    });
    let (config, address, key, account) = account.await?;
    let mut report = IdentityReport {
        did: None,
        public_url: address.url().clone(),
        handle: address.handle().cloned(),
        signing_key: key.as_ref().map(PublicKey::to_did_key),
        document: None,
        plc: None,
    };
    match (&config.identity, account) {
        (IdentityMethod::Web, _) => {
            let did = address.did_web()?;
            report.document = key.map(|key| address.document(&did, &key)).transpose()?;
            report.did = Some(did);
        }
        (IdentityMethod::Plc(_), Some(account)) => describe(&mut report, &account).await,
        (IdentityMethod::Plc(_), None) => {}
    }
    Ok(report)
}

/// Brings the directory's entry of a did:plc hold up to date, signed by a key here. The hold must not run meanwhile;
/// it tells its followers at its next start.
pub async fn update(config: &HoldConfig, options: UpdateOptions) -> Result<IdentityReport, HoldError> {
    let IdentityMethod::Plc(plc) = config.identity.clone() else {
        let did = Address::new(&config.public_url)?.did_web()?;
        return Err(IdentityError::NotPlc { did }.into());
    };
    let (config, UpdateOptions { sign_with, drop_rotation_keys }) = (config.clone(), options);
    let (config, _lock, account) = blocking(move || {
        let data_dir: &Path = &config.data_dir;
        let lock = lock(data_dir, false)?;
        let address = Address::new(&config.public_url)?;
        let key = key_file::key(&signing_key_path(&config))?.ok_or(IdentityError::None)?;
        let mut account =
            PlcAccount::find(data_dir, &plc, address, key.public_key())?.ok_or(IdentityError::None)?;
        account.order(sign_with, drop_rotation_keys);
        Ok((config, lock, account))
    })
    .await?;
    account.settle().await?;
    account.remember()?;
    inspect(&config).await
}

/// Hands in an operation for the hold's did:plc that was signed elsewhere. Followers are told at the hold's next start.
pub async fn submit(config: &HoldConfig, operation: &Operation) -> Result<IdentityReport, HoldError> {
    let IdentityMethod::Plc(plc) = &config.identity else {
        let did = Address::new(&config.public_url)?.did_web()?;
        return Err(IdentityError::NotPlc { did }.into());
    };
    let report = inspect(config).await?;
    let did = report.did.ok_or(IdentityError::None)?;
    match plc.directory.submit(&did, operation).await {
        Ok(()) => inspect(config).await,
        Err(source @ PlcError::Unavailable(_)) => Err(IdentityError::Unavailable { did, source }.into()),
        Err(source) => Err(IdentityError::Refused { did, source }.into()),
    }
}

async fn describe(report: &mut IdentityReport, account: &PlcAccount) {
    let mut plc = PlcReport {
        rotation_key: account.rotation_key().map(|key| key.to_did_key()),
        state: None,
        differences: Vec::new(),
        operation: None,
        may_sign: false,
        problem: None,
    };
    match account.state().await {
        Ok(state) => {
            (plc.differences, plc.operation, plc.may_sign) = account.proposal(&state);
            report.document = Some(account.document(&state));
            plc.state = Some(state.state);
        }
        Err(error) => plc.problem = Some(error.to_string()),
    }
    report.did = Some(account.did().clone());
    report.plc = Some(plc);
}
