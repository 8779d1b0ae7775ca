"""A push leaves signed records: manifest and tag in the owner's repo, captain, crew and layers in the hold's."""

from lib import xrpc
from lib.process import must

OWNER = "alice.test"
REPOSITORY = "records"


def check(suite, server):
    app = suite.images.app
    owner = server.accounts[OWNER]["did"]
    server.client(OWNER).push(f"{OWNER}/{REPOSITORY}", app)
    manifest = in_owners_repo(server.ready["pds"], owner, app.digest)
    layers = in_holds_repo(server.ready["hold"], server.ready["hold_did"], owner, manifest, app)
    return f"manifest and tag of {owner}; captain, crew and {layers} layers of {server.ready['hold_did']}"


def in_owners_repo(pds, owner, digest):
    """Returns the AT-URI of the manifest record."""
    manifests = [uri for uri, value in xrpc.records(pds, owner, "io.atcr.manifest").items()
                 if value["repository"] == REPOSITORY and value["digest"] == digest]
    must(len(manifests) == 1, f"{len(manifests)} manifest records for {REPOSITORY}@{digest}")
    tags = [value for value in xrpc.records(pds, owner, "io.atcr.tag").values() if value["repository"] == REPOSITORY]
    must([value["tag"] for value in tags] == ["1.0"], f"tag records: {tags}")
    must(manifests[0] in (tags[0].get("manifest"),) or tags[0].get("manifestDigest") == digest,
         f"the tag record names another manifest: {tags[0]}")
    in_export(pds, owner, "io.atcr.manifest", "io.atcr.tag")
    return manifests[0]


def in_holds_repo(hold, did, owner, manifest, image):
    """Returns the number of layer records."""
    for collection in ("io.atcr.hold.captain", "io.atcr.hold.crew"):
        must(xrpc.records(hold, did, collection), f"no {collection} record")
    wanted = {layer["digest"] for layer in image.json(image.image())["layers"]}
    found = {value["digest"] for value in xrpc.records(hold, did, "io.atcr.hold.layer").values()
             if value["manifest"] == manifest and value["userDid"] == owner}
    must(wanted <= found, f"no layer record for {', '.join(wanted - found)}")
    in_export(hold, did, "io.atcr.hold.captain", "io.atcr.hold.crew", "io.atcr.hold.layer")
    return len(found)


def in_export(service, did, *types):
    """The repo's CAR holds records of these types: DAG-CBOR spells `$type` out. (`verify` reads the tree.)"""
    car = xrpc.query(service, "com.atproto.sync.getRepo", did=did)
    for kind in types:
        must(b"\x65$type" + cbor_text(kind) in car, f"the export of {did} has no {kind}")


def cbor_text(text):
    head = bytes([0x60 + len(text)]) if len(text) < 24 else bytes([0x78, len(text)])
    return head + text.encode()
