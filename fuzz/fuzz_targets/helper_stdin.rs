//! Standard input of the credential helper: what names a registry names one, and secrets go over plain http to this
//! machine only.
#![no_main]

use atcr_bin::credential_helper::{Input, read_input};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for input in [Input::Server, Input::ToStore, Input::Kubelet] {
        let Some((name, url)) = read_input(input, text) else { continue };
        assert_eq!(read_input(Input::Server, &name), Some((name.clone(), url.clone())), "{name}");
        assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/", "{url}");
        let loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => panic!("{url} has no host"),
        };
        assert!(url.scheme() == "https" || (url.scheme() == "http" && loopback), "{url}");
    }
});
