"""A registry client of our own, for what the real clients cannot say: half requests, wrong digests, exact answers."""

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import urllib.parse

from lib.layout import INDEX, MANIFEST, Layout
from lib.process import Failed, must

ACCEPT = f"{MANIFEST}, {INDEX}, */*"
CHUNK = 1 << 20


class Answer:
    """Status, headers (case does not matter) and body of one response."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def codes(self):
        """The codes of an OCI error body; fails when the body is not one."""
        try:
            errors = json.loads(self.body)["errors"]
            must(all(error["code"] and error["message"] for error in errors) and errors, "an empty error")
            return [error["code"] for error in errors]
        except (ValueError, KeyError, TypeError):
            raise Failed(f"{self.status} without an OCI error body: {self.body[:200]!r}") from None

    def __str__(self):
        return f"{self.status} {self.body[:300].decode(errors='replace')}"


class Registry:
    """Speaks to one registry as one account, or as nobody. Answers a Bearer challenge once, as clients do."""

    def __init__(self, address, handle=None, password=None, timeout=10):
        self.address, self.handle, self.password, self.timeout = address, handle, password, timeout
        self.tokens = {}

    def ask(self, method, path, body=None, headers=None):
        """One request with whatever token it needs. `body` is bytes or an open file."""
        repository = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags|referrers)/", path)
        key = (repository and repository[1], method in ("GET", "HEAD"))
        answer = self.send(method, path, body, headers, self.tokens.get(key))
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status != 401 or not challenge.startswith("Bearer "):
            return answer
        self.tokens[key] = self.token(challenge)
        return self.send(method, path, body, headers, self.tokens[key])

    def token(self, challenge, *scopes):
        """Fetches the token that a challenge asks for, with further scopes."""
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = urllib.parse.urlsplit(fields.pop("realm"))
        wanted = [(name, fields[name]) for name in ("service", "scope") if name in fields]
        query = urllib.parse.urlencode([*wanted, *(("scope", scope) for scope in scopes)])
        answer = self.send("GET", f"{realm.path}?{query}", headers=self.credentials())
        must(answer.status == 200, f"no token: {answer}")
        return json.loads(answer.body)["token"]

    def credentials(self):
        """The Basic header of the account; none for nobody."""
        if self.handle is None:
            return {}
        pair = base64.b64encode(f"{self.handle}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def send(self, method, path, body=None, headers=None, token=None):
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        headers = {"Accept": ACCEPT, **(headers or {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if hasattr(body, "seek"):
            body.seek(0)
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        try:
            try:
                connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The server may answer and close before it has read the whole body.
            return Answer(connection.getresponse())
        except (socket.timeout, OSError, http.client.HTTPException) as problem:
            raise Failed(f"{method} {path}: {type(problem).__name__} {problem} (limit {self.timeout} s)") from None
        finally:
            connection.close()

    def begin_upload(self, repository):
        """Opens an upload session and returns its location as a path."""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        must(answer.status == 202, f"no upload session: {answer}")
        location = urllib.parse.urlsplit(answer.headers["Location"])
        return location.path + (f"?{location.query}" if location.query else "")

    def put_blob(self, repository, body, digest):
        """Uploads a blob in one PUT under a digest, which may be a wrong one."""
        location = self.begin_upload(repository)
        separator = "&" if "?" in location else "?"
        return self.ask("PUT", f"{location}{separator}digest={digest}", body,
                        {"Content-Type": "application/octet-stream"})

    def put_manifest(self, repository, reference, body, media_type=MANIFEST):
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference}", body, {"Content-Type": media_type})

    def has(self, repository, kind, reference):
        return self.ask("HEAD", f"/v2/{repository}/{kind}/{reference}").status == 200

    def tags(self, repository):
        answer = self.ask("GET", f"/v2/{repository}/tags/list")
        must(answer.status == 200, f"no tag list: {answer}")
        return json.loads(answer.body)["tags"]

    def push(self, repository, layout):
        """Pushes a layout of small blobs, unchanged."""
        entries = layout.reach()
        manifests = [entry for entry in entries if entry["mediaType"] in (MANIFEST, INDEX)]
        for digest in (entry["digest"] for entry in entries if entry not in manifests):
            if not self.has(repository, "blobs", digest):
                with open(layout.blob(digest), "rb") as file:
                    answer = self.put_blob(repository, file, digest)
                must(answer.status == 201, f"PUT of {digest}: {answer}")
        for entry in reversed(manifests):
            reference = layout.tag if entry["digest"] == layout.digest else entry["digest"]
            with open(layout.blob(entry["digest"]), "rb") as file:
                answer = self.put_manifest(repository, reference, file.read(), entry["mediaType"])
            must(answer.status == 201, f"PUT of manifest {reference}: {answer}")

    def pull(self, repository, reference, path):
        """Pulls an image or index into a layout, checking every digest."""
        layout = Layout(path)
        answer = self.ask("GET", f"/v2/{repository}/manifests/{reference}")
        must(answer.status == 200, f"{repository}:{reference}: {answer}")
        self._below(repository, layout, answer)
        digest = layout.write(answer.body)
        must(answer.headers["Docker-Content-Digest"] == digest, "the digest header differs from the body")
        with open(f"{path}/index.json", "w") as file:
            json.dump({"manifests": [{"mediaType": answer.headers["Content-Type"], "digest": digest}]}, file)
        return layout

    def _below(self, repository, layout, answer):
        document = json.loads(answer.body)
        for child in document.get("manifests", []):
            below = self.ask("GET", f"/v2/{repository}/manifests/{child['digest']}")
            must(layout.write(below.body) == child["digest"], f"{child['digest']}: {below}")
            self._below(repository, layout, below)
        for entry in document.get("layers", []) + [document[key] for key in ("config",) if key in document]:
            self._blob(repository, layout, entry["digest"])

    def _blob(self, repository, layout, digest):
        """Streams a blob into the layout; follows the redirect of a registry that hands out storage URLs."""
        path, connection = f"/v2/{repository}/blobs/{digest}", http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.tokens[(repository, True)]}"})
            response = connection.getresponse()
            if response.status in (302, 307):
                target = urllib.parse.urlsplit(response.headers["Location"])
                connection.close()
                connection = http.client.HTTPConnection(target.netloc, timeout=60)
                connection.request("GET", f"{target.path}?{target.query}")
                response = connection.getresponse()
            must(response.status == 200, f"GET {path}: {response.status}")
            digester = hashlib.new(digest.split(":")[0])
            os.makedirs(os.path.dirname(layout.blob(digest)), exist_ok=True)
            with open(layout.blob(digest), "wb") as file:
                while piece := response.read(CHUNK):
                    digester.update(piece)
                    file.write(piece)
            must(digester.hexdigest() == digest.split(":")[1], f"{digest} came with other bytes")
        finally:
            connection.close()
