use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::authorizer::{Action, Authorizer, Credentials, Rejection, Resource};
use atcr_core::oci::RepositoryName;
use atcr_core::{Principal, Source};
use url::Url;

use super::{TokenVerifier, VerifiedToken};
use crate::repository_policy::RepositoryPolicy;

/// Lets in who holds a registry token that allows what they want.
///
/// A request without a token, with an invalid one, or with one that lacks a right its holder could have, is
/// challenged; one whose holder has no such right is denied, so that clients say so and do not ask again.
#[derive(Debug, Clone)]
pub struct TokenAuthorizer {
    verifier: TokenVerifier,
    policy: Arc<dyn RepositoryPolicy>,
    realm: String,
    anonymous_pulls: bool,
}

impl TokenAuthorizer {
    /// Sends clients to the token endpoint under `base`, the public URL of the service that has it mounted:
    /// `https://registry.example` makes the realm `https://registry.example/auth/token`. The policy is asked only
    /// about tokens that lack a right.
    pub fn new(verifier: TokenVerifier, policy: Arc<dyn RepositoryPolicy>, base: &Url) -> Self {
        let realm = format!("{}/auth/token", base.as_str().trim_end_matches('/'));
        Self { verifier, policy, realm, anonymous_pulls: false }
    }

    /// Whether a pull without any token is let through. It is not by default: the clients fetch an anonymous token,
    /// and the challenge is how they learn that signing in is possible at all.
    #[must_use]
    pub fn with_anonymous_pulls(mut self, allowed: bool) -> Self {
        self.anonymous_pulls = allowed;
        self
    }

    async fn check(&self, token: &VerifiedToken, resource: &Resource<'_>) -> Result<(), Rejection> {
        let Resource::Repository(repository, action) = *resource else { return Ok(()) };
        if token.allows(repository, action) {
            return Ok(());
        }
        let asked = self.policy.actions(&token.principal, repository, &[action]).await;
        let could = asked.map_err(|error| Rejection::Unavailable {
            what: "the directory of identities".to_owned(),
            source: Source::from(error),
        })?;
        if could.contains(&action) {
            let message = format!("the token does not allow {action} in {repository}; another one would");
            return Err(self.challenge(resource, Some("insufficient_scope"), message));
        }
        let refusal = self.policy.refusal(&token.principal, repository, action).await;
        // Who is nobody yet may become somebody by signing in.
        if token.principal == Principal::Anonymous {
            return Err(self.challenge(resource, Some("insufficient_scope"), refusal));
        }
        Err(Rejection::Denied(refusal))
    }

    fn challenge(&self, resource: &Resource<'_>, error: Option<&str>, message: String) -> Rejection {
        let service = quotable(self.verifier.service());
        let scope = match resource {
            Resource::Api => String::new(),
            Resource::Catalog => r#",scope="registry:catalog:*""#.to_owned(),
            Resource::Repository(name, action) => format!(r#",scope="{}""#, scope(name, *action)),
        };
        let error = error.map(|error| format!(r#",error="{error}""#)).unwrap_or_default();
        let header = format!(r#"Bearer realm="{}",service="{service}"{scope}{error}"#, self.realm);
        Rejection::Challenge { www_authenticate: header, message }
    }
}

/// What a client needs for an action: whoever pushes also looks at what is there.
fn scope(name: &RepositoryName, action: Action) -> String {
    let actions = match action {
        Action::Push => "pull,push",
        other => other.as_str(),
    };
    format!("repository:{name}:{actions}")
}

/// What every client reads within quotes: other letters are no text to some (RFC 9110 §5.5).
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

#[async_trait]
impl Authorizer for TokenAuthorizer {
    async fn authorize(
        &self,
        credentials: &Credentials,
        resource: &Resource<'_>,
    ) -> Result<Principal, Rejection> {
        match credentials {
            Credentials::Bearer(token) => match self.verifier.verify(token).await {
                Ok(token) => {
                    self.check(&token, resource).await?;
                    Ok(token.principal.clone())
                }
                Err(error) => Err(self.challenge(resource, Some("invalid_token"), error.to_string())),
            },
            Credentials::None
                if self.anonymous_pulls && matches!(resource, Resource::Repository(_, Action::Pull)) =>
            {
                Ok(Principal::Anonymous)
            }
            Credentials::None => {
                Err(self.challenge(resource, None, "a token is needed; docker login fetches one".to_owned()))
            }
            Credentials::Basic { .. } => Err(self.challenge(
                resource,
                None,
                "passwords are taken by the token service only; clients go there by themselves".to_owned(),
            )),
            Credentials::Unreadable => Err(self.challenge(
                resource,
                Some("invalid_token"),
                "the Authorization header cannot be read".to_owned(),
            )),
        }
    }

    async fn is_public(&self, repository: &RepositoryName) -> bool {
        let granted = self.policy.actions(&Principal::Anonymous, repository, &[Action::Pull]).await;
        granted.is_ok_and(|granted| granted.contains(&Action::Pull))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_service_is_called_a_challenge_is_plain_text() {
        assert_eq!(
            quotable("a \"quoted\\ service\u{1}\u{7f} of r\u{49a}gistry"),
            "a quoted service of rgistry"
        );
    }
}
