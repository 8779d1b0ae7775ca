use super::credentials::{Accounts, Kind};
use super::registry::Verdict;
use super::{HelperError, ServerName, Store, login};

/// Prints who is signed in where, and what the registries say.
pub(super) fn status(only: Option<&ServerName>) -> Result<(), HelperError> {
    let kept = Store::of_user()?.load()?;
    let mut nobody = true;
    for (name, accounts) in &kept.registries {
        let server = ServerName::parse(name)?;
        if only.is_some_and(|only| *only != server) {
            continue;
        }
        nobody = false;
        println!("{server}");
        for account in &accounts.accounts {
            let mark = if accounts.active.as_deref() == Some(&account.name) { '*' } else { ' ' };
            let kind = match account.kind {
                Kind::Device => "device",
                Kind::AppPassword => "app password",
                Kind::Stored => "docker login",
            };
            let state = if account.kind == Kind::Stored {
                "not asked".to_owned()
            } else {
                match login::state(&server, account) {
                    Verdict::Taken => "signed in".to_owned(),
                    Verdict::Refused(message) => format!("refused: {message}"),
                    Verdict::Unknown(reason) => format!("unknown: {reason}"),
                }
            };
            println!("{mark} {} ({kind}): {state}", account.name);
        }
    }
    if nobody {
        println!("Nobody is signed in. To sign in, run: docker-credential-atcr login REGISTRY");
    }
    Ok(())
}

/// Uses another account from now on: the one named, or the other one of two.
pub(super) fn switch(server: &ServerName, name: Option<&str>) -> Result<(), HelperError> {
    let chosen = Store::of_user()?.update(|kept| {
        let accounts = kept.at_mut(server);
        let chosen = other(accounts, name);
        if let Ok(chosen) = &chosen {
            accounts.active = Some(chosen.clone());
        }
        chosen
    })?;
    let chosen = chosen.map_err(|why| HelperError::Refused(format!("at {server}: {why}")))?;
    println!("{server} is used as {chosen} from now on.");
    Ok(())
}

fn other(accounts: &Accounts, name: Option<&str>) -> Result<String, String> {
    let names: Vec<_> = accounts.accounts.iter().map(|account| account.name.as_str()).collect();
    if let Some(name) = name {
        let found = accounts.find(name).map(|account| account.name.clone());
        return found.ok_or_else(|| format!("{name} is not signed in; these are: {}", names.join(", ")));
    }
    let others: Vec<_> = names.iter().filter(|name| accounts.active.as_deref() != Some(name)).collect();
    match others[..] {
        [] => Err("there is no other account".to_owned()),
        [one] => Ok((*one).to_owned()),
        _ => Err(format!("say which one: {}", names.join(", "))),
    }
}
