//! What every [`Authorizer`] must do, as functions that a test calls with an implementation.

use super::{Action, Authorizer, Credentials, Rejection, Resource};
use crate::oci::RepositoryName;

/// Runs the suite against an implementation that asks for credentials: `good` may pull and push `own` and push
/// nowhere else; `bad` are credentials that are not valid.
pub async fn check(
    authorizer: &dyn Authorizer,
    own: &RepositoryName,
    other: &RepositoryName,
    good: &Credentials,
    bad: &[Credentials],
) {
    for action in [Action::Pull, Action::Push] {
        authorizer
            .authorize(good, &Resource::Repository(own, action))
            .await
            .expect("valid credentials suffice");
    }
    let pushes = [(good, other, "a push elsewhere"), (&Credentials::None, own, "an anonymous push")];
    for (credentials, repository, what) in pushes {
        let result = authorizer.authorize(credentials, &Resource::Repository(repository, Action::Push)).await;
        assert_refused(result, what);
    }
    for credentials in bad {
        for resource in [
            Resource::Api,
            Resource::Catalog,
            Resource::Repository(own, Action::Pull),
            Resource::Repository(own, Action::Delete),
        ] {
            let result = authorizer.authorize(credentials, &resource).await;
            assert!(
                matches!(result, Err(Rejection::Challenge { .. })),
                "invalid credentials are challenged, not {result:?}"
            );
            assert_refused(result, "invalid credentials");
        }
    }
}

fn assert_refused(result: Result<crate::Principal, Rejection>, what: &str) {
    match result {
        Err(Rejection::Challenge { www_authenticate, .. }) => {
            assert!(
                www_authenticate.matches("scope=").count() <= 1,
                "one scope in a challenge: {www_authenticate}"
            );
            let scope = www_authenticate.split("scope=\"").nth(1).and_then(|rest| rest.split('"').next());
            assert!(
                scope.is_none_or(|scope| !scope.contains(' ')),
                "one scope in a challenge: {www_authenticate}"
            );
        }
        Err(Rejection::Denied(_)) => {}
        other => panic!("{what} is refused, not {other:?}"),
    }
}
