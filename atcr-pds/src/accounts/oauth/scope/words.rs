use super::Scopes;
use super::permission::{AccountAttribute, IdentityAttribute, OrAny, Permission, RepoAction};

/// What the scopes allow, each in a sentence for the account's owner.
pub(in crate::accounts::oauth) fn describe(scopes: &Scopes) -> Vec<String> {
    scopes.permissions().iter().map(sentence).collect()
}

fn sentence(permission: &Permission) -> String {
    match permission {
        Permission::Atproto => "Know who you are: your handle and your DID".into(),
        Permission::Generic => {
            "Write any record, upload any file and call any service in your name, except your private chats"
                .into()
        }
        Permission::Email => "See your e-mail address".into(),
        Permission::Chat => "Read and write your private chats".into(),
        Permission::Repo { collections, actions } => {
            let verbs: Vec<&str> = actions.iter().map(|action| verb(*action)).collect();
            let what = if collections.contains(&OrAny::Any) {
                "records of any kind".to_owned()
            } else {
                let names: Vec<&str> = collections.iter().map(OrAny::as_str).collect();
                format!("records of {}", list(&names))
            };
            capitalised(&format!("{} {what}", list(&verbs)))
        }
        Permission::Rpc { methods, audience } => {
            let methods = if methods.contains(&OrAny::Any) {
                "any method".to_owned()
            } else {
                list(&methods.iter().map(OrAny::as_str).collect::<Vec<_>>())
            };
            match audience {
                OrAny::Any => format!("Call {methods} of any service in your name"),
                OrAny::This(service) => format!("Call {methods} of {service} in your name"),
            }
        }
        Permission::Blob { accept } if accept.iter().any(|accept| accept == "*/*") => {
            "Upload files of any type".into()
        }
        Permission::Blob { accept } => {
            format!("Upload files of type {}", list(&accept.iter().map(String::as_str).collect::<Vec<_>>()))
        }
        Permission::Account { attribute, manage } => match (attribute, manage) {
            (AccountAttribute::Email, false) => "See your e-mail address",
            (AccountAttribute::Email, true) => "See and change your e-mail address",
            (AccountAttribute::Repo, false) => "See how your repository is doing",
            (AccountAttribute::Repo, true) => "Replace your whole repository",
            (AccountAttribute::Status, false) => "See whether your account is active",
            (AccountAttribute::Status, true) => "Switch your account off",
        }
        .into(),
        Permission::Identity { attribute: IdentityAttribute::Handle } => "Change your handle".into(),
        Permission::Identity { attribute: IdentityAttribute::Any } => {
            "Change everything about your identity: handle, keys, and the server that hosts you".into()
        }
        Permission::Include { set, .. } => format!("Whatever {set} allows"),
    }
}

fn verb(action: RepoAction) -> &'static str {
    match action {
        RepoAction::Create => "create",
        RepoAction::Update => "change",
        RepoAction::Delete => "delete",
    }
}

fn list(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
