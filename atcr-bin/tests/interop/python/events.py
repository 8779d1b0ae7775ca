"""The event stream, read by the Python SDK and checked event by event."""

import threading
import time
from datetime import datetime

from atproto import FirehoseSubscribeReposClient, models, parse_subscribe_repos_message

from repository import Tree, Wrong, must

KINDS = {
    models.ComAtprotoSyncSubscribeRepos.Commit: "#commit",
    models.ComAtprotoSyncSubscribeRepos.Sync: "#sync",
    models.ComAtprotoSyncSubscribeRepos.Identity: "#identity",
    models.ComAtprotoSyncSubscribeRepos.Account: "#account",
    models.ComAtprotoSyncSubscribeRepos.Info: "#info",
}


class Client(FirehoseSubscribeReposClient):
    """The SDK's client, which comes back by itself, at the cursor that it was told last."""

    def __init__(self, pds, cursor):
        super().__init__(params={"cursor": cursor}, base_uri=pds.replace("http", "ws", 1) + "/xrpc", recv_timeout=60)
        self.connections = 0

    def _before_connect(self):
        self.connections += 1

    def _get_reconnection_delay(self):
        return 0.5

    def _handle_frame_decoding_error(self, exception):
        raise exception  # The SDK would leave the frame out.


class Stream:
    """Follows one repository; of others it takes the sequence numbers only."""

    def __init__(self, repository, cursor=0):
        self.repository, self.seq = repository, cursor
        self.rev, self.data, self.counts, self.seen, self.records = "", None, {}, {}, {}
        self.problem = None

    def follow(self, reached, limit):
        """Reads until `reached()`, which is asked now and then, also while nothing comes."""
        client, deadline = Client(self.repository.pds, self.seq), time.monotonic() + limit

        def take(frame):
            self.take(parse_subscribe_repos_message(frame))
            client.update_params({"cursor": self.seq})

        def failed(problem):
            self.problem = problem
            client.stop()

        def watch():
            while not reached() and time.monotonic() < deadline:
                time.sleep(0.1)
            client.stop()

        threading.Thread(target=watch, daemon=True).start()
        client.start(take, failed)
        if self.problem:
            raise Wrong(f"seq {self.seq}: {type(self.problem).__name__} {self.problem}")
        must(reached(), f"the stream ended at {self.rev}, or nothing more came within {limit} s")
        return client.connections

    def take(self, event):
        kind = KINDS[type(event)]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind == "#info":
            return
        must(event.seq > self.seq, f"{event.seq} after {self.seq}")
        self.seq = event.seq
        datetime.fromisoformat(event.time)
        did = event.repo if kind == "#commit" else event.did
        if did != self.repository.did:
            return
        if kind == "#commit":
            self.commit(event)
        elif kind == "#sync":
            tree = Tree(event.blocks, did, self.repository.key)
            must(tree.rev == event.rev, "the commit has another rev")
            self.rev, self.data = tree.rev, tree.data
        elif kind == "#identity":
            self.repository.identify()

    def commit(self, event):
        tree = Tree(event.blocks, event.repo, self.repository.key)
        must(str(event.commit) == tree.root.encode() and event.rev == tree.rev, "the commit is another one")
        must(not event.too_big and not event.rebase, "tooBig or rebase")
        must(event.rev not in self.seen, f"{event.rev} came twice")
        if self.rev:
            must(event.rev > self.rev and event.since == self.rev, f"since {event.since}, not {self.rev}")
            must(str(event.prev_data) == self.data.encode(), "prevData is not the last data")
        for op in event.ops:
            found = tree.get(op.path)
            must((found.encode() if found else None) == (str(op.cid) if op.cid else None), f"{op.path} is not so")
            if found:
                tree.blocks.get_block(bytes(found))
                self.records[op.path] = found.encode()
            else:
                self.records.pop(op.path, None)
        if event.prev_data:
            must(tree.undone(event.ops).encode() == str(event.prev_data), "undone, it is another tree")
        self.seen[event.rev] = str(event.commit)
        self.rev, self.data = tree.rev, tree.data
