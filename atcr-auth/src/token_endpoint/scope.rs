use atcr_core::authorizer::Action;
use atcr_core::oci::RepositoryName;

use crate::registry_token::RepositoryAccess;

/// A token names at most so many repositories; a push needs two at most, and more would not fit into a header.
const MAX_REPOSITORIES: usize = 16;

/// More scopes are asked for than one token can carry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Reads `scope` parameters, each of which may hold several scopes separated by spaces. A repository that appears
/// twice is asked for once, with all its actions; what is not understood is left out, which grants nothing.
pub(super) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<RepositoryAccess>, TooMany> {
    let mut asked: Vec<RepositoryAccess> = Vec::new();
    for (name, actions) in values.flat_map(|value| value.split(' ')).filter_map(parse_one) {
        let index = match asked.iter().position(|access| access.name == name) {
            Some(index) => index,
            None if asked.len() == MAX_REPOSITORIES => return Err(TooMany),
            None => {
                asked.push(RepositoryAccess { name, actions: Vec::new() });
                asked.len() - 1
            }
        };
        let known = &mut asked[index].actions;
        known.extend(actions);
        known.sort_unstable();
        known.dedup();
    }
    Ok(asked)
}

/// `type:name:action[,action]`. The name may hold colons, so the first and the last one separate; a class in
/// parentheses may follow the type.
fn parse_one(scope: &str) -> Option<(RepositoryName, Vec<Action>)> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    if kind.split('(').next() != Some("repository") {
        return None;
    }
    let actions = actions.split(',').flat_map(|action| -> &[Action] {
        match action {
            "pull" => &[Action::Pull],
            "push" => &[Action::Push],
            "delete" => &[Action::Delete],
            "*" => &[Action::Pull, Action::Push, Action::Delete],
            _ => &[],
        }
    });
    Some((name.parse().ok()?, actions.copied().collect()))
}

/// Writes what was granted in the same grammar.
pub(super) fn write(granted: &[RepositoryAccess]) -> String {
    let scopes = granted.iter().map(|access| {
        let actions: Vec<_> = access.actions.iter().map(|action| action.as_str()).collect();
        format!("repository:{}:{}", access.name, actions.join(","))
    });
    scopes.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> String {
        write(&parse(values.iter().copied()).unwrap())
    }

    #[test]
    fn reads_what_clients_send() {
        for (sent, meant) in [
            (&["repository:alice.test/app:pull"][..], "repository:alice.test/app:pull"),
            (&["repository:alice.test/app:push,pull"], "repository:alice.test/app:pull,push"),
            (&["repository:a/b:*"], "repository:a/b:pull,push,delete"),
            (&["repository:a/b:delete"], "repository:a/b:delete"),
            (
                &["repository:a/b:pull repository:c/d:pull,push"],
                "repository:a/b:pull repository:c/d:pull,push",
            ),
            (
                &["repository:a/b:pull", "repository:a/b:push", "repository:a/b:pull"],
                "repository:a/b:pull,push",
            ),
            (&["repository:did:plc:abc/app:pull"], "repository:did:plc:abc/app:pull"),
            (&["repository(plugin):a/b:pull"], "repository:a/b:pull"),
        ] {
            assert_eq!(read(sent), meant, "{sent:?}");
        }
    }

    #[test]
    fn what_is_not_understood_asks_for_nothing() {
        for sent in [
            "",
            " ",
            "repository",
            "repository:a",
            "registry:catalog:*",
            "repository:A/B:pull",
            "repository::pull",
            "repository:127.0.0.1:5000/a/b:pull",
            "repositoryx:a/b:pull",
        ] {
            assert_eq!(read(&[sent]), "", "{sent:?}");
        }
        assert_eq!(read(&["repository:a/b:fly"]), "repository:a/b:");
    }

    #[test]
    fn more_repositories_than_a_token_carries_are_refused() {
        let scopes: Vec<_> = (0..=MAX_REPOSITORIES).map(|n| format!("repository:a/r{n}:pull")).collect();
        assert!(parse(scopes[1..].iter().map(String::as_str)).is_ok());
        assert_eq!(parse(scopes.iter().map(String::as_str)), Err(TooMany));
    }

    proptest::proptest! {
        #[test]
        fn reads_any_text_and_its_own_writing(text in ".{0,200}", name in "[a-z]{1,8}/[a-z]{1,8}", push: bool) {
            let _ = parse([text.as_str()].into_iter());
            let scope = format!("repository:{name}:pull{}", if push { ",push" } else { "" });
            proptest::prop_assert_eq!(read(&[&scope]), scope);
        }
    }
}
