"""XRPC, and records that are written by their owner."""

import json
import urllib.error
import urllib.parse
import urllib.request

from lib.process import Failed, must


def query(service, method, **parameters):
    """Calls a query without credentials and returns the bytes of a 200."""
    url = f"{service}/xrpc/{method}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.read()
    except urllib.error.HTTPError as answer:
        raise Failed(f"{method}: {answer.code} {answer.read()[:200]!r}") from None
    except OSError as problem:
        raise Failed(f"{method}: {problem}") from None


def call(service, method, body, token=None):
    """Calls a procedure, with a session's token if there is one, and returns the JSON of a 200."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"{service}/xrpc/{method}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as answer:
        raise Failed(f"{method}: {answer.code} {answer.read()[:200]!r}") from None
    except OSError as problem:
        raise Failed(f"{method}: {problem}") from None


def records(service, repo, collection):
    """Every record of a collection, as {uri: value}."""
    found, cursor = {}, {}
    while True:
        page = json.loads(query(service, "com.atproto.repo.listRecords", repo=repo, collection=collection, limit=100,
                                **cursor))
        found |= {record["uri"]: record["value"] for record in page["records"]}
        if not page.get("cursor") or not page["records"]:
            return found
        must(page["cursor"] != cursor.get("cursor"), f"{collection}: the cursor does not move")
        cursor = {"cursor": page["cursor"]}


class Writer:
    """An account at its PDS, signed in by its password; `account` has its handle, DID and password."""

    def __init__(self, service, account):
        self.service, self.did = service, account["did"]
        self.token = call(service, "com.atproto.server.createSession",
                          {"identifier": account["handle"], "password": account["password"]})["accessJwt"]

    def put(self, collection, rkey, record):
        """Writes a record."""
        body = {"repo": self.did, "collection": collection, "rkey": rkey, "record": {"$type": collection, **record}}
        call(self.service, "com.atproto.repo.putRecord", body, self.token)
