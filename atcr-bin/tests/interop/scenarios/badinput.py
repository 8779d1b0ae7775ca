"""Wrong, hostile and broken requests: each gets the right OCI error within seconds, and nothing else is touched."""

import errno
import hashlib
import json
import socket
import time
import urllib.parse

from lib.layout import MANIFEST, must_equal
from lib.process import Failed, must
from lib.registry import Registry

OWNER, OTHER, NOBODY = "alice.test", "bob.test", "nobody.test"
REPOSITORY = f"{OWNER}/app"
SECONDS = 10
ABSENT = "sha256:" + "0" * 64
HALF_OF = 1 << 20
HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
CASES = {}


def case(name):
    """Registers a function as one case."""
    def register(function):
        CASES[name] = function
        return function
    return register


def check(suite, _):
    with suite.server("badinput") as server:
        app, home = suite.images.app, suite.home("badinput")
        server.client(OWNER).push(REPOSITORY, app)
        wrong = []
        for name, function in CASES.items():
            began = time.monotonic()
            try:
                function(server)
                took = time.monotonic() - began
                must(took < SECONDS, f"took {took:.0f} s")
            except Failed as problem:
                wrong.append(name)
                suite.say(f"badinput: {name}: {problem}")
        must_equal(app, server.client().pull(REPOSITORY, "1.0", f"{home}/after"))
        tags = server.client().tags(REPOSITORY)
        must(tags == ["1.0"], f"the tags are now {tags}")
        server.stop()
    must(not wrong, f"{len(wrong)} of {len(CASES)} cases: {', '.join(wrong)}")
    return f"{len(CASES)} cases, and the registry is intact"


def expect(answer, statuses, *codes):
    """The answer has one of the statuses and one of the codes in an OCI error body."""
    must(answer.status in statuses, f"expected {statuses}, got {answer}")
    must(set(answer.codes()) & set(codes), f"expected {' or '.join(codes)}, got {answer}")


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def manifest(**fields):
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], **fields}).encode()


def descriptor(digest, size):
    return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size}


@case("pull from an unknown handle")
def _(server):
    expect(server.client().ask("GET", f"/v2/{NOBODY}/app/manifests/1.0"), [404], "NAME_UNKNOWN", "MANIFEST_UNKNOWN")


@case("push to an unknown handle")
def _(server):
    expect(server.client(OWNER).ask("POST", f"/v2/{NOBODY}/app/blobs/uploads/"), [401, 403, 404], "DENIED",
           "NAME_UNKNOWN", "UNAUTHORIZED")


@case("a manifest, a blob and a repository that are not there")
def _(server):
    anyone = server.client()
    expect(anyone.ask("GET", f"/v2/{REPOSITORY}/manifests/absent"), [404], "MANIFEST_UNKNOWN")
    expect(anyone.ask("GET", f"/v2/{REPOSITORY}/manifests/{ABSENT}"), [404], "MANIFEST_UNKNOWN")
    expect(anyone.ask("GET", f"/v2/{REPOSITORY}/blobs/{ABSENT}"), [404], "BLOB_UNKNOWN")
    expect(anyone.ask("GET", f"/v2/{OWNER}/absent/tags/list"), [404], "NAME_UNKNOWN")


@case("login with a wrong password")
def _(server):
    for handle, password in ((OWNER, "wrong"), (OWNER, ""), (NOBODY, "wrong"), (OWNER, "x" * 5000)):
        pair = Registry(server.registry, handle, password)
        expect(pair.ask("GET", "/auth/token", headers=pair.credentials()), [401], "UNAUTHORIZED")


@case("a request without a token is challenged")
def _(server):
    answer = Registry(server.registry).send("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    expect(answer, [401], "UNAUTHORIZED")
    challenge = answer.headers["WWW-Authenticate"]
    must("Bearer realm=" in challenge and f"repository:{REPOSITORY}:" in challenge, f"the challenge is {challenge}")


@case("a forged token, and a token for another repository")
def _(server):
    alice, path = server.client(OWNER), f"/v2/{REPOSITORY}/blobs/uploads/"
    expect(alice.send("POST", path, token="not.a.token"), [401], "UNAUTHORIZED")
    must(alice.ask("POST", f"/v2/{OWNER}/elsewhere/blobs/uploads/").status == 202, "no session elsewhere")
    [token] = alice.tokens.values()
    expect(alice.send("POST", path, token=token), [401, 403], "UNAUTHORIZED", "DENIED")
    claims, _, signature = token.rpartition(".")
    expect(alice.send("POST", f"/v2/{OWNER}/elsewhere/blobs/uploads/", token=f"{claims}.{signature[::-1]}"), [401],
           "UNAUTHORIZED")


@case("push to somebody else's name")
def _(server):
    for path, method in (("blobs/uploads/", "POST"), ("manifests/1.0", "PUT"), ("manifests/1.0", "DELETE")):
        expect(server.client(OTHER).ask(method, f"/v2/{REPOSITORY}/{path}", b"" if method == "POST" else manifest()),
               [401, 403], "DENIED")


@case("push without an account")
def _(server):
    expect(server.client().ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/"), [401, 403], "UNAUTHORIZED", "DENIED")


@case("a manifest that names missing blobs")
def _(server):
    body = manifest(config=descriptor(ABSENT, 2))
    expect(server.client(OWNER).put_manifest(REPOSITORY, "missing", body), [400, 404], "MANIFEST_BLOB_UNKNOWN")
    must(not server.client().has(REPOSITORY, "manifests", "missing"), "it was stored all the same")


@case("a blob under a wrong digest")
def _(server):
    alice, wrong = server.client(OWNER), digest_of(b"something else")
    expect(alice.put_blob(REPOSITORY, b"something", wrong), [400], "DIGEST_INVALID")
    must(not alice.has(REPOSITORY, "blobs", wrong), "it was stored all the same")


@case("a manifest under a wrong digest")
def _(server):
    alice = server.client(OWNER)
    expect(alice.put_manifest(REPOSITORY, digest_of(b"something else"), manifest()), [400], "DIGEST_INVALID",
           "MANIFEST_INVALID")


@case("digests, names and tags that are none")
def _(server):
    alice = server.client(OWNER)
    expect(alice.ask("GET", f"/v2/{REPOSITORY}/blobs/sha256:abc"), [400, 404], "DIGEST_INVALID", "BLOB_UNKNOWN")
    expect(alice.put_blob(REPOSITORY, b"something", "md5:00000000000000000000000000000000"), [400], "DIGEST_INVALID")
    expect(alice.put_manifest(REPOSITORY, "-tag", manifest()), [400], "MANIFEST_INVALID", "TAG_INVALID", "NAME_INVALID")
    expect(alice.put_manifest(REPOSITORY, "t" * 129, manifest()), [400], "MANIFEST_INVALID", "TAG_INVALID",
           "NAME_INVALID")
    expect(alice.ask("POST", f"/v2/{OWNER}/UPPER/blobs/uploads/"), [400, 404], "NAME_INVALID", "NAME_UNKNOWN")


@case("manifests that are none")
def _(server):
    alice = server.client(OWNER)
    for body in (b"", b"not json", b"[]", b'{"schemaVersion":', b"\xff\xfe"):
        expect(alice.put_manifest(REPOSITORY, "broken", body), [400], "MANIFEST_INVALID")
    must(not alice.has(REPOSITORY, "manifests", "broken"), "it was stored all the same")


@case("a manifest nested deeper than any stack")
def _(server):
    """A registry keeps what it does not know; whoever keeps it gives it back."""
    alice, nest = server.client(OWNER), b"[" * 100_000 + b"]" * 100_000
    expect(alice.put_manifest(REPOSITORY, "deep", b'{"schemaVersion":2,"layers":' + nest + b"}"), [400],
           "MANIFEST_INVALID")
    body = b'{"schemaVersion":2,"unknown":' + nest + b"}"
    answer = alice.put_manifest(REPOSITORY, "deep", body)
    if answer.status != 201:
        expect(answer, [400], "MANIFEST_INVALID")
        return
    must(alice.ask("GET", f"/v2/{REPOSITORY}/manifests/deep").body == body, "it came back with other bytes")
    for reference in ("deep", digest_of(body)):
        answer = alice.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{reference}")
        must(answer.status == 202, f"DELETE of {reference}: {answer}")


@case("a manifest that is too large")
def _(server):
    body = manifest(annotations={"filler": "x" * (16 << 20)})
    expect(server.client(OWNER).put_manifest(REPOSITORY, "huge", body), [413], "MANIFEST_INVALID", "SIZE_INVALID")


@case("an upload session that never was")
def _(server):
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        path = f"/v2/{REPOSITORY}/blobs/uploads/00000000-0000-0000-0000-000000000000"
        expect(server.client(OWNER).ask(method, path + (f"?digest={ABSENT}" if method == "PUT" else "")), [404],
               "BLOB_UPLOAD_UNKNOWN")


@case("a chunk out of order, then the right one")
def _(server):
    alice, data = server.client(OWNER), b"0123456789"
    location = alice.begin_upload(REPOSITORY)
    answer = alice.ask("PATCH", location, data[:5], {"Content-Range": "0-4"})
    must(answer.status == 202, f"first chunk: {answer}")
    location = path_of(answer)
    expect(alice.ask("PATCH", location, data[7:], {"Content-Range": "7-9"}), [416], "BLOB_UPLOAD_INVALID",
           "SIZE_INVALID")
    status = alice.ask("GET", location)
    must(status.status == 204 and status.headers["Range"] == "0-4", f"session: {status} {status.headers['Range']}")
    answer = alice.ask("PATCH", path_of(status), data[5:], {"Content-Range": "5-9"})
    must(answer.status == 202 and answer.headers["Range"] == "0-9", f"second chunk: {answer}")
    answer = alice.ask("PUT", f"{path_of(answer)}?digest={digest_of(data)}")
    must(answer.status == 201, f"closing: {answer}")


@case("a blob that is cut off half-way")
def _(server):
    alice, data = server.client(OWNER), b"x" * HALF_OF
    for method in ("PATCH", "PUT"):
        location = alice.begin_upload(REPOSITORY)
        path = location + (f"?digest={digest_of(data)}" if method == "PUT" else "")
        cut_off(alice, server.registry, method, path, data[:HALF_OF // 2], HALF_OF)
        must(not alice.has(REPOSITORY, "blobs", digest_of(data)), "half a blob is there")
        status = alice.ask("GET", location)
        if status.status != 204:
            expect(status, [404], "BLOB_UPLOAD_UNKNOWN")
    must(alice.put_blob(REPOSITORY, data, digest_of(data)).status == 201, "the blob cannot be pushed again")


@case("a manifest that is cut off half-way")
def _(server):
    alice, body = server.client(OWNER), manifest(annotations={"filler": "x" * 10_000})
    cut_off(alice, server.registry, "PUT", f"/v2/{REPOSITORY}/manifests/cut", body[:5_000], len(body))
    must(not alice.has(REPOSITORY, "manifests", "cut"), "half a manifest is there")


@case("bytes that are not HTTP")
def _(server):
    hello, endless = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20)
    for garbage in (hello, b"GET\r\n\r\n", endless):
        with connect(server.registry) as raw:
            try:
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(1 << 16):
                    pass
            except OSError as problem:
                # Hanging up on it is an answer, silence is not.
                must(problem.errno in HUNG_UP, f"no answer to {garbage[:20]}: {problem}")


def path_of(answer):
    return urllib.parse.urlsplit(answer.headers["Location"]).path


def connect(registry):
    host, port = registry.split(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def cut_off(client, registry, method, path, half, length):
    """Announces `length` bytes, sends a part of them and hangs up; waits until the server has noticed."""
    token = client.tokens[(REPOSITORY, False)] if (REPOSITORY, False) in client.tokens else client.token(
        client.send(method, path).headers["WWW-Authenticate"])
    head = (f"{method} {path} HTTP/1.1\r\nHost: {registry}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {MANIFEST}\r\nContent-Length: {length}\r\n\r\n")
    with connect(registry) as raw:
        try:
            raw.sendall(head.encode() + half)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1 << 16):
                pass
        except OSError as problem:
            must(problem.errno in HUNG_UP, f"{method} {path} was not answered: {problem}")
