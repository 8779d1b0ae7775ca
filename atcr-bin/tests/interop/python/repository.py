"""A repository to judge, and how to ask for it: the Python SDK of the AT Protocol, and the trees of `atmst`."""

import io
import json
import urllib.error
import urllib.parse
import urllib.request

import cbrrr
import httpx
from atmst.blockstore import MemoryBlockStore, OverlayBlockStore
from atmst.blockstore.car_file import ReadOnlyCARBlockStore
from atmst.mst.node_store import NodeStore
from atmst.mst.node_walker import NodeWalker
from atmst.mst.node_wrangler import NodeWrangler
from atproto import AtprotoData, IdResolver, verify_signature


class Wrong(Exception):
    """Something is not as it must be."""


def must(condition, message):
    if not condition:
        raise Wrong(message)


class Loopback(httpx.BaseTransport):
    """Fetches an https origin, the home of a did:web, from loopback."""

    def __init__(self, origins):
        self.origins, self.real = origins, httpx.HTTPTransport()

    def handle_request(self, request):
        target = self.origins.get(f"{request.url.scheme}://{urllib.parse.unquote(request.url.netloc.decode())}")
        must(target, f"no address for {request.url}")
        target = httpx.URL(target)
        request.url = request.url.copy_with(scheme=target.scheme, host=target.host, port=target.port)
        return self.real.handle_request(request)


class Repository:
    """Where it is, and what its DID says."""

    def __init__(self, pds, plc, did, origins, handle=None):
        self.pds, self.did, self.handle = pds, did, handle
        self.resolver = IdResolver(plc_url=plc)
        if origins:
            self.resolver.did._methods["web"]._client = httpx.Client(transport=Loopback(origins))
        self.identity = None

    def identify(self):
        """Resolves the DID anew. The SDK's strict way wants a handle, which a host without a name cannot have."""
        if self.handle:
            identity = self.resolver.did.resolve_atproto_data(self.did)
            must(identity.handle == self.handle, f"the handle is {identity.handle}")
        else:
            identity = AtprotoData.from_did_doc(self.resolver.did.ensure_resolve(self.did))
        must(identity.signing_key and identity.pds, f"the document lacks something: {identity}")
        self.identity = identity
        return identity

    @property
    def key(self):
        return (self.identity or self.identify()).signing_key

    def query(self, method, **parameters):
        url = f"{self.pds}/xrpc/{method}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Wrong(f"{method}: {error.code} {error.read()[:200]!r}") from None

    def export(self):
        return Tree(self.query("com.atproto.sync.getRepo", did=self.did), self.did, self.key)

    def latest(self):
        return json.loads(self.query("com.atproto.sync.getLatestCommit", did=self.did))


class Tree:
    """A signed commit and as much of its tree as a CAR file has."""

    def __init__(self, car, did, key):
        self.blocks = ReadOnlyCARBlockStore(io.BytesIO(car), validate_hashes=True)
        self.root = self.blocks.car_root
        self.commit = cbrrr.decode_dag_cbor(self.blocks.get_block(bytes(self.root)))
        unsigned = {name: value for name, value in self.commit.items() if name != "sig"}
        must(self.commit["version"] == 3 and self.commit["prev"] is None, "version or prev")
        must(self.commit["did"] == did, f"the commit is of {self.commit['did']}")
        must(verify_signature(key, cbrrr.encode_dag_cbor(unsigned), self.commit["sig"]), "bad signature")
        self.rev, self.data = self.commit["rev"], self.commit["data"]
        self.nodes = NodeStore(OverlayBlockStore(MemoryBlockStore(), self.blocks))

    def records(self):
        return dict(NodeWalker(self.nodes, self.data).iter_kv())

    def get(self, path):
        return NodeWalker(self.nodes, self.data).find_rpath(path)

    def undone(self, ops):
        """The root of the tree before the operations."""
        wrangler, root = NodeWrangler(self.nodes), self.data
        for op in reversed(ops):
            if op.action == "create":
                root = wrangler.del_record(root, op.path)
            else:
                root = wrangler.put_record(root, op.path, cbrrr.CID.decode(str(op.prev)))
        return root


def rebuilt(records):
    """The root of a tree made of these records alone."""
    nodes = NodeStore(MemoryBlockStore())
    wrangler, root = NodeWrangler(nodes), nodes.get_node(None).cid
    for path, cid in records.items():
        root = wrangler.put_record(root, path, cid)
    return root
