use atcr_core::syntax::Handle;

use super::AccountError;

/// Names under a server's own domain that look official.
const RESERVED: [&str; 26] = [
    "abuse",
    "account",
    "admin",
    "administrator",
    "api",
    "at",
    "atp",
    "atproto",
    "auth",
    "cdn",
    "cloud",
    "dns",
    "ftp",
    "help",
    "host",
    "hostmaster",
    "lexicon",
    "mail",
    "ns",
    "oauth",
    "pds",
    "plc",
    "postmaster",
    "root",
    "status",
    "www",
];

/// Whether an account of this server may have the handle: one label of 3 to 18 characters under one of its domains.
pub(super) fn check(handle: &Handle, domains: &[String]) -> Result<(), AccountError> {
    let name = domains
        .iter()
        .find_map(|domain| handle.as_str().strip_suffix(domain.as_str()))
        .ok_or(AccountError::UnsupportedDomain)?;
    if name.contains('.') {
        return Err(AccountError::InvalidHandle("Invalid characters in handle"));
    }
    if name.len() < 3 {
        return Err(AccountError::InvalidHandle("Handle too short"));
    }
    if name.len() > 18 {
        return Err(AccountError::InvalidHandle("Handle too long"));
    }
    if RESERVED.contains(&name) {
        return Err(AccountError::HandleNotAvailable(handle.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_free_label_under_an_own_domain_is_given_out() {
        let domains = [".test".to_owned(), ".pds.example.com".to_owned()];
        let check = |handle: &str| check(&handle.parse().unwrap(), &domains);
        check("alice.test").unwrap();
        check("alice.pds.example.com").unwrap();
        check("eighteen-letters-x.test").unwrap();
        assert!(matches!(check("alice.example.com"), Err(AccountError::UnsupportedDomain)));
        assert!(matches!(check("a.b.test"), Err(AccountError::InvalidHandle(_))));
        assert!(matches!(check("al.test"), Err(AccountError::InvalidHandle("Handle too short"))));
        assert!(matches!(
            check("nineteen-letters-xy.test"),
            Err(AccountError::InvalidHandle("Handle too long"))
        ));
        assert!(matches!(check("lexicon.test"), Err(AccountError::HandleNotAvailable(_))));
    }
}
