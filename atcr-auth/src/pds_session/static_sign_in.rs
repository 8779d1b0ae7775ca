use std::collections::HashMap;

use async_trait::async_trait;
use atcr_core::Account;
use atcr_core::syntax::Did;

use super::{SignIn, SignInError};

/// Knows a few names and passwords by heart: for tests and examples. Its accounts are always signed in.
#[derive(Default)]
pub struct StaticSignIn {
    accounts: HashMap<String, (String, Account)>,
}

impl StaticSignIn {
    /// Lets `account` in by this name and password.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, password: impl Into<String>, account: Account) -> Self {
        self.accounts.insert(name.into(), (password.into(), account));
        self
    }
}

impl std::fmt::Debug for StaticSignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.accounts.keys()).finish()
    }
}

#[async_trait]
impl SignIn for StaticSignIn {
    async fn sign_in(&self, identifier: &str, password: &str) -> Result<Account, SignInError> {
        let known = self.accounts.get(identifier).filter(|(expected, _)| expected == password);
        known.map(|(_, account)| account.clone()).ok_or_else(|| SignInError::WrongPassword {
            identifier: identifier.to_owned(),
            pds: "this registry".to_owned(),
        })
    }

    async fn signed_in(&self, did: &Did) -> Result<Option<Account>, SignInError> {
        Ok(self.accounts.values().map(|(_, account)| account).find(|account| &account.did == did).cloned())
    }
}
