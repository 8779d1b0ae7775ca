use std::collections::BTreeMap;

use atcr_core::crypto::{Curve, PublicKey, SigningKey};
use atcr_core::syntax::{Datetime, Did, Handle};

use super::store::Account;
use super::{AccountError, Pds, handles};
use crate::NewRepo;
use crate::plc::{Operation, PlcService, PlcState};
use crate::repo::NewEvent;
use crate::store::RepoStatus;

/// What an account is made from.
#[derive(Debug, Clone)]
pub struct NewAccount<'a> {
    /// Its handle, under one of the server's domains.
    pub handle: &'a Handle,
    /// 1 to 256 bytes.
    pub password: &'a str,
    /// An address that no other account has; nothing is sent to it.
    pub email: &'a str,
    /// A rotation key of the owner's, mightier than the server's own.
    pub recovery_key: Option<&'a PublicKey>,
}

impl Pds {
    /// Makes an account: a did:plc in the directory, an empty repo, and the events that tell of both.
    pub async fn create_account(
        &self,
        handle: &Handle,
        password: &str,
        email: &str,
    ) -> Result<Did, AccountError> {
        let account = NewAccount { handle, password, email, recovery_key: None };
        Ok(self.make_account(&account).await?.did)
    }

    /// The account of a handle, made if there is none. The password of an existing one stays as it is.
    pub async fn ensure_account(
        &self,
        handle: &Handle,
        password: &str,
        email: &str,
    ) -> Result<Did, AccountError> {
        if let Some(did) = self.resolve_handle(handle).await? {
            return Ok(did);
        }
        match self.create_account(handle, password, email).await {
            // Somebody else was quicker.
            Err(AccountError::HandleNotAvailable(taken)) => {
                self.resolve_handle(handle).await?.ok_or(AccountError::HandleNotAvailable(taken))
            }
            made => made,
        }
    }

    pub(super) async fn make_account(&self, new: &NewAccount<'_>) -> Result<Account, AccountError> {
        handles::check(new.handle, &self.config().available_user_domains)?;
        let email = check_email(new.email)?;
        if self.accounts().by_handle(new.handle).await?.is_some() {
            return Err(AccountError::HandleNotAvailable(new.handle.clone()));
        }
        if self.accounts().by_email(&email).await?.is_some() {
            return Err(AccountError::EmailNotAvailable(email));
        }
        let password = self.passwords().hash(new.password).await?;
        let signing_key = SigningKey::generate(Curve::K256)?;
        let rotation_key = self.rotation_key();
        let mut rotation_keys: Vec<String> = new.recovery_key.iter().map(|key| key.to_did_key()).collect();
        rotation_keys.push(rotation_key.public_key().to_did_key());
        let state = PlcState {
            rotation_keys,
            verification_methods: BTreeMap::from([(
                "atproto".to_owned(),
                signing_key.public_key().to_did_key(),
            )]),
            also_known_as: vec![format!("at://{}", new.handle)],
            services: BTreeMap::from([("atproto_pds".to_owned(), self.pds_service())]),
        };
        let (did, operation) = state.genesis(rotation_key);
        self.plc().submit(&did, &operation).await?;
        let account = Account { did, handle: new.handle.clone(), email, password, signing_key };
        // The account stands before its repo, which is signed with the account's key. A server that stops in between
        // makes the repo when it starts again.
        self.accounts().insert(&account, &Datetime::from(self.clock().now())).await?;
        if let Err(error) = self.make_repo(&account).await {
            self.accounts().delete(&account.did).await?;
            return Err(error);
        }
        Ok(account)
    }

    pub(super) async fn make_repo(&self, account: &Account) -> Result<(), AccountError> {
        self.repos().create(&account.did, NewRepo { handle: Some(account.handle.clone()) }).await?;
        Ok(())
    }

    fn pds_service(&self) -> PlcService {
        PlcService {
            kind: "AtprotoPersonalDataServer".to_owned(),
            endpoint: self.config().public_url.as_str().trim_end_matches('/').to_owned(),
        }
    }

    /// Points the account's document to this server.
    pub(super) async fn update_endpoint(&self, account: &Account) -> Result<(), AccountError> {
        let did = &account.did;
        let last = self.plc().last(did).await?;
        let mut state = state(&last, did)?;
        let here = self.pds_service();
        if state.services.get("atproto_pds") != Some(&here) {
            state.services.insert("atproto_pds".to_owned(), here);
            self.plc().submit(did, &state.follow(&last, self.rotation_key())).await?;
            self.announce_identity(did, &account.handle).await?;
        }
        Ok(())
    }

    /// Gives an account another handle: here, where nobody else can take it then, in the directory, and on the event
    /// stream. Called again with the same handle, it mends what was broken off.
    pub async fn update_handle(&self, did: &Did, handle: &Handle) -> Result<(), AccountError> {
        let account = self.account(did).await?;
        if account.handle != *handle {
            handles::check(handle, &self.config().available_user_domains)?;
            self.accounts().set_handle(did, handle).await?;
        }
        if let Err(error) = self.rename_in_directory(did, handle).await {
            self.accounts().set_handle(did, &account.handle).await?;
            return Err(error);
        }
        self.announce_identity(did, handle).await
    }

    async fn rename_in_directory(&self, did: &Did, handle: &Handle) -> Result<(), AccountError> {
        let last = self.plc().last(did).await?;
        let before = state(&last, did)?;
        let after = renamed(before.clone(), handle);
        if after != before {
            self.plc().submit(did, &after.follow(&last, self.rotation_key())).await?;
        }
        Ok(())
    }

    async fn announce_identity(&self, did: &Did, handle: &Handle) -> Result<(), AccountError> {
        let event = NewEvent::Identity { did: did.clone(), handle: Some(handle.clone()) };
        self.repos().append_event(event).await?;
        Ok(())
    }

    /// Switches an account off: its repo takes no commits and is not served.
    pub async fn deactivate_account(&self, did: &Did) -> Result<(), AccountError> {
        Ok(self.repos().set_status(did, RepoStatus::Deactivated).await?)
    }

    /// Switches an account on again.
    pub async fn activate_account(&self, did: &Did) -> Result<(), AccountError> {
        let account = self.account(did).await?;
        self.repos().set_status(did, RepoStatus::Active).await?;
        self.announce_identity(did, &account.handle).await
    }
}

fn state(last: &Operation, did: &Did) -> Result<PlcState, AccountError> {
    let tombstoned = || crate::plc::PlcError::Tombstoned(did.clone());
    Ok(last.state().ok_or_else(tombstoned)?)
}

/// The state with another handle in the place of the old one.
fn renamed(mut state: PlcState, handle: &Handle) -> PlcState {
    let name = format!("at://{handle}");
    match state.also_known_as.iter_mut().find(|name| name.starts_with("at://")) {
        Some(old) => *old = name,
        None => state.also_known_as.insert(0, name),
    }
    state
}

/// An address in lower case. Only what could never be one is refused: nothing is ever sent to it.
fn check_email(email: &str) -> Result<String, AccountError> {
    if email.is_empty() {
        return Err(AccountError::Invalid("Email is required"));
    }
    let well_formed = email.len() <= 254
        && !email.contains(|c: char| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.contains('@') && host.contains('.') && !host.ends_with('.')
        });
    if well_formed {
        Ok(email.to_lowercase())
    } else {
        Err(AccountError::Invalid("This email address is not supported, please use a different email."))
    }
}
