use url::{Host, Url};

/// What is wrong with a redirect URI of the form `http:`, if anything: it leads to a loopback address (RFC 8252
/// sections 7.3 and 8.3).
pub(super) fn check_loopback(uri: &str) -> Result<(), &'static str> {
    let url = Url::parse(uri).map_err(|_| "Invalid URL")?;
    if url.host_str() == Some("localhost") {
        return Err(
            "Use of \"localhost\" hostname is not allowed (RFC 8252), use a loopback IP such as \"127.0.0.1\" instead",
        );
    }
    if url.scheme() == "http" && is_loopback(&url) && without_credentials(&url) {
        Ok(())
    } else {
        Err("URL must use \"http:\" and a loopback IP (127.0.0.1 or [::1])")
    }
}

/// What is wrong with a redirect URI whoever it belongs to, if anything.
pub(in crate::accounts::oauth) fn check(uri: &str) -> Result<(), &'static str> {
    if uri.starts_with("http:") {
        return check_loopback(uri);
    }
    let url = Url::parse(uri).map_err(|_| "Invalid URL")?;
    if url.scheme() != "https" && !url.scheme().contains('.') {
        return Err(
            "URL must use the \"https:\" or \"http:\" protocol, or a private-use URI scheme (RFC 8252)",
        );
    }
    if without_credentials(&url) { Ok(()) } else { Err("URL must not contain credentials") }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => url.host_str() == Some("127.0.0.1") && ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

fn without_credentials(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

/// Whether the URI asked for is the registered one: to the letter, but for the port of a loopback address that was
/// registered without one.
pub(super) fn matches(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    let (Ok(registered), Ok(mut asked)) = (Url::parse(registered), Url::parse(asked)) else { return false };
    if !is_loopback(&registered) || registered.port().is_some() {
        return false;
    }
    asked.set_port(None).is_ok() && registered == asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_of_a_loopback_address_may_differ() {
        for (registered, asked) in [
            ("https://app.example.com/cb", "https://app.example.com/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:8999/cb"),
            ("http://127.0.0.1", "http://127.0.0.1:8999/"),
            ("http://[::1]/cb?x=1", "http://[::1]:1/cb?x=1"),
        ] {
            assert!(matches(registered, asked), "{registered} {asked}");
        }
        for (registered, asked) in [
            ("https://app.example.com/cb", "https://app.example.com/cb/"),
            ("https://app.example.com/cb", "https://app.example.com:8443/cb"),
            ("https://app.example.com/cb", "https://app.example.com/cb?x=1"),
            ("https://app.example.com/cb", "https://app.example.com/cb/../cb"),
            ("https://app.example.com/cb", "https://APP.example.com/cb"),
            ("https://app.example.com/cb", "https://evil.example/cb"),
            ("http://127.0.0.1:8999/cb", "http://127.0.0.1:8998/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:8999/other"),
            ("http://127.0.0.1/cb", "http://user@127.0.0.1:8999/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:8999/cb#x"),
            ("http://127.0.0.1/cb", "http://[::1]:8999/cb"),
            ("http://127.0.0.1/cb", "https://127.0.0.1/cb"),
        ] {
            assert!(!matches(registered, asked), "{registered} {asked}");
        }
    }
}
