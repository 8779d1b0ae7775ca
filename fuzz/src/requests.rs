//! Seeds of the targets that a registry answers: what clients send, and what is next to it.

/// The names of the targets.
pub const TARGETS: [&str; 5] =
    ["oci_challenge", "oci_credentials", "oci_manifest", "oci_names", "oci_request"];

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "oci_challenge" => texts([
            "registry.example\nGET\n/v2/alice.example/app/manifests/latest\nBearer a.b.c",
            "registry.example\nDELETE\n/v2/alice.example/app/tags/x\nBasic YTpi",
            "a \"quoted\\ service\nPOST\n/v2/alice.example/app/blobs/uploads/\n",
            "registry.example\nGET\n/v2/_catalog\n",
        ]),
        "oci_credentials" => texts(["Basic YWxpY2U6c2VjcmV0", "Bearer abc.def.ghi", "basic Og==", "Bearer "]),
        "oci_manifest" => texts([
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}}"#,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"platform":{"os":"linux","architecture":"arm64"}}]}"#,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{},"layers":[{}]}"#,
        ]),
        "oci_names" => texts([
            "alice.example/app",
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz/app",
            "v1.0",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ]),
        "oci_request" => texts([
            "GET\n/v2/alice.example/app/blobs/sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\nrange: bytes=0-1,5-\n",
            "PUT\n/v2/alice.example/app/manifests/latest?tag=a&tag=b\ncontent-type: application/vnd.oci.image.manifest.v1+json\n\0{}",
            "POST\n/v2/a/b/blobs/uploads/?mount=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a&from=a/c\n",
            "PATCH\n/v2/a/b/blobs/uploads/token\ncontent-range: 0-9\n\0abc",
            "GET\n/v2/a/b/referrers/sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a?artifactType=x&n=1&last=y\n",
            "GET\n/v2/a/b/tags/list?n=0&last=x\n",
        ]),
        other => panic!("there is no target {other}"),
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
