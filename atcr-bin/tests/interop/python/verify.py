"""The second judge: the Python SDK of the AT Protocol, with trees by `atmst` and DAG-CBOR by `cbrrr`.

    verify.py --pds URL --plc URL --did DID [--handle HANDLE] [--home URL] [--map ORIGIN=URL]...

Prints one JSON array of {name, ok, note}. The repository may be written meanwhile.
"""

import argparse
import hashlib
import json
import urllib.parse

import cbrrr
from atproto import CAR

from events import Stream
from repository import Repository, Tree, Wrong, must, rebuilt

PROOFS = 12
LIMIT = 60


class Judge:
    """Checks that build on each other; one that failed leaves nothing for those after it."""

    def __init__(self, repository, home):
        self.repository, self.home = repository, home
        self.tree = self.records = None

    def did_document(self):
        identity = self.repository.identify()
        must(identity.did == self.repository.did, f"it is the document of {identity.did}")
        wanted, named = urllib.parse.urlsplit(self.home), urllib.parse.urlsplit(identity.pds)
        must(wanted.netloc == named.netloc, f"it names the PDS {identity.pds}")

    def signed_export(self):
        self.tree = self.repository.export()
        self.records = self.tree.records()
        return f"{len(self.records)} records"

    def tree_rebuilt(self):
        must(rebuilt(self.records) == self.tree.data, "rebuilt, the tree has another root")

    def canonical_blocks(self):
        for key in self.tree.blocks.block_offsets:
            block = self.tree.blocks.get_block(key)  # This compares the hash.
            must(cbrrr.encode_dag_cbor(cbrrr.decode_dag_cbor(block)) == block, f"{cbrrr.CID(key).encode()} is not")
        for path, cid in self.records.items():
            must(bytes(cid) in self.tree.blocks.block_offsets, f"the record {path} is missing")

    def read_by_libipld(self):
        car = CAR.from_bytes(self.repository.query("com.atproto.sync.getRepo", did=self.repository.did))
        must(car.blocks[car.root]["rev"] >= self.tree.rev, "older than the export")
        return f"{len(car.blocks)} blocks"

    def record_proofs(self):
        step = -(-len(self.records) // PROOFS)
        some = list(self.records.items())[::step]
        for path, cid in some:
            collection, rkey = path.split("/")
            car = self.repository.query("com.atproto.sync.getRecord", did=self.repository.did, collection=collection,
                                        rkey=rkey)
            proof = Tree(car, self.repository.did, self.repository.key)
            found = proof.get(path)
            must(found == cid or proof.rev > self.tree.rev, f"{path} is {found}")
            if found:
                proof.blocks.get_block(bytes(found))
        return f"{len(some)} records"

    def blobs(self):
        names = json.loads(self.repository.query("com.atproto.sync.listBlobs", did=self.repository.did))["cids"]
        for name in names:
            blob = self.repository.query("com.atproto.sync.getBlob", did=self.repository.did, cid=name)
            must(bytes(cbrrr.CID.decode(name))[-32:] == hashlib.sha256(blob).digest(), f"{name} has other bytes")
        return f"{len(names)} blobs"

    def event_stream(self):
        goal = self.repository.latest()["rev"]
        stream = Stream(self.repository)
        stream.follow(lambda: stream.rev >= goal, LIMIT)
        return json.dumps(stream.counts)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("--pds", "--plc", "--did"):
        options.add_argument(name, required=True)
    options.add_argument("--home")
    options.add_argument("--handle")
    options.add_argument("--map", action="append", default=[])
    options = options.parse_args()
    origins = dict(entry.split("=", 1) for entry in options.map)
    repository = Repository(options.pds, options.plc, options.did, origins, options.handle)
    judge = Judge(repository, options.home or options.pds)
    results = []
    for check in (judge.did_document, judge.signed_export, judge.tree_rebuilt, judge.canonical_blocks,
                  judge.read_by_libipld, judge.record_proofs, judge.blobs, judge.event_stream):
        name = check.__name__.replace("_", "-")
        try:
            results.append({"name": name, "ok": True, "note": check() or ""})
        except Wrong as problem:
            results.append({"name": name, "ok": False, "note": str(problem)})
        except Exception as problem:  # What the packages raise is a verdict as well.
            results.append({"name": name, "ok": False, "note": f"{type(problem).__name__}: {problem}"})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
