//! The clients whose commands a page shows.

use http::HeaderMap;
use http::header::COOKIE;

/// A client that pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    /// Its name, in addresses too.
    pub(super) name: &'static str,
    before: &'static str,
    after: &'static str,
}

/// The first one is shown to who has chosen none.
const IMAGES: [Client; 7] = [
    Client { name: "docker", before: "docker pull ", after: "" },
    Client { name: "podman", before: "podman pull ", after: "" },
    Client { name: "buildah", before: "buildah pull ", after: "" },
    Client { name: "nerdctl", before: "nerdctl pull ", after: "" },
    Client { name: "crane", before: "crane pull ", after: " image.tar" },
    Client { name: "skopeo", before: "skopeo copy docker://", after: " oci:image" },
    Client { name: "regctl", before: "regctl image export ", after: " image.tar" },
];
const ARTIFACTS: [Client; 1] = [Client { name: "oras", before: "oras pull ", after: "" }];
const CHARTS: [Client; 1] = [Client { name: "helm", before: "helm pull oci://", after: "" }];
/// What Helm calls the config of a chart.
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";

impl Client {
    /// The clients for what a repository has; `artifact_type` is that of its newest manifest.
    pub(super) fn all(artifact_type: Option<&str>) -> &'static [Self] {
        match artifact_type {
            Some(HELM_CONFIG) => &CHARTS,
            Some(other) if !is_image(other) => &ARTIFACTS,
            _ => &IMAGES,
        }
    }

    /// The one that was asked for, or chosen in this browser before, or in somebody's profile, or the first.
    pub(super) fn chosen(
        all: &'static [Self],
        asked: Option<&str>,
        headers: &HeaderMap,
        profile: Option<&str>,
    ) -> &'static Self {
        let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let before = cookies
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix("client="));
        let named = |name: Option<&str>| all.iter().find(|client| Some(client.name) == name);
        named(asked).or_else(|| named(before)).or_else(|| named(profile)).unwrap_or(&all[0])
    }

    /// The command that pulls `image`.
    pub(super) fn command(&self, image: &str) -> String {
        format!("{}{image}{}", self.before, self.after)
    }
}

/// What remembers a client in a browser, or forgets it.
pub(super) fn cookie(client: Option<&str>) -> String {
    let (name, seconds) = client.map_or(("", 0), |name| (name, 31_536_000));
    format!("client={name}; Path=/; Max-Age={seconds}; SameSite=Lax")
}

/// Whether an artifact type is that of an image: the media type of its config.
pub(super) fn is_image(artifact_type: &str) -> bool {
    matches!(
        artifact_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_then_remembered_then_the_first() {
        let mut headers = HeaderMap::new();
        let all = Client::all(None);
        assert_eq!(Client::chosen(all, None, &headers, None).name, "docker");
        assert_eq!(Client::chosen(all, None, &headers, Some("crane")).name, "crane");
        headers.insert(COOKIE, "a=b; client=podman".parse().unwrap());
        assert_eq!(Client::chosen(all, None, &headers, Some("crane")).name, "podman");
        assert_eq!(Client::chosen(all, Some("crane"), &headers, None).name, "crane");
        assert_eq!(Client::chosen(all, Some("none"), &headers, None).name, "podman");
        let charts = Client::all(Some(HELM_CONFIG));
        let command = Client::chosen(charts, None, &headers, None).command("r.example/a/chart:1");
        assert_eq!(command, "helm pull oci://r.example/a/chart:1");
    }
}
