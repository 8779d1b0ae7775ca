use async_trait::async_trait;

use super::{Authorizer, Credentials, Rejection, Resource};
use crate::access::Principal;

/// Lets everybody do everything, in the name of one principal: for tests, and behind another program's own checks.
#[derive(Debug, Clone)]
pub struct OpenAuthorizer {
    principal: Principal,
}

impl OpenAuthorizer {
    /// Every request is `principal`'s.
    pub fn new(principal: Principal) -> Self {
        Self { principal }
    }
}

impl Default for OpenAuthorizer {
    /// Every request is anonymous.
    fn default() -> Self {
        Self::new(Principal::Anonymous)
    }
}

#[async_trait]
impl Authorizer for OpenAuthorizer {
    async fn authorize(&self, _: &Credentials, _: &Resource<'_>) -> Result<Principal, Rejection> {
        Ok(self.principal.clone())
    }
}
