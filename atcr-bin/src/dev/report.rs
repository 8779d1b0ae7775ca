use std::io::{IsTerminal as _, Write as _};

use atcr_core::syntax::{Did, Handle};
use serde::Serialize;
use url::Url;

use crate::Error;

/// Where everything is, for the program or the person that started the network.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) registry: String,
    #[serde(serialize_with = "bare")]
    pub(super) appview: Url,
    #[serde(serialize_with = "bare")]
    pub(super) pds: Url,
    #[serde(serialize_with = "bare")]
    pub(super) plc: Url,
    #[serde(serialize_with = "bare")]
    pub(super) hold: Url,
    pub(super) hold_did: Did,
    pub(super) accounts: Vec<DevAccount>,
}

#[derive(Debug, Serialize)]
pub(super) struct DevAccount {
    pub(super) handle: Handle,
    pub(super) did: Did,
    pub(super) password: String,
}

/// Without the slash at the end, to be put before a path.
fn bare<S: serde::Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str().trim_end_matches('/'))
}

/// Prints one line of JSON, or what a person pastes into another terminal.
pub(super) fn print(ready: &Ready, json: bool) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let text = if json {
        format!("{}\n", serde_json::to_string(ready).map_err(Error::start("the report"))?)
    } else {
        for_people(ready, out.is_terminal())
    };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::file("standard output", "written"))
}

fn for_people(ready: &Ready, terminal: bool) -> String {
    let (bold, plain) = if terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let Ready { registry, appview, pds, plc, hold, hold_did, accounts } = ready;
    let mut text = format!("{bold}atcr dev is ready{plain}: images go to {registry}\n\n");
    for DevAccount { handle, did, password } in accounts {
        text += &format!("  account   {bold}{handle}{plain}  password {bold}{password}{plain}  {did}\n");
    }
    for (what, url, note) in
        [("registry", appview, ""), ("PDS", pds, ""), ("PLC", plc, ""), ("hold", hold, hold_did.as_str())]
    {
        text += &format!("  {what:<9} {} {note}\n", url.as_str().trim_end_matches('/'));
    }
    let Some(DevAccount { handle, password, .. }) = accounts.first() else { return text };
    text += &format!(
        "\nPush and pull, in another terminal:\n\n  \
         {bold}podman{plain}  podman login --tls-verify=false -u {handle} -p {password} {registry}\n          \
         podman push --tls-verify=false IMAGE {registry}/{handle}/app:1.0\n          \
         podman pull --tls-verify=false {registry}/{handle}/app:1.0\n  \
         {bold}docker{plain}  docker login -u {handle} -p {password} {registry}\n          \
         docker tag IMAGE {registry}/{handle}/app:1.0 && docker push {registry}/{handle}/app:1.0\n  \
         {bold}skopeo{plain}  skopeo copy --dest-tls-verify=false --dest-creds {handle}:{password} oci:LAYOUT:TAG docker://{registry}/{handle}/app:1.0\n\n\
         Ctrl-C stops it.\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        let account = DevAccount {
            handle: "alice.test".parse().unwrap(),
            did: "did:plc:abc234".parse().unwrap(),
            password: "a-b-c-d".to_owned(),
        };
        let url = |port: u16| format!("http://localhost:{port}").parse().unwrap();
        Ready {
            registry: "127.0.0.1:5000".to_owned(),
            appview: url(5000),
            pds: url(5002),
            plc: url(5001),
            hold: url(5003),
            hold_did: "did:web:localhost%3A5003".parse().unwrap(),
            accounts: vec![account],
        }
    }

    #[test]
    fn the_json_is_one_line_with_the_documented_fields() {
        let text = serde_json::to_string(&ready()).unwrap();
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["pds"], "http://localhost:5002");
        assert_eq!(value["registry"], "127.0.0.1:5000");
        assert_eq!(value["accounts"][0]["password"], "a-b-c-d");
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert!(!for_people(&ready(), false).contains('\x1b'));
        assert!(for_people(&ready(), true).contains('\x1b'));
    }
}
